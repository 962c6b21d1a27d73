"""Checkpoints of Google's as they are published, and as changed copies of Google's code write them, converted."""

import json
import shutil

import numpy as np
import pytest

from tests.support import google_albert
from tests.support.tiny_models import randomize, tiny
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.formats.google_checkpoint import find_google_files, read_google, write_google_checkpoint
from tibert_keras.formats.google_names import read_google_checkpoint, to_google
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.formats.proof import fixed_batch
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.init_checkpoint import read_continue_from


def go(input_, to, output, from_="google"):
    return convert(ConvertConfig(from_=from_, input=str(input_), to=to, output=str(output)))


def begin_with(prefix):
    return PretrainConfig(input_file="", output_dir="", preset="tibert_nano", continue_from=str(prefix))


# === As published ===

# What is the same in all.
COMMON = {
    "hidden_act": "gelu", "embedding_size": 128, "initializer_range": 0.02, "max_position_embeddings": 512,
    "num_hidden_groups": 1, "net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "inner_group_num": 1,
    "down_scale_factor": 1, "type_vocab_size": 2, "vocab_size": 30000,
}  # fmt: skip
SIZES = {
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24},
    "xlarge": {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "num_hidden_layers": 24},
    "xxlarge": {"hidden_size": 4096, "intermediate_size": 16384, "num_attention_heads": 64, "num_hidden_layers": 12,
                "layers_to_keep": []},
}  # fmt: skip
NARROWED = ("embedding_size", "hidden_size", "intermediate_size")


def published(size, version):
    """The `albert_config.json`; version 2 and the largest have no dropout."""
    dropout = 0 if version == 2 or size == "xxlarge" else 0.1
    return {**COMMON, **SIZES[size], "attention_probs_dropout_prob": dropout, "hidden_dropout_prob": dropout}


@pytest.mark.parametrize("size, version", [("base", 1), ("xlarge", 2), ("xxlarge", 2)])
def test_published(size, version, spm_models, tmp_path):
    # Sixteen times narrower and six times shallower, with the vocabulary of the tests; else as published.
    shrunk = {name: published(size, version)[name] // 16 for name in NARROWED}
    shrunk["num_hidden_layers"] = published(size, version)["num_hidden_layers"] // 6
    config = {**published(size, version), **shrunk, "vocab_size": 400}
    model = randomize(TibertPretraining(TibertBackbone.from_albert_config({**config, "num_hidden_layers": 1})))
    weights = PortableModel(model=model).weights
    folder = tmp_path / "albert"
    folder.mkdir()
    write_google_checkpoint(
        folder / "model.ckpt-best", {**to_google(weights), "global_step": np.asarray(125000, "int64")}
    )
    (folder / "albert_config.json").write_text(json.dumps(config))
    shutil.copyfile(spm_models["unigram"], folder / "30k-clean.model")
    (folder / "30k-clean.vocab").touch()

    for to in ("keras", "huggingface"):
        assert go(folder, to, tmp_path / to).keys() == {
            "sequence_output", "pooled_output", "masked_lm", "sentence_order",
        }  # fmt: skip
    portable = read_keras(str(tmp_path / "keras"))
    config.pop("layers_to_keep", None)
    assert portable.backbone.to_albert_config() == config
    assert portable.tokenizer.proto == (tmp_path / "huggingface/spiece.model").read_bytes()
    for path, array in portable.weights.items():
        np.testing.assert_array_equal(array, weights[path])
    there = json.loads((tmp_path / "huggingface/config.json").read_text())
    assert {name: there[name] for name in SIZES["base"]} == {name: config[name] for name in SIZES["base"]}


# === Keras's layer normalisation in place of contrib's ===


def test_keras_names(shared, tmp_path):
    """Shared normalisations under Keras's names: the same model, moments and step."""
    golden = google_albert.folder(shared)
    write_google_checkpoint(tmp_path / "model.ckpt-30", google_albert.keras_named(golden / "model.ckpt-30"))
    shutil.copyfile(golden / "albert_config.json", tmp_path / "albert_config.json")
    assert any("/layer_normalization_1/" in name for name in read_google_checkpoint(tmp_path / "model.ckpt-30"))
    go(tmp_path, "google", tmp_path / "google")
    before = read_google_checkpoint(golden / "model.ckpt-30")
    after = read_google_checkpoint(tmp_path / "google/model.ckpt-30")
    assert after.keys() == before.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


BLOCK = "bert/encoder/transformer"


def own_norm(config, layer, number):
    """The scope of a normalisation, 1 or 2, of one layer, as TensorFlow makes it."""
    layers_a_group = config["num_hidden_layers"] // config["num_hidden_groups"]
    group, entered = divmod(layer, layers_a_group)
    scope = f"group_{group}{f'_{entered}' if entered else ''}/layer_{layer}/inner_group_0"
    return f"{BLOCK}/{scope}/layer_normalization_{2 * layer + number}"


def forward(variables, config, batch):
    """The last layer of an ALBERT of shared matrices and each layer's own normalisations, in plain NumPy."""

    def dense(x, name):
        return x @ variables[f"{name}/kernel"] + variables[f"{name}/bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * variables[f"{name}/gamma"] + variables[f"{name}/beta"]

    def heads(x):
        return x.reshape(*x.shape[:2], config["num_attention_heads"], -1).swapaxes(1, 2)

    words, positions, segments = (
        variables[f"bert/embeddings/{n}_embeddings"] for n in ("word", "position", "token_type")
    )
    x = words[batch.token_ids] + positions[: batch.token_ids.shape[1]] + segments[batch.segment_ids]
    x = dense(norm(x, "bert/embeddings/layer_normalization"), "bert/encoder/embedding_hidden_mapping_in")
    for layer in range(config["num_hidden_layers"]):
        group = layer // (config["num_hidden_layers"] // config["num_hidden_groups"])
        block = f"{BLOCK}/group_{group}/inner_group_0"
        query, key, value = (heads(dense(x, f"{block}/attention_1/self/{n}")) for n in ("query", "key", "value"))
        scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True)) * batch.padding_mask[:, None, None, :]
        seen = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(1, 2).reshape(x.shape)
        x = norm(x + dense(seen, f"{block}/attention_1/output/dense"), own_norm(config, layer, 1))
        wide = dense(x, f"{block}/ffn_1/intermediate/dense")
        wide = wide * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        x = norm(x + dense(wide, f"{block}/ffn_1/intermediate/output/dense"), own_norm(config, layer, 2))
    return x


