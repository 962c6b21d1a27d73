"""PyTorch's files without PyTorch: what it writes is read, and what could do harm is not run."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from tests.support.torch_archives import Call, archive
from tibert_keras.errors import InputError
from tibert_keras.formats.torch_files import read_torch_file

# Pickles without PyTorch, with the names of its functions and types: written by hand, in opcodes of protocol 2.


def state_pickle(value, name=b"U\x01w"):
    return b"\x80\x02}" + name + value + b"s."


def tensor_pickle(key, offset, size, stride, **options):
    """The pickle of `{"w": tensor}` as `torch.save` writes it, with the storage outside."""
    return state_pickle(tensor(storage(key, **options), _int(offset), _ints(size), _ints(stride)))


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(stored, offset, size, stride):
    return REBUILD + b"(" + stored + offset + size + stride + b"\x89}tR"


def storage(key, *, elements=6, dtype="FloatStorage"):
    name = b"U" + bytes([len(key)]) + key.encode()
    return b"(U\x07storagectorch\n" + dtype.encode() + b"\n" + name + b"U\x03cpu" + _int(elements) + b"tQ"


def _int(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def _ints(values):
    return b"(" + b"".join(map(_int, values)) + b"t"


def _long(key):
    """A tensor of one integer, where PyTorch has an integer."""
    return tensor(storage(key, elements=1, dtype="LongStorage"), _int(0), _ints([]), _ints([]))


WIDE = {"0": b"\0" * 24, "size": np.int64(3).tobytes(), "stride": np.int64(2**62 + 5).tobytes()}


class TestTorch:
    @pytest.fixture(autouse=True)
    def libraries(self):
        self.torch = pytest.importorskip("torch", reason="torch writes the files that are read here")

    def read(self, state, path, **kwargs):
        self.torch.save(state, path, **kwargs)
        return read_torch_file(path, path.read_bytes())

    def test_element_types_and_layouts(self, tmp_path):
        torch = self.torch
        base = torch.arange(24.0).reshape(4, 6)
        state = {
            "whole": base,
            "transposed": base.T,
            "part": base[1:3, 2:],
            "scalar": torch.tensor(3.0),
            "empty": torch.zeros(0, 5),
            "half": base.half(),
            "bfloat16": base.bfloat16(),
            "double": base.double(),
            "long": torch.arange(5),
            "parameter": torch.nn.Parameter(base),
        }
        arrays = self.read(state, tmp_path / "file.bin")
        assert arrays.keys() == state.keys()
        for name, tensor in state.items():
            expected = tensor.detach().float().numpy() if name == "bfloat16" else tensor.detach().numpy()
            np.testing.assert_array_equal(arrays[name], expected)
            assert arrays[name].dtype == expected.dtype and arrays[name].shape == tuple(tensor.shape)

    def test_state_of_a_module(self, tmp_path):
        module = self.torch.nn.Sequential(self.torch.nn.Linear(3, 2), self.torch.nn.LayerNorm(2))
        arrays = self.read(module.state_dict(), tmp_path / "file.bin")
        assert list(arrays) == ["0.weight", "0.bias", "1.weight", "1.bias"]

    def test_a_whole_module_is_code(self, tmp_path):
        with pytest.raises(InputError, match="carries code: it calls 'torch.nn.modules.linear.Linear'. Received"):
            self.read({"layer": self.torch.nn.Linear(2, 2)}, tmp_path / "file.bin")

    def test_older_than_archives(self, tmp_path):
        with pytest.raises(InputError, match="Not a whole file of PyTorch's, 1.6 or later"):
            self.read({"w": self.torch.zeros(2)}, tmp_path / "file.bin", _use_new_zipfile_serialization=False)


class TestWithoutTorch:
    def test_tensor(self):
        content = archive(tensor_pickle("0", 1, (2, 2), (1, 2)), **{"0": np.arange(6, dtype="<f4").tobytes()})
        np.testing.assert_array_equal(read_torch_file("file", content)["w"], [[1, 3], [2, 4]])

    @pytest.mark.parametrize(
        "call",
        [
            Call(os.system, "touch MARK"),
            Call(eval, "open('MARK', 'w')"),
            Call(exec, "open('MARK', 'w')"),
            Call(getattr, "", "upper"),
        ],
        ids=["system", "eval", "exec", "getattr"],
    )
    def test_code_is_not_run(self, call, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for state in (call, {"w": call}, [call]):
            with pytest.raises(
                InputError, match=r"The file carries code: it calls '\w+\.\w+'\. Received: 'a.bin'. Ask"
            ):
                read_torch_file("a.bin", archive(state))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"PK\x03\x04 and nothing else",
            archive(b""),
            archive(b"\x80\x02"),
            archive([1, 2]),
            archive({"w": "no tensor"}),
            # No storage; one that is too short; tensors that reach out of theirs, to either side.
            archive(tensor_pickle("0", 0, (2, 3), (3, 1))),
            archive(tensor_pickle("0", 0, (2, 3), (3, 1)), **{"0": b"\0" * 20}),
            archive(tensor_pickle("0", 1, (2, 3), (3, 1)), **{"0": b"\0" * 24}),
            archive(tensor_pickle("0", 0, (2, 3), (1000, 1)), **{"0": b"\0" * 24}),
            archive(tensor_pickle("0", -1, (2, 3), (3, 1)), **{"0": b"\0" * 24}),
            archive(tensor_pickle("0", 0, (2, 3), (-3, 1)), **{"0": b"\0" * 24}),
            archive(tensor_pickle("0", 0, (2,), (3, 1)), **{"0": b"\0" * 24}),
            # Sizes of 64 bits, whose sums wrap around to a place before the end.
            archive(
                state_pickle(tensor(storage("0"), _int(0), b"(" + _long("size") + b"t", b"(" + _long("stride") + b"t")),
                **WIDE,
            ),
            # A tensor in place of a storage: it has fewer elements than its length tells.
            archive(
                state_pickle(
                    tensor(tensor(storage("0"), _int(0), _ints((6, 0)), _ints((1, 1))), _int(0), _ints([6]), _ints([1]))
                ),
                **WIDE,
            ),
            # What would fill the memory: an element that is repeated, and zeros, packed.
            archive(tensor_pickle("0", 0, (20_000, 5_000), (0, 0)), **{"0": b"\0" * 24}),
            archive(tensor_pickle("0", 0, (6,), (1,)), compression=zipfile.ZIP_DEFLATED, **{"0": b"\0" * 100_000}),
            archive(tensor_pickle("0", 0, (6,), (1,)), others=[("byteorder", b"big")], **{"0": b"\0" * 24}),
            # No name.
            archive(state_pickle(tensor(storage("0"), _int(0), _ints([6]), _ints([1])), name=b"K\x01"), **WIDE),
        ],
        ids=range(19),
    )
    def test_damaged(self, content):
        with pytest.raises(
            InputError, match="Not a whole file of PyTorch's, 1.6 or later: .* Received: 'a.bin'"
        ) as caught:
            read_torch_file("a.bin", content)
        assert "\n" not in str(caught.value)

    def test_notes_do_not_shadow_methods(self):
        # An OrderedDict whose attribute `values` is a function that gives no value.
        notes = b"}U\x06valuesccollections\nOrderedDict\nsb"
        state = b"\x80\x02ccollections\nOrderedDict\n)RU\x01wU\x09no tensors" + notes + b"."
        with pytest.raises(InputError, match="something else than tensors by name"):
            read_torch_file("a.bin", archive(state))

    def test_messages(self):
        setting = archive(state_pickle(REBUILD + b"N}U\x0c__defaults__" + _ints([1, 2]) + b"s\x86b"))
        with pytest.raises(InputError, match="no attribute '__defaults__'"):
            read_torch_file("a.bin", setting)
        with pytest.raises(InputError, match="there are 0 data.pkl in it"):
            read_torch_file("a.bin", archive({}).replace(b"data.pkl", b"date.pkl"))
        with pytest.raises(InputError, match=r"it calls 'a\\n\\x1b\[31mb.c'"):
            read_torch_file("a.bin", archive(b"\x80\x04\x8c\x08a\n\x1b[31mb\x8c\x01c\x93."))
