"""Runs presets in plain NumPy on short texts, within a second: importing Keras and TensorFlow takes many.

The answers are those of Keras, but for the rounding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from operator import index
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.names import GOOGLE
from tibert_keras.formats.numpy_albert import GOOGLE_NAMES, Batch, log_softmax, plain_outputs
from tibert_keras.formats.renaming import Row, to_theirs
from tibert_keras.inference.gaps import shorten
from tibert_keras.integrity import MANIFEST_FILE
from tibert_keras.models.tibert_presets import check_files, explain_load_errors
from tibert_keras.registration import is_handle
from tibert_keras.runs.folder import TOKENIZER_ASSET
from tibert_keras.storage import exists, is_remote, join, read_bytes, read_json
from tibert_keras.tagging.packing import PackedSyllables, join_syllables, pack_syllables
from tibert_keras.tagging.words import TaggedWord
from tibert_keras.tokenizers.sentence_piece import SentencePieceEncoder

# The forward pass in NumPy knows variables by Google's names, which has no classifiers of tokens.
_TABLE = (*GOOGLE, *(Row(f"logits/{name}", f"{GOOGLE_NAMES['classes']}/{name}") for name in ("kernel", "bias")))

# The names of the layers in each file, where Keras names them by their class and number, and in the model.
_FILES = {
    "model.weights.h5": {
        "reversible_embedding": "token_embedding",
        "embedding": "segment_embedding",
        "layer_normalization": "embeddings_layer_norm",
        "dense": "embedding_projection",
        "dense_1": "pooled_dense",
        # Inside a layer of the encoder.
        "query_dense": "query",
        "key_dense": "key",
        "value_dense": "value",
        "output_dense": "attention_output",
    },
    "task.weights.h5": {"masked_lm_head": "mlm_head", "dense": "logits"},
}
_LAYER = re.compile(r"transformer_encoder(?:_(\d+))?")

# Inputs that show whether the weights are complete.
_ONE_TOKEN = Batch(*[np.zeros((1, 1), "int32")] * 4)._asdict()

# 32 syllables for 4 layers of 256 units, or one for 12 layers of 768.
_MOST_WORK = 1 << 23


class _PlainModel:
    """A preset: its options, weights and tokenizer."""

    tsheg_pretokenization = False

    def __init__(self, folder: str) -> None:
        with explain_load_errors(folder):
            self._load(folder)

    def _load(self, folder: str) -> None:
        sizes, tokenizer = _config(folder, "config.json"), _config(folder, "tokenizer.json")
        self._sizes = {
            "num_hidden_layers": index(sizes["num_layers"]),
            "num_hidden_groups": index(sizes["num_groups"]),
            "inner_group_num": index(sizes["num_inner_repetitions"]),
            "num_attention_heads": index(sizes["num_heads"]),
        }
        weights = read_preset_weights(folder, inner=sizes["num_inner_repetitions"])
        self._variables = to_theirs(_TABLE, weights)
        self.sequence_length = index(_config(folder, "preprocessor.json")["sequence_length"])
        self.tokenizer = SentencePieceEncoder(
            read_bytes(join(folder, TOKENIZER_ASSET)),
            tsheg_pretokenization=self.tsheg_pretokenization or tokenizer["tsheg_pretokenization"],
            underline_between_sections=tokenizer["underline_between_sections"],
        )
        # Keras would notice when it makes the layers.
        projected = {array.shape[:2] for path, array in weights.items() if path.endswith("/query/kernel")}
        pieces, rows = self.tokenizer.get_piece_size(), len(self._variables[GOOGLE_NAMES["words"]])
        positions = len(self._variables[GOOGLE_NAMES["positions"]])
        fit = projected == {(sizes["hidden_dim"], sizes["num_heads"])} and min(self._sizes.values()) > 0
        if not (fit and pieces <= rows and 0 < self.sequence_length <= positions):
            raise ValueError("its settings, its tokenizer and its weights do not fit together")

    def _outputs(self, inputs: dict[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
        return plain_outputs(self._variables, self._sizes, GOOGLE_NAMES, Batch(**inputs), **options)


class PlainFillMask(_PlainModel):
    """The methods of `FillMask` by which masks are filled. They take and return arrays."""

    def __init__(self, folder: str, *, top_k: int = 5) -> None:
        super().__init__(folder)
        count = self.tokenizer.get_piece_size()
        self._pieces = np.array([self.tokenizer.id_to_piece(number).encode() for number in range(count)], object)
        self._top_k = min(top_k, count)

    def _load(self, folder: str) -> None:
        super()._load(folder)
        # Fails if weights are missing.
        self._outputs(_ONE_TOKEN)["masked_lm"]

    def vocabulary(self) -> dict[str, Any]:
        """Return the `pieces`, bytes `[vocabulary]`, and `max_tokens`."""
        return {"pieces": self._pieces, "max_tokens": self.sequence_length}

    def tokenize(self, text: Sequence[str]) -> dict[str, np.ndarray]:
        """Tokenize texts, as `FillMask.tokenize`."""
        special = self.tokenizer
        encoded = special.encode([str(each) for each in text])
        rows = [[special.cls_token_id, *ids, special.sep_token_id] for ids in encoded]
        lengths = np.array([len(row) for row in rows])
        padding_mask = (np.arange(lengths.max()) < lengths[:, None]).astype("int32")
        token_ids = np.full_like(padding_mask, special.pad_token_id)
        token_ids[padding_mask > 0] = np.concatenate(rows)
        return {"token_ids": token_ids, "padding_mask": padding_mask}

    def fill_mask(self, text: Sequence[str]) -> dict[str, np.ndarray]:
        """Predict the piece at each `[MASK]`, as `FillMask.fill_mask`."""
        inputs = self.tokenize(text)
        for each, length in zip(text, inputs["padding_mask"].sum(axis=1), strict=True):
            if length > self.sequence_length:
                raise InputError(
                    f"A text is longer than {self.sequence_length} tokens. Received: {shorten(each)!r}. "
                    "Give a shorter text."
                )
        is_mask = inputs["token_ids"] == self.tokenizer.mask_token_id
        mask_count = is_mask.sum(axis=1)
        # The masks of a text in their order, and then others up to the most that a text has.
        positions = np.argsort(~is_mask, axis=1, kind="stable")[:, : mask_count.max()]
        answer = self.masked_lm(**inputs, segment_ids=np.zeros_like(inputs["token_ids"]), mask_positions=positions)
        probabilities = np.exp(answer["logits"])
        ids = np.argsort(-probabilities, axis=-1, kind="stable")[..., : self._top_k]
        real = (np.arange(positions.shape[1]) < mask_count[:, None])[..., None]
        return {
            "pieces": np.where(real, self._pieces[ids], b""),
            "probabilities": np.where(real, np.take_along_axis(probabilities, ids, axis=-1), 0),
            "mask_count": mask_count,
        }

    def masked_lm(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the model itself, as `FillMask.masked_lm`; the logits are log-probabilities."""
        # The table of embeddings may have more rows than the tokenizer has pieces.
        predicted = self._outputs(inputs, only_masked=True)["masked_lm"][..., : len(self._pieces)]
        return {"logits": log_softmax(predicted)}


