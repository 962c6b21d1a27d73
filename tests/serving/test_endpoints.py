"""The endpoints: TensorFlow Serving's REST API, our own, the token, and every kind of bad input."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
import requests
import tensorflow as tf

from tests.support.running import FAKE, TEXT, fake_model, gated, lengths_of, post, refusal, running, signature
from tibert_keras.inference.conjectures import certainty
from tibert_keras.inference.fill import fill_gaps, fill_mask
from tibert_keras.serving.models import load_models

TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་[MASK]འདས།", "བཀྲ་ཤིས།", "[MASK]"]
MODEL = "/v1/models/tibert"


@pytest.fixture(scope="module")
def url(exported):
    with running(load_models([str(exported)], num_versions=1)) as address:
        yield address


class TestTensorFlowServingsApi:
    def test_predict(self, url, exported):
        answers = post(f"{url}{MODEL}:predict", {"instances": TEXTS}).json()["predictions"]
        assert [answer["mask_count"] for answer in answers] == [2, 0, 1]
        expected = fill_mask([TEXTS[0]], model=exported / "1", top_k=3)
        assert answers[0]["pieces"] == [mask.pieces for mask in expected]
        for given, mask in zip(answers[0]["probabilities"], expected, strict=True):
            assert given == pytest.approx(mask.probabilities, abs=1e-5)

    def test_whole_tensors_another_signature_and_a_version(self, url):
        body = {"signature_name": "encode", "inputs": {"text": TEXTS[:2]}}
        outputs = post(f"{url}{MODEL}/versions/1:predict", body).json()["outputs"]
        assert outputs.keys() == {"sequence_output", "pooled_output", "padding_mask"}
        assert np.shape(outputs["pooled_output"]) == (2, 64)

    @pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
    def test_status(self, url, path):
        (status,) = requests.get(url + path).json()["model_version_status"]
        assert status == {
            "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}
        }  # fmt: skip

    def test_metadata(self, url):
        metadata = requests.get(f"{url}{MODEL}/metadata").json()
        assert metadata["model_spec"] == {"name": "tibert", "signature_name": "", "version": "1"}
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        assert signatures["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"

    def test_a_broken_version_is_told_without_its_folder(self, exported):
        models = load_models([str(exported)], num_versions=1)
        models["tibert"].failures[2] = "The SavedModel cannot be loaded: ... Received: '/home/me/tibert/2'."
        with running(models) as url:
            states = requests.get(f"{url}{MODEL}").json()["model_version_status"]
            assert requests.get(f"{url}{MODEL}/versions/2").json()["model_version_status"] == states[:1]
            assert "Servable not found" in refusal(requests.get(f"{url}{MODEL}/versions/3"), 404)
        assert [(state["version"], state["state"]) for state in states] == [("2", "END"), ("1", "AVAILABLE")]
        assert "/home" not in json.dumps(states)

    def test_a_version_that_was_damaged_is_told(self, exported):
        models = load_models([str(exported)], num_versions=1)
        models["tibert"].failures[1] = (
            f"The SavedModel cannot be loaded: {exported}/1/x: none. Received: '{exported}/1'."
        )
        with running(models) as url:
            (state,) = requests.get(f"{url}{MODEL}").json()["model_version_status"]
        assert (state["state"], state["status"]["error_code"]) == ("AVAILABLE", "DATA_LOSS")
        message = "The SavedModel cannot be loaded: .../1/x: none. The state of it that was loaded before is served."
        assert state["status"]["error_message"] == message


class TestOurs:
    def test_gaps(self, url, exported):
        texts = ["སངས་རྒྱས་[GAP:1-2]་འདས།", "བཀྲ་[MASK]་ལ་[MASK]།"]
        answers = post(f"{url}{MODEL}:fillGaps", {"texts": texts, "top_k": 2}).json()["texts"]
        expected = fill_gaps(texts, model=exported / "1", top_k=2)
        assert [len(answer["gaps"]) for answer in answers] == [1, 2]
        for answer, gaps in zip(answers, expected, strict=True):
            for given, candidates in zip(answer["gaps"], gaps, strict=True):
                assert [c["text"] for c in given["candidates"]] == [c.text for c in candidates]
                assert [c["cert"] for c in given["candidates"]] == [certainty(c.score) for c in candidates]
                assert [c["score"] for c in given["candidates"]] == pytest.approx([c.score for c in candidates])

    def test_transliteration(self, url):
        def convert(*texts, to):
            return post(f"{url}/v1/transliterate", {"texts": texts, "to": to})

        latin = ["bkra shis [GAP:1]\n bde legs/", "BKRA SHIS,"]
        tibetan = convert(*latin, "བདེ་ legs", to="tibetan").json()["texts"]
        assert tibetan == ["བཀྲ་ཤིས་[GAP:1]\nབདེ་ལེགས།", "བཀྲ་ཤིས།", "བདེ་ legs"]
        assert convert("བཀྲ་ཤིས།", "་འདས་", "", to="wylie").json()["texts"] == ["bkra shis/", "'das", ""]
        assert (
            "looks" not in (reason := refusal(convert("Hello, my world", to="tibetan"), 400)) and "no Tibetan" in reason
        )
        assert "'to' must be one of tibetan, wylie" in refusal(convert("ཀ", to="latin"), 400)
        assert "100000 characters. Received: 100001" in refusal(convert("ka " * 33_333, "ka", to="tibetan"), 400)

    def test_models(self, url):
        (model,) = requests.get(f"{url}/v1/models").json()["models"]
        assert (model["name"], model["versions"], model["fills_gaps"]) == ("tibert", ["1"], True)
        # Noted when it was exported.
        assert re.fullmatch(r".+, step [\d,]+, [\d,]+ parameters, \d{4}-\d\d-\d\d", model["description"])

    def test_numbers_may_be_written_with_a_point(self, url):
        """JSON Schema, in which the API is described, counts 2.0 as an integer."""
        answers = [
            post(f"{url}{MODEL}:fillGaps", f'{{"texts": ["[MASK]་[MASK]"], "top_k": {two}, "only": [{one}]}}'.encode())
            for two, one in (("2", "1"), ("2.0", "1.0"))
        ]
        assert answers[0].ok and answers[0].json() == answers[1].json()

    def test_health_and_metrics(self, url):
        assert requests.get(f"{url}/healthz").json() == {"status": "ok"}
        post(f"{url}{MODEL}:predict", {"instances": TEXTS})
        requests.get(f"{url}/made-up/{time.time()}")
        text = requests.get(f"{url}/metrics").text
        for line in (
            'tibert_requests_total{endpoint="predict",status="200"}',
            'tibert_request_seconds_bucket{endpoint="predict",le="+Inf"}',
            'tibert_batch_size_count{queue="predict"}',
            'tibert_waiting_items{queue="predict"} 0.0',
            'tibert_served_version{model="tibert",version="1"} 1.0',
        ):
            assert line in text
        assert "made-up" not in text


class TestBadInput:
    @pytest.mark.parametrize(
        "body, reason",
        [
            (b"", "JSON Parse error"),
            (b"not JSON", "JSON Parse error"),
            (b'{"instances": ["\xff\xfe"]}', "JSON Parse error"),
            (b'{"instances": ["\\udc00"]}', "JSON Parse error"),
            ({"instances": [{"b64": "gIA="}]}, "not UTF-8"),
            ({"instances": [7]}, "must be a string"),
            ({"instances": []}, "at least one"),
            ({"instances": ["a"], "signature_name": "none"}, "name not found. Received: 'none'. Give one of"),
            ({"instances": ["[MASK]་" * 1000]}, "A text is longer than 32 tokens"),
            ({"instances": ["ཀ་" * 500_000]}, "A text is longer than 32 tokens"),
            ({"instances": ["a" * 1_000_000]}, "more than 8192 characters in a row without a common Tibetan letter"),
            ({"instances": ["ཀ་", "你" * 200_000]}, "in a row without a common Tibetan letter"),
            ({"instances": ["a" * 20_000], "signature_name": "tokenize"}, "without a common Tibetan letter"),
            ({"instances": ["a"] * 2000}, "1024 items at most. Received: 2000"),
        ],
        ids=lambda value: str(value)[:30],
    )  # fmt: skip
    def test_predict(self, url, body, reason):
        assert reason in refusal(post(f"{url}{MODEL}:predict", body), 400)
        # Valid requests are still answered.
        assert post(f"{url}{MODEL}:predict", {"instances": TEXTS}).ok

    @pytest.mark.parametrize("text", ["", " ", "\0", "Hello, world", "你好", "🙂", "\u0f71\u0f72", "ཀ" * 9, "\u202e"])
    def test_texts_of_other_scripts_or_none_are_texts(self, url, text):
        (answer,) = post(f"{url}{MODEL}:predict", {"instances": [text]}).json()["predictions"]
        assert (answer["mask_count"], answer["pieces"]) == (0, [])

    @pytest.mark.parametrize(
        "body, reason",
        [
            (b"{", "JSON Parse error"),
            ({}, "'texts' must be"),
            ({"texts": []}, "'texts' must be"),
            ({"texts": "a[MASK]"}, "'texts' must be"),
            ({"texts": ["[MASK]", 1]}, "'texts' must be"),
            ({"texts": ["[MASK]"], "top_k": 0}, "'top_k' must be"),
            ({"texts": ["[MASK]"], "top_k": True}, "'top_k' must be"),
            ({"texts": ["[MASK]"], "top_k": 7.5}, "'top_k' must be"),
            ({"texts": ["[MASK]"], "only": 0}, "'only' must be"),
            ({"texts": ["[MASK]"], "only": []}, "'only' must be"),
            ({"texts": ["[MASK]"], "only": [True]}, "'only' must be"),
            ({"texts": ["[MASK]"] * 40, "only": [0] * 40}, "32 gaps. Received: 40"),
            ({"texts": ["[MASK]"], "only": [1]}, "gaps 0 to 0. Received: 'only' with 1"),
            ({"texts": ["[MASK]"], "only": [-1]}, "gaps 0 to 0. Received: 'only' with -1"),
            ({"texts": [""]}, "There is nothing to fill"),
            ({"texts": ["བཀྲ་ཤིས།"]}, "There is nothing to fill"),
            ({"texts": ["ཀ" * 1_000_000]}, "There is nothing to fill"),
            ({"texts": ["ཀ་[MASK]་" * 1000]}, "32 gaps. Received: 1000"),
            ({"texts": ["[MASK]་" * 20_000], "only": [0]}, "may have 10000 gaps in all. Received: 20000"),
            ({"texts": ["[GAP:9-2]"]}, "A gap is written"),
            ({"texts": ["ཀ་[MASK]", "Hello [MASK]"]}, "no Tibetan letter in the text. Received: 'Hello [MASK]'"),
            ({"texts": ["你好[GAP:1-2]"]}, "no Tibetan letter in the text"),
            (
                {"texts": ["bkra [GAP:1] bde legs/"]},
                "looks like Wylie (EWTS). Received: 'bkra [GAP:1] bde legs/'",
            ),
            ({"texts": ["[GAP:"]}, "A gap is written"),
            ({"texts": ["[MASK]" * 1000]}, "at most 16 masks"),
            (b'{"texts": ["[MASK]"], "top_k": 1e400}', "JSON Parse error"),
            (b'{"texts": ["[MASK]"], "top_k": 99999999999999999999999}', "'top_k' must be"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_gaps(self, url, body, reason):
        assert reason in refusal(post(f"{url}{MODEL}:fillGaps", body), 400)

    @pytest.mark.parametrize("text", ["ཀ་ Hello [MASK]", "༄༅།[GAP:1-2]", "[MASK]", f"{'ཀ་' * 200_000}[MASK]"])
    def test_gaps_beside_other_scripts_and_in_long_texts(self, url, text):
        (answer,) = post(f"{url}{MODEL}:fillGaps", {"texts": [text]}).json()["texts"]
        assert len(answer["gaps"]) == 1

    @pytest.mark.parametrize(
        "method, path, status, reason",
        [
            ("POST", "/v1/models/none:predict", 404, "Servable not found: model 'none'. Served: ['tibert']"),
            ("GET", "/v1/models/none", 404, "Servable not found"),
            ("GET", "/v1/models/none/metadata", 404, "Servable not found"),
            ("POST", f"{MODEL}/versions/7:predict", 404, "Servable not found: version 7 of model 'tibert'"),
            ("GET", f"{MODEL}/versions/7", 404, "Servable not found"),
            ("GET", f"{MODEL}/versions/new", 400, "A version is a number"),
            ("GET", f"{MODEL}/versions/{'9' * 5000}", 400, "A version is a number"),
            ("POST", f"{MODEL}:classify", 404, "Malformed request: POST /v1/models/tibert:classify"),
            ("GET", f"{MODEL}:predict", 405, "Malformed request"),
            ("DELETE", MODEL, 405, "Malformed request"),
            ("GET", "/page/../app.py", 404, "Malformed request"),
            ("GET", "/page/%2e%2e/app.py", 404, "Malformed request"),
            ("GET", "/" + "x" * 5000, 404, "Malformed request"),
        ],
    )
    def test_paths(self, url, method, path, status, reason):
        prepared = requests.Request(method, url).prepare()
        prepared.url = url + path  # not normalized
        with requests.Session() as session:
            assert reason in refusal(session.send(prepared, timeout=10), status)


class TestToken:
    def test_who_has_it_gets_in(self):
        with gated(lengths_of, token="open sesame") as url:
            body = {"instances": ["a"]}
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "open sesame"}):
                response = post(f"{url}{FAKE}", body, headers=headers)
                assert "asks for a token" in refusal(response, 401)
                assert response.headers["www-authenticate"] == "Bearer"
            right = {"Authorization": "Bearer open sesame"}
            assert post(f"{url}{FAKE}", body, headers=right).ok and requests.get(f"{url}/metrics", headers=right).ok
            assert requests.get(f"{url}/metrics").status_code == 401
            for path in ("/", "/page/page.js", "/healthz", "/docs", "/openapi.json"):
                assert requests.get(url + path).ok


def test_unequal_outputs_are_refused_by_row():
    of = signature(lambda text: {"n": len(text)}, TEXT, {"n": tf.TensorSpec([], tf.int32)})
    with running({"fake": fake_model(serving_default=of)}) as url:
        assert "are not 1 rows, one an instance" in refusal(post(f"{url}{FAKE}", {"instances": ["a"]}), 400)
        assert post(f"{url}{FAKE}", {"inputs": ["a", "b"]}).json() == {"outputs": 2}
