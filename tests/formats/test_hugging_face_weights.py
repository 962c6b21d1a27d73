"""Weights of transformers: of safetensors and PyTorch, in one file or in parts, in all types of floats."""

import json
import os
import sys
import types

import numpy as np
import pytest

from tests.support.tiny_models import inputs, log_softmax, randomize, tiny
from tests.support.torch_archives import Call, archive
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.formats.hugging_face import read_hugging_face, write_hugging_face
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.portable import PortableModel
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM

# The pickle of `{"w": tensor}` as `torch.save` writes it: six floats of the storage "0".
TENSOR = (
    b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06tQ"
    b"K\x00K\x06\x85K\x01\x85\x89}tRs."
)


@pytest.fixture
def folder(tmp_path):
    write_hugging_face(PortableModel(model=randomize(TibertMaskedLM(tiny()))), tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def theirs():
    """A model of transformers with random weights, and torch."""
    reason = "transformers and torch are the other side of this comparison"
    torch = pytest.importorskip("torch", reason=reason)
    transformers = pytest.importorskip("transformers", reason=reason)
    config = transformers.AlbertConfig(
        vocab_size=20, embedding_size=4, hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.AlbertForMaskedLM(config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, torch


def assert_same(folder, model, torch):
    """Ours, of the folder, gives the log-probabilities of theirs."""
    ours = read_hugging_face(str(folder)).model
    x = inputs(ours.backbone)
    names = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
    with torch.no_grad():
        expected = model.eval()(**{name: torch.tensor(x[key]) for name, key in names.items()}).logits.numpy()
    positions = np.broadcast_to(np.arange(x["token_ids"].shape[1]), x["token_ids"].shape)
    actual = ours({**x, "mask_positions": positions})
    np.testing.assert_allclose(log_softmax(actual), log_softmax(expected), rtol=0, atol=1e-5)


class TestParts:
    @pytest.fixture
    def parts(self, folder):
        """The folder's weights in two files, with their index."""
        from safetensors.numpy import save_file

        weights = read_weights(str(folder))
        names, places = sorted(weights), {}
        for number, held in enumerate((names[:9], names[9:]), 1):
            place = f"model-{number:05}-of-00002.safetensors"
            save_file({name: weights[name] for name in held}, folder / place, metadata={"format": "pt"})
            places |= dict.fromkeys(held, place)
        (folder / "model.safetensors").unlink()
        self.write_index(folder, places)
        return folder, places, weights

    def write_index(self, folder, places):
        content = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    def test_of_transformers(self, theirs, tmp_path):
        model, torch = theirs
        model.save_pretrained(tmp_path / "parts", max_shard_size="1KB")
        assert len(list((tmp_path / "parts").glob("model-*-of-*.safetensors"))) > 2
        assert not (tmp_path / "parts/model.safetensors").exists()
        assert_same(tmp_path / "parts", model, torch)
        proof = convert(
            ConvertConfig(from_="huggingface", input=str(tmp_path / "parts"), to="keras", output=str(tmp_path / "out"))
        )
        assert max(proof.values()) < 1e-5 and "masked_lm" in proof

    def test_of_torch(self, theirs, tmp_path):
        model, torch = theirs
        model.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        state = model.state_dict()
        names, places = sorted(state), {}
        for number, held in enumerate((names[:9], names[9:]), 1):
            place = f"pytorch_model-{number:05}-of-00002.bin"
            torch.save({name: state[name] for name in held}, tmp_path / place)
            places |= dict.fromkeys(held, place)
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        assert_same(tmp_path, model, torch)

    def test_all_of_them(self, parts):
        folder, _, weights = parts
        read = read_weights(str(folder))
        assert read.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(read[name], array)

    @pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a\\b", "..", "."])
    def test_names_that_lead_elsewhere(self, parts, name):
        folder, places, _ = parts
        self.write_index(folder, {**places, "predictions.bias": name})
        with pytest.raises(InputError, match="An index names only files beside it. Received: '.*' in '.*index.json'"):
            read_weights(str(folder))

    def test_a_part_that_is_missing(self, parts):
        folder, *_ = parts
        (folder / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(InputError, match="missing. Received: no '.*/hf/model-00002-of-00002.safetensors'. Give a"):
            read_weights(str(folder))

    @pytest.mark.parametrize(
        "changes, missing",
        [
            ({"w": "model-00001-of-00002.safetensors"}, "w, which is not in '"),
            (None, r"predictions.bias, which is in '\S*00002-of-00002.saf"),
        ],
    )
    def test_tensors_elsewhere_than_the_index_says(self, parts, changes, missing):
        folder, places, _ = parts
        if changes is None:
            places.pop("predictions.bias")
        self.write_index(folder, {**places, **(changes or {})})
        with pytest.raises(InputError, match=f"a part of the weights disagree. Received: {missing}"):
            read_weights(str(folder))

    @pytest.mark.parametrize(
        "content", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": {"w": 1}}', "[", "[]"]
    )
    def test_no_index(self, parts, content):
        folder, *_ = parts
        (folder / "model.safetensors.index.json").write_text(content)
        with pytest.raises(InputError, match="Not an index of weights: .* Received: '.*index.json'. Give") as caught:
            read_weights(str(folder))
        assert "\n" not in str(caught.value)


class TestTypes:
    def test_bfloat16(self, theirs, tmp_path):
        model, torch = theirs
        rounded = model.to(torch.bfloat16)
        rounded.save_pretrained(tmp_path)
        assert b'"BF16"' in (tmp_path / "model.safetensors").read_bytes()[:2000]
        assert_same(tmp_path, rounded.to(torch.float32), torch)

    @pytest.mark.parametrize("dtype", ["float16", "float64"])
    def test_other_precision(self, folder, dtype):
        from safetensors.numpy import save_file

        weights = read_weights(str(folder))
        save_file({name: array.astype(dtype) for name, array in weights.items()}, folder / "model.safetensors")
        for name, array in read_weights(str(folder)).items():
            assert array.dtype == "float32"
            np.testing.assert_allclose(array, weights[name], rtol=1e-3, atol=1e-6)

    def test_elements_of_a_type_that_is_not_known(self, folder):
        header = b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'
        content = len(header).to_bytes(8, "little") + header + b"\0" * 4
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="that NumPy knows: 'F8_E4M3'. Received: .* float16 or bfloat16"):
            read_weights(str(folder))

    @pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x04" + b"\0" * 7 + b"{}  ", None])
    def test_damaged(self, folder, content):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-10] if content is None else content)
        with pytest.raises(InputError, match="safetensors|is missing") as caught:
            read_hugging_face(str(folder))
        assert "\n" not in str(caught.value)

    def test_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        with pytest.raises(InputError, match="neither model.safetensors nor pytorch_model.bin. Received: '.*hf'"):
            read_weights(str(folder))


class TestTorch:
    """PyTorch's files, which are pickles."""

    @pytest.fixture(autouse=True)
    def libraries(self):
        self.torch = pytest.importorskip("torch", reason="torch reads its files")

    def read(self, state, folder, **kwargs):
        self.torch.save(state, folder / "pytorch_model.bin", **kwargs)
        return read_weights(str(folder))

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
        arrays = self.read(state, tmp_path)
        assert arrays.keys() == state.keys()
        for name, tensor in state.items():
            expected = tensor.detach() if name == "long" else tensor.detach().float()
            np.testing.assert_array_equal(arrays[name], expected.numpy())
            assert arrays[name].dtype == expected.numpy().dtype and arrays[name].shape == tuple(tensor.shape)

    def test_state_of_a_module(self, tmp_path):
        module = self.torch.nn.Sequential(self.torch.nn.Linear(3, 2), self.torch.nn.LayerNorm(2))
        assert list(self.read(module.state_dict(), tmp_path)) == ["0.weight", "0.bias", "1.weight", "1.bias"]

    def test_older_than_archives(self, tmp_path):
        arrays = self.read({"w": self.torch.ones(2)}, tmp_path, _use_new_zipfile_serialization=False)
        np.testing.assert_array_equal(arrays["w"], [1, 1])

    def test_remote(self, tmp_path, monkeypatch):
        self.torch.save({"w": self.torch.ones(2)}, tmp_path / "pytorch_model.bin")
        np.testing.assert_array_equal(read_weights(f"file://{tmp_path}")["w"], [1, 1])

    def test_a_whole_module_is_code(self, tmp_path):
        with pytest.raises(InputError, match="carries code: it calls 'torch.nn.modules.linear.Linear'. Received"):
            self.read({"layer": self.torch.nn.Linear(2, 2)}, tmp_path)

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
            (tmp_path / "pytorch_model.bin").write_bytes(archive(state))
            with pytest.raises(
                InputError, match=r"The file carries code: it calls '[\w.]+'\. Received: '.*\.bin'. Ask"
            ) as caught:
                read_weights(str(tmp_path))
            assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]

    def test_names_are_quoted(self, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(archive(b"\x80\x02ca\x1b[31m\nb\n."))
        with pytest.raises(InputError, match=r"it calls 'a\\x1b\[31m.b'"):
            read_weights(str(tmp_path))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"PK\x03\x04 and nothing else",
            b"\xff" * 100,
            archive(b""),
            archive(b"\x80\x02"),
            archive(b"\x80\x04\x8c\x01a."),
            archive([1, 2]),
            archive({"w": "no tensor"}),
            archive({1: 2}),
            # No storage, and one that is too short.
            archive(TENSOR),
            archive(TENSOR, **{"0": b"\0" * 20}),
        ],
        ids=range(11),
    )
    def test_damaged(self, content, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(
            InputError, match=r"Not a whole file of PyTorch's: .+\. Received: '.*\.bin'. Give"
        ) as caught:
            read_weights(str(tmp_path))
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)

    def test_an_altered_byte(self, tmp_path):
        path, numbers = tmp_path / "pytorch_model.bin", self.torch.arange(6.0)
        self.torch.save({"w": numbers}, path)
        content = numbers.numpy().tobytes()
        path.write_bytes(path.read_bytes().replace(content, content[:-1] + b"\x41"))
        with pytest.raises(InputError, match="Not a whole file of PyTorch's: ValueError: the checksum of "):
            read_weights(str(tmp_path))

    def test_cut_short(self, tmp_path):
        path = tmp_path / "pytorch_model.bin"
        self.torch.save({"w": self.torch.zeros(1000)}, path)
        for length in (1, 100, 3000, path.stat().st_size - 10):
            path.write_bytes(path.read_bytes()[:length])
            with pytest.raises(InputError, match="Not a whole file of PyTorch's: "):
                read_weights(str(tmp_path))


@pytest.mark.parametrize("installed", [None, "2.5.1"])
def test_without_torch(installed, folder, monkeypatch):
    torch = installed and types.SimpleNamespace(__version__=installed)
    monkeypatch.setitem(sys.modules, "torch", torch)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = (
        r"read with torch 2\.6 or later, which is not installed. Received: '.*\.bin'. Install torch .*safetensors."
    )
    with pytest.raises(InputError, match=message) as caught:
        read_weights(str(folder))
    assert "\n" not in str(caught.value)
