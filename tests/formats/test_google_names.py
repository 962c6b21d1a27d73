"""Google's names for our variables, in all the shapes in which ALBERT was published or trained."""

import logging
import os

import numpy as np
import pytest

from tests.support import google_albert
from tests.support.tiny_models import tiny
from tibert_keras.errors import InputError
from tibert_keras.formats.google_names import (
    STEP,
    from_google,
    read_google_checkpoint,
    standard_names,
    to_google,
    variable_shapes,
)
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining

CHECKPOINTS = ["model.ckpt-0", "model.ckpt-30", "no_sop/model.ckpt-30"]


def random_weights(model):
    rng = np.random.default_rng(0)
    return {path: rng.normal(size=shape).astype("float32") for path, shape in variable_shapes(model).items()}


class TestGolden:
    @pytest.mark.parametrize("name", CHECKPOINTS)
    def test_there_and_back(self, shared, name):
        golden = google_albert.folder(shared)
        variables = read_google_checkpoint(golden / name)
        model = TibertPretraining(TibertBackbone.from_albert_config(golden / "albert_config.json"))
        back = to_google(from_google(variables, variable_shapes(model)))
        assert back.keys() == variables.keys() - {STEP}
        for key, array in back.items():
            assert array.dtype == "float32"
            np.testing.assert_array_equal(array, variables[key])

    def test_the_table_agrees_with_the_one_of_the_tests(self, shared):
        golden = google_albert.folder(shared)
        model = google_albert.masked_lm(golden)
        ours = from_google(np.load(golden / "weights_ckpt0.npz"), variable_shapes(model))
        for weight in model.weights:
            np.testing.assert_array_equal(ours[weight.path], weight)


class TestShapes:
    @pytest.mark.parametrize("sizes", [{}, {"num_groups": 2, "num_inner_repetitions": 3}, {"num_segments": 1}], ids=str)
    @pytest.mark.parametrize("make", [TibertPretraining, TibertMaskedLM, lambda backbone: backbone])
    def test_there_and_back(self, sizes, make):
        model = make(tiny(**sizes))
        weights = random_weights(model)
        google = to_google(weights)
        blocks = {name.split("/inner_group")[0] for name in google if "/inner_group_" in name}
        assert len(blocks) == sizes.get("num_groups", 1)
        assert all(array.ndim <= 2 for array in google.values())
        back = from_google(google, variable_shapes(TibertPretraining(tiny(**sizes))))
        assert back.keys() == weights.keys()
        for path, array in weights.items():
            np.testing.assert_array_equal(back[path], array)

    def test_embedding_of_the_hidden_size(self):
        model = tiny(embedding_dim=8)
        weights = random_weights(model)
        with pytest.raises(InputError, match="embedding_size=8, hidden_size=8"):
            to_google(weights)
        weights |= {"embedding_projection/kernel": np.eye(8), "embedding_projection/bias": np.zeros(8)}
        google = to_google(weights)
        assert not [name for name in google if "embedding_hidden_mapping_in" in name]
        back = from_google(google, variable_shapes(model))
        np.testing.assert_array_equal(back["embedding_projection/kernel"], np.eye(8))
        np.testing.assert_array_equal(back["embedding_projection/bias"], np.zeros(8))

    def test_more_groups_than_the_configuration_says(self):
        google = to_google(random_weights(tiny(num_groups=2)))
        with pytest.raises(InputError, match="no such variable. Received: bert/encoder/transformer/group_1/"):
            from_google(google, variable_shapes(tiny()))
        with pytest.raises(InputError, match="is missing. Received: no bert/encoder/transformer/group_2/"):
            from_google(google, variable_shapes(tiny(num_groups=3)))


class TestOtherNames:
    def test_keras_normalisations(self):
        weights = random_weights(TibertMaskedLM(tiny()))
        google = to_google(weights)
        names = {
            "bert/embeddings/LayerNorm/": "bert/embeddings/layer_normalization/",
            "inner_group_0/LayerNorm/": "inner_group_0/layer_normalization_9/",
            "inner_group_0/LayerNorm_1/": "inner_group_0/layer_normalization_10/",
            "transform/LayerNorm/": "transform/layer_normalization_11/",
        }
        renamed = {}
        for name, array in google.items():
            for theirs, other in names.items():
                name = name.replace(theirs, other)
            renamed[f"module/{name}"] = array
            renamed[f"module/{name}/adam_v"] = array
        standard = standard_names(renamed)
        assert standard.keys() == google.keys() | {f"{name}/adam_v" for name in google}
        for name, array in google.items():
            np.testing.assert_array_equal(standard[name], array)

    def test_other_optimizers(self, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        model = TibertMaskedLM(tiny())
        google = to_google(random_weights(model))
        name = "cls/predictions/output_bias"
        more = {f"{name}/Adam": np.zeros(20), f"{name}/adam_m": np.ones(20), "beta1_power": np.zeros(())}
        ours = from_google({**google, **more}, variable_shapes(model))
        assert ours.keys() == {*variable_shapes(model), "mlm_head/output_bias/adam_m"}
        assert f"Dropped beta1_power, {name}/Adam, because they are another optimizer's." in caplog.text

    def test_normalisations_that_are_not_shared(self):
        scope = "bert/encoder/transformer/group_0_7/layer_7/inner_group_0"
        with pytest.raises(InputError, match=f"Received: {scope}/layer_normalization_15. Begin with what `tibert c"):
            standard_names({f"{scope}/layer_normalization_{number}/beta": np.zeros(8) for number in (15, 16)})


class TestReading:
    def test_what_is_there(self, shared):
        golden = google_albert.folder(shared)
        variables = read_google_checkpoint(golden / "model.ckpt-30")
        assert variables[STEP] == 30 and variables[STEP].dtype == "int64"
        assert len(variables) == 97

    def test_a_pipe(self, tmp_path):
        """TensorFlow would wait for somebody to write to it."""
        os.mkfifo(tmp_path / "model.ckpt-1.data-00000-of-00001")
        with pytest.raises(
            InputError, match="it is a pipe or a device. Received: '.*model.ckpt-1.data-00000-of-00001'"
        ):
            read_google_checkpoint(tmp_path / "model.ckpt-1")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match="checkpoint cannot be read: .* Received: '.*/model.ckpt-1'") as caught:
            read_google_checkpoint(tmp_path / "model.ckpt-1")
        assert "\n" not in str(caught.value)
