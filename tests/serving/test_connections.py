"""Connections of which nothing comes are closed, and never keep others out."""

import asyncio
import logging
import resource
import time

import numpy as np
import pytest
import requests

from tests.support.hostile_clients import (
    REQUESTS,
    WAITING,
    Crowd,
    connect,
    flood,
    in_parallel,
    post_head,
    send,
    until_closed,
    waiting_crowd,
)
from tests.support.running import (
    FAKE,
    LENGTH,
    TEXT,
    fake_model,
    gated,
    lengths_of,
    post,
    running,
    signature,
    wait_until,
)
from tibert_keras.serving.connections import AcceptErrors, cap_connections
from tibert_keras.serving.models import load_models


def is_closed(client) -> bool:
    return until_closed(client, seconds=0.01)[1] is not None


def test_a_client_that_keeps_the_server_waiting_is_cut_off():
    def ask(url, first, drip):
        with connect(url) as client:
            client.sendall(first)
            return until_closed(client, seconds=8, drip=drip)

    with gated(lengths_of, timeout=1) as url:
        ended = in_parallel({name: lambda case=case: ask(url, *case) for name, case in WAITING.items()})
        assert post(f"{url}{FAKE}", {"instances": ["a"]}).ok
    assert {name: "still open" for name, (_, seconds) in ended.items() if seconds is None or seconds > 4} == {}
    assert b" 408 " in ended["half a head"][0] and b"did not arrive within 1 seconds" in ended["half a head"][0]
    assert ended["idle"][0] == b""


def test_an_answer_that_is_not_taken():
    def large(text: np.ndarray) -> dict[str, np.ndarray]:
        return {"length": np.arange(len(text) * 2_000_000, dtype="int32").reshape(len(text), -1)}

    numbers = {"length": signature_output()}
    with running({"fake": fake_model(serving_default=signature(large, TEXT, numbers))}, timeout=0.5) as url:
        body = b'{"inputs": ["a"]}'
        for count in (1, 3):
            with connect(url) as client:
                client.sendall((post_head(FAKE, f"Content-Length: {len(body)}") + body) * count)
                time.sleep(2)
                received, seconds = until_closed(client, seconds=10)
                # The system has taken a part of it.
                assert len(received) < 10_000_000 and seconds is not None
        assert len(post(f"{url}{FAKE}", {"inputs": ["a"]}).content) > 10_000_000


def signature_output():
    import tensorflow as tf

    return tf.TensorSpec([None, None], tf.int32)


def test_whoever_asks_gets_in():
    with gated(lengths_of, max_connections=8) as url:
        clients = flood(url, 40)
        for _ in range(20):
            assert post(f"{url}{FAKE}", {"instances": ["a"]}).ok
            clients += flood(url, 5)
        assert sum(map(is_closed, clients)) >= len(clients) - 12
        for client in clients:
            client.close()


def test_whoever_connects_has_the_time_to_ask(monkeypatch):
    monkeypatch.setattr("tibert_keras.serving.connections._SECONDS_TO_ASK", 60)
    body = b'{"instances": ["a"]}'
    with gated(lengths_of, max_connections=8) as url, connect(url) as asking:
        clients = flood(url, 11)
        time.sleep(0.3)
        asking.settimeout(10)
        asking.sendall(post_head(FAKE, f"Content-Length: {len(body)}") + body)
        assert b" 200 " in asking.recv(100)
        for client in clients:
            client.close()


def test_a_burst_does_not_stay():
    with gated(lengths_of, max_connections=8) as url:
        clients = flood(url, 12)
        time.sleep(0.5)
        clients += flood(url, 1)
        wait_until(lambda: sum(map(is_closed, clients)) >= 5)
        for client in clients:
            client.close()


def test_a_server_full_of_requests_refuses():
    import threading

    open_ = threading.Event()

    def wait(text):
        open_.wait(30)
        return lengths_of(text)

    model = fake_model(serving_default=signature(wait, TEXT, LENGTH))
    with running({"fake": model}, max_connections=2) as url:
        body = b'{"instances": ["a"]}'
        asking = [connect(url) for _ in range(2)]
        for client in asking:
            client.sendall(post_head(FAKE, f"Content-Length: {len(body)}") + body)
        time.sleep(0.3)
        refused = requests.get(f"{url}/healthz")
        assert refused.status_code == 503 and "as many connections as it may" in refused.json()["error"]
        open_.set()
        for client in asking:
            client.settimeout(10)
            assert b" 200 " in client.recv(100)


