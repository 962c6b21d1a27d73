"""Conversion of JSON to arrays and back, in TensorFlow Serving's forms."""

import base64
import json

import ml_dtypes
import numpy as np
import pytest

from tibert_keras.serving.protocol import RequestError, TensorSpec, parse_predict, to_arrays, to_json

TEXT = {"text": TensorSpec(np.dtype(object), (-1,))}
NUMBERS = {"ids": TensorSpec(np.dtype("int32"), (-1, -1)), "weight": TensorSpec(np.dtype("float32"), (-1,))}
FLAG = {"flag": TensorSpec(np.dtype("bool"), (-1,))}


def arrays(body, specs):
    return to_arrays(parse_predict(body if isinstance(body, bytes) else json.dumps(body).encode()), specs)


def strings(*given):
    return np.array(given, dtype=object)


class TestRequests:
    @pytest.mark.parametrize(
        "body",
        [
            {"instances": ["ཀ", "ཁ་"]},
            {"instances": [{"text": "ཀ"}, {"text": "ཁ་"}]},
            {"instances": [{"b64": base64.b64encode("ཀ".encode()).decode()}, "ཁ་"]},
            {"inputs": ["ཀ", "ཁ་"]},
            {"inputs": {"text": ["ཀ", "ཁ་"]}},
        ],
    )
    def test_ways_to_give_texts(self, body):
        assert arrays(body, TEXT)["text"].tolist() == ["ཀ".encode(), "ཁ་".encode()]

    @pytest.mark.parametrize(
        "body",
        [
            {"instances": [{"ids": [1, 2], "weight": 1}, {"ids": [3, 4], "weight": 0.5}]},
            {"inputs": {"ids": [[1, 2], [3, 4]], "weight": [1, 0.5]}},
            {"inputs": {"ids": [[1.0, 2], [3e0, 4]], "weight": [1, 0.5]}},
        ],
    )
    def test_ways_to_give_numbers(self, body):
        given = arrays(body, NUMBERS)
        assert (given["ids"].dtype, given["weight"].dtype) == (np.int32, np.float32)
        assert (given["ids"].tolist(), given["weight"].tolist()) == ([[1, 2], [3, 4]], [1, 0.5])

    def test_a_number_beyond_float32_is_infinite(self):
        assert arrays({"instances": [{"ids": [], "weight": 1e300}]}, NUMBERS)["weight"].tolist() == [np.inf]

    def test_the_signature(self):
        assert parse_predict(b'{"inputs": 1}').signature_name == "serving_default"
        assert parse_predict(b'{"inputs": 1, "signature_name": ""}').signature_name == "serving_default"
        assert parse_predict(b'{"inputs": 1, "signature_name": "tag"}').signature_name == "tag"

    @pytest.mark.parametrize(
        "body, specs, reason",
        [
            (b"", TEXT, "JSON Parse error"),
            (b"{", TEXT, "JSON Parse error"),
            (b"[1]", TEXT, "must be an object"),
            (b'{"instances": ["\xff"]}', TEXT, "JSON Parse error"),
            (b'{"instances": ["\\ud800"]}', TEXT, "JSON Parse error"),
            (b'{"instances": [NaN]}', TEXT, "JSON Parse error"),
            (b"[" * 100_000, TEXT, "JSON Parse error"),
            ({}, TEXT, "Give either"),
            ({"instances": ["a"], "inputs": ["a"]}, TEXT, "Give either"),
            ({"instances": []}, TEXT, "at least one"),
            ({"instances": "a"}, TEXT, "must be a list"),
            ({"instances": ["a"], "signature_name": 1}, TEXT, "'signature_name' must be a string"),
            ({"instances": [1]}, TEXT, "must be a string"),
            ({"instances": [None]}, TEXT, "must be a string"),
            ({"instances": ["a", ["b"]]}, TEXT, "must be a string"),
            ({"instances": [["a"]]}, TEXT, r"of shape \[-1\].* Received: \[1, 1\]"),
            ({"inputs": "a"}, TEXT, r"of shape \[-1\]"),
            ({"instances": [{"b64": "/w=="}]}, TEXT, "not UTF-8: invalid start byte at byte 0"),
            ({"instances": [{"b64": "?"}]}, TEXT, "not base64"),
            ({"instances": [{"b64": 1}]}, TEXT, "must be a string"),
            ({"instances": [{"words": "a"}]}, TEXT, r"must be \['text'\]. Received: \['words'\]"),
            ({"instances": [{"text": "a"}, {"words": "a"}]}, TEXT, "must all have the same inputs"),
            ({"inputs": {}}, TEXT, "must be"),
            # One unnamed tensor for two inputs.
            ({"inputs": [[1]]}, NUMBERS, r"by their names, \['ids', 'weight'\], in an object"),
            ({"inputs": 1}, NUMBERS, r"by their names, \['ids', 'weight'\]"),
            ({"instances": [1, 2]}, NUMBERS, r"by their names, \['ids', 'weight'\]"),
            ({"instances": [{"ids": [1], "weight": 1}, [1]]}, NUMBERS, r"by their names, \['ids', 'weight'\]"),
            ({"inputs": {"b64": "YQ=="}}, NUMBERS, r"must be \['ids', 'weight'\]. Received: \['b64'\]"),
            ({"inputs": [1]}, {}, r"by their names, \[\]"),
            ({"inputs": {"ids": [[1]]}}, NUMBERS, r"Received: \['ids'\]"),
            ({"instances": [{"ids": [1], "weight": "1"}]}, NUMBERS, "'weight' must be of float32"),
            ({"instances": [{"ids": [1.5], "weight": 1}]}, NUMBERS, "'ids' must be of int32"),
            ({"instances": [{"ids": [1.0, True], "weight": 1}]}, NUMBERS, "'ids' must be of int32"),
            ({"instances": [{"ids": [2**31], "weight": 1}]}, NUMBERS, "must be from -2147483648 to 2147483647"),
            ({"instances": [{"ids": [2**64], "weight": 1}]}, NUMBERS, "'ids' must be of int32"),
            ({"instances": [{"ids": [1], "weight": 1}, {"ids": [1, 2], "weight": 1}]}, NUMBERS, "of equal lengths"),
            ({"instances": [1]}, FLAG, "'flag' must be of bool"),
        ],
    )  # fmt: skip
    def test_refused(self, body, specs, reason):
        with pytest.raises(RequestError, match=reason) as caught:
            arrays(body, specs)
        assert caught.value.status == 400 and len(caught.value.reason) < 400


