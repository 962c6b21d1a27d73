"""Conversions in all directions, each with its proof, and what is refused with nothing written."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import google_albert
from tests.export.test_torch_files import Call, archive
from tests.tiny_models import randomize, tiny
from tibert_keras import TibertMaskedLMPreprocessor, TibertTokenizer
from tibert_keras.cli import main
from tibert_keras.errors import InputError
from tibert_keras.export import ConvertConfig, convert, hugging_face
from tibert_keras.export.google_checkpoint import find_google_files, read_google, write_google, write_google_checkpoint
from tibert_keras.export.keras_preset import read_keras
from tibert_keras.export.plain_albert import GOOGLE_NAMES, HUGGING_FACE_NAMES, Batch, plain_outputs
from tibert_keras.export.portable import PortableModel
from tibert_keras.models import TibertBackbone, TibertMaskedLM, TibertPretraining
from tibert_keras.models.google_albert import read_google_checkpoint, to_google
from tibert_keras.models.renaming import to_theirs
from tibert_keras.storage import read_json

FORMATS = ("google", "huggingface", "keras")


def go(from_, input_, to, output, **options):
    return convert(ConvertConfig(from_=from_, input=str(input_), to=to, output=str(output), **options))


@pytest.fixture(scope="module")
def preset(spm_models, tmp_path_factory):
    """A masked language model with random weights and a tokenizer."""
    folder = tmp_path_factory.mktemp("preset") / "preset"
    preprocessor = TibertMaskedLMPreprocessor(TibertTokenizer(spm_models["bpe"]), sequence_length=16)
    randomize(TibertMaskedLM(tiny(vocabulary_size=400), preprocessor=preprocessor)).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="module")
def converted(preset, tmp_path_factory):
    """The same model in each format, by name."""
    folder = tmp_path_factory.mktemp("converted")
    for to in ("google", "huggingface"):
        go("keras", preset, to, folder / to)
    return {"keras": preset, "google": folder / "google", "huggingface": folder / "huggingface"}


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
    @pytest.mark.parametrize("to", FORMATS)
    @pytest.mark.parametrize("from_", FORMATS)
    def test_to_keras_in_the_end(self, converted, preset, from_, to, tmp_path):
        proof = go(from_, converted[from_], to, tmp_path / "first")
        assert proof.largest < 1e-5
        assert proof.differences.keys() == {"sequence_output", "pooled_output", "masked_lm"}
        go(to, tmp_path / "first", "keras", tmp_path / "second")
        before, after = read_keras(str(preset)), read_keras(str(tmp_path / "second"))
        assert type(after.model) is TibertMaskedLM and after.tokenizer.proto == before.tokenizer.proto
        for path, array in before.weights.items():
            np.testing.assert_array_equal(after.weights[path], array)

    @pytest.mark.parametrize("sizes", [{"num_groups": 2, "num_inner_repetitions": 2}, {"num_segments": 1}], ids=str)
    @pytest.mark.parametrize("kind", [TibertPretraining, lambda backbone: backbone], ids=["both tasks", "encoder"])
    def test_other_models(self, kind, sizes, tmp_path):
        model = randomize(kind(tiny(**sizes)))
        model.save_to_preset(str(tmp_path / "preset"))
        places = ["preset", "google", "huggingface", "again"]
        for before, after in zip(places[:-1], places[1:], strict=True):
            formats = {"preset": "keras", "again": "keras"}
            proof = go(formats.get(before, before), tmp_path / before, formats.get(after, after), tmp_path / after)
            assert proof.largest < 1e-5 and "pooled_output" in proof.differences
            assert ("sentence_order" in proof.differences) == isinstance(model, TibertPretraining)
        again = read_keras(str(tmp_path / "again")).model
        assert type(again) is type(model)
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_golden(self, shared, tmp_path):
        golden = google_albert.folder(shared)
        options = {"albert_config_file": str(golden / "albert_config.json")}
        assert go("google", golden / "model.ckpt-0", "keras", tmp_path / "keras", **options).largest < 1e-5
        assert go("keras", tmp_path / "keras", "google", tmp_path / "google").largest < 1e-5
        before = read_google_checkpoint(golden / "model.ckpt-0")
        after = read_google_checkpoint(tmp_path / "google/model.ckpt-0")
        assert after.keys() == before.keys()
        for name, array in before.items():
            assert after[name].dtype == array.dtype
            np.testing.assert_array_equal(after[name], array)

    def test_options_of_the_tokenizer(self, spm_models, tmp_path):
        options = {"tsheg_pretokenization": True, "underline_between_sections": False}
        tokenizer = TibertTokenizer(spm_models["bpe"], **options)
        model = TibertMaskedLM(tiny(vocabulary_size=400), preprocessor=TibertMaskedLMPreprocessor(tokenizer))
        model.save_to_preset(str(tmp_path / "preset"))
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
        assert go("keras", tmp_path / "preset", "google", tmp_path / "google").largest < 1e-5
        assert "Dropped embedding_projection, because it is the identity" in caplog.text
        assert not [name for name in read_google_checkpoint(tmp_path / "google/model.ckpt-0") if "mapping" in name]
        assert go("google", tmp_path / "google", "huggingface", tmp_path / "hf").largest < 1e-5
        again = hugging_face.read_weights(str(tmp_path / "hf"))
        np.testing.assert_array_equal(again["albert.encoder.embedding_hidden_mapping_in.weight"], np.eye(8))

    def test_without_torch_and_transformers(self, converted, tmp_path):
        lines = [
            "import sys",
            "class Absent:",
            "    def find_spec(self, name, *others):",
            "        if name in ('torch', 'transformers'):",
            "            raise ModuleNotFoundError(name)",
            "sys.meta_path.insert(0, Absent())",
            "from tibert_keras.cli import main",
            "sys.exit(main(sys.argv[1:]))",
        ]
        words = ["--from=google", f"--input={converted['google']}", "--to=huggingface", f"--output={tmp_path / 'hf'}"]
        subprocess.run([sys.executable, "-c", "\n".join(lines), "convert", *words], check=True, timeout=300)
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


class TestRun:
    def test_checkpoint_with_its_training(self, finished_run, tmp_path):
        assert go("keras", f"{finished_run}/checkpoints/22", "google", tmp_path / "google").largest < 1e-5
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
        arrays = hugging_face.read_weights(str(folder))
        arrays = {name: array for name, array in arrays.items() if "pooler" not in name}
        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
        assert go("huggingface", folder, "keras", tmp_path / "keras").differences.keys() == {
            "sequence_output",
            "masked_lm",
        }
        assert "missing there: pooled_dense/kernel, pooled_dense/bias." in caplog.text

    def test_champion(self, finished_run, tmp_path):
        go("keras", finished_run, "huggingface", tmp_path / "hf")
        words = hugging_face.read_weights(str(tmp_path / "hf"))["albert.embeddings.word_embeddings.weight"]
        expected = read_keras(f"{finished_run}/champion").weights["token_embedding/embeddings"]
        np.testing.assert_array_equal(words, expected)

    def test_no_such_checkpoint(self, finished_run, tmp_path):
        with pytest.raises(InputError, match=r"No checkpoint is there. Received: '.*/checkpoints/23'. Give one of \["):
            go("keras", f"{finished_run}/checkpoints/23", "google", tmp_path / "google")


class TestRefused:
    """One line with exit status 1, and nothing written."""

    def refused(self, capsys, tmp_path, from_, input_, to, *words):
        output = tmp_path / "output"
        status = main(["convert", f"--from={from_}", f"--input={input_}", f"--to={to}", f"--output={output}", *words])
        captured = capsys.readouterr()
        assert status == 1 and captured.out == ""
        assert not output.exists() and not list(tmp_path.glob(".*"))
        (line,) = [line for line in captured.err.splitlines() if line.startswith("tibert convert: ")]
        return line

    @pytest.fixture
    def copied(self, converted, tmp_path):
        """Copies to damage."""
        return {name: shutil.copytree(folder, tmp_path / "in" / name) for name, folder in converted.items()}

    @pytest.mark.parametrize(
        "from_, message",
        [
            ("google", "No checkpoint of Google's is there. Received: 'nothing'."),
            ("huggingface", "Cannot read the file: No such file or directory. Received: 'nothing/config.json'."),
            ("keras", "Neither a preset nor a run with a champion. Received: 'nothing'."),
        ],
    )
    def test_nothing_there(self, from_, message, capsys, tmp_path):
        assert message in self.refused(capsys, tmp_path, from_, "nothing", "keras")

    @pytest.mark.parametrize("changes", [{"from_": "onnx"}, {"to": "onnx"}])
    def test_no_such_format(self, changes):
        with pytest.raises(InputError, match="No such format. Received: (from|to)='onnx'. Give one of google, hugg"):
            ConvertConfig(**{"from_": "keras", "to": "google", "input": "a", "output": "b", **changes})

    @pytest.mark.parametrize("from_, other", [("keras", "huggingface"), ("huggingface", "keras")])
    def test_folder_of_another_format(self, from_, other, converted, capsys, tmp_path):
        line = self.refused(capsys, tmp_path, from_, converted[other], "google")
        assert f"Received: '{converted[other]}'" in line if from_ == "keras" else "model_type=None in" in line

    @pytest.mark.parametrize("name", ["config.json", "task.json", "model.weights.h5"])
    def test_damaged_preset(self, name, copied, capsys, tmp_path):
        path = copied["keras"] / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        line = self.refused(capsys, tmp_path, "keras", copied["keras"], "google")
        assert (
            "The preset cannot be loaded: " in line or "Not a preset: " in line
        ) and f"Received: '{copied['keras']}" in line

    def test_damaged_initial_model(self, finished_run, capsys, tmp_path):
        run = shutil.copytree(finished_run, tmp_path / "run")
        (run / "initial/task.json").write_text("{}")
        line = self.refused(capsys, tmp_path, "keras", f"{run}/checkpoints/22", "google")
        assert "The preset cannot be loaded: " in line and f"Received: '{run}/initial'" in line

    @pytest.mark.parametrize(
        "change",
        [{"hidden_size": "8"}, {"hidden_act": "relu"}],
        ids=str,
    )
    @pytest.mark.parametrize("from_", ["google", "huggingface"])
    def test_configuration_that_is_none(self, from_, change, copied, capsys, tmp_path):
        path = copied[from_] / ("albert_config.json" if from_ == "google" else "config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        ((name, value),) = change.items()
        line = self.refused(capsys, tmp_path, from_, copied[from_], "keras")
        assert f"Received: {name}={value!r}" in line
        # A proof alone reads the configuration as well.
        words = [f"--from={from_}", f"--input={copied[from_]}", "--to=keras", f"--output={copied['keras']}"]
        assert main(["convert", *words, "--check"]) == 1
        assert f"Received: {name}={value!r}" in capsys.readouterr().err

    def test_checkpoint_cut_short(self, copied, capsys, tmp_path):
        (data,) = copied["google"].glob("*.data-*")
        data.write_bytes(data.read_bytes()[:2000])
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras")
        assert "The checkpoint cannot be read: " in line and "model.ckpt-0'" in line

    def test_configuration_that_contradicts_the_weights(self, copied, capsys, tmp_path):
        path = copied["google"] / "albert_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "embedding_size": 6}))
        line = self.refused(capsys, tmp_path, "google", copied["google"], "huggingface")
        assert "Received: bert/embeddings/LayerNorm/beta of shape (4,), (6,) in the model" in line

    def test_layers_that_the_groups_do_not_share_evenly(self, copied, capsys, tmp_path):
        path = copied["google"] / "albert_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_groups": 3}))
        line = self.refused(capsys, tmp_path, "google", copied["google"], "huggingface")
        assert "num_hidden_layers=4, num_hidden_groups=3" in line

    def test_another_vocabulary(self, copied, capsys, tmp_path, shared):
        model = shared / "golden/records/bo.model"
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras", f"--spm_model_file={model}")
        assert "10000 pieces in the tokenizer, vocab_size=400 in the model" in line

    def test_safetensors_with_a_wrong_header(self, copied, capsys, tmp_path):
        path = copied["huggingface"] / "model.safetensors"
        path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
        line = self.refused(capsys, tmp_path, "huggingface", copied["huggingface"], "keras")
        assert "Not a whole safetensors file" in line and "model.safetensors'" in line

    def test_bin_that_carries_code(self, copied, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (copied["huggingface"] / "model.safetensors").unlink()
        (copied["huggingface"] / "pytorch_model.bin").write_bytes(archive({"w": Call(os.system, "touch MARK")}))
        line = self.refused(capsys, tmp_path, "huggingface", copied["huggingface"], "keras")
        assert "The file carries code: it calls 'posix.system'. Received: '" in line and "pytorch_model.bin'" in line
        assert not (tmp_path / "MARK").exists()

    def test_order_of_sentences_alone(self, capsys, tmp_path):
        weights = PortableModel(model=TibertPretraining(tiny())).weights
        source = tmp_path / "in"
        write_google(PortableModel(model=TibertPretraining(tiny())), source)
        google = to_google({path: array for path, array in weights.items() if "mlm_head" not in path})
        write_google_checkpoint(source / "model.ckpt-1", google)
        assert "stands alone. Received: " in self.refused(capsys, tmp_path, "google", source, "keras")

    def test_unknown_variable(self, copied, capsys, tmp_path):
        from safetensors.numpy import save_file

        arrays = hugging_face.read_weights(str(copied["huggingface"]))
        save_file({**arrays, "qa_outputs.weight": np.zeros((3, 8))}, copied["huggingface"] / "model.safetensors")
        line = self.refused(capsys, tmp_path, "huggingface", copied["huggingface"], "google")
        assert "no such variable. Received: qa_outputs.weight of shape (3, 8)" in line

    def test_target_is_not_empty(self, converted, capsys, tmp_path):
        output = tmp_path / "output"
        output.mkdir()
        (output / "note").write_text("mine")
        words = ["--from=keras", f"--input={converted['keras']}", "--to=google", f"--output={output}"]
        assert main(["convert", *words]) == 1
        assert "The output is not an empty folder. Received: output=" in capsys.readouterr().err
        assert [path.name for path in tmp_path.rglob("*")] == ["output", "note"]
        assert main(["convert", *words[:-1], f"--output={output / 'note'}"]) == 1

    def test_options_of_another_format(self, converted, capsys, tmp_path):
        line = self.refused(capsys, tmp_path, "keras", converted["keras"], "google", "--spm_model_file=x")
        assert "from='keras', albert_config_file=None, spm_model_file='x'" in line

    def test_a_conversion_that_went_wrong(self, converted, capsys, tmp_path, monkeypatch):
        original = hugging_face.HUGGING_FACE
        exchanged = {".attention.query": ".attention.key", ".attention.key": ".attention.query"}

        def exchange(row):
            for name, other in exchanged.items():
                if name in row.theirs:
                    return row._replace(theirs=row.theirs.replace(name, other))
            return row

        monkeypatch.setattr(hugging_face, "HUGGING_FACE", tuple(map(exchange, original)))
        # Query and key with their weights exchanged give other scores where their biases differ.
        line = self.refused(capsys, tmp_path, "google", converted["google"], "huggingface")
        assert "do not compute the same. Received: sequence_output differs by up to" in line

    def test_a_pair_that_is_none(self, converted, capsys, tmp_path):
        TibertMaskedLM(tiny(vocabulary_size=400)).save_to_preset(str(tmp_path / "other"))
        words = ["--from=google", f"--input={converted['google']}", "--to=keras", f"--output={tmp_path / 'other'}"]
        assert main(["convert", *words, "--check"]) == 1
        assert "do not compute the same. Received: sequence_output differs by up to" in capsys.readouterr().err
        randomize(TibertMaskedLM(tiny(vocabulary_size=300))).save_to_preset(str(tmp_path / "smaller"))
        assert main(["convert", *words[:-1], f"--output={tmp_path / 'smaller'}", "--check"]) == 1
        assert "architectures. Received: vocab_size=400 and 300. Give" in capsys.readouterr().err

    def test_a_part_that_is_missing_there(self, converted, capsys, tmp_path):
        read_keras(str(converted["keras"])).backbone.save_to_preset(str(tmp_path / "encoder"))
        words = ["--from=google", f"--input={converted['google']}", "--to=keras", f"--output={tmp_path / 'encoder'}"]
        assert main(["convert", *words, "--check"]) == 1
        assert "lacks a part of the input. Received: no masked_lm in" in capsys.readouterr().err
