"""Fine-tunes a classifier of texts, from tables of labelled texts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig, read_unchanged
from tibert_keras.finetuning.scores import CONFUSION_PICTURE, Scores
from tibert_keras.finetuning.seeds import run_seeds
from tibert_keras.finetuning.task import Examples, FinetuningTask
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
from tibert_keras.storage import expand_glob, join, read_lines
from tibert_keras.tagging.metrics import ConfusionMatrix, mean_f1
from tibert_keras.tibetan import has_tibetan


class LabelledText(NamedTuple):
    """A text, or a pair of texts that the model sees together, with its label."""

    label: str
    segments: tuple[str, ...]


def read_labelled(pattern: str) -> list[LabelledText]:
    """Read tables with one `label<TAB>text`, or `label<TAB>text<TAB>second text`, per line."""
    texts: list[LabelledText] = []
    for path in expand_glob(pattern):
        before = len(texts)
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            label, *segments = line.split("\t")
            if not label.strip() or len(segments) not in (1, 2) or not segments[0].strip():
                raise InputError(
                    f"A line is `label<TAB>text`. Received: {line[:60]!r} with {len(segments) + 1} columns, "
                    f"line {number} of {path!r}. Complete it."
                )
            if texts and len(segments) != len(texts[0].segments):
                raise InputError(
                    "All lines have a second text or none has. Received: "
                    f"{len(segments) + 1} columns in line {number} of {path!r}, {len(texts[0].segments) + 1} before. "
                    "Make them equal."
                )
            texts.append(LabelledText(label.strip(), tuple(segments)))
        if not any(has_tibetan(text.segments[0]) for text in texts[before:]):
            raise InputError(f"There is no Tibetan in the file. Received: {path!r}. Take it out of the input.")
    return texts


def segments_of(texts: Sequence[LabelledText]) -> Any:
    """Return texts as a preprocessor takes them: in a list, or pairs in a tuple of two lists."""
    first, *others = (list(column) for column in zip(*(text.segments for text in texts), strict=True))
    return (first, *others) if others else first


def finetune_text(config: FinetuneTextConfig) -> Scores:
    """Fine-tune a classifier of texts, or train the seeds that a run lacks; the best seed's model is in `champion/`.

    Returns the scores of all seeds and of the baseline, which predicts the most frequent label.
    """
    return run_seeds(config, _Classification)


class _Classification(FinetuningTask):
    criterion = "macro_f1"
    columns = ("accuracy", "macro_f1", "weighted_f1")
    model_class, preprocessor_class = TibertTextClassifier, TibertTextClassifierPreprocessor

    def __init__(self, config: FinetuneTextConfig) -> None:
        parts, files = read_unchanged(config, _read)
        labels = sorted({text.label for text in parts["train"]})
        _check_labels(parts, labels)
        super().__init__(config, parts, labels, files=files, num_segments=len(parts["train"][0].segments))
        self.inputs = {part: self.encode(part)[0] for part in parts if part != "train"}

    def encode(self, part: str) -> Examples:
        outputs = self.preprocessor(segments_of(self.parts[part]), y=self._true(part))
        x, y, *weights = keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)
        return x, y, weights[0] if weights else None

    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        return self._score(self._predict(model, part), part)

    def baseline(self, part: str) -> dict[str, float]:
        counts = Counter(text.label for text in self.parts["train"])
        return self._score([max(sorted(counts), key=counts.__getitem__)] * len(self.parts[part]), part)

    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        ConfusionMatrix.of(self._true(part), self._predict(model, part)).plot(join(run_dir, CONFUSION_PICTURE))

    def describe_data(self) -> dict[str, Any]:
        sizes = {part: len(texts) for part, texts in self.parts.items()}
        return {"texts": sizes, "measured_on": self.parts[self.final_part]}

    def _true(self, part: str) -> list[str]:
        return [text.label for text in self.parts[part]]

    def _predict(self, model: keras.Model, part: str) -> list[str]:
        logits = model.predict(self.inputs[part], batch_size=self.config.eval_batch_size, verbose=0)
        return [self.labels[index] for index in np.asarray(logits, "float32").argmax(axis=-1)]

    def _score(self, found: Sequence[str], part: str) -> dict[str, float]:
        true = self._true(part)
        return {
            "texts": len(true),
            "accuracy": float(np.mean(np.array(true) == np.array(found))),
            "macro_f1": mean_f1(true, found, average="macro"),
            "weighted_f1": mean_f1(true, found, average="weighted"),
        }


def _check_labels(parts: dict[str, list[LabelledText]], labels: list[str]) -> None:
    for part, texts in parts.items():
        for label in sorted({text.label for text in texts} - set(labels)):
            raise InputError(
                f"A label of the {part} never occurs in training. Received: {label!r}; known are {labels}. "
                "Correct it, or add texts with it."
            )
    if len(labels) < 2:
        raise InputError(f"A classifier needs two labels or more. Received: {labels}. Give texts of others.")


def _read(config: FinetuneTextConfig) -> dict[str, list[LabelledText]]:
    files = {"train": config.input_file, "validation": config.validation_file, "test": config.test_file}
    parts = {part: read_labelled(pattern) for part, pattern in files.items() if pattern is not None}
    if "validation" not in parts:
        texts = parts["train"]
        # Not with the training's seed: all seeds are measured on the same texts.
        order = np.random.default_rng(0).permutation(len(texts))
        count = max(1, round(config.validation_share * len(texts)))
        if count >= len(texts):
            raise InputError(
                f"There is no text left for training. Received: {len(texts)} texts, "
                f"validation_share={config.validation_share}. Give more."
            )
        parts["validation"] = [texts[index] for index in sorted(order[:count])]
        parts["train"] = [texts[index] for index in sorted(order[count:])]
    return parts
