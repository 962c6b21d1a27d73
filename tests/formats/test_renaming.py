"""Tables of names: each row in both directions, and an account of every variable."""

import logging

import numpy as np
import pytest

from tibert_keras.errors import InputError
from tibert_keras.formats.renaming import Row, from_theirs, to_theirs

TABLE = (
    Row("embedding/embeddings", "words"),
    Row("group_{group}_inner_layer_{inner}/kernel", "g{group}/i{inner}/w", inputs=1),
    Row("output/kernel", "output.weight", inputs=2, transposed=True),
    Row("output/bias", "output.bias", inputs=0),
    Row("sop_head/bias", "order"),
)
OURS = {
    "embedding/embeddings": np.arange(6.0).reshape(3, 2),
    "group_0_inner_layer_12/kernel": np.arange(24.0).reshape(2, 3, 4),
    "group_0_inner_layer_12/kernel/adam_m": np.arange(24.0).reshape(2, 3, 4) + 1,
    "output/kernel": np.arange(24.0).reshape(3, 4, 2),
    "output/bias": np.arange(6.0).reshape(2, 3),
}
SHAPES = {name: array.shape for name, array in OURS.items() if "adam" not in name}


class TestRow:
    def test_lies_the_same(self):
        row = Row("a", "b")
        assert row.their_shape((2, 3)) == (2, 3) and row.their_shape(()) == ()

    def test_heads_become_one_axis(self):
        array = np.arange(24).reshape(2, 3, 4)
        for inputs, shape in ((0, (24,)), (1, (2, 12)), (2, (6, 4)), (3, (24,))):
            row = Row("a", "b", inputs=inputs)
            assert row.to_theirs(array).shape == row.their_shape(array.shape) == shape
            assert row.to_theirs(array).ravel().tolist() == list(range(24))
            np.testing.assert_array_equal(row.to_ours(row.to_theirs(array), array.shape), array)

    def test_transposed(self):
        array = np.arange(24).reshape(2, 3, 4)
        row = Row("a", "b", inputs=1, transposed=True)
        there = row.to_theirs(array)
        np.testing.assert_array_equal(there, array.reshape(2, 12).T)
        assert there.flags.c_contiguous and there.shape == row.their_shape(array.shape)
        np.testing.assert_array_equal(row.to_ours(there, array.shape), array)


class TestTable:
    def test_there_and_back(self):
        theirs = to_theirs(TABLE, OURS)
        assert list(theirs) == ["words", "g0/i12/w", "g0/i12/w/adam_m", "output.weight", "output.bias"]
        assert theirs["g0/i12/w/adam_m"].shape == (2, 12)
        back = from_theirs(TABLE, theirs, SHAPES)
        assert back.keys() == OURS.keys()
        for name, array in OURS.items():
            np.testing.assert_array_equal(back[name], array)

    def test_a_head_that_the_model_lacks_is_dropped(self, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        ours = from_theirs(TABLE, {**to_theirs(TABLE, OURS), "order": np.zeros(2)}, SHAPES)
        assert ours.keys() == OURS.keys()
        assert "Dropped order, because the model has no sop_head." in caplog.text

    def test_a_head_that_is_missing_there(self):
        shapes = {**SHAPES, "sop_head/bias": (2,)}
        assert from_theirs(TABLE, to_theirs(TABLE, OURS), shapes).keys() == OURS.keys()

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"other": np.zeros(3)}, r"no such variable. Received: other of shape \(3,\)"),
            ({"g1/i0/w": np.zeros(3)}, r"no such variable. Received: g1/i0/w of shape \(3,\)"),
            ({"words": np.zeros((2, 3))}, r"Received: words of shape \(2, 3\), \(3, 2\) in the model"),
            ({"g0/i12/w": None}, r"A variable is missing. Received: no g0/i12/w of shape \(2, 12\)"),
        ],
    )
    def test_what_does_not_fit(self, changes, message):
        theirs = {name: array for name, array in {**to_theirs(TABLE, OURS), **changes}.items() if array is not None}
        with pytest.raises(InputError, match=message):
            from_theirs(TABLE, theirs, SHAPES)

    def test_no_name_there(self):
        with pytest.raises(InputError, match="no name in the other format. Received: classifier/kernel"):
            to_theirs(TABLE, {"classifier/kernel": np.zeros(2)})
