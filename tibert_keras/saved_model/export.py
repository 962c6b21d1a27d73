"""Writes models as TensorFlow SavedModels that take strings."""

import os
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.integrity import write_manifest
from tibert_keras.locks import only_writer
from tibert_keras.models.encoder_layer import has_own_policies
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_task import TibertTask
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.runs.champion import choose_champion
from tibert_keras.runs.folder import INITIAL_PRESET
from tibert_keras.runs.presets import describe_preset, load_model
from tibert_keras.saved_model.classify_text import ClassifyText
from tibert_keras.saved_model.fill_mask import FillMask
from tibert_keras.saved_model.precision import Precision, copied
from tibert_keras.saved_model.tag_words import TagWords
from tibert_keras.saved_model.text_module import TextModule, require_tensorflow
from tibert_keras.saved_model.versions import (
    SAVED_MODEL,
    check_export_folder,
    next_version,
    write_description,
    write_warm_up,
)
from tibert_keras.storage import atomic_output, exists, explaining_tensorflow, join
from tibert_keras.training.callbacks import BestLoss
from tibert_keras.training.workers import is_chief


def export_saved_model(
    model: TibertTask | str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    top_k: int = 5,
    precision: Precision = "float32",
    description: str | None = None,
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
        precision: As in `TextModule`.
        description: A line about the model, which the server's page shows. By default, for a preset or run, what
            `describe_preset` returns.

    Example:
    ```python
    export_saved_model("run", "run/saved_model")
    serve = tf.saved_model.load("run/saved_model").signatures["serving_default"]
    serve(tf.constant(["བཀྲ་ཤིས་[MASK]ལེགས།"]))["pieces"]
    ```
    """
    check_export_folder(output_dir)
    require_tensorflow()
    if description is None:
        description = "" if isinstance(model, TibertTask) else describe_preset(model)
    loaded = load_model(model)
    module: TextModule
    if isinstance(loaded, TibertTokenClassifier):
        module = TagWords(loaded, precision=precision)
    elif isinstance(loaded, TibertTextClassifier):
        module = ClassifyText(loaded, precision=precision)
    else:
        module = FillMask(loaded, top_k=top_k, precision=precision)
    with (
        only_writer(output_dir),
        tempfile.TemporaryDirectory() as assets,
        atomic_output(output_dir, last=SAVED_MODEL) as folder,
        explaining_tensorflow(output_dir),
    ):
        tokenizer = Path(assets) / TOKENIZER_FILE
        tokenizer.write_bytes(loaded.preprocessor.tokenizer.proto)
        module.tokenizer_file = tf.saved_model.Asset(os.fspath(tokenizer))
        tf.saved_model.save(module, os.fspath(folder), signatures=module.signatures)
        write_warm_up(folder, module.signatures_of_text)
        write_description(folder, description)
        write_manifest(folder)


class SavedModelOfBest(BestLoss):
    """Writes a SavedModel of each new best, which serves strings while training goes on.

    In a run of `pretrain`, whose model takes ids, it is that of the champion, which is written too.

    Args:
        run_dir: The run's folder, local or `gs://`. The SavedModel goes to `saved_model/` in it.
        versioned: Write each SavedModel to the next numbered folder in `saved_model/`, as TensorFlow Serving expects,
            instead of replacing the one before.
        top_k: The number of pieces that a masked language model returns for each mask.
        preprocessor: The preprocessor of the SavedModel, for a model that is trained on ids and has none.
        **kwargs: Arguments of `BestLoss`, which say what is best: `monitor`, `mode` and `window`.

    Raises:
        InputError: If Keras's backend is not TensorFlow. In `fit()`, if the model has no preprocessor, or
            `saved_model/` holds anything but SavedModels.

    Example:
    ```python
    model.fit(texts, epochs=10, callbacks=[SavedModelOfBest("run", monitor="loss", versioned=True)])
    tf.saved_model.load("run/saved_model/1")
    ```
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        *,
        versioned: bool = False,
        top_k: int = 5,
        preprocessor: Any = None,
        **kwargs: Any,
    ) -> None:
        require_tensorflow()
        super().__init__(run_dir, **kwargs)
        self.versioned, self.top_k, self.preprocessor = versioned, top_k, preprocessor
        self.output_dir = join(run_dir, "saved_model")

    def on_train_begin(self, logs: Any = None) -> None:
        self._in_run = exists(join(self.run_dir, INITIAL_PRESET))
        if not self._in_run and (self.preprocessor or getattr(self.model, "preprocessor", None)) is None:
            raise InputError(
                "A SavedModel takes strings, and the model takes only ids. Received: preprocessor=None. "
                "Give one with the tokenizer of the ids."
            )
        if not self.versioned:
            check_export_folder(self.output_dir)

    def on_new_best(self) -> None:
        if not is_chief():
            return
        folder = next_version(self.output_dir) if self.versioned else self.output_dir
        if self._in_run:
            export_saved_model(choose_champion([self.run_dir]).preset, folder, top_k=self.top_k)
            return
        # A copy on one device and, unless its layers have policies of their own, in float32, however it is trained.
        copy = copied(self.model, dtype=None if has_own_policies(self.model) else "float32")
        copy.preprocessor = self.preprocessor or copy.preprocessor
        if isinstance(copy, TibertMaskedLM):
            copy = copy.masked_lm()
        run = os.path.basename(os.path.abspath(self.run_dir))
        export_saved_model(copy, folder, top_k=self.top_k, description=f"{run}, step {self.best_step:,}")