class TestAnswers:
    @pytest.mark.parametrize(
        "outputs, rows, whole",
        [
            ({"p": strings(b"a", b"b")}, ["a", "b"], ["a", "b"]),
            ({"p_bytes": strings(b"\xff")}, [{"b64": "/w=="}], [{"b64": "/w=="}]),
            ({"p": strings(b"\xff")}, ["\ufffd"], ["\ufffd"]),
            (
                {"p": np.array([[b"a"], [b"b"]], object), "q": np.array([[0.1], [1]], "float32")},
                [{"p": ["a"], "q": [0.1]}, {"p": ["b"], "q": [1.0]}],
                {"p": [["a"], ["b"]], "q": [[0.1], [1.0]]},
            ),
            ({"p": np.empty((2, 0, 3), object)}, [[], []], [[], []]),
            ({"p": np.arange(6).reshape(2, 3).T}, [[0, 3], [1, 4], [2, 5]], [[0, 3], [1, 4], [2, 5]]),
            ({"p": np.ones(1, ml_dtypes.bfloat16)}, [1.0], [1.0]),
            ({"p": np.ones(1, np.float16)}, [1.0], [1.0]),
            ({"p": np.array([np.nan], "float32")}, [None], [None]),
        ],
    )
    def test_both_forms(self, outputs, rows, whole):
        assert json.loads(to_json(outputs, rows=len(rows))) == {"predictions": rows}
        assert json.loads(to_json(outputs, rows=None)) == {"outputs": whole}

    def test_outputs_without_rows(self):
        for outputs in ({"n": np.array(3)}, {"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros(3)}):
            with pytest.raises(RequestError, match="are not 2 rows, one an instance"):
                to_json(outputs, rows=2)
        assert json.loads(to_json({"n": np.array(3)}, rows=None)) == {"outputs": 3}
