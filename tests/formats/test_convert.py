"""Conversions in all directions, each with its proof, and what is refused with nothing written."""

from __future__ import annotations

import json
import logging
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support import google_albert
from tests.support.preloaded import Command
from tests.support.tiny_models import randomize, tiny
from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.formats import hugging_face
from tibert_keras.formats.convert import ConvertConfig, convert
from tibert_keras.formats.google_checkpoint import find_google_files, read_google
from tibert_keras.formats.google_names import read_google_checkpoint
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.numpy_albert import GOOGLE_NAMES, HUGGING_FACE_NAMES, Batch, plain_outputs
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.formats.proof import TOLERANCES
from tibert_keras.formats.renaming import to_theirs
from tibert_keras.inference.plain import read_preset_weights
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining
from tibert_keras.storage import read_json

READERS = {
    "google": lambda folder: read_google(find_google_files(folder)),
    "huggingface": hugging_face.read_hugging_face,
    "keras": read_keras,
}


def go(from_, input_, to, output, **options):
    return convert(ConvertConfig(from_=from_, input=str(input_), to=to, output=str(output), **options))


class TestPlain:
    """The other side of the proof, against Google's numbers."""

    @pytest.mark.parametrize("google", [True, False])
    @pytest.mark.parametrize("checkpoint", [0, 30])
    def test_forward(self, shared, google, checkpoint):
        golden = google_albert.folder(shared)
        reference = np.load(golden / ("forward_ckpt30.npz" if checkpoint else "forward.npz"))
        variables, names = read_google_checkpoint(golden / f"model.ckpt-{checkpoint}"), GOOGLE_NAMES
        if not google:
            model = TibertPretraining(TibertBackbone.from_albert_config(golden / "albert_config.json"))
            google_albert.load(model, {name: variables[name] for name in np.load(golden / "weights_ckpt0.npz")})
            variables = to_theirs(hugging_face.HUGGING_FACE, PortableModel(model=model).weights)
            names = HUGGING_FACE_NAMES
        x, _, _ = google_albert.batch(reference)
        sizes = read_json(golden / "albert_config.json", what="", advice="")
        outputs = plain_outputs(variables, sizes, names, Batch(**x))
        for ours, theirs in {
            "sequence_output": "sequence_output",
            "pooled_output": "pooled_output",
            "masked_lm": "mlm_log_probs",
            "sentence_order": "sop_log_probs",
        }.items():
            expected = reference[theirs].reshape(outputs[ours].shape)
            np.testing.assert_allclose(outputs[ours], expected, rtol=0, atol=1e-5)