def test_the_number_of_files_bounds_the_connections(caplog):
    caplog.set_level(logging.INFO)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        assert cap_connections(1000) == 170 and cap_connections(100) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "At most 170 connections stay open (max_connections=1000; the process may open 512 files" in caplog.text


def test_errors_of_accept_are_told_once(caplog):
    loop, handler = asyncio.new_event_loop(), AcceptErrors()
    for _ in range(100):
        handler(loop, {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many files")})
    assert [record.message for record in caplog.records] == [
        "Connections wait, because none can be accepted: [Errno 24] Too many files."
    ]
    handler(loop, {"message": "something else"})
    loop.close()
    assert "something else" in caplog.text


@pytest.mark.parametrize(
    "sent, answer",
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000, b" 400 "),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
        (b"\x16\x03\x01\x02\x00" * 20 + b"\r\n\r\n", b" 400 "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" 404 "),
        (b"GET / HTTP/1.1\r\n\r\n", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", b" 400 "),
        (post_head(FAKE, "Content-Length: -1"), b" 400 "),
        (post_head(FAKE, "Content-Length: 5", "Content-Length: 6"), b" 400 "),
        (post_head(FAKE, "Transfer-Encoding: gzip, chunked"), b" 400 "),
        (post_head(FAKE, "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFFFFFFFF\r\n", b" 400 "),
        (post_head(FAKE, "Transfer-Encoding: chunked") + b"xyz\r\n", b" 400 "),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b" 200 "),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", b" 405 "),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", b" 40"),
        (b"GET http://evil.example/healthz HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
        (b"GET /%00%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
        (b"GET /page/..%2f..%2fapp.py HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
        (b"GET //page//../../app.py HTTP/1.1\r\nHost: a\r\n\r\n", b" 404 "),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_request(sent, answer, server_of_lengths, caplog):
    with connect(server_of_lengths) as client:
        client.settimeout(10)
        client.sendall(sent)
        assert answer in client.recv(20)
    assert "Traceback" not in caplog.text
    assert requests.get(f"{server_of_lengths}/healthz").ok


@pytest.fixture(scope="module")
def server_of_lengths():
    with gated(lengths_of, timeout=2) as url:
        yield url


def test_many_small_chunks(server_of_lengths):
    body = b'{"instances": ["' + b"a" * 20_000 + b'"]}'
    with connect(server_of_lengths) as client:
        client.settimeout(10)
        client.sendall(post_head(FAKE, "Transfer-Encoding: chunked"))
        client.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        wait_until(lambda: b"200 OK" in client.recv(65536))


def test_pipelined_requests_are_answered_in_order(server_of_lengths):
    with connect(server_of_lengths) as client:
        for size in range(1, 21):
            body = b'{"instances": ["%s"]}' % (b"a" * size)
            client.sendall(post_head(FAKE, f"Content-Length: {len(body)}") + body)
        client.settimeout(10)
        received = b""
        while received.count(b'{"predictions":') < 20:
            received += client.recv(65536)
        places = [received.index(b'{"predictions":[%d]}' % size) for size in range(1, 21)]
        assert places == sorted(places)


class TestBesideHostileClients:
    """A well-behaved client is answered soon: tests/benchmarks/hostile_clients.py has figures."""

    PATH = "/v1/models/tibert:predict"
    # Most of it is the pause of a machine that runs other tests too.
    SECONDS = 5

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, exported):
        with running(load_models([str(exported)], num_versions=1), timeout=4, max_connections=96) as address:
            yield address

    def longest(self, url):
        taken = []
        for _ in range(5):
            started = time.monotonic()
            assert post(f"{url}{self.PATH}", {"instances": ["བཀྲ་[MASK]་"]}).ok
            taken.append(time.monotonic() - started)
        return max(taken)

    def test_of_which_nothing_comes(self, url):
        with Crowd([waiting_crowd(url, *case, count=12) for case in WAITING.values()]) as crowd:
            assert self.longest(url) < self.SECONDS
        assert crowd.count

    @pytest.mark.parametrize("name", REQUESTS)
    def test_whose_requests_cost_much(self, url, name):
        statuses = set()
        with Crowd([lambda: statuses.add(send(url, self.PATH, REQUESTS[name]))]):
            assert self.longest(url) < self.SECONDS
        assert {status[9:12] for status in statuses} <= {b"200", b"400", b"413"}
