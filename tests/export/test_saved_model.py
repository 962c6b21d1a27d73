"""The SavedModel: its signatures, and that it answers without our code as the Keras model does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tibert_keras.errors import InputError
from tibert_keras.export import FillMask, SavedModelOfBest, export_saved_model
from tibert_keras.models import TibertMaskedLM
from tibert_keras.training import pretrain
from tibert_keras.training.history import History

SERVE = Path(__file__).with_name("serve.py")
# Two masks, none, and one.
TEXTS = ["སངས་རྒྱས་[MASK]བཅོམ་ལྡན་འདས་[MASK]། །", "བཀྲ་ཤིས།", "[MASK]"]

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="says what another backend cannot do")
def test_another_backend(finished_run, tmp_path):
    for export in (lambda: export_saved_model(finished_run, tmp_path / "out"), lambda: SavedModelOfBest(finished_run)):
        with pytest.raises(InputError, match="Received: KERAS_BACKEND=jax"):
            export()
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def model(finished_run) -> Any:
    return TibertMaskedLM.from_preset(f"{finished_run}/champion")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "saved_model"
    export_saved_model(model, folder, top_k=3)
    return folder


def features(model: TibertMaskedLM, text: str) -> dict[str, np.ndarray]:
    """The inputs of the model for one text with masks, put together by hand."""
    tokenizer = model.preprocessor.tokenizer
    ids = [tokenizer.cls_token_id, *tokenizer.encode([text])[0], tokenizer.sep_token_id]
    token_ids = np.array([ids], "int32")
    return {
        "token_ids": token_ids,
        "padding_mask": np.ones_like(token_ids),
        "segment_ids": np.zeros_like(token_ids),
        "mask_positions": np.flatnonzero(token_ids == tokenizer.mask_token_id).astype("int32")[None],
    }


@tensorflow_only
class TestSignatures:
    def test_names_and_shapes(self, exported):
        signatures = tf.saved_model.load(str(exported)).signatures
        inputs = {name: s.structured_input_signature[1] for name, s in signatures.items()}
        assert {name: set(given) for name, given in inputs.items()} == {
            "serving_default": {"text"},
            "encode": {"text"},
            "masked_lm": {"token_ids", "padding_mask", "segment_ids", "mask_positions"},
        }
        assert inputs["serving_default"]["text"].dtype == tf.string
        outputs = {name: s.structured_outputs for name, s in signatures.items()}
        assert {name: {key: spec.dtype.name for key, spec in given.items()} for name, given in outputs.items()} == {
            "serving_default": {"pieces": "string", "probabilities": "float32", "mask_count": "int32"},
            "encode": {"sequence_output": "float32", "pooled_output": "float32", "padding_mask": "int32"},
            "masked_lm": {"logits": "float32"},
        }

    @pytest.mark.slow
    def test_without_our_code(self, model, exported, tmp_path):
        """A process that imports nothing but TensorFlow and tensorflow_text gives the Keras model's answers."""
        x = features(model, TEXTS[0])
        np.savez(tmp_path / "ids.npz", **x)
        command = [sys.executable, SERVE, exported, json.dumps(TEXTS), tmp_path / "ids.npz", tmp_path / "answers.npz"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        answers = np.load(tmp_path / "answers.npz")
        assert list(answers["foreign"]) == [] and "serving_default" in answers["signatures"]

        logits = model(x)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
        ids = np.argsort(-probabilities, axis=-1, kind="stable")[:, :3]
        assert answers["fill_mask/mask_count"].tolist() == [2, 0, 1]
        pieces = [[piece.decode() for piece in mask] for mask in answers["fill_mask/pieces"][0]]
        assert pieces == [[model.preprocessor.tokenizer.id_to_token(int(i)) for i in mask] for mask in ids]
        np.testing.assert_allclose(
            answers["fill_mask/probabilities"][0], np.take_along_axis(probabilities, ids, -1), atol=1e-5
        )
        np.testing.assert_allclose(answers["masked_lm/logits"], logits, atol=1e-5)
        encoded = model.backbone({name: value for name, value in x.items() if name != "mask_positions"})
        length = x["token_ids"].shape[1]
        assert answers["encode/padding_mask"].sum(1).tolist()[0] == length
        np.testing.assert_allclose(
            answers["encode/sequence_output"][0, :length], encoded["sequence_output"][0], atol=1e-5
        )
        np.testing.assert_allclose(answers["encode/pooled_output"][0], encoded["pooled_output"][0], atol=1e-5)


@tensorflow_only
class TestFillMask:
    @pytest.fixture(scope="class")
    @classmethod
    def fill(cls, model) -> FillMask:
        return FillMask(model, top_k=3)

    def test_masks_of_different_numbers(self, fill):
        answer = {name: tensor.numpy() for name, tensor in fill.fill_mask(tf.constant(TEXTS)).items()}
        assert answer["mask_count"].tolist() == [2, 0, 1]
        assert answer["pieces"].shape == answer["probabilities"].shape == (3, 2, 3)
        real = np.array([[1, 1], [0, 0], [1, 0]], bool)
        assert (answer["pieces"][real] != b"").all() and (answer["pieces"][~real] == b"").all()
        assert (answer["probabilities"][~real] == 0).all()
        assert (np.diff(answer["probabilities"][real]) <= 0).all()

    def test_no_masks_at_all(self, fill):
        answer = fill.fill_mask(tf.constant(["བཀྲ་ཤིས།", ""]))
        assert answer["mask_count"].numpy().tolist() == [0, 0]
        assert answer["pieces"].shape == (2, 0, 3)

    def test_the_rest_of_the_batch_does_not_matter(self, fill):
        alone, among = (fill.fill_mask(tf.constant(texts))["probabilities"] for texts in (TEXTS[2:], TEXTS))
        np.testing.assert_allclose(among[2, 0], alone[0, 0], atol=1e-5)

    def test_all_pieces(self, model):
        fill = FillMask(model, top_k=10_000)
        answer = fill.fill_mask(tf.constant(TEXTS[2:]))
        assert answer["pieces"].shape == (1, 1, 400)
        assert float(tf.reduce_sum(answer["probabilities"])) == pytest.approx(1, abs=1e-5)

    def test_a_text_that_is_too_long(self, fill):
        limit = 32 - 2
        assert fill.fill_mask(tf.constant(["[MASK]" * limit]))["mask_count"].numpy() == [limit]
        with pytest.raises(tf.errors.InvalidArgumentError, match="A text is longer than 32 tokens"):
            fill.fill_mask(tf.constant(["[MASK]" * (limit + 1)]))

    def test_bad_arguments(self, model):
        with pytest.raises(InputError, match="Received: top_k=0"):
            FillMask(model, top_k=0)
        with pytest.raises(InputError, match="has no tokenizer"):
            FillMask(TibertMaskedLM.from_preset("tibert_nano", vocabulary_size=9))

    def test_bfloat16(self, finished_run, fill):
        mixed = FillMask(TibertMaskedLM.from_preset(f"{finished_run}/champion", dtype="mixed_bfloat16"), top_k=3)
        answer = mixed.fill_mask(tf.constant(TEXTS))
        assert answer["probabilities"].dtype == tf.float32
        np.testing.assert_allclose(
            answer["probabilities"], fill.fill_mask(tf.constant(TEXTS))["probabilities"], atol=0.01
        )


@tensorflow_only
class TestExport:
    def test_an_older_one_is_replaced(self, finished_run, exported, tmp_path):
        folder = tmp_path / "saved_model"
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"old")
        export_saved_model(finished_run, folder, top_k=3)
        names = [{path.name for path in each.iterdir()} for each in (folder, exported)]
        assert names[0] == names[1]
        assert len((folder / "saved_model.pb").read_bytes()) > 1000

    def test_a_folder_of_something_else(self, finished_run):
        with pytest.raises(InputError, match="is not empty and holds no SavedModel"):
            export_saved_model(finished_run, finished_run)
        assert (finished_run / "champion").is_dir()

    def test_neither_a_preset_nor_a_run(self, tmp_path):
        with pytest.raises(InputError, match="Neither a preset nor a run"):
            export_saved_model(tmp_path / "none", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_each_new_best_of_a_run(self, run_config, tmp_path, monkeypatch):
        steps = []
        monkeypatch.setattr(
            "tibert_keras.export.saved_model.export_saved_model",
            lambda model, folder: steps.append((json.loads((tmp_path / "champion.json").read_text())["step"], folder)),
        )
        # A learning rate at which the loss goes up and down.
        pretrain(
            run_config(tmp_path, learning_rate=0.3, save_checkpoints_steps=2), callbacks=[SavedModelOfBest(tmp_path)]
        )
        losses = [(row["loss"], row["step"]) for row in History(tmp_path).rows]
        best = [step for index, (loss, step) in enumerate(losses) if (loss, step) == min(losses[: index + 1])]
        assert steps == [(step, f"{tmp_path}/saved_model") for step in best]
        assert 1 < len(best) < len(losses)
