"""The ALBERT encoder, and Google's configuration files."""

import inspect
import os
from collections.abc import Mapping
from numbers import Integral
from typing import Any, Self

import keras
import keras_nlp
import numpy as np

from tibert_keras.errors import InputError, check_arguments
from tibert_keras.models.encoder_layer import encode_positions
from tibert_keras.models.tibert_presets import (
    backbone_presets,
    check_preset,
    list_preset_files,
    list_presets,
    local_preset,
    made_as,
    name_readable_policy,
    policy_of,
    weights_in_memory,
)
from tibert_keras.storage import read_json

# The keys of Google's albert_config.json and our names for them, used in both directions.
_RENAMES = {
    "vocab_size": "vocabulary_size",
    "embedding_size": "embedding_dim",
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "num_hidden_layers": "num_layers",
    "num_hidden_groups": "num_groups",
    "inner_group_num": "num_inner_repetitions",
    "num_attention_heads": "num_heads",
    "max_position_embeddings": "max_sequence_length",
    "type_vocab_size": "num_segments",
    "hidden_dropout_prob": "dropout",
}

# Keys that must have one of these values. Google calls the tanh approximation "gelu".
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu", "gelu_new"),
    "initializer_range": (0.02,),
    "down_scale_factor": (1,),
    # Google's code reads none of these four; only the published xxlarge has the last.
    "net_structure_type": (0,),
    "gap_size": (0,),
    "num_memory_blocks": (0,),
    "layers_to_keep": ([],),
}


# ALBERT-xxlarge has 12 layers and 223 million parameters. A file may ask for any number.
_MOST_LAYERS = 512
_MOST_PARAMETERS = 1 << 31