@pytest.mark.parametrize("num_groups", [1, 2])
class TestOwnNorms:
    @pytest.fixture
    def folder(self, num_groups, tmp_path):
        """A checkpoint with moments, whose layers share their matrices alone."""
        model = randomize(TibertMaskedLM(tiny(num_groups=num_groups, num_layers=4)))
        config = model.backbone.to_albert_config()
        google = to_google(PortableModel(model=model).weights)
        variables = {
            name.replace("/LayerNorm/", "/layer_normalization/"): array
            for name, array in google.items()
            if "LayerNorm" not in name or BLOCK not in name
        }
        rng = np.random.default_rng(1)
        for layer in range(4):
            for number in (1, 2):
                for kind, mean in (("gamma", 0.5), ("beta", 0)):
                    array = rng.normal(mean, 0.3, 8).astype("float32")
                    variables[f"{own_norm(config, layer, number)}/{kind}"] = array
        moments = {f"{name}/{slot}": array for name, array in variables.items() for slot in ("adam_m", "adam_v")}
        folder = tmp_path / "own"
        folder.mkdir()
        write_google_checkpoint(
            folder / "model.ckpt-7", {**variables, **moments, "global_step": np.asarray(7, "int64")}
        )
        (folder / "albert_config.json").write_text(json.dumps(config))
        return folder

    def test_convert(self, folder, tmp_path, caplog):
        variables, config = (
            read_google_checkpoint(folder / "model.ckpt-7"),
            json.loads((folder / "albert_config.json").read_text()),
        )
        batch = fixed_batch(config)
        expected = forward(variables, config, batch)
        assert max(go(folder, "google", tmp_path / "google").values()) < 1e-5
        for input_, output in ((folder, "keras"), (tmp_path / "google", "from_google")):
            assert max(go(input_, "keras", tmp_path / output).values()) < 1e-5
            portable = read_keras(str(tmp_path / output))
            assert portable.backbone.num_groups == portable.backbone.num_layers == 4
            inputs = batch._asdict()
            inputs.pop("mask_positions")
            np.testing.assert_allclose(portable.backbone(inputs)["sequence_output"], expected, rtol=0, atol=1e-5)
        assert "made a group of each, 4 in all" in caplog.text and "Dropped the optimizer's moments" in caplog.text
        assert not read_google(find_google_files(str(tmp_path / "google"))).moments

    def test_not_to_be_trained_as_it_is(self, folder, num_groups, tmp_path):
        model = TibertMaskedLM(tiny(num_groups=num_groups, num_layers=4))
        with pytest.raises(
            InputError,
            match=r"group_0\S*/layer_\d/inner_group_0/layer_normalization_\d+. Begin with what `tibert convert",
        ):
            read_continue_from(model, begin_with(folder / "model.ckpt-7"))
        # What it makes, with a group of each layer, is one to begin with.
        go(folder, "google", tmp_path / "google")
        config = begin_with(tmp_path / "google/model.ckpt-0")
        assert read_continue_from(TibertMaskedLM(tiny(num_groups=4, num_layers=4)), config).step == 0

    def test_another_number_of_layers(self, folder, tmp_path):
        path = folder / "albert_config.json"
        for layers, message in (
            (2, "no such variable. Received: .*/group_[23]/"),
            (8, "missing. Received: no .*/group_[4-7]/"),
        ):
            path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": layers}))
            with pytest.raises(InputError, match=message):
                go(folder, "keras", tmp_path / "keras")
