"""Writes models as TensorFlow SavedModels that take strings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.runs.champion import choose_champion
from tibert_keras.runs.history import History
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.classify_text import ClassifyText
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.saved_model.precision import Precision
from tibert_keras.saved_model.tag_words import TagWords
from tibert_keras.saved_model.text_module import TextModule, require_tensorflow
from tibert_keras.saved_model.versions import SAVED_MODEL, check_export_folder, write_warm_up
from tibert_keras.storage import atomic_output, join


def export_saved_model(
    model: TibertTask | str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    top_k: int = 5,
    precision: Precision = "float32",
) -> None:
    """Write a model as a SavedModel that stock TensorFlow Serving can run.

    The signature `serving_default` is `FillMask.fill_mask` for a `TibertMaskedLM`, `TagWords.tag` for a
    `TibertTokenClassifier`, and `ClassifyText.classify` for a `TibertTextClassifier`; the other signatures are methods
    of their names. Loading it takes only `tensorflow` and an `import tensorflow_text`. It contains the tokenizer's
    SentencePiece model, in `assets`, and warm-up requests, in `assets.extra`.

    Args:
        model: A model with a preprocessor, a preset, or a run with a champion.
        output_dir: The SavedModel's folder. An older SavedModel there is replaced once the new one is complete.
            TensorFlow Serving expects a number in a folder of the model's name, as `next_version` returns.
        top_k: The number of pieces that a masked language model returns for each mask.
        precision: As in `FillMask`.

    Raises:
        InputError: If the model cannot be found or has no tokenizer, or the folder holds something else.

    Example:
    ```python
    export_saved_model("run", "run/saved_model")
    serve = tf.saved_model.load("run/saved_model").signatures["serving_default"]
    serve(tf.constant(["བཀྲ་ཤིས་[MASK]་ལེགས།"]))["pieces"]
    ```
    """
    check_export_folder(output_dir)
    require_tensorflow()
    loaded = load_model(model)
    module: TextModule
    if isinstance(loaded, TibertTokenClassifier):
        module = TagWords(loaded, precision=precision)
    elif isinstance(loaded, TibertTextClassifier):
        module = ClassifyText(loaded, precision=precision)
    else:
        module = FillMask(loaded, top_k=top_k, precision=precision)
    with tempfile.TemporaryDirectory() as assets, atomic_output(output_dir, last=SAVED_MODEL) as folder:
        tokenizer = Path(assets) / TOKENIZER_FILE
        tokenizer.write_bytes(loaded.preprocessor.tokenizer.proto)
        module.tokenizer_file = tf.saved_model.Asset(os.fspath(tokenizer))
        tf.saved_model.save(module, os.fspath(folder), signatures=module.signatures)
        write_warm_up(folder, module.signatures_of_text)


class SavedModelOfBest(keras.callbacks.Callback):
    """Writes the champion and its SavedModel at each new best checkpoint of a run.

    Args:
        run_dir: The run's folder; the SavedModel goes to `saved_model/` in it.

    Example:
    ```python
    pretrain(config, callbacks=[SavedModelOfBest(config.output_dir)])
    ```
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        require_tensorflow()
        self.run_dir = os.fspath(run_dir)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        history = History(self.run_dir)
        if history.best()["step"] == history.rows[-1]["step"]:
            export_saved_model(choose_champion([self.run_dir]).preset, join(self.run_dir, "saved_model"))
