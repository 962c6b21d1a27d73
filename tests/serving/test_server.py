"""`tibert serve`: bad input, the address, and the shutdown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.running import save
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.serving.config import ServeConfig
from tibert_keras.serving.server import serve


class TestRefused:
    @pytest.mark.parametrize(
        "given, message",
        [
            ([], "There is no model to serve"),
            (["m", "--port=65536"], "port must be from 0 to 65535. Received: 65536"),
            (["m", "--timeout=0"], "timeout must be a positive number of seconds. Received: 0"),
            (["m", "--max_batch_size=0"], "max_batch_size must be at least 1. Received: 0"),
            (["m", "--max_queue_size=-1"], "max_queue_size must be at least 1. Received: -1"),
            (["m", "--port=0"], "Neither a SavedModel nor a folder of versions 1/, 2/, ... Received: 'm'"),
            (["m", "--host=192.0.2.1"], "Cannot listen there: "),
            (["m", "--token_file=none"], "Cannot read the file"),
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


class TestProcess:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
    def test_a_stop_finishes_what_has_begun(self, tmp_path, number):
        save(tmp_path / "model", 7)
        (tmp_path / "token").write_text("open sesame\n")
        command = ["serve", f"{tmp_path}/model", "--port=0", f"--token_file={tmp_path}/token"]
        with subprocess.Popen(
            [sys.executable, "-m", "tibert_keras.cli", *command],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                url = process.stdout.readline().strip()
                assert url.startswith("http://127.0.0.1:"), process.stderr.read()
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
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode == 0 and out == "" and "Traceback" not in err
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/healthz")
