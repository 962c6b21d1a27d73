"""What a conversion refuses: each with one line, and nothing written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from tests.support import google_albert
from tests.support.tiny_models import randomize, tiny
from tests.support.torch_archives import Call, archive
from tibert_keras.cli.main import main
from tibert_keras.errors import InputError
from tibert_keras.formats import google_checkpoint, hugging_face
from tibert_keras.formats.convert import ConvertConfig
from tibert_keras.formats.google_checkpoint import write_google, write_google_checkpoint
from tibert_keras.formats.google_names import read_google_checkpoint, to_google
from tibert_keras.formats.hugging_face_weights import read_weights
from tibert_keras.formats.portable import PortableModel, read_keras
from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
from tibert_keras.models.tibert_pretraining import TibertPretraining


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
            (
                "huggingface",
                "Cannot read the file: No such file or directory. Received: 'nothing/config.json'. Give the folder of",
            ),
            ("keras", "Neither a preset nor a run with a champion. Received: 'nothing'."),
        ],
    )
    def test_nothing_there(self, from_, message, capsys, tmp_path):
        assert message in self.refused(capsys, tmp_path, from_, "nothing", "keras")

    @pytest.mark.parametrize("changes", [{"from_": "onnx"}, {"to": "onnx"}])
    def test_no_such_format(self, changes):
        with pytest.raises(InputError, match="No such format. Received: (from|to)='onnx'. Give one of google, hugg"):
            ConvertConfig(**{"from_": "keras", "to": "google", "input": "a", "output": "b", **changes})

    def test_half_the_size_elsewhere(self):
        with pytest.raises(InputError, match="Only a preset stores .* Received: precision='float16', to='google'"):
            ConvertConfig(from_="keras", to="google", input="a", output="b", precision="float16")

    def test_folder_of_another_format(self, converted, capsys, tmp_path):
        assert "model_type=None in" in self.refused(capsys, tmp_path, "huggingface", converted["keras"], "google")

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
        assert "The preset cannot be loaded: " in line and f"Received: '{run}/initial" in line

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
        assert "num_hidden_layers=2, num_hidden_groups=3" in line

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

        arrays = read_weights(str(copied["huggingface"]))
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

    def test_no_configuration(self, copied, capsys, tmp_path):
        (copied["google"] / "albert_config.json").unlink()
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras")
        assert line.endswith("google/albert_config.json'. Give the model's `albert_config_file`.")

    def test_tokenizer_that_is_none(self, copied, capsys, tmp_path):
        (copied["google"] / "spiece.model").write_bytes(b"junk")
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras")
        assert "Not a SentencePiece model: " in line
        assert line.endswith(f"It is of '{copied['google']}/spiece.model': give the model's own tokenizer.")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, value, copied, capsys, tmp_path):
        variables = read_google_checkpoint(copied["google"] / "model.ckpt-0")
        variables["cls/predictions/output_bias"][3:5] = value
        write_google_checkpoint(copied["google"] / "model.ckpt-0", variables)
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras")
        assert "not finite. Received: cls/predictions/output_bias with 2 of 400 values infinite or NaN. Give" in line

    def test_integers(self, copied, capsys, tmp_path):
        from safetensors.numpy import save_file

        arrays = read_weights(str(copied["huggingface"]))
        integers = {"predictions.bias": arrays["predictions.bias"].astype("int8")}
        save_file({**arrays, **integers}, copied["huggingface"] / "model.safetensors")
        line = self.refused(capsys, tmp_path, "huggingface", copied["huggingface"], "keras")
        assert "not of floating-point numbers. Received: predictions.bias of int8. Give" in line

    def test_a_step_that_is_none(self, copied, capsys, tmp_path):
        variables = read_google_checkpoint(copied["google"] / "model.ckpt-0")
        write_google_checkpoint(copied["google"] / "model.ckpt-0", {**variables, "global_step": np.asarray([1, 2])})
        line = self.refused(capsys, tmp_path, "google", copied["google"], "keras")
        assert "step is not a whole number. Received: global_step of shape (2,), int64. Give" in line

    @pytest.mark.parametrize("lost", ["moments", "step"])
    def test_state_of_a_training_that_went_wrong(self, lost, shared, capsys, tmp_path, monkeypatch):
        golden = google_albert.folder(shared)
        original = google_checkpoint.write_google

        def write(portable, folder):
            halved = {name: array / 2 for name, array in portable.moments.items()}
            changes = {"moments": {"moments": halved}, "step": {"step": 29}}[lost]
            original(dataclasses.replace(portable, **changes), folder)

        monkeypatch.setattr(google_checkpoint, "write_google", write)
        words = [f"--albert_config_file={golden}/albert_config.json"]
        line = self.refused(capsys, tmp_path, "google", golden / "model.ckpt-30", "google", *words)
        name = {"moments": "embedding_projection/bias/adam_m, one of 64.", "step": "the global step, one of 1."}[lost]
        assert f"differs from the one written. Received: another value of {name}" in line

    def test_options_of_another_format(self, converted, capsys, tmp_path):
        line = self.refused(capsys, tmp_path, "keras", converted["keras"], "google", "--spm_model_file=x")
        assert "from='keras', to='google', albert_config_file=None, spm_model_file='x'" in line

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
