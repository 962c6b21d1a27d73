"""Runs servers in a thread of the test, sends requests, and makes models of Python functions."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import requests
import tensorflow as tf

from tibert_keras.inference.gaps import MASK
from tibert_keras.serving.app import make_app
from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.models import ServedModel
from tibert_keras.serving.server import make_server
from tibert_keras.serving.signature import Signature


@contextmanager
def running(models: Mapping[str, Any], *, token: str | None = None, **changes: Any) -> Iterator[str]:
    """Serve models while the body runs; yields the URL."""
    config = ServeConfig(models=list(models), **changes)
    server = make_server(make_app(config, models, token=token), config, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
    return value


def post(url: str, body: Any, **options: Any) -> requests.Response:
    """Send a value as JSON, or bytes unchanged."""
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return requests.post(url, data=data, timeout=60, **options)


def refusal(response: requests.Response, status: int) -> str:
    """Return the reason of an error, and check that it is JSON and reveals no internals."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (reason,) = response.json().values()
    assert not re.search(r"Traceback|/tmp|/home|site-packages", reason) and len(reason) < 500
    return reason


def signature(
    call: Callable[..., Mapping[str, Any]],
    inputs: Mapping[str, tf.TensorSpec],
    outputs: Mapping[str, tf.TensorSpec],
    of_variables: Sequence[tf.Variable] = (),
) -> Signature:
    """Make a signature of a function of arrays."""

    class Function:
        structured_input_signature = ((), inputs)
        structured_outputs = outputs
        variables = of_variables

        def __call__(self, **tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            answers = call(**{name: tensor.numpy() for name, tensor in tensors.items()})
            return {name: tf.constant(value) for name, value in answers.items()}

    return Signature(Function())


def fake_model(*, loaded: Any = None, **signatures: Signature) -> ServedModel:
    """Make a model without a folder, with version 1."""
    model = ServedModel("fake", "/nowhere")
    version = SimpleNamespace(
        signatures=signatures, loaded=loaded, folder="/nowhere", fingerprint="[]", signature_def={},
        description="A model made up for a test",
    )  # fmt: skip
    model.versions = {1: version}
    return model


class SlowFiller:
    """Fills gaps with ཀ and ཁ once `open` is set, and counts its calls."""

    PIECES = ("<pad>", "[CLS]", "[SEP]", MASK, "<unk>", "ཀ་", "ཁ་")

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls = 0

    def vocabulary(self) -> dict[str, tf.Tensor]:
        return {"pieces": tf.constant(self.PIECES), "max_tokens": tf.constant(32)}

    def tokenize(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = [["[CLS]", *re.findall(r"\[MASK\]|.་|.", each.decode()), "[SEP]"] for each in text.numpy()]
        ids = [[self.PIECES.index(piece if piece in self.PIECES else "<unk>") for piece in row] for row in rows]
        token_ids = tf.ragged.constant(ids, tf.int32)
        return {"token_ids": token_ids.to_tensor(), "padding_mask": tf.ones_like(token_ids).to_tensor()}

    def masked_lm(self, token_ids: tf.Tensor, **_: tf.Tensor) -> dict[str, tf.Tensor]:
        self.calls += 1
        self.open.wait(60)
        row = np.linspace(0, 1, len(self.PIECES), dtype="float32")[None, None]
        return {"logits": tf.constant(np.tile(row, (len(token_ids), 1, 1)))}


def lengths_of(text: np.ndarray) -> dict[str, np.ndarray]:
    return {"length": np.array([len(each) for each in text], "int32")}


TEXT = {"text": tf.TensorSpec([None], tf.string)}
LENGTH = {"length": tf.TensorSpec([None], tf.int32)}
FAKE = "/v1/models/fake:predict"


def gated(call: Callable[..., Mapping[str, Any]], **options: Any) -> AbstractContextManager[str]:
    """Serve, at `FAKE`, one model made of a function from texts to lengths."""
    return running({"fake": fake_model(serving_default=signature(call, TEXT, LENGTH))}, **options)


def save(folder: Path, answer: int, *, name: str = "serving_default") -> None:
    """Save a SavedModel that always gives the same answer."""
    module = tf.Module()
    module.say = tf.function(
        lambda text: {"said": tf.fill(tf.shape(text), answer)},
        input_signature=[tf.TensorSpec([None], tf.string, name="text")],
    )
    tf.saved_model.save(module, str(folder), signatures={name: module.say})
