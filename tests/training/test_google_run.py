"""Runs on Google's records, or from its checkpoints: weights, moments and step, and its trajectory from there."""

import json
import logging
import shutil
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support import google_albert
from tests.support.google_records import write_google_records
from tests.support.tiny_models import small_config
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.formats.google_checkpoint import find_google_files, read_google, write_google, write_google_checkpoint
from tibert_keras.formats.google_names import read_google_checkpoint
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.history import History
from tibert_keras.training.config import PretrainConfig
from tibert_keras.training.init_checkpoint import restore_continue_from
from tibert_keras.training.pretrain import pretrain

LOSSES = ("masked_lm_loss", "sentence_order_loss")


@pytest.fixture(scope="module")
def golden(shared):
    return google_albert.folder(shared)


def pretraining(golden, reference, **kwargs):
    model = TibertPretraining(TibertBackbone.from_albert_config(golden / "albert_config.json"))
    model.compile(google_albert.lamb(reference, **kwargs))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def config(tmp_path):
    return partial(config_in, tmp_path / "run")


def config_in(run, prefix, **changes):
    options = {"input_file": "", "output_dir": str(run), "preset": "tibert_nano", "continue_from": str(prefix)}
    return PretrainConfig(**{**options, **changes})


def train(model, arrays, steps):
    rows = []
    for step in steps:
        x, labels, weights = google_albert.batch(arrays, step)
        order = arrays["next_sentence_labels"][step]
        labels = {"masked_lm": labels, "sentence_order": order}
        weights = {"masked_lm": weights, "sentence_order": np.ones(len(order), "float32")}
        model.reset_metrics()
        rows.append(model.train_on_batch(x, labels, weights, return_dict=True))
    return {name: [float(row[name]) for row in rows] for name in ("loss", *LOSSES)}


