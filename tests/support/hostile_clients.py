"""Clients that keep a server waiting or break the rules of HTTP, for tests and for the benchmark."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def connect(url: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    client.settimeout(0.05)
    return client


def post_head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def until_closed(client: socket.socket, *, seconds: float, drip: bytes = b"") -> tuple[bytes, float | None]:
    """Read until the server closes the connection, sending `drip` all the while; the bytes and the seconds it took."""
    started, received = time.monotonic(), b""
    while time.monotonic() < started + seconds:
        try:
            client.sendall(drip)
            received += (part := client.recv(65536))
            if not part:
                return received, time.monotonic() - started
        except TimeoutError:
            continue
        except OSError:  # closed while there was more to read
            return received, time.monotonic() - started
    return received, None


# What a client sends first, and again and again: nothing comes of any of these. They need no token.
WAITING: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A", b""),
    "a head letter by letter": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"a"),
    "a header each time": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n"),
    "half a second head": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"a"),
    "empty lines": (b"", b"\r\n"),
    "a body after its answer": (post_head("/nowhere", "Content-Length: 99999"), b"a"),
    "chunks after their answer": (post_head("/nowhere", "Transfer-Encoding: chunked"), b"1\r\na\r\n"),
    "100-continue, then nothing": (post_head("/nowhere", "Content-Length: 9", "Expect: 100-continue"), b""),
    "an upgrade, then nothing": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"",
    ),
    "HTTP/1.0 that is kept": (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b""),
}


def flood(url: str, count: int) -> list[socket.socket]:
    """Open connections and send nothing."""
    clients = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            clients.append(connect(url))
    return clients


def in_parallel(clients: dict[str, Callable[[], object]]) -> dict[str, object]:
    with ThreadPoolExecutor(len(clients)) as pool:
        running = {name: pool.submit(client) for name, client in clients.items()}
        return {name: each.result() for name, each in running.items()}


# Requests with a body, sent one after another. Each costs a server more than its client, if it lets it.
REQUESTS: dict[str, bytes] = {
    "a megabyte of Latin letters": b'{"instances": ["' + b"a" * 1_000_000 + b'"]}',
    "200,000 Chinese characters": '{"instances": ["%s"]}'.replace("%s", "\u4f60" * 200_000).encode(),
    "unknown signs of Tibetan": '{"instances": ["%s"]}'.replace("%s", "\u0fd5" * 300_000).encode(),
    "runs of 8,000 letters": b'{"instances": ["%s"]}' % b", ".join([b"a" * 8_000 + "\u0f0b".encode()] * 120),
    "a megabyte of Tibetan": '{"instances": ["%s"]}'.replace("%s", "\u0f40\u0f0b" * 170_000).encode(),
    "four megabytes in 1,000 texts": '{"instances": [%s]}'.replace(
        "%s", ",".join(['"' + "\u0f40\u0f0b" * 650 + '"'] * 1000)
    ).encode(),
    "a million brackets": b'{"instances": ' + b"[" * 1_000_000,
    "a million numbers": b'{"instances": [' + b"1," * 1_000_000 + b"1]}",
    "digits of one number": b'{"instances": [' + b"9" * 1_000_000 + b"]}",
    "keys that repeat": b"{" + b'"instances": ["a"],' * 50_000 + b'"instances": ["a"]}',
    "more than is allowed": b"a" * 8_000_000,
}


class Crowd:
    """Hostile clients that go on, in threads, until the block ends."""

    def __init__(self, clients: list[Callable[[], object]]) -> None:
        self._clients = clients
        self._stop = threading.Event()
        self.count = 0

    def _repeat(self, client: Callable[[], object]) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                client()
            self.count += 1

    def __enter__(self) -> Crowd:
        self._threads = [threading.Thread(target=self._repeat, args=(client,)) for client in self._clients]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def send(url: str, path: str, body: bytes, headers: tuple[str, ...] = ()) -> bytes:
    """Send one request over a connection of its own, and return the status line."""
    with connect(url) as client:
        client.settimeout(120)
        client.sendall(post_head(path, f"Content-Length: {len(body)}", "Connection: close", *headers))
        client.sendall(body)
        return client.recv(100).partition(b"\r\n")[0]


def waiting_crowd(url: str, first: bytes, drip: bytes, *, count: int) -> Callable[[], object]:
    """A client with many connections. Each second it sends `drip` over all, and opens those anew that were closed."""
    clients: list[socket.socket] = []

    def keep_on() -> None:
        for client in list(clients):
            try:
                client.setblocking(False)
                client.sendall(drip)
                with contextlib.suppress(BlockingIOError):
                    if not client.recv(65536):
                        raise ConnectionResetError
            except OSError:
                client.close()
                clients.remove(client)
        for _ in range(count - len(clients)):
            client = connect(url)
            clients.append(client)
            client.sendall(first)
        time.sleep(1)

    return keep_on
