"""A masked language model as a TensorFlow SavedModel that takes strings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_text_classifier import TibertTextClassifier
from tibert_keras.models.tibert_token_classifier import TibertTokenClassifier
from tibert_keras.records.build import TOKENIZER_FILE
from tibert_keras.runs.champion import choose_champion
from tibert_keras.runs.history import History
from tibert_keras.runs.presets import load_model
from tibert_keras.saved_model.classify_text import ClassifyText
from tibert_keras.saved_model.compact_weights import Precision
from tibert_keras.saved_model.tag_words import TagWords
from tibert_keras.saved_model.text_module import TextModule, require_tensorflow
from tibert_keras.saved_model.versions import SAVED_MODEL
from tibert_keras.saved_model.warm_up import write_warm_up
from tibert_keras.storage import atomic_output, join, list_folder

if TYPE_CHECKING:
    from tibert_keras.runs.presets import TibertModel


class FillMask(TextModule):
    """The signatures of the SavedModel; usable as they are, too.

    Its ops are those of TensorFlow and TensorFlow Text alone, so a process without Keras can load and run it.

    Args:
        model: A masked language model with a preprocessor, on the TensorFlow backend.
        top_k: How many pieces `fill_mask` returns for each mask.
        precision: How the weights are held: `"float32"`, `"float16"` (half the size), or `"dynamic_range"` (a quarter).

    Raises:
        InputError: If the backend is another, the model is another or has no tokenizer, or `top_k` is less than 1.

    Example:
    ```python
    fill_mask = FillMask(TibertMaskedLM.from_preset("run/champion"), top_k=5)
    answer = fill_mask.fill_mask(tf.constant(["བཀྲ་ཤིས་[MASK]་ལེགས།"]))
    answer["pieces"]  # [1, 1, 5]
    ```
    """

    signature_names = ("fill_mask", "encode", "masked_lm", "tokenize")

    def __init__(self, model: TibertMaskedLM, *, top_k: int = 5, precision: Precision = "float32") -> None:
        super().__init__(model, precision=precision)
        if not isinstance(model, TibertMaskedLM):
            raise InputError(
                "Masks are filled by a masked language model. "
                f"Received: {type(model).__name__}. Give a preset that `tibert champion` wrote."
            )
        if top_k < 1:
            raise InputError(f"top_k must be at least 1. Received: top_k={top_k}.")
        self._top_k = min(top_k, self._tokenizer.vocabulary_size())
        self.pieces = tf.constant(self._tokenizer.get_vocabulary())

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def fill_mask(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Guess the pieces behind each `[MASK]`.

        Args:
            text: Strings `[batch]`.

        Returns:
            `pieces` (string) and `probabilities` (float32), `[batch, masks, top_k]`, the likeliest first; where a
            text has fewer masks than another, empty strings and zeros. `mask_count`, int32 `[batch]`.
        """
        inputs = self._pack(self._tokenizer(text))
        is_mask = inputs["token_ids"] == self._tokenizer.mask_token_id
        positions = tf.ragged.boolean_mask(tf.broadcast_to(tf.range(tf.shape(is_mask)[1]), tf.shape(is_mask)), is_mask)
        inputs["mask_positions"] = positions.to_tensor()
        probabilities = tf.nn.softmax(self._logits(inputs))
        probabilities, ids = tf.math.top_k(probabilities, k=self._top_k)
        real = tf.sequence_mask(positions.row_lengths(), tf.shape(ids)[1])[..., tf.newaxis]
        return {
            "pieces": tf.where(real, tf.gather(self.pieces, ids), ""),
            "probabilities": tf.where(real, probabilities, 0.0),
            "mask_count": tf.cast(positions.row_lengths(), tf.int32),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def encode(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encode texts.

        Args:
            text: Strings `[batch]`.

        Returns:
            `sequence_output`, float32 `[batch, tokens, hidden_dim]`; `pooled_output`, float32 `[batch, hidden_dim]`;
            and `padding_mask`, int32 `[batch, tokens]`, 1 where there is a token.
        """
        inputs = self._pack(self._tokenizer(text))
        with self._as_exported():
            outputs = self._model.backbone(inputs, training=False)
        outputs = {name: tf.cast(output, tf.float32) for name, output in outputs.items()}
        return {**outputs, "padding_mask": inputs["padding_mask"]}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name=name)
            for name in ["token_ids", "padding_mask", "segment_ids", "mask_positions"]
        ]
    )
    def masked_lm(
        self, token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor, mask_positions: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Run the model itself.

        Args:
            token_ids: Ids, int32 `[batch, tokens]`.
            padding_mask: 1 where there is a token, int32 `[batch, tokens]`.
            segment_ids: Int32 `[batch, tokens]`.
            mask_positions: Where to predict, int32 `[batch, predictions]`; no more than there are tokens.

        Returns:
            `logits`, float32 `[batch, predictions, vocabulary]`.
        """
        inputs = {
            "token_ids": token_ids,
            "padding_mask": padding_mask,
            "segment_ids": segment_ids,
            "mask_positions": mask_positions,
        }
        with tf.control_dependencies(_check_ids(inputs, longest=self._model.backbone.max_sequence_length)):
            return {"logits": self._logits(inputs)}

    @tf.function(input_signature=[])
    def vocabulary(self) -> dict[str, tf.Tensor]:
        """Give the tokenizer's `pieces`, string `[vocabulary]`, and the model's `max_tokens`, an int32."""
        return {"pieces": tf.identity(self.pieces), "max_tokens": tf.constant(self._max_length)}


def export_saved_model(
    model: TibertModel | str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    top_k: int = 5,
    precision: Precision = "float32",
) -> None:
    """Write a model as a SavedModel that stock TensorFlow Serving can run.

    What it answers is decided by the model's class. Of a `TibertMaskedLM` the signature `serving_default` is
    `FillMask.fill_mask`, of a `TibertTokenClassifier` `TagWords.tag`, and of a `TibertTextClassifier`
    `ClassifyText.classify`; the other signatures are methods by their names. To load it takes `tensorflow` and an
    `import tensorflow_text`, nothing else. In it are the tokenizer's SentencePiece model, in `assets`, and requests to
    warm up with, in `assets.extra`.

    Args:
        model: A model with a preprocessor, a preset, or a run with a champion.
        output_dir: The SavedModel's folder; one that is there is replaced once the new one is whole. TensorFlow
            Serving wants it to be a number in a folder of the model's name: `next_version` gives one.
        top_k: How many pieces a masked language model returns for each mask.
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
    names = list_folder(output_dir)
    if names and SAVED_MODEL not in names:
        raise InputError(
            "The output folder is not empty and holds no SavedModel. "
            f"Received: output_dir={os.fspath(output_dir)!r}. Choose another."
        )
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
    """Writes a SavedModel of each new best checkpoint while a run goes on, with the champion it comes from.

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


def _check_ids(inputs: dict[str, tf.Tensor], *, longest: int) -> list[tf.Operation]:
    """A position's logits are as many as the vocabulary: a short request could ask for all the memory there is."""
    shape, places = tf.shape(inputs["token_ids"]), inputs["mask_positions"]
    return [
        tf.debugging.assert_less_equal(shape[1], longest, message=f"A row has more than {longest} tokens."),
        *(
            tf.debugging.assert_equal(
                tf.shape(inputs[name]), shape, message=f"{name} must have the shape of token_ids."
            )
            for name in ("padding_mask", "segment_ids")
        ),
        tf.debugging.assert_less_equal(
            tf.shape(places)[1], shape[1], message="There are more mask_positions than token_ids."
        ),
        tf.debugging.Assert(
            tf.reduce_all((places > -1) & (places < shape[1])), ["mask_positions must be places in token_ids."]
        ),
    ]