class TestDirections:
    @pytest.mark.parametrize("to", READERS)
    @pytest.mark.parametrize("from_", READERS)
    def test_the_same_model(self, converted, from_, to, tmp_path):
        proof = go(from_, converted[from_], to, tmp_path / "first")
        assert max(proof.values()) < 1e-5
        assert proof.keys() == {"sequence_output", "pooled_output", "masked_lm"}
        before, after = read_keras(str(converted["keras"])), READERS[to](str(tmp_path / "first"))
        assert type(after.model) is TibertMaskedLM and after.tokenizer.proto == before.tokenizer.proto
        for path, array in before.weights.items():
            np.testing.assert_array_equal(after.weights[path], array)

    @pytest.mark.parametrize(
        "kind, sizes",
        [
            pytest.param(TibertPretraining, {"num_groups": 2, "num_inner_repetitions": 2}, id="both tasks, groups"),
            pytest.param(lambda backbone: backbone, {"num_segments": 1}, id="encoder, one segment"),
        ],
    )
    def test_other_models(self, kind, sizes, tmp_path):
        model = randomize(kind(tiny(**sizes)))
        model.save_to_preset(str(tmp_path / "preset"))
        places = ["preset", "google", "huggingface", "again"]
        for before, after in zip(places[:-1], places[1:], strict=True):
            formats = {"preset": "keras", "again": "keras"}
            proof = go(formats.get(before, before), tmp_path / before, formats.get(after, after), tmp_path / after)
            assert max(proof.values()) < 1e-5 and "pooled_output" in proof
            assert ("sentence_order" in proof) == isinstance(model, TibertPretraining)
        again = read_keras(str(tmp_path / "again")).model
        assert type(again) is type(model)
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_golden(self, shared, tmp_path):
        golden = google_albert.folder(shared)
        options = {"albert_config_file": str(golden / "albert_config.json")}
        assert max(go("google", golden / "model.ckpt-0", "keras", tmp_path / "keras", **options).values()) < 1e-5
        assert max(go("keras", tmp_path / "keras", "google", tmp_path / "google").values()) < 1e-5
        before = read_google_checkpoint(golden / "model.ckpt-0")
        after = read_google_checkpoint(tmp_path / "google/model.ckpt-0")
        assert after.keys() == before.keys()
        for name, array in before.items():
            assert after[name].dtype == array.dtype
            np.testing.assert_array_equal(after[name], array)

    def test_a_well_trained_model(self, tmp_path):
        """In float32 each side of it is up to 2e-4 from the truth."""
        assert max(go("keras", "tibert_small_soas", "huggingface", tmp_path / "hf").values()) < 1e-5

    def test_options_of_the_tokenizer(self, spm_models, tmp_path):
        options = {"tsheg_pretokenization": True, "underline_between_sections": False}
        tokenizer = TibertTokenizer(spm_models["bpe"], **options)
        preprocessor = TibertMaskedLMPreprocessor(tokenizer, sequence_length=16)
        TibertMaskedLM(tiny(vocabulary_size=400), preprocessor).save_to_preset(str(tmp_path / "preset"))
        go("keras", tmp_path / "preset", "google", tmp_path / "google")
        go("google", tmp_path / "google/model.ckpt-0", "keras", tmp_path / "again")
        again = read_keras(str(tmp_path / "again")).tokenizer
        assert {name: getattr(again, name) for name in options} == options

    def test_tokenizer_that_is_elsewhere(self, converted, spm_models, tmp_path, caplog):
        folders = {name: shutil.copytree(converted[name], tmp_path / name) for name in ("google", "huggingface")}
        shutil.copyfile(folders["google"] / "spiece.model", folders["google"] / "other.model")
        (folders["huggingface"] / "spiece.model").unlink()
        assert read_google(find_google_files(str(folders["google"]))).tokenizer is None
        assert hugging_face.read_hugging_face(str(folders["huggingface"])).tokenizer is None
        go("huggingface", folders["huggingface"], "google", tmp_path / "with", spm_model_file=spm_models["bpe"])
        assert (tmp_path / "with/spiece.model").read_bytes() == Path(spm_models["bpe"]).read_bytes()
        assert "No .model file, or more than one, is beside" in caplog.text
        assert f"No spiece.model is in '{folders['huggingface']}': the model takes only ids." in caplog.text

    def test_embedding_of_the_hidden_size(self, tmp_path, caplog):
        caplog.set_level(logging.INFO, "tibert_keras")
        model = randomize(TibertMaskedLM(tiny(embedding_dim=8)))
        projection = model.backbone.get_layer("embedding_projection")
        projection.kernel.assign(np.eye(8))
        projection.bias.assign(np.zeros(8))
        model.save_to_preset(str(tmp_path / "preset"))
        assert max(go("keras", tmp_path / "preset", "google", tmp_path / "google").values()) < 1e-5
        assert "Dropped embedding_projection, because it is the identity" in caplog.text
        assert not [name for name in read_google_checkpoint(tmp_path / "google/model.ckpt-0") if "mapping" in name]
        assert max(go("google", tmp_path / "google", "huggingface", tmp_path / "hf").values()) < 1e-5
        again = read_weights(str(tmp_path / "hf"))
        np.testing.assert_array_equal(again["albert.encoder.embedding_hidden_mapping_in.weight"], np.eye(8))

    def test_without_torch_and_transformers(self, converted, tmp_path):
        lines = [
            "import sys",
            "class Absent:",
            "    def find_spec(self, name, *others):",
            "        if name in ('torch', 'transformers'):",
            "            raise ModuleNotFoundError(name)",
            "assert not {'torch', 'transformers'} & sys.modules.keys()",
            "sys.meta_path.insert(0, Absent())",
            "from tibert_keras.cli.main import main",
            "sys.exit(main(sys.argv[1:]))",
        ]
        words = ["--from=google", f"--input={converted['google']}", "--to=huggingface", f"--output={tmp_path / 'hf'}"]
        (tmp_path / "tibert.py").write_text("\n".join(lines))
        job = Command([tmp_path / "tibert.py", "convert", *words], tmp_path)
        assert job.wait() == 0, job.log
        assert (tmp_path / "hf/tokenizer.json").exists() and (tmp_path / "hf/model.safetensors").exists()

    def test_check(self, converted, capsys):
        words = ["--from=google", f"--input={converted['google']}", "--to=huggingface"]
        assert main(["convert", *words, f"--output={converted['huggingface']}", "--check"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in out] == [
            "sequence_output",
            "masked_lm",
            "pooled_output",
            "largest difference",
        ]
        assert all(float(line.split(": ")[1]) < 1e-5 for line in out)

    def test_check_with_a_configuration_that_is_elsewhere(self, converted, tmp_path):
        folder = shutil.copytree(converted["google"], tmp_path / "google")
        (folder / "albert_config.json").rename(tmp_path / "config.json")
        options = {"albert_config_file": str(tmp_path / "config.json"), "check": True}
        assert max(go("keras", converted["keras"], "google", folder, **options).values()) < 1e-5
        assert max(go("google", folder, "google", folder, **options).values()) == 0
        with pytest.raises(InputError, match="from='keras', to='google', albert_config_file='config'"):
            ConvertConfig(from_="keras", input="a", to="google", output="b", albert_config_file="config")

    @pytest.mark.parametrize("from_", ["google", "huggingface"])
    def test_two_dropouts(self, from_, converted, tmp_path, caplog):
        """They change nothing that is computed, and our encoder has one."""
        folder = shutil.copytree(converted[from_], tmp_path / from_)
        path = folder / ("albert_config.json" if from_ == "google" else "config.json")
        dropouts = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1}
        path.write_text(json.dumps({**json.loads(path.read_text()), **dropouts}))
        assert max(go(from_, folder, "keras", tmp_path / "keras").values()) < 1e-5
        assert read_keras(str(tmp_path / "keras")).backbone.dropout == 0.2
        assert "hidden_dropout_prob=0.2 holds for the whole encoder from here on; attention_probs_" in caplog.text


