"""Google's folders: found, read, and written so that TensorFlow 1's own tools read them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.tiny_models import randomize, tiny
from tibert_keras.errors import InputError
from tibert_keras.formats.google_checkpoint import find_google_files, write_google
from tibert_keras.formats.google_names import read_google_checkpoint
from tibert_keras.formats.portable import PortableModel
from tibert_keras.models.tibert_pretraining import TibertPretraining


@pytest.fixture
def folder(tmp_path):
    """A model of step 12, with the moments of one variable."""
    model = randomize(TibertPretraining(tiny()))
    moments = {f"mlm_head/output_bias/{slot}": np.full(20, 2, "float32") for slot in ("adam_m", "adam_v")}
    write_google(PortableModel(model=model, moments=moments, step=12), tmp_path / "google")
    return tmp_path / "google"


class TestWriting:
    def test_files(self, folder):
        assert {path.name for path in folder.iterdir()} == {
            "albert_config.json", "checkpoint", "model.ckpt-12.data-00000-of-00001", "model.ckpt-12.index",
        }  # fmt: skip
        assert tf.train.latest_checkpoint(str(folder)) == f"{folder}/model.ckpt-12"

    def test_tensorflow_1_restores_it(self, folder):
        expected = read_google_checkpoint(folder / "model.ckpt-12")
        assert expected["global_step"].dtype == "int64" and "cls/predictions/output_bias/adam_v" in expected
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            variables = {
                name: v1.get_variable(name, array.shape, array.dtype, use_resource=True)
                for name, array in expected.items()
            }
            v1.train.Saver(list(variables.values())).restore(session, f"{folder}/model.ckpt-12")
            for name, value in session.run(variables).items():
                np.testing.assert_array_equal(value, expected[name])


class TestFinding:
    def test_the_last_of_several(self, folder):
        for step in (9, 100, 20):
            (folder / f"model.ckpt-{step}.index").touch()
        files = find_google_files(str(folder))
        assert files.prefix == f"{folder}/model.ckpt-100"
        assert files.config == f"{folder}/albert_config.json" and files.tokenizer is None
        assert find_google_files(f"{folder}/").prefix == files.prefix

    def test_published(self, tmp_path):
        for name in ("model.ckpt-best.index", "model.ckpt-best.meta", "30k-clean.model", "30k-clean.vocab"):
            (tmp_path / name).touch()
        files = find_google_files(str(tmp_path))
        assert files.prefix == f"{tmp_path}/model.ckpt-best" and files.tokenizer == f"{tmp_path}/30k-clean.model"

    def test_one_of_them(self, folder):
        files = find_google_files(f"{folder}/model.ckpt-12", albert_config_file="config", spm_model_file="model")
        assert files == (f"{folder}/model.ckpt-12", "config", "model")

    def test_none(self, tmp_path):
        with pytest.raises(InputError, match="No checkpoint of Google's is there. Received: '.*'. Give a folder with"):
            find_google_files(str(tmp_path))
