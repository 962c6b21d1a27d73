"""Put your own head on `TibertBackbone`: here, one that predicts the number of syllables in a text.

    python examples/head_of_your_own.py [CHAMPION]

Takes half a minute on two cores. CHAMPION is a pretrained model, `tibert_small_derge` or a folder; without it, the
encoder has fresh weights. The backbone outputs `sequence_output`, a vector for each piece, and `pooled_output`, one for
the text; the head can be any Keras layers.
"""

import sys
import tempfile
from pathlib import Path

import keras
import keras_nlp
import numpy as np

from tibert_keras import TibertBackbone, TibertTokenizer
from tibert_keras.corpus.sample import sample_documents
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

LENGTH = 32


def make_parts(preset: str | None, texts: list[str]) -> tuple[TibertTokenizer, TibertBackbone]:
    """Load a pretrained tokenizer and encoder, or make new ones."""
    if preset is not None:
        return TibertTokenizer.from_preset(preset), TibertBackbone.from_preset(preset)
    folder = Path(tempfile.mkdtemp())
    (folder / "text.txt").write_text("\n".join(texts), encoding="utf-8")
    train_tokenizer(TokenizerConfig(input_file=f"{folder}/text.txt", output_dir=f"{folder}/tokenizer", vocab_size=400))
    tokenizer = TibertTokenizer((folder / "tokenizer" / "spiece.model").read_bytes())
    return tokenizer, TibertBackbone.from_preset("tibert_nano", vocabulary_size=tokenizer.vocabulary_size())


def add_head(backbone: TibertBackbone) -> keras.Model:
    """Add a regression on the mean of all piece vectors."""
    encoded = backbone(backbone.input)["sequence_output"]
    mean = keras.layers.GlobalAveragePooling1D()(encoded, mask=backbone.input["padding_mask"])
    return keras.Model(backbone.input, keras.layers.Dense(1, name="length")(mean))


def main() -> None:
    """Train on strings and their syllable counts, and predict."""
    texts = [section for document in sample_documents(num_documents=30) for section in document]
    counts = np.array([[text.count("་") + 1.0] for text in texts], "float32")
    tokenizer, backbone = make_parts(sys.argv[1] if len(sys.argv) > 1 else None, texts)

    packer = keras_nlp.layers.MultiSegmentPacker(
        sequence_length=LENGTH,
        start_value=tokenizer.cls_token_id,
        end_value=tokenizer.sep_token_id,
        pad_value=tokenizer.pad_token_id,
    )
    token_ids, segment_ids = map(keras.ops.convert_to_numpy, packer(tokenizer(texts)))
    inputs = {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "padding_mask": token_ids != tokenizer.pad_token_id,
    }

    # Train the head alone on a frozen encoder first, then the whole model.
    model = add_head(backbone)
    for trainable, rate, epochs in ((False, 1e-2, 2), (True, 1e-3, 6)):
        backbone.trainable = trainable
        # This head does not use the pooled output.
        backbone.pooled_dense.trainable = False
        model.compile(optimizer=keras.optimizers.Adam(rate), loss="mse", metrics=["mae"])
        model.fit(inputs, counts, batch_size=32, epochs=epochs, verbose=2)
    error = float(np.abs(model.predict(inputs, verbose=0) - counts).mean())
    print(f"guessed the number of syllables within {error:.2f} on average")


if __name__ == "__main__":
    main()