class PlainTagger(_PlainModel):
    """What `tag_lines` needs of a `TibertTokenClassifier` and its preprocessor."""

    tsheg_pretokenization = True

    def _load(self, folder: str) -> None:
        super()._load(folder)
        self.labels: list[str] = _config(folder, "task.json")["labels"]
        if self.predict_on_batch(_ONE_TOKEN).shape[-1] != sum(isinstance(label, str) for label in self.labels):
            raise ValueError("its labels and its weights do not fit together")

    @property
    def preprocessor(self) -> PlainTagger:
        """Itself."""
        return self

    def pack_syllables(self, syllables: Sequence[Sequence[str]]) -> PackedSyllables:
        """Pack the pieces of texts, as `TibertTokenClassifierPreprocessor.pack_syllables`."""
        return pack_syllables(self.tokenizer, syllables, self.sequence_length)

    def join(self, syllables: Sequence[str], scores: np.ndarray) -> list[TaggedWord]:
        """Join syllables into words, as `TibertTokenClassifierPreprocessor.join`."""
        return join_syllables(syllables, scores, self.labels)

    def predict_on_batch(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return log-probabilities of the labels, `[batch, sequence, labels]`."""
        nothing = np.zeros((len(inputs["token_ids"]), 0), "int32")
        return self._outputs({**inputs, "mask_positions": nothing}, classifies="sequence_output")["classes"]


def is_plain(preset: str, task: str, *, count: int = 1) -> bool:
    """Return whether NumPy can run a preset for a class, and is done sooner than Keras and TensorFlow are loaded.

    It cannot run presets of other classes, quantized ones, those behind handles or on remote storages, and those of
    older versions, which have no list of their files by which to know that they are whole. The count is that of the
    syllables to fill, or of the windows of text to tag.
    """
    if is_handle(preset) or is_remote(preset) or not exists(join(preset, MANIFEST_FILE)):
        return False
    with explain_load_errors(preset):
        plain = _is_plain(preset, task, count)
    if plain:
        check_files(preset)
    return plain


def _is_plain(preset: str, task: str, count: int) -> bool:
    classes = {"config.json": "TibertBackbone", "task.json": task, "preprocessor.json": f"{task}Preprocessor"}
    for name, kind in {**classes, "tokenizer.json": "TibertTokenizer"}.items():
        if _read(preset, name).get("registered_name") != f"tibert_keras>{kind}":
            return False
    sizes, tokenizer = _config(preset, "config.json"), _config(preset, "tokenizer.json")
    quantized = (sizes.get("dtype") or {}).get("class_name") == "DTypePolicyMap"
    if quantized or tokenizer["nbest_size"] or tokenizer["sequence_length"]:
        return False
    is_little = count * sizes["num_layers"] * sizes["hidden_dim"] ** 2 <= _MOST_WORK
    return is_little and exists(join(preset, "model.weights.h5"))


def _config(preset: str, name: str) -> Any:
    return _read(preset, name)["config"]


def _read(preset: str, name: str) -> dict[str, Any]:
    path = join(preset, name)
    return read_json(path, what="a part of a preset", advice="Copy the whole preset anew.") if exists(path) else {}


# === Weights, without Keras ===


def read_preset_weights(folder: str, *, inner: int) -> dict[str, np.ndarray]:
    """Read the weights of a masked language model or a classifier from its preset, float32, by path in the model."""
    import h5py
    import ml_dtypes

    weights: dict[str, np.ndarray] = {}

    def read(names: dict[str, str], place: str, item: Any) -> None:
        # Not the state of dropout.
        if isinstance(item, h5py.Dataset) and "seed_generator" not in place:
            array = item[()]
            if item.attrs.get("dtype") == "bfloat16":
                # HDF5 does not know the type, and Keras stores its bytes.
                array = array.view(ml_dtypes.bfloat16)
            weights[_path(place.split("/"), names, inner)] = array.astype("float32")

    for name, names in _FILES.items():
        with h5py.File(join(folder, name)) as file:
            file.visititems(partial(read, names))
    return weights


def _path(parts: list[str], names: dict[str, str], inner: int) -> str:
    """Return the path of a variable, such as `["layers", "dense", "vars", "0"]`."""
    _, *layers, _, number = parts
    if match := _LAYER.fullmatch(layers[0]):
        group, place = divmod(int(match[1] or 0), inner)
        layers[0] = f"group_{group}_inner_layer_{place}"
    layers = [names.get(layer, layer.removeprefix("_")) for layer in layers]
    return "/".join([*layers, _variable(layers[-1], int(number))])


def _variable(layer: str, number: int) -> str:
    if layer == "mlm_head":
        return "output_bias"
    if layer.endswith("embedding"):
        return "embeddings"
    return (("gamma", "beta") if layer.endswith("norm") else ("kernel", "bias"))[number]
