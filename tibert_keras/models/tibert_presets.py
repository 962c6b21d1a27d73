"""Presets by name, with weights and without, and checks of presets."""

import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tibert_keras.errors import InputError
from tibert_keras.integrity import MISSING, check_manifest, write_manifest
from tibert_keras.models.keras_hub_presets import is_downloaded, read_preset_file
from tibert_keras.registration import preset_converter, register_classes
from tibert_keras.storage import atomic_output, exists, join, local_folder, read_json

_ADVICE = "Copy the whole preset anew from where it comes from, or remove manifest.json if you changed it yourself."
# What KerasHub writes to a preset. Other files in its folder are somebody else's.
_FILES = (
    "config.json", "metadata.json", "model*.weights.h5", "model.weights.json", "task.json", "task.weights.h5",
    "preprocessor.json", "tokenizer.json", "assets/**/*",
)  # fmt: skip
_KERAS_HUB_ALBERTS = ("keras_hub>AlbertBackbone", "keras_nlp>AlbertBackbone")
# The files that a preset without a list must have beside each of these. Where `task.weights.h5` is missing, KerasHub
# begins with random weights.
_TOGETHER = {
    "task.json": ("config.json", "task.weights.h5"),
    "task.weights.h5": ("task.json",),
    "metadata.json": ("config.json", "model.weights.h5"),
}


def _architecture(description: str, num_layers: int, num_heads: int, embedding_dim: int, hidden_dim: int) -> Any:
    # Without `vocabulary_size`, which is the tokenizer's.
    config = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "embedding_dim": embedding_dim,
        "hidden_dim": hidden_dim,
        "intermediate_dim": 4 * hidden_dim,
        "max_sequence_length": 512,
    }
    return {"metadata": {"description": description}, "config": config}


backbone_presets: dict[str, dict[str, Any]] = {
    "tibert_nano": _architecture("2 layers of 64 units, for tests and the quickstart.", 2, 4, 32, 64),
    "tibert_tiny": _architecture("4 layers of 256 units, for trials on a CPU or a small GPU.", 4, 4, 128, 256),
    "tibert_base": _architecture("12 layers of 768 units: ALBERT-base-v2, and TibERT-base.", 12, 12, 128, 768),
    "tibert_large": _architecture("24 layers of 1024 units: ALBERT-large-v2.", 24, 16, 128, 1024),
    "tibert_xlarge": _architecture("24 layers of 2048 units: ALBERT-xlarge-v2.", 24, 16, 128, 2048),
    "tibert_xxlarge": _architecture("12 layers of 4096 units: ALBERT-xxlarge-v2.", 12, 64, 128, 4096),
}

# Presets with weights, which come with the package: a folder each in `PRESETS`. Verbs and functions use these two if no
# model is given.
MASKED_LM, TAGGER = "tibert_small_derge", "tibert_small_soas"
PRESETS = Path(__file__).parents[1] / "presets"
_METADATA = "metadata.json"
_WITH_WEIGHTS = {
    MASKED_LM: "A language model of 4 layers, trained on the Derge Kangyur and Tengyur.",
    TAGGER: "A tagger of 4 layers, fine-tuned on the SOAS corpus.",
}


def list_presets() -> dict[str, dict[str, Any]]:
    """Describe everything that has a name: the architectures, and the presets with weights that this build has."""
    presets = dict(backbone_presets)
    for name, description in _WITH_WEIGHTS.items():
        if exists(path := join(PRESETS / name, _METADATA)):
            count = read_json(path, what="a preset", advice=_ADVICE).get("parameter_count")
            presets[name] = {"metadata": {"description": description, "params": count}}
    return presets


# For each task what its models are called, and where to get one.
_TASKS = {
    "TibertMaskedLM": ("a masked language model", f"{MASKED_LM}, or the champion of `tibert pretrain`"),
    "TibertTokenClassifier": ("a tagger", f"{TAGGER}, or a tagger of `tibert finetune tokens`"),
    "TibertTextClassifier": ("a text classifier", "one of `tibert finetune text`; none comes with the package"),
}


def check_task(preset: str, task: str, *, model: str | os.PathLike[str]) -> None:
    """Refuse a preset that was saved for another task than the one wanted, before Keras is imported.

    The task is the name of a class: `TibertMaskedLM`, `TibertTokenClassifier` or `TibertTextClassifier`. The model, as
    it was given, is for the message.
    """
    # An encoder alone has no task.
    name = "task.json" if exists(join(preset, "task.json")) else "config.json"
    try:
        saved = read_json(join(preset, name), what="a part of a preset", advice=_ADVICE)
    except InputError:
        # A damaged file is reported when the whole preset is loaded.
        return
    kind = str(saved.get("registered_name")).removeprefix("tibert_keras>")
    kind = kind.replace("TibertPretraining", "TibertMaskedLM")
    known = {**_TASKS, "TibertBackbone": ("an encoder without a head",)}
    if kind in known and kind != task:
        raise InputError(
            f"The model is {known[kind][0]}, and {_TASKS[task][0]} is needed. Received: model={os.fspath(model)!r}. "
            f"Give {_TASKS[task][1]}."
        )


def find_by_name(preset: str | os.PathLike[str]) -> str:
    """Return the folder of a preset that comes with the package, given its name; anything else as it is."""
    preset = os.fspath(preset)
    if preset not in _WITH_WEIGHTS:
        return preset
    if not exists(join(folder := PRESETS / preset, _METADATA)):
        raise InputError(
            f"The model did not come with this build of tibert_keras. Received: model={preset!r}. "
            f"Give the folder of a model or of a run; ./{preset} is a folder."
        )
    return os.fspath(folder)


