"""Runs `tibert serve`: loads the models, listens, and shuts down on a signal."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tibert_keras.errors import InputError
from tibert_keras.serving.config import ServeConfig, find_models
from tibert_keras.storage import read_bytes

_LOG = logging.getLogger(__name__)


def serve(config: ServeConfig, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve models until SIGTERM or SIGINT, then finish the requests under way.

    Args:
        config: What to serve, and where.
        on_ready: Called with the URL once requests are answered.

    Raises:
        InputError: If a model cannot be loaded, the token cannot be read, or the address is unavailable.
    """
    token = _read_token(config.token_file)
    with _listen(config.host, config.port) as listener:
        find_models(config.models)
        # Not before the checks: these import TensorFlow.
        import uvicorn

        from tibert_keras.serving.app import make_app
        from tibert_keras.serving.models import load_models

        models = load_models(config.models, num_versions=config.num_versions)
        host, port = listener.getsockname()[:2]
        if token is None and not ipaddress.ip_address(host).is_loopback:
            _LOG.warning("Anyone who can reach %s may use the server: give --token_file to require a token.", host)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        app = make_app(config, models, token=token, on_ready=lambda: on_ready(url))
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                # Longer than any answer takes; connections kept open beyond that are closed.
                timeout_graceful_shutdown=int(config.timeout) + 1,
            )
        )
        with _ignored_signals():
            server.run(sockets=[listener])


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
    except OSError as error:
        raise InputError(
            f"Cannot listen there: {error.strerror or error}. Received: host={host!r}, port={port}. Choose another."
        ) from error
    # Connections inherit it. asyncio sets it only on sockets of its own; without it each answer, which is sent in two
    # parts, waits 40 ms for the client's delayed acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def _ignored_signals() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again after its shutdown, so that the process ends normally."""
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
