"""The requests that TensorFlow Serving sends to a SavedModel before anyone else does, so that no user waits."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

# Where TensorFlow Serving looks for them in a SavedModel.
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_TEXTS = ["བཅོམ་ལྡན་[MASK]་ལ་ཕྱག་འཚལ་ལོ།", "[MASK]"]
_BATCH_SIZES = (1, 8)


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
