"""The requests that TensorFlow Serving sends to a SavedModel before anyone else does, so that no user waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tibert_keras.storage import exists, join

# Where TensorFlow Serving looks for them in a SavedModel.
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_TEXTS = ["བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ།", "[MASK]"]
_BATCH_SIZES = (1, 8)
# As many as TensorFlow Serving reads.
_MOST = 1000


def read_warm_up(folder: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Read the requests that come with a SavedModel, ours or another's.

    Args:
        folder: The SavedModel.

    Yields:
        The name of a signature and its inputs; none if there is no such file.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    path = join(folder, WARM_UP_FILE)
    for record in tf.data.TFRecordDataset(path).take(_MOST) if exists(path) else []:
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        if not log.HasField("predict_log"):
            continue  # for the older interfaces of TensorFlow Serving
        request = log.predict_log.request
        yield request.model_spec.signature_name, {key: tf.make_ndarray(value) for key, value in request.inputs.items()}


def write_warm_up(folder: str | os.PathLike[str], signatures: list[str]) -> None:
    """Write requests of a few sizes for the signatures that take strings.

    Args:
        folder: The SavedModel.
        signatures: Names of signatures with the single input `text`.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = Path(folder) / WARM_UP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for signature in signatures:
            for size in _BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = signature
                texts = [_TEXTS[number % len(_TEXTS)] for number in range(size)]
                request.inputs["text"].CopyFrom(tf.make_tensor_proto(texts))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
