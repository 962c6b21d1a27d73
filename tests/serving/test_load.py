"""The server under load: limits, queues, clients that disconnect, and many clients at once."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tensorflow as tf

from tests.support.running import (
    FAKE,
    LENGTH,
    TEXT,
    SlowFiller,
    fake_model,
    gated,
    lengths_of,
    post,
    refusal,
    running,
    save,
    signature,
    wait_until,
)
from tibert_keras.inference.gap_search import search_gaps
from tibert_keras.inference.gaps import find_gaps
from tibert_keras.serving import endpoints
from tibert_keras.serving.models import load_models


class Gate:
    """A model that answers once `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.calls: list[list[bytes]] = []

    def __call__(self, text: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(text.tolist())
        self.open.wait(60)
        return lengths_of(text)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def connect(url):
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


def hang_up(url, path, body, *, when):
    """Send a request and disconnect when it is under way; return once the server has noticed."""
    content = json.dumps(body).encode()
    with connect(url) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
        client.sendall(head.encode() + content)
        wait_until(when)
    wait_until(lambda: 'status="499"' in requests.get(f"{url}/metrics").text)


class TestLimits:
    def test_a_body_that_is_too_large(self):
        with gated(lengths_of, max_request_bytes=1000) as url:
            for body in (b"x" * 1001, iter([b"x" * 600] * 2), b"x" * 1_000_000):
                response = requests.post(f"{url}{FAKE}", data=body, timeout=10)
                assert "may have 1000 bytes" in refusal(response, 413)
            assert post(f"{url}{FAKE}", {"instances": ["a" * 900]}).json() == {"predictions": [900]}

    def test_an_answer_that_is_too_large(self):
        with gated(lengths_of, max_answer_bytes=8) as url:
            assert "more than 8 bytes" in refusal(post(f"{url}{FAKE}", {"instances": ["a", "b", "c"]}), 400)
            assert post(f"{url}{FAKE}", {"instances": ["a", "b"]}).ok

    def test_a_full_queue(self, gate):
        with gated(gate, max_queue_size=2) as url, ThreadPoolExecutor(8) as pool:
            first = pool.submit(post, f"{url}{FAKE}", {"instances": ["a"]})
            wait_until(lambda: gate.calls)
            waiting = [pool.submit(post, f"{url}{FAKE}", {"instances": ["aa"]}) for _ in range(2)]
            wait_until(lambda: 'tibert_waiting_items{queue="predict"} 2.0' in requests.get(f"{url}/metrics").text)
            refused = post(f"{url}{FAKE}", {"instances": ["aaa"]})
            assert "Try again later" in refusal(refused, 429) and refused.headers["retry-after"] == "1"
            gate.open.set()
            assert [each.result().json()["predictions"] for each in (first, *waiting)] == [[1], [2], [2]]
        assert gate.calls == [[b"a"], [b"aa", b"aa"]]

    def test_no_answer_in_time(self, gate):
        with gated(gate, timeout=3) as url:
            assert "no answer within 3 seconds" in refusal(post(f"{url}{FAKE}", {"instances": ["a"]}), 504)
            gate.open.set()
            assert post(f"{url}{FAKE}", {"instances": ["a"]}).ok

    def test_a_request_that_does_not_arrive(self):
        with gated(lengths_of, timeout=0.3) as url, connect(url) as client:
            client.sendall(f"POST {FAKE} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{{".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 408")

    def test_the_time_is_that_of_the_whole_request(self, gate):
        """It covers both the arrival of the body and the answer."""
        body = b'{"instances": ["a"]}'
        with gated(gate, timeout=3) as url, connect(url) as client:
            started = time.monotonic()
            head = f"POST {FAKE} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:5])
            time.sleep(1.5)
            client.sendall(body[5:])
            assert client.recv(100).startswith(b"HTTP/1.1 504")
            # Twice the time would be 4.5 s and more.
            assert 3 <= time.monotonic() - started < 4.4
            gate.open.set()

    def test_a_client_that_hangs_up(self, gate):
        """Its request is not computed."""
        with gated(gate) as url, ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, f"{url}{FAKE}", {"instances": ["a"]})
            wait_until(lambda: gate.calls)
            waiting = 'waiting_items{queue="predict"} 1.0'
            body = {"instances": ["gone"]}
            hang_up(url, FAKE, body, when=lambda: waiting in requests.get(f"{url}/metrics").text)
            gate.open.set()
            assert first.result().ok
            assert post(f"{url}{FAKE}", {"instances": ["after"]}).ok
        assert gate.calls == [[b"a"], [b"after"]]

    def test_a_fault_of_ours(self):
        def fail(text):
            raise RuntimeError("/home/me/secret.py")

        with gated(fail) as url:
            reason = refusal(post(f"{url}{FAKE}", {"instances": ["a"]}), 500)
            assert reason == "The server has failed to answer; its log tells why."
            assert requests.get(f"{url}/healthz").ok


class TestGapQueue:
    """Searches are slow: gaps are queued one by one, and a search ends when its client has gone or the server stops."""

    PATH = "/v1/models/fake:fillGaps"
    # Takes several steps.
    BODY = {"texts": ["ཀ་[GAP:1-4]ཀ"], "top_k": 2}  # noqa: RUF012

    @pytest.fixture
    def filler(self):
        filler = SlowFiller()
        yield filler
        filler.open.set()

    @pytest.fixture
    def steps(self):
        """The number of calls of the model in a whole search."""
        filler = SlowFiller()
        filler.open.set()
        search_gaps(filler, find_gaps(self.BODY["texts"][0]), 2)
        assert filler.calls > 4
        return filler.calls

    def serving(self, filler, **options):
        return running({"fake": fake_model(loaded=filler)}, **options)

    def test_a_gap_is_a_task(self, filler):
        with self.serving(filler) as url, ThreadPoolExecutor(3) as pool:
            first = pool.submit(post, f"{url}{self.PATH}", {"texts": ["ཀ་[MASK]ཀ"]})
            wait_until(lambda: filler.calls)
            many = pool.submit(post, f"{url}{self.PATH}", {"texts": ["ཀ་[MASK]ཀ་[MASK]ཀ", "[GAP:1]" * 4]})
            wait_until(lambda: 'waiting_items{queue="fill_gaps"} 6.0' in requests.get(f"{url}/metrics").text)
            filler.open.set()
            assert [len(text["gaps"]) for text in many.result().json()["texts"]] == [2, 4]
            assert first.result().json()["texts"][0]["gaps"][0]["candidates"][0]["text"] == "ཁ་"
            metrics = requests.get(f"{url}/metrics").text
        assert 'batch_size_count{queue="fill_gaps"} 3.0' in metrics  # of 1, 4 and 2
        assert 'batch_size_bucket{le="4.0",queue="fill_gaps"} 3.0' in metrics

    def test_a_full_queue(self, filler):
        with self.serving(filler, max_gap_queue_size=2) as url, ThreadPoolExecutor(3) as pool:
            first = pool.submit(post, f"{url}{self.PATH}", self.BODY)
            wait_until(lambda: filler.calls)
            second = pool.submit(post, f"{url}{self.PATH}", {"texts": ["[GAP:1]ཀ[GAP:1]"]})
            wait_until(lambda: 'waiting_items{queue="fill_gaps"} 2.0' in requests.get(f"{url}/metrics").text)
            refused = post(f"{url}{self.PATH}", self.BODY)
            assert "Try again later" in refusal(refused, 429) and refused.headers["retry-after"] == "1"
            filler.open.set()
            assert first.result().ok and second.result().ok
            assert "2 items at most" in refusal(post(f"{url}{self.PATH}", {"texts": ["[MASK]ཀ" * 3]}), 400)

    def test_no_answer_in_time(self, filler, steps):
        with self.serving(filler, timeout=3) as url:
            assert "no answer within 3 seconds" in refusal(post(f"{url}{self.PATH}", self.BODY), 504)
            filler.open.set()
            assert post(f"{url}{self.PATH}", self.BODY).ok
        # The first search made no call after the one under way.
        assert filler.calls == 1 + steps

    def test_a_client_that_hangs_up(self, filler, steps):
        with self.serving(filler) as url:
            hang_up(url, self.PATH, self.BODY, when=lambda: filler.calls)
            filler.open.set()
            assert post(f"{url}{self.PATH}", self.BODY).ok
        assert filler.calls == 1 + steps

    def test_one_of_a_batch_hangs_up(self, filler):
        """The others of the batch still get their answers."""
        body = {**self.BODY, "top_k": 3}
        with self.serving(filler) as url, ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, f"{url}{self.PATH}", self.BODY)
            wait_until(lambda: filler.calls)
            stays = pool.submit(post, f"{url}{self.PATH}", body)
            with pytest.raises(requests.Timeout):
                requests.post(f"{url}{self.PATH}", json=body, timeout=0.3)
            filler.open.set()
            assert first.result().ok and len(stays.result().json()["texts"][0]["gaps"][0]["candidates"]) == 3

    def test_a_stop(self, filler, steps):
        """A search whose client still waits is finished."""
        with ThreadPoolExecutor(1) as pool:
            with self.serving(filler) as url:
                asked = pool.submit(post, f"{url}{self.PATH}", self.BODY)
                wait_until(lambda: filler.calls)
                threading.Timer(0.5, filler.open.set).start()
            assert asked.result().ok and filler.calls == steps

    def test_a_stop_does_not_wait_for_nobody(self, filler):
        with self.serving(filler) as url:
            hang_up(url, self.PATH, self.BODY, when=lambda: filler.calls)
            threading.Timer(0.5, filler.open.set).start()
        assert filler.calls == 1

    def test_only_one_gap_of_a_text(self, filler):
        filler.open.set()
        text = "ཀ་[MASK]ཁ་[GAP:2]ཀ"
        with self.serving(filler) as url:
            (both,) = post(f"{url}{self.PATH}", {"texts": [text]}).json()["texts"]
            (one, other) = post(f"{url}{self.PATH}", {"texts": [text, text], "only": [1, 0]}).json()["texts"]
            assert one["gaps"] == both["gaps"][1:] != other["gaps"] == both["gaps"][:1]
            (answer,) = post(f"{url}{self.PATH}", {"texts": ["ཀ་[MASK]་" * 1000], "only": [500]}).json()["texts"]
            assert len(answer["gaps"]) == 1


class TestLargeBodies:
    """Large bodies are processed in a thread, not in the event loop."""

    @pytest.fixture
    def threads(self, monkeypatch):
        """Whether JSON is read and written in a thread, call by call."""
        seen = []

        def watch(name):
            function = getattr(endpoints, name)

            def watched(*arguments, **options):
                seen.append(threading.current_thread().name.startswith("asyncio_"))
                return function(*arguments, **options)

            monkeypatch.setattr(endpoints, name, watched)

        watch("parse_gaps")
        watch("parse_predict")
        watch("to_json")
        return seen

    @pytest.mark.parametrize("count, beside", [(10, [False, False]), (1000, [True, True])])
    def test_predict(self, threads, count, beside):
        numbers = {"n": tf.TensorSpec([None, 100], tf.float32)}
        of = signature(lambda text: {"n": np.ones((len(text), 100), "float32")}, TEXT, numbers)
        with running({"fake": fake_model(serving_default=of)}) as url:
            assert np.shape(post(f"{url}{FAKE}", {"instances": ["a" * 100] * count}).json()["predictions"]) == (
                count,
                100,
            )
        assert threads == beside

    @pytest.mark.parametrize("size, beside", [(10, False), (100_000, True)])
    def test_gaps(self, threads, size, beside):
        with gated(lengths_of) as url:
            assert "nothing to fill" in refusal(post(f"{url}{TestGapQueue.PATH}", {"texts": ["a" * size]}), 400)
        assert threads == [beside]


class TestManyClients:
    def test_everyone_gets_his_own_answer(self):
        with gated(lengths_of) as url, ThreadPoolExecutor(32) as pool:
            sizes = [index % 97 for index in range(300)]
            answers = pool.map(lambda size: post(f"{url}{FAKE}", {"instances": ["a" * size, "b"]}).json(), sizes)
            assert [answer["predictions"] for answer in answers] == [[size, 1] for size in sizes]

    def test_a_model_that_is_replaced_while_it_serves(self, tmp_path):
        """Every answer is right, and the new version is served."""
        save(tmp_path / "fake" / "1", 1)
        models = load_models([str(tmp_path / "fake")], num_versions=1)
        with running(models, poll_seconds=0.05) as url, ThreadPoolExecutor(4) as pool:
            stop = threading.Event()

            answers = [[] for _ in range(4)]

            def ask(answers):
                while not stop.is_set():
                    (answer,) = post(f"{url}{FAKE}", {"instances": ["a"]}).json()["predictions"]
                    answers.append(answer)

            asking = [pool.submit(ask, each) for each in answers]
            wait_until(lambda: all(answers))
            save(tmp_path / "new", 2)
            (tmp_path / "new").rename(tmp_path / "fake" / "2")
            wait_until(lambda: list(models["fake"].versions) == [2] and all(2 in each for each in answers))
            stop.set()
            for client, each in zip(asking, answers, strict=True):
                client.result()
                assert set(each) == {1, 2} and each == sorted(each)
            status = requests.get(f"{url}/v1/models/fake").json()["model_version_status"]
            assert [each["version"] for each in status] == ["2"]

    def test_the_old_version_finishes(self, gate):
        model = fake_model(serving_default=signature(gate, TEXT, LENGTH))
        with running({"fake": model}) as url, ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, f"{url}{FAKE}", {"instances": ["a"]})
            wait_until(lambda: gate.calls)
            model.versions = {2: fake_model(serving_default=signature(lengths_of, TEXT, LENGTH)).versions[1]}
            second = pool.submit(post, f"{url}{FAKE.replace(':', '/versions/2:')}", {"instances": ["aa"]})
            gate.open.set()
            assert [each.result().json() for each in (first, second)] == [{"predictions": [1]}, {"predictions": [2]}]
