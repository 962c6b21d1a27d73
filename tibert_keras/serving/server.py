"""Runs `tibert serve`: loads the models, listens, and shuts down on a signal."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tibert_keras.errors import InputError
from tibert_keras.saved_model.versions import find_saved_model, import_tensorflow
from tibert_keras.serving.config import ServeConfig, find_models
from tibert_keras.serving.connections import BoundedProtocol, cap_connections
from tibert_keras.storage import join, read_bytes

_LOG = logging.getLogger(__name__)


def serve(config: ServeConfig, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve models until SIGTERM, SIGINT or SIGHUP, then finish the requests under way.

    Requests unfinished `config.timeout` seconds later are given up, and the process ends with status 1.
    """
    token = _read_token(config.token_file)
    with _listen(config.host, config.port) as listener, tempfile.TemporaryDirectory() as exports:
        folders = find_models(config.models)
        import_tensorflow()  # not before the checks: it takes seconds
        from tibert_keras.serving.app import make_app
        from tibert_keras.serving.models import load_models

        _LOG.info("A SavedModel is a program: serve only those that you made or trust (docs/how_to/serve.md).")
        models = load_models(_exported(folders, exports), num_versions=config.num_versions)
        host, port = listener.getsockname()[:2]
        if token is None and not ipaddress.ip_address(host).is_loopback:
            _LOG.warning("Anyone who can reach %s may use the server: give --token_file to require a token.", host)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        app = make_app(config, models, token=token, on_ready=lambda: on_ready(url))
        server = make_server(app, config)
        with _signals(server):
            server.run(sockets=[listener])


def _exported(folders: dict[str, str], exports: str) -> list[str]:
    """Export the presets among some models to a folder, and return all models as `NAME=FOLDER`."""
    for name, folder in folders.items():
        if find_saved_model(folder) is None:
            from tibert_keras.saved_model.export import export_saved_model

            _LOG.info("Exporting %s ...", name)
            folders[name] = join(exports, name)
            export_saved_model(folder, folders[name])
    return [f"{name}={folder}" for name, folder in folders.items()]


def make_server(app: ASGIApp, config: ServeConfig, **options: Any) -> BoundedServer:
    """Make the server of an application, with uvicorn's further `options`."""
    protocol: Any = partial(
        BoundedProtocol, max_connections=cap_connections(config.max_connections), seconds=config.timeout, waiting={}
    )
    # A client's malformed request is no warning of ours.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return BoundedServer(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="on",
            # No answer takes longer; connections kept open beyond that are closed.
            timeout_graceful_shutdown=math.ceil(config.timeout),
            **options,
        )
    )


class BoundedServer(uvicorn.Server):
    """uvicorn's server, which ends the process if a model or a client keeps it from stopping in time."""

    _last_resort: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._last_resort is None:
            # A second for the refusals that are sent at the end.
            self._last_resort = threading.Timer((self.config.timeout_graceful_shutdown or 0) + 1, _end_process)
            self._last_resort.daemon = True
            self._last_resort.start()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            if self._last_resort is not None:
                self._last_resort.cancel()


def _end_process() -> None:
    _LOG.error("The server gives up unfinished requests, and ends.")
    logging.shutdown()
    os._exit(1)


def _read_token(path: str | None) -> str | None:
    if path is None:
        return None
    token = read_bytes(path).decode(errors="replace").strip()
    if not (token and token.isascii() and token.isprintable()):
        raise InputError(f"The token must be one line of ASCII characters. Received: {path!r}. Write it into the file.")
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address, family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"Cannot listen there: {reason}. Received: host={host!r}, port={port}. Choose another."
        ) from error
    # Connections inherit it. asyncio sets it only on sockets of its own; without it each answer, which is sent in two
    # parts, waits 40 ms for the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def _signals(server: BoundedServer) -> Iterator[None]:
    """Stop at SIGHUP too, and ignore the signal that uvicorn raises again after its shutdown, to end normally."""
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    # Under `nohup` it is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, server.handle_exit)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