def check_preset(preset: str | os.PathLike[str], *, trained: bool = False) -> str:
    """Return `preset` if it is an architecture, a folder or something that KerasHub downloads; of a name, its folder.

    For anything else, KerasHub's error would suggest its own names. `trained` rules architectures out.
    """
    preset = find_by_name(preset)
    if preset in backbone_presets:
        if trained:
            raise InputError(
                f"An architecture has no tokenizer. Received: preset={preset!r}. Give the folder of a trained model."
            )
    elif not ("://" in preset or Path(preset).is_dir() or is_downloaded(preset)):
        raise InputError(
            f"The preset is neither a name nor a folder. Received: preset={preset!r}. "
            f"Give one of {', '.join(list_presets())}, or a folder written by `save_to_preset`."
        )
    return preset


class _Weights(io.BytesIO):
    """A file of weights in memory, under a name that Keras takes for one."""

    def __str__(self) -> str:
        return "in_memory.weights.h5"


@contextmanager
def weights_in_memory(path: str | os.PathLike[str]) -> Iterator[_Weights]:
    """Yield memory for weights, and write it to a file afterwards. HDF5 ends the process when it finds a disk full."""
    if not os.fspath(path).endswith(".weights.h5"):
        raise ValueError(f"The filename must end in `.weights.h5`. Received: filepath={os.fspath(path)}")
    memory = _Weights()
    yield memory
    with atomic_output(path) as temporary:
        temporary.write_bytes(memory.getbuffer())


def policy_of(folder: str, dtype: Any, *, load_weights: bool = True) -> Any:
    """Return the policy to load a preset under: the one given, or else that of its layers, if they have their own.

    It is `None` for any policy. A quantized preset has no other than its own.
    """
    saved = read_preset_file(folder, "config.json").get("config", {}).get("dtype")
    if not (isinstance(saved, dict) and saved.get("class_name") == "DTypePolicyMap" and load_weights):
        return dtype
    is_quantized = any("mode" in policy["config"] for policy in saved["config"]["policy_map"].values())
    if is_quantized and dtype is not None and type(dtype).__name__ != "DTypePolicyMap":
        raise InputError(
            "A quantized model keeps its precision: it cannot be trained, converted or computed in another. "
            f"Received: dtype={dtype!r}, preset={folder!r}. Give the model that it was made from."
        )
    return dtype or saved


@contextmanager
def local_preset(preset: str) -> Iterator[str]:
    """Yield a preset of ours that KerasHub can load: a handle, a local folder, or a temporary copy of anything else.

    A remote folder is copied because KerasHub caches its own copies from `gs://` for good and would miss a new
    champion. ALBERTs of KerasHub and of transformers are converted. Any error in loading becomes an `InputError`.
    """
    # KerasHub asks Keras for the class that the preset was saved with, whichever class of ours is to load it.
    register_classes()
    with ExitStack() as stack:
        folder = preset
        if not is_downloaded(preset):
            folder = stack.enter_context(local_folder(preset))
            check_files(folder)
        stack.enter_context(explain_load_errors(preset))
        config = read_preset_file(folder, "config.json")
        if config.get("model_type") == "albert" or config.get("registered_name", "") in _KERAS_HUB_ALBERTS:
            converted = stack.enter_context(tempfile.TemporaryDirectory())
            preset_converter()(folder, converted)
            folder = converted
        yield folder


def made_as(cls: type) -> AbstractContextManager[Any]:
    """Make Keras load objects of our class as those of a subclass, where KerasHub takes the class that was saved."""
    import keras

    ours = next(base for base in cls.__mro__ if base.__module__.startswith("tibert_keras."))
    return keras.saving.custom_object_scope({f"tibert_keras>{ours.__name__}": cls})


def check_files(folder: str) -> None:
    """Check that a preset is whole: by its list of files or, for older versions, by files that belong together."""
    what = "The preset"
    if check_manifest(folder, what=what, advice=_ADVICE):
        return
    parts = exists(join(folder, "model.weights.json"))
    for name, others in _TOGETHER.items():
        for other in others if exists(join(folder, name)) else ():
            if not exists(join(folder, other)) and not (parts and other == "model.weights.h5"):
                path = join(folder, other)
                raise InputError(f"{what} cannot be loaded: {MISSING}. Received: {path!r}. {_ADVICE}")


def name_readable_policy(folder: str | os.PathLike[str]) -> None:
    """Replace a mixed policy in a preset, whose name KerasHub cannot read; it loads them under the current policy."""
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    policy = config["config"]["dtype"]["config"]
    if policy.get("name", "").startswith("mixed_"):
        policy["name"] = "float32"
        path.write_text(json.dumps(config, indent=4), encoding="utf-8")


def list_preset_files(folder: str | os.PathLike[str]) -> None:
    """Write the list by which `from_preset` knows that a preset is whole."""
    write_manifest(folder, patterns=_FILES)


@contextmanager
def explain_load_errors(preset: str) -> Iterator[None]:
    """Turn any error that Keras raises while it loads a preset into an `InputError`: damage can raise any."""
    try:
        with warnings.catch_warnings():
            # A variable that a damaged file lacks is an error below, and one line is enough.
            warnings.filterwarnings("ignore", message="Skipping nested container")
            yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"The preset cannot be loaded: {type(error).__name__}: {reason}. Received: {preset!r}. "
            "Give a folder that `save_to_preset` wrote, or a run."
        ) from error