class TestRestoreContinueFrom:
    @pytest.mark.parametrize("name", ["model.ckpt-30", "no_sop/model.ckpt-30"])
    def test_weights_moments_and_step(self, golden, name, config):
        reference = np.load(golden / ("lamb_no_sop.npz" if "no_sop" in name else "lamb_sop.npz"))
        model = pretraining(golden, reference)
        assert restore_continue_from(model, config(golden / name)) == 30
        assert int(model.optimizer.iterations) == 30
        worst = google_albert.differences(model, reference)
        assert worst == {"weights": 0, "adam_m": 0, "adam_v": 0}

    def test_normalisations_under_names_of_keras(self, golden, tmp_path, config):
        write_google_checkpoint(tmp_path / "model.ckpt-30", google_albert.keras_named(golden / "model.ckpt-30"))
        reference = np.load(golden / "lamb_sop.npz")
        model = pretraining(golden, reference)
        assert restore_continue_from(model, config(tmp_path / "model.ckpt-30")) == 30
        assert google_albert.differences(model, reference) == {"weights": 0, "adam_m": 0, "adam_v": 0}

    @pytest.mark.parametrize("step", [np.asarray([30, 31]), np.asarray(30.0, "float32")], ids=str)
    def test_a_step_that_is_none(self, golden, tmp_path, step, config):
        variables = {**read_google_checkpoint(golden / "model.ckpt-30"), "global_step": step}
        write_google_checkpoint(tmp_path / "model.ckpt-30", variables)
        with pytest.raises(InputError, match="step is not a whole number. Received: global_step of shape"):
            restore_continue_from(
                pretraining(golden, np.load(golden / "lamb_sop.npz")), config(tmp_path / "model.ckpt-30")
            )

    @pytest.mark.any_backend
    def test_goes_on_along_googles_trajectory(self, golden, tmp_path, config):
        # Google's numbers have no checkpoint of step 15, from which `resume` goes on: it is made here, of Google's
        # checkpoint of step 0 and as many steps, and goes through Google's format.
        reference = np.load(golden / "lamb_warm_restart.npz")
        arrays = google_albert.batches(reference)
        model = pretraining(golden, reference)
        restore_continue_from(model, config(golden / "model.ckpt-0"))
        before = train(model, arrays, range(15))
        np.testing.assert_allclose(before["loss"], np.load(golden / "lamb_sop.npz")["loss"][:15], rtol=0, atol=1e-5)
        moments = {
            f"{variable.path}/{slot}": keras.ops.convert_to_numpy(moment)
            for variable in model.trainable_variables
            for slot, moment in model.optimizer.slots(variable).items()
        }
        write_google(PortableModel(model=model, moments=moments, step=15), tmp_path / "google")

        model = pretraining(golden, reference, start_warmup_step=15)
        assert restore_continue_from(model, config(tmp_path / "google/model.ckpt-15")) == 15
        resumed = {name.removeprefix("resume/"): value for name, value in reference.items() if "resume/" in name}
        after = train(model, arrays, range(15, 30))
        for name in ("loss", *LOSSES):
            np.testing.assert_allclose(after[name], resumed[name], rtol=0, atol=1e-5)
        assert int(model.optimizer.iterations) == resumed["final/global_step"]
        worst = google_albert.differences(model, resumed)
        assert worst["weights"] < 5e-6 and worst["adam_m"] < 1e-6 and worst["adam_v"] < 1e-7, worst

    def test_masked_language_model_alone(self, golden, caplog, config):
        caplog.set_level(logging.INFO, "tibert_keras")
        model = TibertMaskedLM(TibertBackbone.from_albert_config(golden / "albert_config.json"))
        model.compile(google_albert.lamb(np.load(golden / "lamb_sop.npz")))
        model.optimizer.build(model.trainable_variables)
        assert restore_continue_from(model, config(golden / "model.ckpt-30")) == 30
        assert "Dropped cls/seq_relationship/output_bias, because the model has no sop_head." in caplog.text
        assert f"Taken over from {golden}/model.ckpt-30: 30 variables of the model, 57 of the optimizer." in caplog.text

    @pytest.mark.any_backend
    def test_adamw(self, golden, config):
        model = TibertMaskedLM(TibertBackbone.from_albert_config(golden / "albert_config.json"))
        optimizer = google_albert.lamb(np.load(golden / "lamb_sop.npz"))
        model.compile(type(optimizer).from_config({**optimizer.get_config(), "name": "adamw"}))
        model.optimizer.build(model.trainable_variables)
        restore_continue_from(model, config(golden / "model.ckpt-30", optimizer="adamw"))
        variable = model.backbone.token_embedding.embeddings
        expected = read_google_checkpoint(golden / "model.ckpt-30")["bert/embeddings/word_embeddings/adam_v"]
        np.testing.assert_array_equal(model.optimizer.slots(variable)["adam_v"], expected)


