"""`tibert serve`: bad input, the address, and the shutdown."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
import tensorflow as tf

from tests.support.preloaded import Command
from tests.support.running import save, wait_until
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER
from tibert_keras.serving.config import ServeConfig, find_models
from tibert_keras.serving.models import load_models
from tibert_keras.serving.server import _exported, _signals, make_server, serve


class TestRefused:
    @pytest.mark.parametrize(
        "given, message",
        [
            (["m", "--port=65536"], "port must be from 0 to 65535. Received: 65536"),
            (["m", "--timeout=0"], "timeout must be positive. Received: timeout=0"),
            (["m", "--max_batch_size=0"], "max_batch_size must be positive. Received: max_batch_size=0"),
            (["m", "--max_queue_size=-1"], "max_queue_size must be positive. Received: max_queue_size=-1"),
            (["m", "--port=0"], "Neither a SavedModel nor a folder of versions 1/, 2/, ... Received: 'm'"),
            (["m", "--host=192.0.2.1"], "Cannot listen there: "),
            (["m", f"--host={'a' * 64}"], "Cannot listen there: "),
            (["m", "--token_file=none"], "Cannot read the file"),
            (["m", "--max_connections=0"], "max_connections must be positive. Received: max_connections=0"),
            (["m", "--allowed_hosts=http://a"], "allowed_hosts are names without port and path. Received: 'http://a'"),
        ],
    )
    def test_one_line(self, given, message, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        assert main(["serve", *given]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and len(err.strip().splitlines()) == 1

    def test_a_port_that_is_taken(self):
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(InputError, match="Cannot listen there: .* port="),
        ):
            serve(ServeConfig(models=["m"], port=taken.getsockname()[1]))

    @pytest.mark.parametrize("content", ["", "\n", "two\nlines", "ཀ"])
    def test_tokens(self, tmp_path, content):
        (tmp_path / "token").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="The token must be one line"):
            serve(ServeConfig(models=["m"], token_file=str(tmp_path / "token")))


def test_models_that_come_with_the_package(box, tmp_path):
    config = ServeConfig(models=[])
    assert find_models(config.models) == {name: str(box(name)) for name in (MASKED_LM, TAGGER)}
    save(tmp_path / "model", 7)
    given = _exported(find_models([f"words={TAGGER}", str(tmp_path / "model")]), str(tmp_path / "exports"))
    models = load_models(given, num_versions=1)
    assert [*models] == ["words", "model"]
    version = models["words"].find(None)[1]
    assert "tag" in version.signatures and version.description.startswith(f"{TAGGER}, ")


@contextmanager
def served(folder, *flags):
    """A process that serves; it and its address, the only line that it prints."""
    process = Command(["tibert_keras.cli", "serve", "--port=0", *flags], folder)
    try:
        wait_until(lambda: process.output.endswith("\n") or process.poll() is not None, seconds=60)
        assert process.output.startswith("http://127.0.0.1:"), process.log
        yield process, process.output.strip()
        assert process.output.count("\n") == 1 and "Traceback" not in process.log
    finally:
        process.send_signal(signal.SIGKILL)


class TestProcess:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
    def test_a_stop_finishes_what_has_begun(self, tmp_path, number):
        save(tmp_path / "model", 7)
        (tmp_path / "token").write_text("open sesame\n")
        with served(tmp_path, f"{tmp_path}/model", f"--token_file={tmp_path}/token") as (process, url):
            path = f"{url}/v1/models/model:predict"
            assert requests.post(path, json={"instances": ["a"]}).status_code == 401
            headers = {"Authorization": "Bearer open sesame"}

            def body():
                yield b'{"instances": '
                process.send_signal(number)
                yield b'["a", "b"]}'

            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(requests.post, path, data=body(), headers=headers, timeout=30)
                assert asked.result().json() == {"predictions": [7, 7]}
            assert process.wait(timeout=120) == 0
        assert "At most " in process.log and "A SavedModel is a program" in process.log
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/healthz")

    def test_a_stop_does_not_wait_for_what_never_ends(self, tmp_path):
        """The model counts to the number in the text. SIGHUP, when a terminal is closed, stops the server too."""
        module = tf.Module()
        module.count = tf.function(
            lambda text: {"count": tf.while_loop(
                lambda number: tf.reduce_any(number < tf.strings.to_number(text, tf.int64)),
                lambda number: number + 1, [tf.zeros_like(text, tf.int64)],
            )[0]},
            input_signature=[tf.TensorSpec([None], tf.string, name="text")],
        )  # fmt: skip
        tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.count})
        with served(tmp_path, f"{tmp_path}/model", "--timeout=2") as (process, url):
            path = f"{url}/v1/models/model:predict"
            assert requests.post(path, json={"instances": ["3"]}).json() == {"predictions": [3]}
            assert requests.post(path, json={"instances": ["1" * 18]}).status_code == 504
            started = time.monotonic()
            process.send_signal(signal.SIGHUP)
            assert process.wait(timeout=30) == 1
            assert time.monotonic() - started < 6
        assert "gives up unfinished requests" in process.log


def test_a_hangup_that_is_ignored_stays_so():
    """As under `nohup`."""
    server = make_server(None, ServeConfig(models=["m"]))
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals(server):
            os.kill(os.getpid(), signal.SIGHUP)
            assert not server.should_exit
    finally:
        signal.signal(signal.SIGHUP, previous)
