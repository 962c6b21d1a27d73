"""The encoder: Google's forward pass and configuration files, presets, saving."""

import inspect
import json

import keras
import keras_nlp
import numpy as np
import pytest
from keras import ops

from tests.support import google_albert
from tests.support.base import TestCase
from tibert_keras.errors import InputError
from tibert_keras.models.tibert_backbone import TibertBackbone

CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "embedding_size": 4,
    "hidden_size": 8,
    "initializer_range": 0.02,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "num_hidden_groups": 2,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "inner_group_num": 3,
    "down_scale_factor": 1,
    "type_vocab_size": 5,
    "vocab_size": 50,
}


class TestTibertBackbone(TestCase):
    @pytest.fixture(autouse=True)
    def setup(self):
        self.inputs = {
            "token_ids": np.array([[2, 10, 11, 3, 0]] * 2),
            "segment_ids": np.array([[0, 0, 1, 1, 0]] * 2),
            "padding_mask": np.array([[1, 1, 1, 1, 0]] * 2),
        }

    def make(self, **kwargs):
        return TibertBackbone.from_preset("tibert_nano", vocabulary_size=50, **kwargs)

    def test_layer(self):
        shapes = {"sequence_output": (2, 5, 64), "pooled_output": (2, 64)}
        self.run_layer_test(self.make, self.inputs, shapes, num_weights=25)

    def test_arguments(self):
        backbone = self.make(dropout=0.1)
        arguments = inspect.signature(TibertBackbone.__init__).parameters
        assert set(backbone.get_config()) - {"name", "trainable"} <= set(arguments)
        copy = keras.models.clone_model(backbone)
        copy.set_weights(backbone.get_weights())
        self.assert_close(copy(self.inputs), backbone(self.inputs))

    def test_saving(self, tmp_path):
        self.run_model_saving_test(self.make(), self.inputs, tmp_path)

    def test_preset_folder(self, tmp_path):
        backbone = self.make(name="encoder")
        assert self.run_preset_test(backbone, self.inputs, tmp_path).name == "encoder"
        # KerasHub's own classes find it too.
        copy = keras_nlp.models.Backbone.from_preset(str(tmp_path / "preset"))
        assert isinstance(copy, TibertBackbone)

    # === Google ===
    @pytest.mark.parametrize("checkpoint", ["forward", "forward_ckpt30"])
    def test_google(self, shared, checkpoint):
        golden = google_albert.folder(shared)
        reference = np.load(golden / f"{checkpoint}.npz")
        weights = np.load(golden / "weights_ckpt0.npz")
        if checkpoint == "forward_ckpt30":
            final = np.load(golden / "lamb_sop.npz")
            weights = {name: final[f"final/{name}"] for name in weights if f"final/{name}" in final}
        model = google_albert.masked_lm(golden)
        google_albert.load(model, weights)
        features, _, _ = google_albert.batch(reference)
        outputs = model.backbone({name: features[name] for name in self.inputs})
        for name in ("sequence_output", "pooled_output"):
            self.assert_close(outputs[name], reference[name], atol=1e-5)

    def test_albert_config_of_google(self, shared):
        path = google_albert.folder(shared) / "albert_config.json"
        expected = json.loads(path.read_text())
        backbone = TibertBackbone.from_albert_config(path)
        written = backbone.to_albert_config()
        assert {name: written[name] for name in expected} == expected

    def test_albert_config_round_trip(self):
        backbone = TibertBackbone.from_albert_config(CONFIG, name="encoder")
        assert (backbone.num_groups, backbone.num_inner_repetitions, backbone.num_segments) == (2, 3, 5)
        assert (backbone.dropout, backbone.max_sequence_length, backbone.name) == (0.1, 32, "encoder")
        assert backbone.to_albert_config() == CONFIG

    def test_albert_config_of_equal_sizes(self, tmp_path):
        """Google's code has no mapping then: it is the identity, and stays so whatever is frozen and thawed."""
        backbone = TibertBackbone.from_albert_config({**CONFIG, "embedding_size": 8})
        backbone.save_to_preset(str(tmp_path / "preset"))
        loaded = TibertBackbone.from_preset(str(tmp_path / "preset"))
        thawed = TibertBackbone.from_preset(str(tmp_path / "preset"), load_weights=False)
        for value in (False, True):
            thawed.trainable = value
        for model in (backbone, loaded, thawed):
            mapping = model.embeddings_projection
            np.testing.assert_array_equal(mapping.kernel, np.eye(8))
            assert mapping.trainable_variables == [] and not mapping.bias.trainable
            assert len(model.trainable_weights) == len(model.weights) - 2
        assert len(TibertBackbone.from_albert_config(CONFIG).trainable_weights) == len(backbone.weights)
        self.run_serialization_test(backbone)
        self.run_precision_test(
            lambda **kwargs: TibertBackbone.from_albert_config({**CONFIG, "embedding_size": 8}, **kwargs), self.inputs
        )

    def test_identity_between_two_sizes(self):
        with pytest.raises(InputError, match="Received: identity_projection=True, embedding_dim=32, hidden_dim=64."):
            self.make(identity_projection=True)

    def test_albert_config_and_arguments(self):
        backbone = TibertBackbone.from_albert_config(CONFIG, vocabulary_size=7, dropout=0.0)
        assert (backbone.vocabulary_size, backbone.dropout) == (7, 0.0)

    @pytest.mark.parametrize(
        "change,message",
        [
            ({"hidden_act": "relu"}, "Only hidden_act='gelu' is supported. Received: hidden_act='relu'"),
            ({"hidden_size": "64"}, "hidden_size must be a whole number from 1 on. Received: hidden_size='64'."),
            ({"num_hidden_groups": 0}, "Received: num_hidden_groups=0."),
            ({"num_hidden_layers": -1}, "Received: num_hidden_layers=-1."),
            ({"type_vocab_size": 2.0}, "Received: type_vocab_size=2.0."),
            ({"vocab_size": True}, "Received: vocab_size=True."),
            ({"hidden_dropout_prob": "0.1"}, "Received: hidden_dropout_prob='0.1'."),
            ({"initializer_range": 0.01}, "Received: initializer_range=0.01"),
            ({"attention_probs_dropout_prob": 0.2}, "hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2"),
            ({"num_attention_heads": 3}, "hidden_size=8, num_attention_heads=3"),
            ({"model_type": "albert"}, r"missing=\[\], unknown=\['model_type'\]"),
            ({"vocab_size": None, "hidden_size": None}, r"missing=\['hidden_size', 'vocab_size'\]"),
        ],
    )
    def test_albert_config_refused(self, change, message):
        config = {k: v for k, v in {**CONFIG, **change}.items() if v is not None}
        with pytest.raises(InputError, match=message):
            TibertBackbone.from_albert_config(config)

    @pytest.mark.parametrize(
        "text,message",
        [
            (None, "Cannot read"),
            ("{", "Not an ALBERT configuration: .* Received: .*config.json"),
            ("[]", "it is not a JSON object"),
        ],
    )
    def test_albert_config_files_refused(self, tmp_path, text, message):
        path = tmp_path / "config.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match=message):
            TibertBackbone.from_albert_config(path)

    # === Presets by name ===
    def test_presets(self):
        sizes = ("nano", "tiny", "base", "large", "xlarge", "xxlarge")
        assert list(TibertBackbone.presets)[:6] == [f"tibert_{size}" for size in sizes]
        for preset in TibertBackbone.presets.values():
            assert preset["metadata"]["description"]

    def test_base_is_albert_base_v2(self):
        backbone = TibertBackbone.from_preset("tibert_base", vocabulary_size=30000)
        # The published model has 11,683,584 parameters without its heads.
        assert backbone.count_params() == 11_683_584
        assert backbone.to_albert_config()["num_hidden_layers"] == 12

    def test_preset_with_other_arguments(self):
        assert self.make(num_layers=3, dropout=0.1).to_albert_config()["num_hidden_layers"] == 3

    def test_unknown_preset(self):
        with pytest.raises(InputError, match="Received: preset='tibert_huge'. Give one of tibert_nano, .*folder"):
            TibertBackbone.from_preset("tibert_huge")

    def test_preset_without_vocabulary(self):
        with pytest.raises(InputError, match="preset='tibert_nano', vocabulary_size=None"):
            TibertBackbone.from_preset("tibert_nano")

    # === Only some positions ===
    @pytest.mark.parametrize("sizes", [{}, {"num_groups": 2, "num_layers": 4, "num_inner_repetitions": 2}])
    def test_positions(self, sizes):
        """The last layer at some positions is the same as at all, repeated ones too."""
        backbone = self.make(**sizes)
        whole = backbone(self.inputs)
        for positions in (np.array([[1, 3, 0], [2, 2, 4]]), np.array([[1, 3], [2, 0]])):
            picked = backbone(self.inputs, positions=positions)
            expected = np.take_along_axis(ops.convert_to_numpy(whole["sequence_output"]), positions[:, :, None], axis=1)
            self.assert_close(picked["sequence_output"], expected)
            self.assert_close(picked["pooled_output"], whole["pooled_output"])

    def test_positions_in_a_model(self):
        backbone = self.make()
        positions = keras.Input((None,), dtype="int32")
        outputs = backbone(backbone.input, positions=positions)
        assert outputs["sequence_output"].shape == (None, None, 64)
        assert outputs["pooled_output"].shape == (None, 64)
        model = keras.Model({**backbone.input, "positions": positions}, outputs)
        inputs = {**self.inputs, "positions": np.array([[1, 3, 0], [2, 2, 4]])}
        model.compile(jit_compile=True)
        self.assert_close(model.predict(inputs, verbose=0), model(inputs), atol=1e-5)

    def test_dropout_at_positions(self):
        backbone, positions = self.make(dropout=0.5), np.array([[1, 3, 0], [2, 2, 4]])
        at_rest, training = (backbone(self.inputs, training=on, positions=positions) for on in (False, True))
        assert np.any(ops.convert_to_numpy(at_rest["sequence_output"] != training["sequence_output"]))
        again = backbone(self.inputs, training=False, positions=positions)
        self.assert_close(again, at_rest)
