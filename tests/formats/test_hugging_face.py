"""Folders of transformers: what transformers and torch make of ours, and we of theirs."""

import json

import numpy as np
import pytest
from keras import ops

from tests.support import google_albert
from tests.support.tiny_models import inputs, log_softmax, randomize, tiny
from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import variable_shapes
from tibert_keras.formats.hugging_face import (
    HUGGING_FACE,
    read_albert_config,
    read_hugging_face,
    standard_weights,
    write_hugging_face,
)
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.formats.renaming import from_theirs, to_theirs
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining

BLOCK = "albert.encoder.albert_layer_groups.0.albert_layers.0"


class TestTable:
    @pytest.mark.parametrize("sizes", [{}, {"num_groups": 2, "num_inner_repetitions": 2}, {"num_segments": 1}], ids=str)
    @pytest.mark.parametrize("make", [TibertPretraining, TibertMaskedLM, lambda backbone: backbone])
    def test_there_and_back(self, sizes, make):
        model = randomize(make(tiny(**sizes)))
        weights = PortableModel(model=model).weights
        theirs = to_theirs(HUGGING_FACE, weights)
        back = from_theirs(HUGGING_FACE, theirs, variable_shapes(TibertPretraining(tiny(**sizes))))
        assert back.keys() == weights.keys()
        for path, array in weights.items():
            np.testing.assert_array_equal(back[path], array)

    def test_layout(self):
        weights = PortableModel(model=randomize(TibertPretraining(tiny()))).weights
        theirs = to_theirs(HUGGING_FACE, weights)
        query = weights["group_0_inner_layer_0/self_attention_layer/query/kernel"]
        np.testing.assert_array_equal(theirs[f"{BLOCK}.attention.query.weight"], query.reshape(8, 8).T)
        output = weights["group_0_inner_layer_0/self_attention_layer/attention_output/kernel"]
        np.testing.assert_array_equal(theirs[f"{BLOCK}.attention.dense.weight"], output.reshape(8, 8).T)
        assert theirs[f"{BLOCK}.ffn.weight"].shape == (12, 8)
        assert theirs["sop_classifier.classifier.weight"].shape == (2, 8)

    def test_standard_weights(self):
        words, bias = np.ones((3, 2)), np.ones(3)
        arrays = {
            "embeddings.word_embeddings.weight": words,
            "embeddings.position_ids": np.arange(4)[None],
            "predictions.decoder.weight": words.copy(),
            "predictions.decoder.bias": bias,
        }
        assert standard_weights(arrays).keys() == {"albert.embeddings.word_embeddings.weight", "predictions.bias"}
        with pytest.raises(InputError, match=r"predictions.decoder.weight of shape \(3, 2\), which differs"):
            standard_weights({**arrays, "predictions.decoder.weight": 2 * words})


