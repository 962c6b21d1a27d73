"""Train each task on raw strings on two devices, and fine-tune a classifier.

A process of its own, `strings_on_replicas.py SPM_MODEL PRESET FOLDER`.

Logical devices must be made before TensorFlow starts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.support.base import ON_JAX
from tests.support.made_up_tags import write_texts
from tests.support.micro_batches import two_devices
from tests.support.tiny_models import randomize, tiny
from tibert_keras import (
    TibertMaskedLM,
    TibertMaskedLMPreprocessor,
    TibertTextClassifier,
    TibertTextClassifierPreprocessor,
    TibertTokenClassifier,
    TibertTokenClassifierPreprocessor,
    TibertTokenizer,
)
from tibert_keras.finetuning.config import FinetuneTextConfig
from tibert_keras.finetuning.text import finetune_text
from tibert_keras.training.strategy import _mirrored_strategy

TEXTS = [f"བཀྲ་ཤིས་བདེ་ལེགས{'་ཤིས' * count}།" for count in range(7)]
WORDS = [[text[:-1], "།"] for text in TEXTS]
# On JAX, which compiles long, the fine-tuning is a classifier's already.
TASKS = ("masked_lm", "tagger") if ON_JAX else ("masked_lm", "classifier", "tagger")
SIZES = {"vocabulary_size": 400, "num_layers": 1}


def models(spm_model: str) -> dict[str, Any]:
    """A model of each task, with its training data."""
    tokenizer = TibertTokenizer(spm_model)
    masked_lm = TibertMaskedLM(tiny(**SIZES), TibertMaskedLMPreprocessor(tokenizer, sequence_length=16))
    options = {"labels": ["a", "b"], "preprocessor": TibertTextClassifierPreprocessor(tokenizer, 16, labels=["a", "b"])}
    classifier = TibertTextClassifier(tiny(**SIZES), dropout=0.0, **options)
    options = {"labels": ["NOUN", "PUNCT", "CONT"]}
    options["preprocessor"] = TibertTokenClassifierPreprocessor(tokenizer, sequence_length=16, **options)
    tagger = TibertTokenClassifier(tiny(**SIZES), **options)
    return {
        "masked_lm": (masked_lm, (TEXTS,)),
        "classifier": (classifier, (TEXTS, ["a", "b"] * 3 + ["a"])),
        "tagger": (tagger, (WORDS, [["NOUN", "PUNCT"]] * 7)),
    }


def run(spm_model: str, scope: Any, tasks: Sequence[str] = TASKS) -> dict[str, list[float]]:
    """The losses of a training, an evaluation, and the first outputs, by task."""
    results = {}
    with scope:
        made = models(spm_model)
        for name in tasks:
            model, data = made[name]
            randomize(model).compile(keras.optimizers.SGD(0.01), weighted_metrics=[])
            keras.utils.set_random_seed(1)
            # With a last batch of another size.
            losses = model.fit(*data, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]
            losses.append(model.evaluate(*data, batch_size=4, verbose=0, return_dict=True)["loss"])
            texts = ["བཀྲ་[MASK]"] * 3 if name == "masked_lm" else TEXTS
            outputs = model.predict(texts, batch_size=4, verbose=0)
            results[name] = [*map(float, losses), float(np.abs(outputs[:3]).mean())]
    return results


def finetuning(preset: str, folder: Path, **changes: Any) -> FinetuneTextConfig:
    """The options of a short fine-tuning that draws nothing at random but the order of its texts."""
    options = {
        "input_file": write_texts(folder / "texts.tsv", seed=0, count=47), "output_dir": str(folder / "run"),
        "model": preset, "dropout": 0.0, "num_epochs": 2, "train_batch_size": 8, "max_seq_length": 32,
        "learning_rate": 0.003, "jit_compile": ON_JAX,
    }  # fmt: skip
    return FinetuneTextConfig(**{**options, **changes})


def main(spm_model: str, preset: str, folder: str) -> None:
    """Train on one device and on two, and write the results to the folder."""
    # Of 5 texts for validation, and in parts too.
    finetune_text(finetuning(preset, Path(folder), gradient_accumulation_steps=2))
    one = run(spm_model, nullcontext())
    if ON_JAX:
        scope = two_devices()
    else:
        # That of the fine-tuning: a second would number its collective operations anew.
        scope = _mirrored_strategy(*(device.name for device in tf.config.list_logical_devices("CPU"))).scope()
    results = [one, run(spm_model, scope)]
    (Path(folder) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    if not ON_JAX:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    main(*sys.argv[1:])
