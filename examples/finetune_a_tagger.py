"""Fine-tune a tagger of words and parts of speech with `fit()`, on sentences of tagged words.

    python examples/finetune_a_tagger.py [CHAMPION]

Takes half a minute on two cores. CHAMPION is a pretrained model, `tibert_small_derge` or a folder; without it, the
encoder has fresh weights and a tokenizer is trained on the sentences. The sentences here are made up: use your own, or
read a corpus with `tibert_keras.tagging.reading.read_tagged`.
"""

import random
import sys
import tempfile
from pathlib import Path

from tibert_keras import TibertTokenClassifier, TibertTokenClassifierPreprocessor, TibertTokenizer
from tibert_keras.tokenizers.training import TokenizerConfig, train_tokenizer

LABELS = ["ADP", "NOUN", "PROPN", "PUNCT", "VERB", "CONT"]
WHO = {"སངས་རྒྱས་": "PROPN", "ཀུན་དགའ་བོ་": "PROPN", "རྒྱལ་པོ་": "NOUN", "དགེ་སློང་": "NOUN"}
WHAT = {"ཆོས་": "NOUN", "མེ་ཏོག་": "NOUN", "གོས་": "NOUN", "མདོ་སྡེ་": "NOUN"}
VERBS = {"བསྟན": "VERB", "ཕུལ": "VERB", "ཐོབ": "VERB", "མཐོང": "VERB"}


def make_sentences(count: int, seed: int = 1) -> list[list[tuple[str, str]]]:
    """Make up sentences of a giver, a receiver, a thing and a verb."""
    rng = random.Random(seed)
    return [
        [
            rng.choice(list(WHO.items())),
            ("ཡིས་", "ADP"),
            rng.choice(list(WHO.items())),
            ("ལ་", "ADP"),
            rng.choice(list(WHAT.items())),
            rng.choice(list(VERBS.items())),
            ("།", "PUNCT"),
        ]
        for _ in range(count)
    ]


def make_tagger(preset: str | None, sentences: list[list[tuple[str, str]]]) -> TibertTokenClassifier:
    """Make a tagger on a pretrained encoder, or on a new one."""
    if preset is not None:
        return TibertTokenClassifier.from_preset(preset, labels=LABELS)
    folder = Path(tempfile.mkdtemp())
    text = "\n".join("".join(form for form, _ in sentence) for sentence in sentences)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train_tokenizer(TokenizerConfig(input_file=f"{folder}/text.txt", output_dir=f"{folder}/tokenizer", vocab_size=80))
    tokenizer = TibertTokenizer((folder / "tokenizer" / "spiece.model").read_bytes())
    preprocessor = TibertTokenClassifierPreprocessor(tokenizer, LABELS, sequence_length=48)
    return TibertTokenClassifier.from_preset("tibert_nano", labels=LABELS, preprocessor=preprocessor)


def main() -> None:
    """Train, save, tag."""
    sentences = make_sentences(240)
    words = [[form for form, _ in sentence] for sentence in sentences]
    tags = [[tag for _, tag in sentence] for sentence in sentences]

    tagger = make_tagger(sys.argv[1] if len(sys.argv) > 1 else None, sentences)
    tagger.compile(optimizer="adam")
    held_out = (words[:40], tags[:40])
    tagger.fit(words[40:], tags[40:], validation_data=held_out, batch_size=16, epochs=10, verbose=2)
    folder = f"{tempfile.mkdtemp()}/tagger"
    tagger.save_to_preset(folder)

    tagger = TibertTokenClassifier.from_preset(folder)
    (found,) = tagger.predict_words(["ཀུན་དགའ་བོ་ཡིས་དགེ་སློང་ལ་མེ་ཏོག་ཕུལ།"])
    print(" ".join(f"{word.form}|{word.tag}" for word in found))


if __name__ == "__main__":
    main()
