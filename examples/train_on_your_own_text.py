"""Train a masked language model on your own strings with `fit()`, save it, and fill a mask.

    python examples/train_on_your_own_text.py

Takes about a minute on two cores. The text here is the made-up sample; replace it by your own list of strings.
"""

import tempfile
from pathlib import Path

from tibert_keras import LAMB, TibertMaskedLM, TibertMaskedLMPreprocessor, TibertTokenizer, WarmupPolynomialDecay
from tibert_keras.corpus.sample import sample_documents
from tibert_keras.inference.fill import fill_mask
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

BATCH_SIZE = 32


def main() -> None:
    """Train, save, fill."""
    sections = [section for document in sample_documents(num_documents=200) for section in document]
    folder = Path(tempfile.mkdtemp())

    (folder / "text.txt").write_text("\n".join(sections), encoding="utf-8")
    train_tokenizer(TokenizerConfig(input_file=f"{folder}/text.txt", output_dir=f"{folder}/tokenizer", vocab_size=800))
    tokenizer = TibertTokenizer((folder / "tokenizer" / "spiece.model").read_bytes())

    model = TibertMaskedLM.from_preset(
        "tibert_nano",
        preprocessor=TibertMaskedLMPreprocessor(tokenizer, sequence_length=32, mask_selection_length=5, ngram=1),
    )
    steps = -(-len(sections) // BATCH_SIZE)
    model.compile(optimizer=LAMB(WarmupPolynomialDecay(0.02, decay_steps=steps, warmup_steps=steps // 10)))
    model.fit(sections, batch_size=BATCH_SIZE)
    model.save_to_preset(f"{folder}/model")

    for mask in fill_mask(["བཅོམ་ལྡན་[MASK]ལ་ཕྱག་འཚལ་ལོ།"], model=f"{folder}/model"):
        print(mask.filled, mask.pieces, [round(probability, 3) for probability in mask.probabilities])


if __name__ == "__main__":
    main()