class TestRun:
    def test_checkpoint_with_its_training(self, finished_run, tmp_path):
        assert max(go("keras", f"{finished_run}/checkpoints/22", "google", tmp_path / "google").values()) < 1e-5
        google = read_google_checkpoint(tmp_path / "google/model.ckpt-22")
        with np.load(f"{finished_run}/checkpoints/22/variables.npz") as saved:
            name = "cls/predictions/transform/dense/kernel"
            for slot in ("adam_m", "adam_v"):
                ours = saved[f"optimizer/lamb/mlm_head_intermediate_dense_kernel_{slot}"]
                np.testing.assert_array_equal(google[f"{name}/{slot}"], ours)
        assert google["global_step"] == 22
        # The pooler is not trained.
        assert sum(name.endswith("adam_m") for name in google) == len([n for n in google if "adam" not in n]) - 3
        assert (tmp_path / "google/spiece.model").read_bytes() == read_keras(f"{finished_run}/champion").tokenizer.proto

    def test_pooler_that_is_missing_there(self, converted, tmp_path, caplog):
        from safetensors.numpy import save_file

        caplog.set_level(logging.INFO, "tibert_keras")
        folder = shutil.copytree(converted["huggingface"], tmp_path / "hf")
        arrays = read_weights(str(folder))
        arrays = {name: array for name, array in arrays.items() if "pooler" not in name}
        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
        assert go("huggingface", folder, "keras", tmp_path / "keras").keys() == {
            "sequence_output",
            "masked_lm",
        }
        assert "missing there: pooled_dense/kernel, pooled_dense/bias." in caplog.text

    def test_champion(self, finished_run, tmp_path):
        go("keras", finished_run, "huggingface", tmp_path / "hf")
        words = read_weights(str(tmp_path / "hf"))["albert.embeddings.word_embeddings.weight"]
        expected = read_keras(f"{finished_run}/champion").weights["token_embedding/embeddings"]
        np.testing.assert_array_equal(words, expected)

    def test_half_the_size_with_the_card(self, finished_run, tmp_path, capsys):
        run, preset = shutil.copytree(finished_run, tmp_path / "run"), tmp_path / "my_model"
        steps = "## Execution steps\n\n```sh\ntibert pretrain\n```\n\n## Notes\n\n# Card: run"
        (run / "CARD.md").write_text(f"---\nlicense: mit\n---\n\n# Card: run\n\n![The loss](loss.png)\n\n{steps}\n")
        (run / "loss.png").write_bytes(b"PNG")
        words = ["--from=keras", "--to=keras", f"--output={preset}", "--precision=float16"]
        assert main(["convert", f"--input={run}", *words]) == 0
        largest = float(capsys.readouterr().out.split()[-1])
        assert 1e-5 < largest < 0.01
        sizes = [(folder / "model.weights.h5").stat().st_size for folder in (preset, run / "champion")]
        parameters = read_json(preset / "metadata.json", what="", advice="")["parameter_count"]
        assert sizes[1] - sizes[0] == pytest.approx(2 * parameters, rel=0.01)
        text = (preset / "CARD.md").read_text()
        assert text.startswith("---\nlicense: mit\n---\n\n# Card: my_model\n") and text.endswith("# Card: run\n")
        blocks = re.findall("```sh\n(.*?)\n```", text, re.DOTALL)
        assert blocks[0] == "tibert pretrain"
        written = shlex.split(blocks[1].replace("\\\n", ""))
        assert written[:2] == ["tibert", "convert"] and {*written[2:]} == {f"--input={run}", *words}
        assert (preset / "loss.png").read_bytes() == b"PNG"
        # What is written once more is the same, and the two are still compared.
        go("keras", preset, "keras", tmp_path / "again", precision="float16")
        once, twice = [read_preset_weights(str(folder), inner=1) for folder in (preset, tmp_path / "again")]
        assert all((once[name] == twice[name]).all() for name in once.keys() | twice.keys())
        assert main(["convert", f"--input={run}", *words, "--check"]) == 0
        assert main(["convert", f"--input={run}", *words[:-1], "--check"]) == 1

    def test_rounding_hides_no_mistake(self, converted, tmp_path, monkeypatch):
        monkeypatch.setitem(TOLERANCES, "float32", 1e-12)
        with pytest.raises(InputError, match="more than 1e-12"):
            go("google", converted["google"], "keras", tmp_path / "keras", precision="float16")
        assert not (tmp_path / "keras").exists()

    def test_a_foreign_model_and_an_encoder_in_half_the_size(self, converted, tmp_path):
        assert max(go("google", converted["google"], "keras", tmp_path / "google", precision="float16").values()) < 0.1
        TibertBackbone.from_preset(converted["keras"]).save_to_preset(tmp_path / "encoder")
        go("keras", tmp_path / "encoder", "keras", tmp_path / "half", precision="float16")
        assert TibertBackbone.from_preset(tmp_path / "half").weights[0].dtype == "float32"

    def test_no_such_checkpoint(self, finished_run, tmp_path):
        with pytest.raises(InputError, match=r"No checkpoint is there. Received: '.*/checkpoints/23'. Give one of \["):
            go("keras", f"{finished_run}/checkpoints/23", "google", tmp_path / "google")
