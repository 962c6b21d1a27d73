"""Maps the variables of Google's ALBERT checkpoints (TensorFlow 1) to ours, and reads the checkpoints."""

import glob
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.formats.names import GOOGLE
from tibert_keras.formats.renaming import from_theirs, in_float32, split_slot, to_theirs
from tibert_keras.lazy import tf
from tibert_keras.storage import exists, is_remote, join, list_folder, open_binary

STEP = "global_step"
_OPTIMIZERS = {"beta1_power", "beta2_power"}
_KERAS_NORM = re.compile(r"(?P<scope>.*/)(?P<norm>layer_normalization(?:_\d+)?)/(?P<rest>(?:gamma|beta).*)")
# Variables that a group's layers share, and variables of one layer. Google's code enters the scope `group_0` anew for
# each layer, so TensorFlow calls it `group_0_1`, `group_0_2` and so on from the second layer on.
_SHARED = re.compile(r"(?P<root>.*/)group_(?P<group>\d+)/(?P<rest>inner_group_\d+/.*)")
_OWN = re.compile(r"(?P<root>.*/)group_\d+(?:_\d+)?/layer_(?P<layer>\d+)/(?P<rest>inner_group_\d+/.*)")

_LOG = logging.getLogger(__name__)


def variable_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Get the shapes of a model's weights by path."""
    return {weight.path: tuple(weight.shape) for weight in model.weights}