@keras.saving.register_keras_serializable(package="tibert_keras")
class TibertBackbone(keras_nlp.models.AlbertBackbone):
    """An ALBERT encoder with Google's numerics.

    The architecture is that of https://arxiv.org/abs/1909.11942: groups of layers applied repeatedly, and an embedding
    smaller than the hidden size. KerasHub's `AlbertBackbone` computes what Google's code does (layer normalisation with
    epsilon 1e-12, the tanh approximation of GELU). This class adds the architectures of `TibertBackbone.presets`,
    Google's configuration files, and outputs at some positions only.

    Inputs are integers of shape `[batch, sequence]`: `token_ids`, `segment_ids` and `padding_mask`. Outputs
    are `sequence_output`, `[batch, sequence, hidden_dim]`, and `pooled_output`, `[batch, hidden_dim]`.

    Args:
        vocabulary_size: The number of pieces of the tokenizer.
        num_layers: The number of layers. Those of one group share their weights.
        num_heads: The number of attention heads of a layer.
        embedding_dim: The size of the embeddings.
        hidden_dim: The size of the layers' outputs.
        intermediate_dim: The size of the feed-forward blocks.
        num_groups: The number of groups of layers; must divide `num_layers`.
        num_inner_repetitions: The number of different layers in a group.
        dropout: The dropout rate of the whole encoder.
        max_sequence_length: The largest number of tokens.
        num_segments: The number of segment ids.
        dtype: The data type or policy of the layers.
        identity_projection: Whether the projection from embeddings to layers is a fixed identity. Google's code has no
            projection if the embedding size is the hidden size.
        **kwargs: `name` and `trainable`.

    Raises:
        InputError: If `identity_projection` is given for different sizes, or there is no such argument.

    Example:
    ```python
    backbone = TibertBackbone.from_preset("tibert_nano", vocabulary_size=1000)
    outputs = backbone(
        {
            "token_ids": np.array([[2, 10, 11, 3, 0]]),
            "segment_ids": np.array([[0, 0, 0, 0, 0]]),
            "padding_mask": np.array([[1, 1, 1, 1, 0]]),
        }
    )
    outputs["sequence_output"].shape  # (1, 5, 64)
    ```
    """

    presets = list_presets()

    def __init__(
        self,
        vocabulary_size: int,
        num_layers: int,
        num_heads: int,
        embedding_dim: int,
        hidden_dim: int,
        intermediate_dim: int,
        num_groups: int = 1,
        num_inner_repetitions: int = 1,
        dropout: float = 0.0,
        max_sequence_length: int = 512,
        num_segments: int = 2,
        dtype: Any = None,
        *,
        identity_projection: bool = False,
        **kwargs: Any,
    ) -> None:
        check_arguments(type(self).__name__, kwargs, {"name", "trainable"})
        sizes = {
            "vocabulary_size": vocabulary_size,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "intermediate_dim": intermediate_dim,
            "num_groups": num_groups,
            "num_inner_repetitions": num_inner_repetitions,
            "max_sequence_length": max_sequence_length,
            "num_segments": num_segments,
        }
        _check_sizes(sizes)
        super().__init__(**sizes, dropout=dropout, dtype=dtype, **kwargs)
        if identity_projection and embedding_dim != hidden_dim:
            raise InputError(
                "Only a projection between equal sizes can be the identity. Received: identity_projection=True, "
                f"embedding_dim={embedding_dim}, hidden_dim={hidden_dim}. Leave identity_projection out."
            )
        self.identity_projection = identity_projection
        if identity_projection:
            self.embeddings_projection.trainable = False
            # The kernel of a quantized projection is loaded afterwards.
            if self.embeddings_projection.quantization_mode is None:
                self.embeddings_projection.kernel.assign(np.eye(hidden_dim))

    @property
    def trainable(self) -> bool:
        """Whether the encoder is trained. An identity projection never is."""
        return bool(super().trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        if getattr(self, "identity_projection", False):
            self.embeddings_projection.trainable = False

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "identity_projection": self.identity_projection}

    def call(
        self, inputs: dict[str, Any], training: bool | None = None, mask: Any = None, positions: Any = None
    ) -> dict[str, Any]:
        """Encode a batch.

        Args:
            inputs: The inputs above.
            training: Whether to apply dropout.
            mask: As in `keras.Model.call`.
            positions: Integers of shape `[batch, predictions]`, to compute `sequence_output` at these positions only,
                `[batch, predictions, hidden_dim]`, which saves most of the last layer; or None for all.

        Returns:
            The outputs above.
        """
        if positions is None:
            return super().call(inputs, training=training, mask=mask)
        return encode_positions(self, inputs, positions, training)

    def compute_output_spec(
        self, inputs: dict[str, Any], training: bool | None = None, mask: Any = None, positions: Any = None
    ) -> dict[str, Any]:
        """Describe the outputs of `call` with the same arguments."""
        outputs = super().compute_output_spec(inputs)
        if positions is not None:
            shape, dtype = (*positions.shape, self.hidden_dim), outputs["sequence_output"].dtype
            outputs["sequence_output"] = keras.KerasTensor(shape, dtype=dtype)
        return outputs

    @classmethod
    def from_preset(
        cls, preset: str | os.PathLike[str], load_weights: bool = True, **kwargs: Any
    ) -> keras_nlp.models.AlbertBackbone:
        """Load a backbone, or make an untrained one.

        Args:
            preset: A name in `TibertBackbone.presets`, of a model or of an architecture alone; the folder of a preset,
                ours or KerasHub's ALBERT, or of an ALBERT of transformers; or a handle of one, such as `hf://...`.
            load_weights: Whether to load a folder's weights.
            **kwargs: Arguments of the constructor, which override the preset's. An architecture needs
                `vocabulary_size`.

        Returns:
            The backbone.

        Raises:
            InputError: If there is no such preset, or `vocabulary_size` is missing.
        """
        preset = check_preset(preset)
        check_arguments(
            f"{cls.__name__}.from_preset", kwargs, {*inspect.signature(cls).parameters, "name", "trainable"}
        )
        if preset not in backbone_presets:
            with local_preset(preset) as folder, made_as(cls):
                policy_of(folder, kwargs.get("dtype"), load_weights=load_weights)
                return super().from_preset(folder, load_weights=load_weights, **kwargs)
        if kwargs.get("vocabulary_size") is None:
            raise InputError(
                "The architecture needs the size of a vocabulary. "
                f"Received: preset={preset!r}, vocabulary_size=None. Pass the tokenizer's."
            )
        return cls(**{**backbone_presets[preset]["config"], **kwargs})

    def save_weights(
        self, filepath: str | os.PathLike[str], overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Save the weights, as `keras.Model.save_weights`."""
        if max_shard_size is not None or (not overwrite and os.path.exists(filepath)):
            super().save_weights(filepath, overwrite=overwrite, max_shard_size=max_shard_size)
            return
        with weights_in_memory(filepath) as memory:
            super().save_weights(memory)

    def save_to_preset(self, preset_dir: str | os.PathLike[str], max_shard_size: float | None = 10) -> None:
        """Save the encoder to a folder, with a list of its files by which `from_preset` knows that it is whole.

        Args:
            preset_dir: The folder.
            max_shard_size: The size of a file of weights, in GB, above which they are split.
        """
        super().save_to_preset(preset_dir, max_shard_size=max_shard_size)
        name_readable_policy(preset_dir)
        list_preset_files(preset_dir)

    @classmethod
    def from_albert_config(cls, config: str | os.PathLike[str] | Mapping[str, Any], **kwargs: Any) -> Self:
        """Make an untrained backbone with the architecture in Google's `albert_config.json`.

        If the embedding size is the hidden size, the projection between the two is the identity, as in Google's code.

        Args:
            config: The path of the file, local or `gs://`, or its content.
            **kwargs: Arguments of the constructor, such as `dtype` and `name`, which override the file's.

        Returns:
            The backbone.

        Raises:
            InputError: If the file cannot be read, a key is missing or unknown, or a value is not supported.

        Example:
        ```python
        backbone = TibertBackbone.from_albert_config("albert_base/albert_config.json")
        ```
        """
        if not isinstance(config, Mapping):
            advice = "Give the `albert_config.json` of a model."
            config = read_json(config, what="an ALBERT configuration", advice=advice)
        check_albert_config(config)
        arguments = {**{ours: config[theirs] for theirs, ours in _RENAMES.items()}, **kwargs}
        return cls(**{"identity_projection": arguments["embedding_dim"] == arguments["hidden_dim"], **arguments})

    def to_albert_config(self) -> dict[str, Any]:
        """Return the architecture as the content of Google's `albert_config.json`."""
        return {
            **{theirs: getattr(self, ours) for theirs, ours in _RENAMES.items()},
            "attention_probs_dropout_prob": self.dropout,
            **{key: allowed[0] for key, allowed in _FIXED.items() if key != "layers_to_keep"},
        }


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    """Refuse sizes that are no positive whole numbers, or of a model that no machine could build."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} must be a whole number from 1 on. Received: {name}={value!r}.")
    hidden, intermediate, groups = sizes["hidden_dim"], sizes["intermediate_dim"], sizes["num_groups"]
    rows = sizes["vocabulary_size"] + sizes["max_sequence_length"] + sizes["num_segments"] + hidden
    layers = groups * sizes["num_inner_repetitions"]
    parameters = rows * sizes["embedding_dim"] + layers * hidden * (4 * hidden + 2 * intermediate)
    if parameters > _MOST_PARAMETERS or sizes["num_layers"] * sizes["num_inner_repetitions"] > _MOST_LAYERS:
        shown = ", ".join(f"{name}={value}" for name, value in sizes.items())
        raise InputError(
            f"The model would be too large: at most {_MOST_LAYERS} layers and {_MOST_PARAMETERS:,} parameters. "
            f"Received: {shown}. Give smaller sizes."
        )


def check_albert_config(config: Mapping[str, Any]) -> None:
    """Refuse an `albert_config.json` whose keys are missing or unknown, or whose values are not supported."""
    required = {*_RENAMES, "hidden_act", "attention_probs_dropout_prob"}
    missing, unknown = sorted(required - config.keys()), sorted(config.keys() - required - _FIXED.keys())
    if missing or unknown:
        raise InputError(
            "Not a configuration of Google's ALBERT: some keys are missing or unknown. "
            f"Received: missing={missing}, unknown={unknown}. Add the former and remove the latter."
        )
    for key, allowed in _FIXED.items():
        if config.get(key, allowed[0]) not in allowed:
            raise InputError(f"Only {key}={allowed[0]!r} is supported. Received: {key}={config[key]!r}.")
    for key in _RENAMES.keys() - {"hidden_dropout_prob"}:
        if type(config[key]) is not int or config[key] < 1:
            raise InputError(f"{key} must be a whole number from 1 on. Received: {key}={config[key]!r}.")
    hidden, attention = config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]
    if type(hidden) not in (int, float) or not 0 <= hidden < 1:
        raise InputError(
            f"hidden_dropout_prob must be from 0 to less than 1. Received: hidden_dropout_prob={hidden!r}."
        )
    if hidden != attention:
        raise InputError(
            "One dropout holds for the whole encoder: make the two equal. "
            f"Received: hidden_dropout_prob={hidden}, attention_probs_dropout_prob={attention}."
        )
    for what, size, divisor in (
        ("The hidden size must be a multiple of the number of attention heads", "hidden_size", "num_attention_heads"),
        ("The groups must share the layers evenly", "num_hidden_layers", "num_hidden_groups"),
    ):
        if config[size] % config[divisor]:
            raise InputError(f"{what}. Received: {size}={config[size]}, {divisor}={config[divisor]}.")