class TestTransformers:
    """The same numbers from transformers with torch."""

    @pytest.fixture(autouse=True)
    def libraries(self):
        reason = "transformers and torch are the other side of this comparison"
        self.torch = pytest.importorskip("torch", reason=reason)
        self.transformers = pytest.importorskip("transformers", reason=reason)

    def outputs_there(self, model, x):
        model.eval()
        with self.torch.no_grad():
            return model(
                input_ids=self.torch.tensor(x["token_ids"]),
                attention_mask=self.torch.tensor(x["padding_mask"]),
                token_type_ids=self.torch.tensor(x["segment_ids"]),
            )

    def assert_same(self, model, theirs, x):
        """All log-probabilities within 1e-5, of both heads."""
        positions = np.broadcast_to(np.arange(x["token_ids"].shape[1]), x["token_ids"].shape)
        ours = model({**x, "mask_positions": positions})
        if isinstance(model, TibertPretraining):
            pairs = [(ours["masked_lm"], theirs.prediction_logits), (ours["sentence_order"], theirs.sop_logits)]
        else:
            pairs = [(ours, theirs.logits)]
        for here, there in pairs:
            np.testing.assert_allclose(log_softmax(here), log_softmax(there.numpy()), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        "sizes", [{}, {"num_groups": 2, "num_inner_repetitions": 2, "num_segments": 1}, {"embedding_dim": 8}], ids=str
    )
    @pytest.mark.parametrize("kind", [TibertMaskedLM, TibertPretraining])
    def test_ours_there(self, kind, sizes, tmp_path):
        model = randomize(kind(tiny(**sizes)))
        write_hugging_face(PortableModel(model=model), tmp_path / "hf")
        x = inputs(model.backbone)
        auto = self.transformers.AutoModelForMaskedLM
        if kind is TibertPretraining:
            auto = self.transformers.AutoModelForPreTraining
        theirs, info = auto.from_pretrained(tmp_path / "hf", output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        assert set(info["unexpected_keys"]) <= {"albert.pooler.weight", "albert.pooler.bias"}
        self.assert_same(model, self.outputs_there(theirs, x), x)

    @pytest.mark.parametrize("safe", [True, False])
    @pytest.mark.parametrize(
        "name, kind",
        [("AlbertForMaskedLM", TibertMaskedLM), ("AlbertForPreTraining", TibertPretraining), ("AlbertModel", None)],
    )
    def test_theirs_here(self, name, kind, safe, tmp_path):
        config = self.transformers.AlbertConfig(
            vocab_size=20, embedding_size=4, hidden_size=8, num_hidden_layers=4, num_hidden_groups=2,
            num_attention_heads=2, intermediate_size=12, inner_group_num=2, max_position_embeddings=16,
        )  # fmt: skip
        theirs = getattr(self.transformers, name)(config)
        self.torch.manual_seed(0)
        for parameter in theirs.parameters():
            self.torch.nn.init.normal_(parameter, std=0.3)
        theirs.save_pretrained(tmp_path)
        if not safe:
            (tmp_path / "model.safetensors").unlink()
            self.torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
        model = read_hugging_face(str(tmp_path)).model
        assert type(model) is (kind or TibertBackbone)
        x = inputs(model if kind is None else model.backbone)
        expected = self.outputs_there(theirs, x)
        if kind is not None:
            return self.assert_same(model, expected, x)
        outputs = model(x)
        for here, there in (("sequence_output", "last_hidden_state"), ("pooled_output", "pooler_output")):
            np.testing.assert_allclose(ops.convert_to_numpy(outputs[here]), expected[there], rtol=0, atol=1e-5)
        return None

    def test_encoder_there(self, tmp_path):
        model = randomize(tiny())
        write_hugging_face(PortableModel(model=model), tmp_path / "hf")
        theirs, info = self.transformers.AutoModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"))
        x = inputs(model)
        expected, outputs = self.outputs_there(theirs, x), model(x)
        for here, there in (("sequence_output", "last_hidden_state"), ("pooled_output", "pooler_output")):
            np.testing.assert_allclose(ops.convert_to_numpy(outputs[here]), expected[there], rtol=0, atol=1e-5)

    def test_champion(self, finished_run, tmp_path):
        portable = read_keras(str(finished_run))
        write_hugging_face(portable, tmp_path / "hf")
        theirs = self.transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")
        x = inputs(portable.backbone, length=32)
        self.assert_same(portable.model, self.outputs_there(theirs, x), x)

    def test_base(self, tmp_path):
        model = TibertMaskedLM.from_preset("tibert_base", vocabulary_size=1000)
        rng = np.random.default_rng(0)
        for weight in model.weights:
            # Biases and normalisations too, all of which begin with the same values.
            weight.assign_add(rng.normal(0, 0.02, weight.shape))
        write_hugging_face(PortableModel(model=model), tmp_path / "hf")
        theirs = self.transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")
        x = inputs(model.backbone, length=64)
        self.assert_same(model, self.outputs_there(theirs, x), x)

    def test_golden(self, shared, tmp_path):
        golden = google_albert.folder(shared)
        reference = np.load(golden / "forward.npz")
        write_hugging_face(PortableModel(model=google_albert.masked_lm(golden)), tmp_path / "hf")
        theirs = self.transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "hf")
        x, _, _ = google_albert.batch(reference)
        logits = self.outputs_there(theirs, x).logits.numpy()
        chosen = np.take_along_axis(log_softmax(logits), x["mask_positions"][..., None], axis=1)
        expected = reference["mlm_log_probs"].reshape(chosen.shape)
        np.testing.assert_allclose(chosen, expected, rtol=0, atol=1e-5)


class TestBadInput:
    @pytest.fixture
    def folder(self, tmp_path):
        write_hugging_face(PortableModel(model=TibertMaskedLM(tiny())), tmp_path / "hf")
        return tmp_path / "hf"

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"hidden_act": "gelu"}, "Only hidden_act='gelu_new' is supported. Received: hidden_act='gelu' in"),
            ({"layer_norm_eps": 1e-5}, "Only layer_norm_eps=1e-12 is supported. Received: layer_norm_eps=1e-05 in"),
            ({"model_type": None}, "Only model_type='albert' is supported. Received: model_type=None in"),
            ({"model_type": "bert"}, "Only model_type='albert' is supported. Received: model_type='bert' in"),
            ({"hidden_size": 16}, r"Received: albert.\S+ of shape \(.*8.*\), \(.*16.*\) in the model"),
            ({"num_hidden_groups": 2}, r"variable is missing. Received: no albert.encoder.albert_layer_groups.1\S+ of"),
        ],
    )
    def test_configuration(self, folder, changes, message):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(InputError, match=message) as caught:
            read_hugging_face(str(folder))
        assert "\n" not in str(caught.value)

    def test_defaults(self, folder):
        (folder / "config.json").write_text('{"model_type": "albert"}')
        assert read_albert_config(str(folder))["hidden_size"] == 4096

    def test_other_initial_values(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "initializer_range": 0.01}))
        assert type(read_hugging_face(str(folder)).model) is TibertMaskedLM


def test_special_tokens_of_the_configuration(converted):
    """What transformers pads with, begins and ends a text with, if nobody asks its tokenizer."""
    config = json.loads((converted["huggingface"] / "config.json").read_text())
    tokenizer = TibertMaskedLM.from_preset(str(converted["keras"])).preprocessor.tokenizer
    expected = [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
    assert [config[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == expected
