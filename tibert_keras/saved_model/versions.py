"""Finds and loads SavedModels and their numbered versions, and reads and writes their warm-up requests."""

import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.integrity import check_manifest
from tibert_keras.lazy import tf
from tibert_keras.records.serialization import read_records
from tibert_keras.registration import is_handle
from tibert_keras.storage import exists, join, list_folder, read_bytes

# The file that makes a folder a SavedModel.
SAVED_MODEL = "saved_model.pb"

# Where TensorFlow Serving looks for warm-up requests in a SavedModel, and how many of them it reads.
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_REQUESTS = 1000
# A line about the model.
DESCRIPTION_FILE = "assets.extra/description.txt"
_WARM_UP_TEXTS = ["བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ།", "[MASK]"]
_WARM_UP_BATCH_SIZES = (1, 8)


def is_saved_model(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder looks like a SavedModel, without loading it."""
    return exists(join(folder, SAVED_MODEL))


def list_versions(folder: str | os.PathLike[str]) -> dict[int, str]:
    """Return the numbers and paths of the versions in a folder, the oldest first, incomplete ones included."""
    numbers = sorted(int(name) for name in list_folder(folder) if re.fullmatch("[1-9][0-9]{0,17}", name))
    return {number: join(folder, str(number)) for number in numbers}


def next_version(folder: str | os.PathLike[str]) -> str:
    """Return the path of a model's next version, as TensorFlow Serving numbers them: `NAME/1`, `NAME/2`, ..."""
    return join(folder, str(max(list_versions(folder), default=0) + 1))


def find_saved_model(folder: str | os.PathLike[str]) -> str | None:
    """Return the path of a SavedModel: the folder itself, or the newest version in it; or `None`."""
    if is_handle(folder):
        return None
    newest = reversed(list_versions(folder).values())
    return next((path for path in (os.fspath(folder), *newest) if is_saved_model(path)), None)


def check_export_folder(folder: str | os.PathLike[str]) -> None:
    """Raise `InputError` if a folder holds anything but a SavedModel, which an export may replace."""
    names = list_folder(folder)
    if names and SAVED_MODEL not in names:
        raise InputError(
            "The output folder is not empty and holds no SavedModel. "
            f"Received: output_dir={os.fspath(folder)!r}. Choose another."
        )


# === Warm-up: requests that TensorFlow Serving sends to a SavedModel first, so that no user waits ===


def read_warm_up(folder: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the signature and the inputs of each warm-up request in a SavedModel, ours or another's, if it has any."""
    from tensorflow_serving.apis import prediction_log_pb2

    path = join(folder, WARM_UP_FILE)
    for record in islice(read_records(path), _MOST_REQUESTS) if exists(path) else []:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if not log.HasField("predict_log"):
            continue  # for the older interfaces of TensorFlow Serving
        request = log.predict_log.request
        yield request.model_spec.signature_name, {key: tf.make_ndarray(value) for key, value in request.inputs.items()}


def write_description(folder: str | os.PathLike[str], description: str) -> None:
    """Note a line about the model in a SavedModel, which servers show."""
    path = Path(folder) / DESCRIPTION_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(description, encoding="utf-8")


def read_description(folder: str | os.PathLike[str]) -> str:
    """Return the line about the model in a SavedModel, or an empty string."""
    path = join(folder, DESCRIPTION_FILE)
    return read_bytes(path).decode("utf-8", "replace") if exists(path) else ""


def write_warm_up(folder: str | os.PathLike[str], signatures: list[str]) -> None:
    """Write requests of a few batch sizes for the signatures that take strings."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = Path(folder) / WARM_UP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for signature in signatures:
            for size in _WARM_UP_BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = signature
                texts = [_WARM_UP_TEXTS[number % len(_WARM_UP_TEXTS)] for number in range(size)]
                request.inputs["text"].CopyFrom(tf.make_tensor_proto(texts))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())


# === Loading ===

_KERAS_OPTIMIZERS = "keras.src.optimizers"


def load_saved_model(folder: str) -> Any:
    """Load a SavedModel, of ours or another's.

    Importing TensorFlow Text would import Keras, for layers of its own, and take seconds. This is done only for a
    foreign tokenizer, whose ops may be any of them.
    """
    advice = "Copy the whole SavedModel anew from where it comes from, or export it again."
    check_manifest(folder, what="The SavedModel", advice=advice)
    import_tensorflow()
    _register_sentence_piece()
    try:
        return _load(folder)
    except Exception as error:  # a damaged file raises any kind
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The SavedModel cannot be loaded: {reason}. Received: {folder!r}. {advice}") from error


def _load(folder: str) -> Any:
    try:
        return tf.saved_model.load(folder)
    except Exception as error:
        if "Op type not registered" not in str(error):
            raise
    import tensorflow_text  # noqa: F401

    return tf.saved_model.load(folder)


def import_tensorflow() -> None:
    """Import TensorFlow and keep it from importing Keras, which a SavedModel does not need and which takes seconds.

    TensorFlow imports a module of Keras at the end, if it can, to register optimizers. It comes with Keras later.
    """
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        import tensorflow  # noqa: F401

        return
    sys.modules[_KERAS_OPTIMIZERS] = None  # type: ignore[assignment]
    try:
        import tensorflow  # noqa: F401
    finally:
        del sys.modules[_KERAS_OPTIMIZERS]


def _register_sentence_piece() -> None:
    package = find_spec("tensorflow_text")
    folder = Path(package.origin).parent if package and package.origin else Path()
    if (library := folder / "python/ops/_sentencepiece_tokenizer.so").exists():
        tf.load_op_library(str(library))
    else:
        import tensorflow_text  # noqa: F401  (raises if it is missing, and works wherever its ops are)