def from_google(variables: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Convert Google's variables into ours, as `from_theirs` does."""
    named = standard_names({name: array for name, array in variables.items() if name != STEP})
    # An optimizer's variables are named after the variable that they belong to.
    of_others = {name for name in named if name.rpartition("/")[0] in named and not split_slot(name)[1]}
    of_others |= _OPTIMIZERS & named.keys()
    if of_others:
        _LOG.info("Dropped %s, because they are another optimizer's.", ", ".join(sorted(of_others)))
    named = {name: array for name, array in named.items() if name not in of_others}
    embedding_dim, hidden_dim = shapes["embedding_projection/kernel"]
    if embedding_dim == hidden_dim:
        # Google projects the embeddings only if their size differs from the hidden size. We always do.
        projection = "bert/encoder/embedding_hidden_mapping_in"
        identity, zeros = np.eye(hidden_dim, dtype="float32"), np.zeros(hidden_dim, "float32")
        named = {f"{projection}/kernel": identity, f"{projection}/bias": zeros, **named}
    return from_theirs(GOOGLE, named, shapes)


def to_google(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert our variables and moments, by path, into Google's."""
    if "logits/kernel" in arrays:
        raise InputError(
            "Google's format has no taggers and classifiers. Received: a model with logits/kernel. "
            "Convert it with --to=huggingface."
        )
    kernel, bias = arrays["embedding_projection/kernel"], arrays["embedding_projection/bias"]
    if kernel.shape[0] == kernel.shape[1]:
        if bias.any() or (kernel != np.eye(len(kernel))).any():
            raise InputError(
                "Google's ALBERT has no mapping where the embedding size is the hidden size, and here it is not the "
                f"identity. Received: embedding_size={len(kernel)}, hidden_size={len(bias)}. "
                "Convert to huggingface, which has it."
            )
        _LOG.info("Dropped embedding_projection, because it is the identity, and Google has none at equal sizes.")
        arrays = {name: array for name, array in arrays.items() if not name.startswith("embedding_projection/")}
    return to_theirs(GOOGLE, arrays)


def standard_names(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the variables of TF Hub modules and modified copies of Google's code to the original names.

    A TF Hub module prefixes every name with `module/`. Copies that use Keras's layer normalisation instead of contrib's
    call it `layer_normalization`, `layer_normalization_1` and so on, numbered across the whole graph. Within a scope
    they come in the order of `LayerNorm` and `LayerNorm_1`. Where layers have some of their own, call `split_layers`
    first.
    """
    renamed = {name.removeprefix("module/"): array for name, array in variables.items()}
    scopes: dict[str, set[str]] = {}
    for name in renamed:
        if match := _KERAS_NORM.fullmatch(name):
            scopes.setdefault(match["scope"], set()).add(match["norm"])
    if own := [scope for scope in scopes if _OWN.fullmatch(scope)]:
        raise InputError(
            "Each layer has layer normalisations of its own while all share their matrices, which no model here does. "
            f"Received: {own[0]}{min(scopes[own[0]])}. Begin with what `tibert convert --to=google` makes of it: a "
            "checkpoint and a configuration that compute the same, where layers have matrices of their own too."
        )

    def standard(match: re.Match[str]) -> str:
        order = sorted(scopes[match["scope"]], key=lambda norm: int("0" + norm.removeprefix("layer_normalization")[1:]))
        index = order.index(match["norm"])
        return f"{match['scope']}LayerNorm{f'_{index}' if index else ''}/{match['rest']}"

    return {_KERAS_NORM.sub(standard, name): array for name, array in renamed.items()}


def split_layers(
    variables: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Make each layer a group of its own, if the layers have layer normalisations of their own.

    In copies of Google's code with Keras's layer normalisation, each layer creates its own normalisations, while the
    group's layers share the matrices, which come from `tf.get_variable`. With one group per layer and the matrices
    repeated, the model is an ordinary ALBERT with the same outputs. Further training would change it differently, so
    moments and step are dropped.
    """
    if not any(_OWN.fullmatch(name) and _KERAS_NORM.fullmatch(name) for name in variables):
        return dict(variables), dict(config)
    layers, groups = config["num_hidden_layers"], config["num_hidden_groups"]
    split = {}
    for name, array in variables.items():
        if name == STEP or split_slot(name)[1]:
            continue
        if own := _OWN.fullmatch(name):
            split[f"{own['root']}group_{own['layer']}/{own['rest']}"] = array
        elif shared := _SHARED.fullmatch(name):
            for layer in range(layers):
                if layer * groups // layers == int(shared["group"]):
                    split[f"{shared['root']}group_{layer}/{shared['rest']}"] = array
        else:
            split[name] = array
    _LOG.warning(
        "Each layer has layer normalisations of its own: made a group of each, %d in all, with the matrices that they "
        "share repeated. Dropped the optimizer's moments and the step, which are of shared matrices.",
        layers,
    )
    return split, {**config, "num_hidden_groups": layers}


def global_step(variables: Mapping[str, np.ndarray]) -> int | None:
    """Get the global step from a checkpoint's variables, or `None` if they have none."""
    step = variables.get(STEP)
    if step is not None and (step.shape != () or not np.issubdtype(step.dtype, np.integer)):
        raise InputError(
            f"The checkpoint's step is not a whole number. Received: {STEP} of shape {step.shape}, {step.dtype}. "
            "Give a checkpoint that was written in training."
        )
    return None if step is None else int(step)


def find_google_checkpoint(path: str) -> str:
    """Find the prefix of a checkpoint, given that or a folder, of which the last checkpoint is taken."""
    path = path.rstrip("/")
    if exists(f"{path}.index"):
        return path
    if found := [name.removesuffix(".index") for name in list_folder(path) if name.endswith(".index")]:
        return join(path, max(found, key=_step))
    raise InputError(
        f"No checkpoint of Google's is there. Received: {path!r}. "
        "Give a folder with model.ckpt-N.index, or the path up to `model.ckpt-N`."
    )


def _step(name: str) -> tuple[int, str]:
    number = name.rpartition("-")[2]
    # Published checkpoints are called `model.ckpt-best`.
    return (int(number) if number.isdigit() else -1, name)


def read_google_checkpoint(prefix: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every variable of a TensorFlow checkpoint, local or `gs://`, by name, floats as float32."""
    if not is_remote(prefix):
        # TensorFlow would wait for a pipe.
        for path in sorted(glob.glob(f"{glob.escape(os.fspath(prefix))}.*")):
            open_binary(path).close()
    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        arrays = {name: np.asarray(reader.get_tensor(name)) for name in sorted(reader.get_variable_to_shape_map())}
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        reason = " ".join(str(getattr(error, "message", error)).split())
        raise InputError(
            f"The checkpoint cannot be read: {reason}. Received: {os.fspath(prefix)!r}. "
            "Give the path of a whole one, without `.index` and `.data-...`."
        ) from error
    return in_float32(arrays)