@pytest.fixture(scope="module")
def google_config(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("google_records")
    write_google_records(golden, folder / "records.tf_record")

    def make(output_dir, **changes):
        options = {
            "input_file": f"{folder}/records.tf_record",
            "output_dir": str(output_dir),
            "albert_config_file": str(golden / "albert_config.json"),
            "continue_from": str(golden / "model.ckpt-30"),
            "train_batch_size": 8,
            "max_seq_length": 32,
            "max_predictions_per_seq": 6,
            "num_train_steps": 40,
            "num_warmup_steps": 10,
            "save_checkpoints_steps": 5,
        }
        return PretrainConfig(**{**options, **changes})

    return make


class TestPretrain:
    @pytest.mark.any_backend
    def test_a_run_of_googles_goes_on(self, golden, google_config, tmp_path):
        pretrain(google_config(tmp_path / "run", sop=True))
        assert Checkpoints(tmp_path / "run").steps == [30, 35, 40]
        google = np.load(golden / "lamb_sop.npz")["loss"]
        loss = History(tmp_path / "run").rows[0]["loss"]
        assert abs(loss - google[-5:].mean()) < abs(loss - google[:5].mean())
        # And the checkpoint that it begins with goes back as it came.
        path = f"{tmp_path}/run/checkpoints/30"
        convert(ConvertConfig(from_="keras", input=path, to="google", output=f"{tmp_path}/google"))
        before = read_google_checkpoint(golden / "model.ckpt-30")
        after = read_google_checkpoint(tmp_path / "google/model.ckpt-30")
        assert after.keys() == before.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)

    @pytest.mark.any_backend
    def test_equal_sizes(self, golden, google_config, tmp_path):
        """Google has no mapping from embeddings to layers then, so none is learnt, and all goes back to Google."""
        albert = {**json.loads((golden / "albert_config.json").read_text()), "embedding_size": 32}
        google = PortableModel(model=TibertPretraining(TibertBackbone.from_albert_config(albert)), step=30)
        write_google(google, tmp_path / "google")
        options = {
            "albert_config_file": str(tmp_path / "google/albert_config.json"),
            "continue_from": str(tmp_path / "google/model.ckpt-30"),
        }
        pretrain(google_config(tmp_path / "run", **options))
        unbroken = read_keras(f"{tmp_path}/run/checkpoints/40").weights
        shutil.rmtree(tmp_path / "run/checkpoints/40")
        pretrain(google_config(tmp_path / "run", **options))
        for path, array in read_keras(f"{tmp_path}/run/checkpoints/40").weights.items():
            np.testing.assert_allclose(array, unbroken[path], rtol=0, atol=1e-6)
        begun = read_google_checkpoint(tmp_path / "google/model.ckpt-30")
        places = [f"{tmp_path}/run/checkpoints/{step}" for step in (30, 35, 40)] + [f"{tmp_path}/run"]
        for number, place in enumerate(places):
            output = f"{tmp_path}/again_{number}"
            convert(ConvertConfig(from_="keras", input=place, to="google", output=output))
            ours, theirs = read_keras(place), read_google(find_google_files(output))
            np.testing.assert_array_equal(ours.weights["embedding_projection/kernel"], np.eye(32))
            assert ours.moments.keys() == theirs.moments.keys() and bool(ours.moments) == ("checkpoints" in place)
            assert not [name for name in ours.moments if name.startswith("embedding_projection")]
            for path, array in {**ours.weights, **ours.moments}.items():
                np.testing.assert_array_equal({**theirs.weights, **theirs.moments}[path], array)
            words = theirs.weights["token_embedding/embeddings"]
            assert np.array_equal(words, begun["bert/embeddings/word_embeddings"]) == place.endswith("/30")
        # A run of ours that learns a mapping is another model.
        initial = tmp_path / "run/initial/config.json"
        content = json.loads(initial.read_text())
        content["config"].pop("identity_projection")
        initial.write_text(json.dumps(content))
        with pytest.raises(InputError, match="Received: identity_projection=False in '.*run', True now"):
            pretrain(
                google_config(tmp_path / "next", **{**options, "continue_from": f"{tmp_path}/run"}, num_train_steps=50)
            )

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"continue_from": "nothing/model.ckpt-31"}, "No checkpoint is there. Received: continue_from='.*-31'"),
            ({"num_train_steps": 30}, "of step 30, num_train_steps=30"),
            ({"optimizer": "muon"}, "no momentum of Muon. Received: optimizer='muon'"),
        ],
    )
    def test_what_does_not_go_together(self, google_config, tmp_path, options, message):
        with pytest.raises(InputError, match=message) as caught:
            pretrain(google_config(tmp_path / "run", **options))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        "size, message",
        [
            ({"intermediate_size": 48}, r"Received: bert/\S+ of shape \(.*64.*\), \(.*48.*\) in the model"),
            ({"num_hidden_layers": 3}, r"Received: num_hidden_layers=\d+ in '.*ckpt-30', 3 now"),
        ],
    )
    def test_another_architecture(self, golden, google_config, tmp_path, size, message):
        albert = json.loads((golden / "albert_config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**albert, **size}))
        with pytest.raises(InputError, match=message):
            pretrain(google_config(tmp_path / "run", albert_config_file=str(tmp_path / "config.json")))
        assert not (tmp_path / "run").exists()

    @pytest.mark.any_backend
    def test_a_path_without_folder(self, golden, google_config, tmp_path, monkeypatch):
        for path in golden.glob("model.ckpt-30*"):
            shutil.copyfile(path, tmp_path / path.name)
        albert = json.loads((golden / "albert_config.json").read_text())
        (tmp_path / "albert_config.json").write_text(json.dumps({**albert, "num_attention_heads": 1}))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=r"Received: num_attention_heads=1 in 'model.ckpt-30', \d now"):
            pretrain(google_config(tmp_path / "run", continue_from="model.ckpt-30"))
        assert not (tmp_path / "run").exists()

    @pytest.mark.any_backend
    def test_cut_short(self, golden, google_config, tmp_path):
        for path in golden.glob("model.ckpt-30*"):
            shutil.copyfile(path, tmp_path / path.name)
        data = tmp_path / "model.ckpt-30.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:100_000])
        with pytest.raises(
            InputError, match="checkpoint cannot be read: .* Received: '.*/model.ckpt-30'. Give"
        ) as caught:
            pretrain(google_config(tmp_path / "run", continue_from=str(tmp_path / "model.ckpt-30")))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.any_backend
class TestGoogleRecords:
    """Record files that Google's own code wrote, which have no manifest."""

    @pytest.fixture
    def records(self, shared) -> Path:
        return shared / "golden" / "records"

    def config(self, run_config, records, folder, **options):
        sizes = {"max_seq_length": 128, "max_predictions_per_seq": 20, "train_batch_size": 4, "num_train_steps": 2}
        preset = None if "albert_config_file" in options else "tibert_nano"
        return run_config(folder, input_file=f"{records}/*.tfrecord", preset=preset, **sizes, **options)

    def test_with_their_tokenizer(self, records, run_config, tmp_path):
        config = self.config(run_config, records, tmp_path, spm_model_file=f"{records}/bo.model")
        champion = pretrain(config)
        assert np.isfinite(champion.value) and champion.value == pytest.approx(np.log(10_000), abs=0.5)
        assert TibertMaskedLM.from_preset(champion.preset).preprocessor.tokenizer.vocabulary_size() == 10_000

    def test_without(self, records, run_config, tmp_path, caplog):
        size = {"albert_config_file": small_config(tmp_path, vocabulary_size=10_000)}
        champion = pretrain(self.config(run_config, records, tmp_path / "run", **size))
        assert "the champion takes only ids" in caplog.text
        model = TibertMaskedLM.from_preset(champion.preset)
        assert model.preprocessor is None
        x, _, _ = google_albert.batch(
            {
                name: np.ones((1, 20 if name.startswith("masked") else 128), "int32")
                for name in ("input_ids", "segment_ids", "input_mask", "masked_lm_positions", "masked_lm_ids",
                             "masked_lm_weights")
            }
        )  # fmt: skip
        assert model.predict(x, verbose=0).shape == (1, 20, 10_000)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"vocabulary_size": 400}, r"token id \d{4} in .*vocabulary size 400 for the model"),
            ({}, "spm_model_file=None. Give spm_model_file"),
            ({"dynamic_masking": True}, "dynamic_masking=True, spm_model_file=None. Give spm_model_file"),
        ],
    )
    def test_a_vocabulary_that_is_too_small_or_unknown(self, records, run_config, tmp_path, options, message):
        if "vocabulary_size" in options:
            options = {"albert_config_file": small_config(tmp_path, **options)}
        with pytest.raises(InputError, match=message):
            pretrain(self.config(run_config, records, tmp_path / "run", **options))
        assert not (tmp_path / "run").exists()
