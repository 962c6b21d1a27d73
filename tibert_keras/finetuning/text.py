"""Fine-tuning of a classifier of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig
from tibert_keras.finetuning.labelled_texts import LabelledText, read_labelled
from tibert_keras.finetuning.scores import Scores, fingerprint
from tibert_keras.finetuning.seeds import CONFUSION_PICTURE, begin, data_hashes, find_encoder, load_model, run_seeds
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_text_classifier_preprocessor import TibertTextClassifierPreprocessor
from tibert_keras.storage import join
from tibert_keras.tagging.metrics import ConfusionMatrix, mean_f1


def finetune_text(config: FinetuneTextConfig) -> Scores:
    """Fine-tune a classifier of texts, or go on with the seeds of a run that are missing.

    Args:
        config: The options.

    Returns:
        The scores of all seeds and of the baseline, which gives each text the most frequent label. The best seed's
        model is in `champion/`.

    Raises:
        InputError: If the options, the data and the model do not fit together, the folder holds another run, or a loss
            is not finite.

    Example:
    ```python
    scores = finetune_text(FinetuneTextConfig(
        input_file="verse_or_prose.tsv", model="run/champion", output_dir="classifier"))
    classifier = TibertTextClassifier.from_preset("classifier/champion")
    ```
    """
    begin(config)
    return run_seeds(config, _Classification(config))


class _Classification:
    """The task of classification: see `finetune.Task`."""

    criterion = "macro_f1"
    columns: Sequence[str] = ("accuracy", "macro_f1", "weighted_f1")

    def __init__(self, config: FinetuneTextConfig) -> None:
        self.config = config
        self.parts = _read(config)
        self.has_test = "test" in self.parts
        self.labels = sorted({text.label for text in self.parts["train"]})
        self._check_labels()
        self.preset, tokenizer = find_encoder(config)
        self.preprocessor = TibertTextClassifierPreprocessor(
            tokenizer,
            self.labels,
            sequence_length=config.max_seq_length,
            class_weight=config.weights_of_labels(),
            num_segments=len(self.parts["train"][0].segments),
        )
        self.sequences = self._encode("train")
        self.others = {part: self._encode(part)[0] for part in self.parts if part != "train"}
        self.data = self._data()

    def make_model(self, dtype: str) -> keras.Model:
        return load_model(TibertTextClassifier, self.config, self.preset, self.preprocessor, dtype=dtype)

    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        return self._score(self._predict(model, part), part)

    def baseline(self, part: str) -> dict[str, float]:
        counts = Counter(text.label for text in self.parts["train"])
        return self._score([max(sorted(counts), key=counts.__getitem__)] * len(self.parts[part]), part)

    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        true = [text.label for text in self.parts[part]]
        ConfusionMatrix.of(true, self._predict(model, part)).plot(join(run_dir, CONFUSION_PICTURE))

    def _encode(self, part: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
        texts = self.parts[part]
        segments = tuple(list(column) for column in zip(*(text.segments for text in texts), strict=True))
        outputs = self.preprocessor(segments if len(segments) > 1 else segments[0], y=[text.label for text in texts])
        x, y, *weights = keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)
        return x, y, weights[0] if weights else None

    def _predict(self, model: keras.Model, part: str) -> list[str]:
        logits = model.predict(self.others[part], batch_size=self.config.eval_batch_size, verbose=0)
        return [self.labels[index] for index in np.asarray(logits, "float32").argmax(axis=-1)]

    def _score(self, found: Sequence[str], part: str) -> dict[str, float]:
        true = [text.label for text in self.parts[part]]
        return {
            "texts": len(true),
            "accuracy": float(np.mean(np.array(true) == np.array(found))),
            "macro_f1": mean_f1(true, found, average="macro"),
            "weighted_f1": mean_f1(true, found, average="weighted"),
        }

    def _check_labels(self) -> None:
        for part, texts in self.parts.items():
            for label in sorted({text.label for text in texts} - set(self.labels)):
                raise InputError(
                    f"A label of the {part} never occurs in training. Received: {label!r}; known are {self.labels}. "
                    "Correct it, or add texts with it."
                )
        if len(self.labels) < 2:
            raise InputError(f"A classifier needs two labels or more. Received: {self.labels}. Give texts of others.")

    def _data(self) -> dict[str, Any]:
        measured = self.parts["test" if self.has_test else "validation"]
        return {
            "files": data_hashes(self.config),
            "texts": {part: len(texts) for part, texts in self.parts.items()},
            "sequences": len(self.sequences[1]),
            "labels": self.labels,
            # Runs compare if this is the same.
            "measured_on": fingerprint(measured),
        }


def _read(config: FinetuneTextConfig) -> dict[str, list[LabelledText]]:
    files = {"train": config.input_file, "validation": config.validation_file, "test": config.test_file}
    parts = {part: read_labelled(pattern) for part, pattern in files.items() if pattern is not None}
    if "validation" not in parts:
        texts = parts["train"]
        # Not by the seed of the training: all seeds are to be measured on the same texts.
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
