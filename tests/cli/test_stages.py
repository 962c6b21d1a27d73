"""The verbs at work: on a command line of their own, on a run's results, and all the way from text to answers."""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.original_command import ORIGINAL
from tibert_keras.cards.commands import verb_command
from tibert_keras.cli.main import main
from tibert_keras.corpus.sample import write_sample
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.storage import sha256

ALBERT_CONFIG = """
{"attention_probs_dropout_prob": 0, "hidden_act": "gelu", "hidden_dropout_prob": 0, "embedding_size": 8,
 "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 32, "max_position_embeddings": 64,
 "num_attention_heads": 2, "num_hidden_layers": 1, "num_hidden_groups": 1, "net_structure_type": 0, "gap_size": 0,
 "num_memory_blocks": 0, "inner_group_num": 1, "down_scale_factor": 1, "type_vocab_size": 2, "vocab_size": 400}
"""


class TestProcess:
    """What only a process of its own can show."""

    def run(self, *given: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tibert_keras.cli", *given]
        root = Path(__file__).resolve().parents[2]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    @pytest.mark.slow
    def test_no_tpu(self, sample_records, tmp_path):
        done = self.run(
            "pretrain", f"--input_file={sample_records}/train/*.tf_record", f"--output_dir={tmp_path}/run",
            "--preset=tibert_nano", "--max_seq_length=32", "--max_predictions_per_seq=5", "--use_tpu=true",
            "--tpu_name=local", "--verbose",
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        # TensorFlow says things of its own before.
        *before, complaint = done.stderr.splitlines()
        assert any("absl::InitializeLog" in line for line in before)
        assert complaint.startswith("tibert pretrain: The TPU cannot be used: ")
        assert "Received: tpu_name='local'" in complaint and "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_results_and_log(self, tmp_path):
        """Results go to standard output, the log to standard error."""
        write_sample(f"{tmp_path}/sample", num_documents=2, num_files=1)
        given = ["corpus", f"--input_file={tmp_path}/sample/*.txt", f"--output_dir={tmp_path}/corpus"]
        assert main(given) == 0
        again = self.run(*given)
        assert again.returncode == 0 and "2 documents" in again.stdout
        assert "kept" in again.stderr and "kept" not in again.stdout


class TestInspect:
    def test_records(self, sample_records, tmp_path, capsys):
        path, picture = sample_records / "train/train_0.tf_record", tmp_path / "picture.png"
        assert main(["records", "inspect", str(path), "--num_examples=2", f"--plot={picture}"]) == 0
        statistics, *histograms, first, second = capsys.readouterr().out.split("\n\n")
        assert statistics.startswith("examples ") and len(histograms) == 3 and picture.is_file()
        assert "→[MASK]⟧" in first and second.count("\n") == 1

    def test_refusals(self, sample_records, tmp_path, capsys):
        path = str(sample_records / "train/train_0.tf_record")
        for given, message in (
            [[], "There is no file"],
            [[f"{tmp_path}/none"], "Cannot read the file"],
            [[path, "--num_examples=-1"], "num_examples must not be negative"],
            [[path, f"--plot={tmp_path}"], "Pictures are PNG files"],
        ):
            assert main(["records", "inspect", *given]) == 1
            out, err = capsys.readouterr()
            complaint = err.splitlines()[-1]
            assert (
                out == "" and complaint.startswith(f"tibert records inspect: {message}") and "Received: " in complaint
            )


class TestStages:
    def test_the_original_command(self, sample_records, tmp_path, capsys):
        """Flag by flag, with files of this machine in place of the buckets, and small numbers."""
        (tmp_path / "albert_config.json").write_text(ALBERT_CONFIG)
        small = {
            "input_file": f"{sample_records}/train/*.tf_record",
            "output_dir": f"{tmp_path}/training-results/tibert-base-128-no-sop/",
            "albert_config_file": f"{tmp_path}/albert_config.json",
            "train_batch_size": 16, "max_seq_length": 32, "max_predictions_per_seq": 5, "num_warmup_steps": 2,
            "num_train_steps": 5, "save_checkpoints_steps": 2, "use_tpu": "false",
        }  # fmt: skip
        flags = [flag.partition("=")[0].removeprefix("--") for flag in shlex.split(ORIGINAL)]
        assert small.keys() < set(flags)
        given = [
            f"--{name}={small[name]}" if name in small else flag
            for name, flag in zip(flags, shlex.split(ORIGINAL), strict=True)
        ]
        assert "--do_train" in given and len(given) == 17
        assert main(["pretrain", *given]) == 0
        run = tmp_path / "training-results/tibert-base-128-no-sop"
        assert Checkpoints(run).steps == [2, 4, 5]
        results = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
        assert (results["criterion"], results["candidates"]) == ("loss", "3")
        assert Path(results["preset"]) == run / "champion" and (run / "champion/task.json").is_file()

    @pytest.mark.slow
    def test_from_text_to_answers(self, tmp_path, capsys):
        (tmp_path / "albert_config.json").write_text(ALBERT_CONFIG)
        write_sample(f"{tmp_path}/sample", num_documents=12, num_files=3)
        lengths = ["--max_seq_length=32", "--max_predictions_per_seq=5"]
        spm = f"--spm_model_file={tmp_path}/tokenizer/spiece.model"

        def run(verb: str, *given: str) -> str:
            assert main([verb, *given]) == 0
            return capsys.readouterr().out

        out = run("corpus", f"--input_file={tmp_path}/sample/*.txt", f"--output_dir={tmp_path}/corpus",
                  "--validation_volumes=[3]")  # fmt: skip
        assert "12 documents" in out
        out = run("tokenizer", f"--input_file={tmp_path}/corpus/train_*.txt", f"--output_dir={tmp_path}/tokenizer",
                  "--vocab_size=400")  # fmt: skip
        assert out.startswith("400 pieces (bpe)")
        for part in ("train", "validation"):
            out = run("records", f"--input_file={tmp_path}/corpus/{part}_*.txt", f"--output_dir={tmp_path}/{part}",
                      spm, *lengths)  # fmt: skip
            assert " examples" in out
        out = run("pretrain", f"--input_file={tmp_path}/train/*.tf_record", f"--output_dir={tmp_path}/run", *lengths,
                  f"--validation_file={tmp_path}/validation/*.tf_record", "--do_eval",
                  f"--albert_config_file={tmp_path}/albert_config.json",
                  "--train_batch_size=16", "--num_train_steps=4", "--num_warmup_steps=1",
                  "--save_checkpoints_steps=4")  # fmt: skip
        assert f"preset: {tmp_path}/run/champion\n" in out
        out = run("champion", f"{tmp_path}/run", "--criterion=val_loss")
        assert "criterion: val_loss\n" in out and re.search(r"^value: \d\.\d{4}$", out, re.MULTILINE)
        out = run("evaluate", f"--model={tmp_path}/run", f"--input_file={tmp_path}/validation/*.tf_record",
                  f"--baseline={tmp_path}/train/*.tf_record")  # fmt: skip
        assert re.search(r"^loss: \d\.\d{4}\naccuracy: 0\.\d{4}$", out, re.MULTILINE)
        assert len(re.findall(r"^(?:all|tokens|syllables|the same).*  \d+\.\d%  +\d+\.\d%$", out, re.MULTILINE)) == 5
        assert json.loads((tmp_path / "run/evaluation.json").read_text())["scores"]["baseline_accuracy"] > 0
        (tmp_path / "texts.txt").write_text("སངས་[MASK]\nབཅོམ་[MASK]་འདས\n\n[MASK][MASK]\n")
        given = [f"--model={tmp_path}/run", f"--input_file={tmp_path}/texts.txt", "--top_k=2"]
        out = run("fill-mask", *given, "--unit=pieces")
        lines = [line.split("\t") for line in out.splitlines()]
        assert [line[0] for line in lines] == ["1.1", "2.1", "4.1", "4.2"]
        assert all(re.fullmatch(r"\S+:0\.\d{3} \S+:0\.\d{3}", line[1]) for line in lines)
        assert lines[0][2].startswith("སངས་") and "[MASK]" not in lines[0][2]


class TestFinetune:
    def test_a_tagger_with_its_card(self, tagger_run, tagger_config, tmp_path, capsys):
        """A run that has ended is described and shown again, and trains nothing."""
        shutil.copytree(tagger_run, tmp_path / "run")
        config = tagger_config(tmp_path / "run")
        flags = shlex.split(verb_command(config.kind, type(config), dataclasses.asdict(config)).replace("\\\n", " "))[
            1:
        ]
        assert main(flags) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == ["test", "of", "all", "seen", "not", "seen"]
        assert any(row.startswith("joint_f1 ") for row in rows)
        text = (tmp_path / "run/CARD.md").read_text(encoding="utf-8")
        assert yaml.safe_load(text.split("---\n")[1])["pipeline_tag"] == "token-classification"
        assert re.findall("^## (.+)", text, re.MULTILINE) == [
            "Purpose", "Model description", "Training data", "Code version", "Execution steps", "Hyperparameters",
            "Scores", "Notable limitations", "Additional comments",
        ]  # fmt: skip
        assert sha256(config.input_file) in text and "(confusion.png)" in text and "None" not in text
        for seed in json.loads((tmp_path / "run/scores.json").read_text(encoding="utf-8"))["seeds"]:
            assert f"| {seed['seed']} | {seed['epoch']} | {seed['epochs']} |" in text
        (tmp_path / "run/CARD.md").write_text(text.replace("# to fill in", "mit"), encoding="utf-8")
        assert main(["card", f"{tmp_path}/run"]) == 0
        assert (tmp_path / "run/CARD.md").read_text(encoding="utf-8") == text.replace("# to fill in", "mit")
