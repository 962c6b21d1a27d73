"""A signature run for several requests at once: each gets the same answer as alone."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.running import LENGTH, TEXT, lengths_of, signature
from tibert_keras.serving.models import Version
from tibert_keras.serving.protocol import RequestError

MASKED_LM = ["token_ids", "padding_mask", "segment_ids", "mask_positions"]
TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་[MASK]འདས།", "བཀྲ་ཤིས།", "[MASK]"]


def texts(*given: str) -> dict[str, np.ndarray]:
    return {"text": np.array([text.encode() for text in given], dtype=object)}


def answer(of, arrays):
    tasks = of.items(arrays)
    return of.join([answer for task in tasks for answer in task.compute([task.payload])])


def together(of, *requests):
    """The answers to requests whose items are computed in one batch."""
    tasks = [of.items(arrays) for arrays in requests]
    assert len({task.kind for each in tasks for task in each}) == 1
    answers = iter(tasks[0][0].compute([task.payload for each in tasks for task in each]))
    return [of.join([next(answers) for _ in each]) for each in tasks]


class TestRows:
    @pytest.fixture(scope="class")
    @classmethod
    def version(cls, exported) -> Version:
        return Version(str(exported / "1"), "")

    @pytest.mark.parametrize("name", ["serving_default", "encode"])
    def test_alone_as_among_others(self, version, name):
        of = version.signatures[name]
        requests = [texts(TEXTS[0]), texts(TEXTS[1]), texts(TEXTS[2], TEXTS[1])]
        for given, request in zip(together(of, *requests), requests, strict=True):
            alone = of._run(request)
            assert given.keys() == alone.keys()
            real = alone.get("padding_mask", np.ones(1))[..., None]
            for key, array in alone.items():
                assert (given[key].shape, given[key].dtype) == (array.shape, array.dtype)
                if array.dtype == object:
                    assert given[key].tolist() == array.tolist()
                else:
                    scale = real if key == "sequence_output" else 1
                    np.testing.assert_allclose(given[key] * scale, array * scale, atol=1e-5)

    def test_ids(self, version):
        """Requests of different lengths are of different kinds."""
        of = version.signatures["masked_lm"]
        ids = np.array([[2, 9, 4, 3], [2, 8, 4, 3]], "int32")
        given = {
            "token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids),
            "mask_positions": np.array([[2], [2]], "int32"),
        }  # fmt: skip
        np.testing.assert_allclose(answer(of, given)["logits"], of._run(given)["logits"], atol=1e-5)
        shorter = {name: array[:, :3] for name, array in given.items()}
        assert of.items(given)[0].kind == of.items(given)[1].kind != of.items(shorter)[0].kind

    def test_what_the_model_refuses(self, version):
        ids = np.array([[2, 9, 4, 3]], "int32")
        given = {
            "token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids),
            "mask_positions": np.array([[99]], "int32"),
        }  # fmt: skip
        with pytest.raises(RequestError, match=r"refuses the input: mask_positions must be places in token_ids\.$"):
            answer(version.signatures["masked_lm"], given)
        with pytest.raises(RequestError, match=r"refuses the input: token_ids must be from 0 to 399\.$"):
            answer(version.signatures["masked_lm"], given | {"token_ids": ids + 391, "mask_positions": ids[:, :0]})

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"token_ids": [[1, 5]]}, "token_ids must be from 0 to 4"),
            ({"token_ids": [[1, -1]]}, "token_ids must be from 0 to 4"),
            ({"padding_mask": [[1, 2]]}, "padding_mask must be from 0 to 1"),
            ({"padding_mask": [[1, -1]]}, "padding_mask must be from 0 to 1"),
            ({"mask_positions": [[2]]}, "mask_positions must be places in token_ids"),
            ({"mask_positions": [[-1]]}, "mask_positions must be places in token_ids"),
            ({"mask_positions": [[0] * 3]}, "There are more mask_positions than token_ids"),
            ({"segment_ids": [[0, 2]]}, "segment_ids must be from 0 to 1"),
            ({"segment_ids": [[-1, 0]]}, "segment_ids must be from 0 to 1"),
        ],
    )
    def test_what_an_older_model_would_not_refuse(self, changes, reason):
        inputs = {name: tf.TensorSpec([None, None], tf.int32) for name in MASKED_LM}
        logits = {"logits": tf.TensorSpec([None, None, 5], tf.float32)}
        segments = [tf.Variable(np.zeros((2, 8)), name="segment_embedding/embeddings")]
        shape = (1, 1, 5)
        of = signature(lambda **_: {"logits": np.zeros(shape, "float32")}, inputs, logits, segments)
        given = {name: np.array([[1, 1]], "int32") for name in MASKED_LM}
        assert answer(of, given)["logits"].shape == shape
        with pytest.raises(RequestError, match=f"refuses the input: {reason}"):
            answer(of, given | {name: np.array(value, "int32") for name, value in changes.items()})

    def test_a_text_that_is_too_long(self, version):
        with pytest.raises(RequestError, match=r"refuses the input: A text is longer than 32 tokens\.$") as caught:
            answer(version.signatures["serving_default"], texts("[MASK]" * 40))
        assert caught.value.status == 400

    def test_words_and_tags(self):
        """The padding of string outputs is cut off, and the values beside it."""
        words = {"words": tf.TensorSpec([None, None], tf.string), "scores": tf.TensorSpec([None, None], tf.float32)}

        def split(text):
            rows = [each.split() for each in text]
            width = max(map(len, rows))
            padded = [[*row, *[b""] * (width - len(row))] for row in rows]
            return {"words": padded, "scores": [[float(bool(word)) for word in row] for row in padded]}

        of = signature(split, TEXT, words)
        one, two, none = together(of, texts("a b c"), texts("d", "e f"), texts(""))
        assert (one["words"].tolist(), one["scores"].tolist()) == ([[b"a", b"b", b"c"]], [[1, 1, 1]])
        assert two["words"].tolist() == [[b"d", b""], [b"e", b"f"]]
        assert (none["words"].shape, none["scores"].shape) == ((1, 0), (1, 0))

    def test_rows_must_be_as_many(self):
        pair = {name: tf.TensorSpec([None], tf.int32) for name in ("a", "b")}
        of = signature(lambda a, b: {"length": a + b}, pair, LENGTH)
        with pytest.raises(RequestError, match="equally many rows"):
            of.items({"a": np.zeros(1, "int32"), "b": np.zeros(2, "int32")})
        with pytest.raises(RequestError, match="at least one"):
            signature(lengths_of, TEXT, LENGTH).items(texts())


def test_how_much_waits():
    pair = {"text": tf.TensorSpec([None], tf.string), "ids": tf.TensorSpec([None, None], tf.int32)}
    of = signature(lambda text, ids: {"length": ids[:, 0]}, pair, LENGTH)
    tasks = of.items({**texts("abc", "d"), "ids": np.zeros((2, 5), "int32")})
    assert [(task.length, task.size) for task in tasks] == [(3, 23), (1, 21)]
    (whole,) = signature(lambda text: {"length": 1}, TEXT, {"length": tf.TensorSpec([], tf.int32)}).items(
        texts("abc", "d")
    )
    assert whole.size == 4


class TestSizeOfAnswers:
    """A few bytes can request more than the memory holds."""

    @pytest.mark.parametrize("rank", [1, 2])
    def test_together_with_others(self, rank):
        """One row is too large, or a request in all; the others of the batch are answered."""
        shapes = {"text": tf.TensorSpec([None], tf.string)}, {"a": tf.TensorSpec([None, 1000][:rank], tf.int32)}
        of = signature(lambda text: {"a": np.ones([len(text), 1000][:rank], "int32")}, *shapes)
        row = 4 if rank == 1 else 4000
        tasks = [*of.items(texts("a", "b", "c"), max_bytes=2 * row), *of.items(texts("d"), max_bytes=row)]
        first, second, refused, other = tasks[0].compute([task.payload for task in tasks])
        assert all(each["a"].nbytes == row for each in (first, second, other))
        assert (refused.status, refused.reason) == (
            400, f"The answer has more than {2 * row} bytes. Ask for less at a time."
        )  # fmt: skip

    def test_strings_and_whole_tensors(self):
        of = signature(lambda text: {"a": text}, TEXT, {"a": tf.TensorSpec(None, tf.string)})
        (task,) = of.items(texts("a" * 7, "bc"), max_bytes=8)
        assert task.compute([task.payload])[0].status == 400
        (task,) = of.items(texts("a" * 7, "b"), max_bytes=8)
        assert task.compute([task.payload])[0]["a"].tolist() == [b"a" * 7, b"b"]


def test_outputs_that_turn_out_not_to_be_by_row():
    """The request is refused once; later ones are computed request by request."""
    of = signature(lambda text: {"length": [len(each) for each in text if each != b"-"]}, TEXT, LENGTH)
    tasks = of.items(texts("ab", "c"))
    begun = [answer for task in tasks for answer in task.compute([task.payload])]
    with pytest.raises(RequestError, match="not by row") as caught:
        answer(of, texts("a", "-"))
    assert caught.value.status == 503
    assert answer(of, texts("abc", "-", "d"))["length"].tolist() == [3, 1]
    assert of.join(begun)["length"].tolist() == [2, 1]


class TestWithoutRows:
    @pytest.mark.parametrize(
        "inputs, outputs",
        [
            ({"text": tf.TensorSpec([], tf.string)}, LENGTH),
            (TEXT, {"length": tf.TensorSpec([], tf.int32)}),
            # Its padding cannot be recognized.
            (TEXT, {"length": tf.TensorSpec([None, None], tf.float32)}),
        ],
    )
    def test_is_computed_whole(self, inputs, outputs):
        calls = []
        of = signature(lambda text: {"length": [calls.append(text) or 7]}, inputs, outputs)
        (task,) = of.items(texts("a", "b"))
        assert of.join(task.compute([task.payload]))["length"] == [7]
        assert len(calls) == 1 and calls[0].tolist() == [b"a", b"b"]
