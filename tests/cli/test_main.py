"""The command line: help, exit statuses, the flags of the original command and others, and bad input."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import yaml
from jsonargparse import ArgumentError

from tests.support.damage import flip_bit
from tests.support.original_command import GOOGLE_FLAGS, ORIGINAL
from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, main
from tibert_keras.errors import InputError


def words(verb: str, *given: str):
    return parse(VERBS[verb], given, name=f"tibert {verb}")


class TestHelp:
    @pytest.mark.parametrize("verb", VERBS)
    def test_every_flag_is_explained(self, verb, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit) as exit_status:
            main([verb, "--help"])
        assert exit_status.value.code == 0
        usage, description, *sections = capsys.readouterr().out.strip().split("\n\n")
        assert usage.startswith(f"usage: tibert {verb} ") and description.endswith(".")
        # A flag with a long name has its help on the next line.
        entries = re.findall(r"^  (\S.*(?:\n {4,}.*)*)", "\n".join(sections), re.MULTILINE)
        assert len(entries) > 3
        for entry in entries:
            names, text = re.split(r" {2,}|\n +", entry, maxsplit=1)
            text = re.split(r"\((?:type|required)", text)[0]
            assert re.search(r"[A-Z`].{12}", text), f"{names} is not explained"

    def test_overview(self, capsys):
        for arguments in ([], ["--help"], ["-h"]):
            assert main(arguments) == 0
            lines = capsys.readouterr().out.splitlines()
            assert [re.split(r" {2,}", line)[1] for line in lines[2:]] == list(VERBS)


class TestFlags:
    BASE = ("--input_file=a", "--output_dir=b", "--preset=tibert_nano")

    def test_every_flag_of_googles_scripts(self):
        """With Google's defaults, but for those that its own READMEs say to change for other languages."""
        for verb, path in (("pretrain", "run_pretraining"), ("records", "create_pretraining_data")):
            given = shlex.split(GOOGLE_FLAGS[path])
            config = words(verb, *given)
            for flag in given:
                name, _, value = flag.removeprefix("--").partition("=")
                assert str(getattr(config, name)) in (value, f"{value}.0"), name

    def test_the_original_command(self):
        config = words("pretrain", *shlex.split(ORIGINAL))
        assert config.input_file == "gs://BUCKET/bert-like-endogenous-docs-tfrecords-128/*.tf_record"
        assert config.output_dir == "gs://BUCKET/training-results/tibert-base-128-no-sop"
        assert (config.albert_config_file, config.preset) == ("/tmp/albert_base/albert_config.json", None)
        assert (config.do_train, config.train_batch_size, config.optimizer) == (True, 1024, "lamb")
        assert (config.max_seq_length, config.max_predictions_per_seq) == (128, 20)
        assert (config.learning_rate, config.num_warmup_steps, config.num_train_steps) == (0.00176, 3125, 1_000_000)
        assert (config.save_checkpoints_steps, config.keep_checkpoint_max) == (1000, 100)
        assert (config.use_tpu, config.tpu_name, config.tpu_zone) == (True, "tibert-tpu", "us-central1-a")
        assert (config.num_tpu_cores, config.steps_per_execution) == (8, 1000)

    @pytest.mark.parametrize(
        "given, value",
        [
            (["--do_eval"], True), (["--do_eval=true"], True), (["--do_eval", "true"], True), (["--do_eval=1"], True),
            (["--do_eval=True"], True), (["--do_eval", "--seed=3"], True), (["--nodo_eval"], False), ([], False),
            (["--do_eval=false"], False), (["--do_eval", "False"], False), (["--do_eval=f"], False),
        ],
    )  # fmt: skip
    def test_switches(self, given, value):
        assert words("pretrain", *self.BASE, "--validation_file=v", *given).do_eval is value

    def test_a_config_file(self, tmp_path):
        flags = [
            *self.BASE,
            "--learning_rate=0.1",
            "--num_train_steps=20",
            "--save_checkpoints_steps=5",
            "--nodo_train",
        ]
        expected = words("pretrain", *flags)
        path = tmp_path / "run.yaml"
        options = dict(flag.removeprefix("--").split("=") for flag in flags[:-1]) | {"do_train": False}
        path.write_text(yaml.safe_dump({name: yaml.safe_load(str(value)) for name, value in options.items()}))
        assert words("pretrain", "--config", str(path)) == expected
        # Flags override it, wherever they stand.
        for given in (["--config", str(path), "--seed=7"], ["--seed=7", f"--config={path}"]):
            assert words("pretrain", *given).seed == 7
        assert words("pretrain", "--learning_rate=0.2", "--config", str(path)).learning_rate == 0.2
        assert words("pretrain", "--do_train", "--config", str(path)).do_train is True

    def test_words_in_a_config_file(self, tmp_path):
        path = tmp_path / "runs.yaml"
        path.write_text("run_dir: [a, b]\ncriterion: val_loss\n")
        flags = words("champion", "--config", str(path))
        assert (flags.run_dir, flags.criterion) == (["a", "b"], "val_loss")
        assert words("champion", "c", "--config", str(path)).run_dir == ["c"]

    def test_nothing_for_what_needs_a_value(self, tmp_path):
        path = tmp_path / "flags.yaml"
        path.write_text("recipe:\nvocab_size: 9\n")
        with pytest.raises(InputError, match="recipe needs a value. Received: recipe=null"):
            words("tokenizer", "--input_file=a", "--output_dir=b", "--config", str(path))
        for given in (["corpus", "--input_file=a", "--output_dir="], ["pretrain", "--input_file=a", "--output_dir="],
                      ["convert", "--from=keras", "--input=a", "--to=keras", "--output="]):  # fmt: skip
            with pytest.raises(InputError, match="must be a path. Received: output(_dir)?=''. Give one."):
                words(*given)
        path.write_text('input_file: "a\\0b"\n')
        with pytest.raises(InputError, match=r"has a NUL character. Received: input_file='a\\x00b'"):
            words("tokenizer", "--output_dir=b", "--config", str(path))

    @pytest.mark.parametrize("value", ["{x: 1}", "[[a]]", "7"])
    def test_no_words_in_a_config_file(self, value, tmp_path):
        path = tmp_path / "flags.yaml"
        path.write_text(f"run_dir: {value}\n")
        with pytest.raises(InputError, match="run_dir has another type. Received: run_dir="):
            words("champion", "--config", str(path))

    def test_an_unknown_key_in_a_config_file(self, tmp_path):
        path = tmp_path / "run.yaml"
        path.write_text("learning_rat: 0.1\n")
        with pytest.raises(ArgumentError, match="learning_rat"):
            words("pretrain", *self.BASE, "--config", str(path))


class TestCommandLineErrors:
    @pytest.mark.parametrize(
        "given, message",
        [
            (["pretrian"], "no such verb. Received: 'pretrian'. Give one of quickstart, corpus"),
            (["pretrain"], "input_file, output_dir"),
            (["corpus", "--input_file=a", "--output_dir=b", "--editoin=plain"], "--editoin=plain"),
            (["corpus", "--input_file=a", "--output_dir=b", "--edit=plain"], "--edit=plain"),
            (
                ["corpus", "--input_file=a", "--output_dir=b", "--edition=derge"],
                "edition must be auto, esukhia, openpecha, plain, tei or table. Received: edition='derge'. See",
            ),
            (["pretrain", *TestFlags.BASE, "--train_batch_size=many"], "must be a whole number. Received: train_b"),
            (["pretrain", *TestFlags.BASE, "--do_train=maybe"], "do_train must be true or false. Received: do_train='"),
            (["pretrain", *TestFlags.BASE, "--jit_compile=x"], "jit_compile must be true, false or auto. Received: "),
            (["tag", "--transliteration=wylie"], "must be ewts or acip. Received: transliteration='wylie'. See"),
            (["convert", "--from=word"], "from must be google, huggingface or keras. Received: from='word'. See"),
        ],
    )
    def test_status_2_and_one_line(self, given, message, capsys):
        assert main(given) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("tibert") and err.count("\n") == 1 and message in err

    def test_stopped_at_the_keyboard(self, capsys, monkeypatch, tmp_path):
        def stop(config):
            raise KeyboardInterrupt

        monkeypatch.setattr("tibert_keras.cli.data.build_corpus", stop)
        assert main(["corpus", "--input_file=a", f"--output_dir={tmp_path}"]) == 130
        assert capsys.readouterr().err == "tibert corpus: Stopped.\n"


class TestBadInput:
    """One line that says what is wrong and what was received, status 1, and nothing that is half written."""

    @pytest.fixture
    def refuse(self, capsys, tmp_path):
        out = tmp_path / "out"

        def check(message: str, verb: str, *given: str, output: str | None = f"--output_dir={out}") -> None:
            status = main([verb, *given, *([output] if output else [])])
            printed, complaint = capsys.readouterr()
            assert (status, printed) == (1, ""), complaint
            lines = [line for line in complaint.splitlines() if line.startswith("tibert ")]
            assert complaint.splitlines()[-1:] == lines and "Traceback" not in complaint
            assert re.match(f"tibert {verb}: .*{message}.*", lines[0]) and "Received: " in lines[0]
            left = {path.name for path in out.iterdir()} if out.exists() else set()
            if verb == "records" and "manifest.json" in left:
                # The files before a bad one are whole and listed, and need not be made again.
                left -= json.loads((out / "manifest.json").read_text())["files"].keys()
                left -= {"manifest.json", "spiece.model"}
            assert not left

        return check

    @pytest.fixture
    def text(self, tmp_path) -> Path:
        return tmp_path / "001_text.txt"

    @pytest.mark.parametrize(
        "content, message",
        [
            (None, "No file matches the pattern"),
            (b"", "empty"),
            ("ཀ".encode("utf-16"), "UTF-8"),
            ("ཀ།\nཁ".encode() + b"\xff\n", "UTF-8"),
            (b"No Tibetan at all.\n", "[Tt]ibetan"),
        ],
        ids=["missing", "empty", "utf-16", "broken", "latin"],
    )
    def test_corpus(self, refuse, text, content, message):
        if content is not None:
            text.write_bytes(content)
        refuse(message, "corpus", f"--input_file={text}")

    def test_unreadable_file(self, refuse, text, monkeypatch, spm_models):
        text.write_text("ཀ།\n")
        text.chmod(0)
        try:
            text.read_bytes()
        except PermissionError:
            refuse("Permission denied", "tokenizer", f"--input_file={text}")
        else:
            pytest.skip("this user may read everything")

    @pytest.mark.parametrize("content, message", [(None, "No file"), (b"", "empty"), (b"\xff\xfe", "UTF-8")])
    def test_tokenizer(self, refuse, text, content, message):
        if content is not None:
            text.write_bytes(content)
        refuse(message, "tokenizer", f"--input_file={text}")

    def test_a_vocabulary_that_is_too_large(self, refuse, sample_corpus):
        message = r"supports at most \d+ pieces. Received: vocab_size=30000"
        refuse(message, "tokenizer", f"--input_file={sample_corpus}/*.txt", "--vocab_size=30000")

    @pytest.mark.parametrize("content, message", [(None, "No file"), (b"", "empty"), (b"\xff\xfe", "UTF-8")])
    def test_records(self, refuse, text, spm_models, content, message):
        if content is not None:
            text.write_bytes(content)
        refuse(message, "records", f"--input_file={text}", f"--spm_model_file={spm_models['bpe']}")

    def test_one_bad_file_among_good_ones(self, refuse, sample_corpus, spm_models, tmp_path):
        (tmp_path / "zzz.txt").write_bytes(b"\xff")
        both = f"--input_file={sample_corpus}/*.txt,{tmp_path}/zzz.txt"
        refuse("Not a UTF-8 file", "tokenizer", both, "--vocab_size=200")
        refuse("Not a UTF-8 file", "records", both, f"--spm_model_file={spm_models['bpe']}")

    @pytest.mark.parametrize("content, message", [(None, "Cannot read"), (b"", "Not a S"), (b"junk", "Not a S")])
    def test_what_is_no_tokenizer(self, refuse, sample_corpus, tmp_path, content, message):
        if content is not None:
            (tmp_path / "spiece.model").write_bytes(content)
        refuse(message, "records", f"--input_file={sample_corpus}/*.txt", f"--spm_model_file={tmp_path}/spiece.model")

    def pretrain(self, *given: str) -> list[str]:
        sizes = ["--max_seq_length=32", "--max_predictions_per_seq=5", "--num_train_steps=1"]
        return ["pretrain", "--preset=tibert_nano", *sizes, "--save_checkpoints_steps=1", *given]

    @pytest.mark.parametrize("kind", ["cut", "text", "empty"])
    @pytest.mark.parametrize("with_manifest", [True, False])
    def test_damaged_records(self, refuse, sample_records, tmp_path, kind, with_manifest):
        path = tmp_path / "train_2.tf_record"
        content = (sample_records / "held_out/train_2.tf_record").read_bytes()
        path.write_bytes({"cut": content[:-9], "text": b"Not a record at all.", "empty": b""}[kind])
        if with_manifest:
            (tmp_path / "manifest.json").write_bytes((sample_records / "held_out/manifest.json").read_bytes())
        refuse(
            "(damaged at example|holds no example|not the one in the manifest)", *self.pretrain(f"--input_file={path}")
        )

    @pytest.mark.parametrize("verb", ["corpus", "tokenizer", "pretrain", "export"])
    def test_a_folder_of_something_else(self, refuse, verb, finished_run, sample_corpus, sample_records, tmp_path):
        if verb == "export" and keras.backend.backend() != "tensorflow":
            pytest.skip("SavedModels are TensorFlow's")
        folder = tmp_path / "home"
        folder.mkdir()
        name = {"corpus": "train_kangyur1.txt"}.get(verb, "letter.txt")
        (folder / name).write_text("Dear A")
        given = {
            "corpus": ["corpus", f"--input_file={sample_corpus}/*.txt"],
            "tokenizer": ["tokenizer", f"--input_file={sample_corpus}/*.txt", "--vocab_size=200"],
            "pretrain": self.pretrain(f"--input_file={sample_records}/train/*.tf_record"),
            "export": ["export", f"--model={finished_run}"],
        }[verb]
        refuse("", *given, output=f"--output_dir={folder}")
        assert [path.name for path in folder.iterdir()] == [name]

    @pytest.mark.parametrize("options", [["--vocab_size=200"], ["--recipe=albert"]])
    def test_the_folder_of_another_tokenizer(self, refuse, sample_corpus, spm_models, options):
        folder = Path(spm_models["bpe"]).parent
        before = (folder / "tokenizer_manifest.json").read_bytes()
        given = ["tokenizer", f"--input_file={sample_corpus}/*.txt", *options]
        refuse("there, .* now", *given, output=f"--output_dir={folder}")
        assert (folder / "tokenizer_manifest.json").read_bytes() == before

    def test_no_such_config(self, refuse):
        refuse("none.yaml", "pretrain", "--config=none.yaml")

    def test_a_folder_that_cannot_be(self, refuse, sample_corpus, text):
        text.write_text("a file")
        refuse(
            "(Not a directory|File exists)",
            "corpus",
            f"--input_file={sample_corpus}/*.txt",
            output=f"--output_dir={text}/out",
        )

    def test_evaluate(self, refuse, finished_run, sample_records, tmp_path):
        path = tmp_path / "train_2.tf_record"
        path.write_bytes((sample_records / "held_out/train_2.tf_record").read_bytes())
        refuse("Neither a preset nor a run", "evaluate", f"--model={tmp_path}", f"--input_file={path}", output=None)
        index = flip_bit(path)
        refuse(f"at example {index}", "evaluate", f"--model={finished_run}", f"--input_file={path}", output=None)

    def test_champion(self, refuse, tmp_path):
        refuse("There is no run", "champion", output=None)
        refuse("No checkpoint with a loss", "champion", str(tmp_path), output=None)


class TestFinetune:
    def test_flags(self):
        flags = words(
            "finetune tokens", "--input_file=a", "--output_dir=b/", "--model=c", "--split_file=d", "--nopretrained",
            "--universal_tags", '--class_weight={"NOUN": 2}', "--jit_compile=true", "--patience=3",
        )  # fmt: skip
        assert (flags.pretrained, flags.universal_tags, flags.class_weight) == (False, True, {"NOUN": 2.0})
        assert (flags.jit_compile, flags.patience, flags.output_dir) == (True, 3, "b")
        # The original's.
        assert (flags.learning_rate, flags.num_epochs, flags.train_batch_size) == (5e-5, 20, 32)
        assert (flags.max_seq_length, flags.min_tag_count) == (128, 100)
        text = words("finetune text", "--input_file=a", "--output_dir=b", "--model=c")
        assert (text.pretrained, text.validation_share) == (True, 0.1)

    @pytest.mark.parametrize("verb", ["finetune tokens", "finetune text"])
    def test_bad_input(self, verb, capsys, tmp_path):
        given = [*verb.split(), f"--input_file={tmp_path}/none", f"--output_dir={tmp_path}/run", "--model=c"]
        for flags, message in (
            (["--validation_file=v"], "No file matches the pattern"),
            (["--validation_file=v", "--num_epochs=0"], "num_epochs must be positive"),
        ):
            assert main([*given, *flags]) == 1
            out, err = capsys.readouterr()
            assert out == "" and err.splitlines()[-1].startswith(f"tibert {verb}: {message}")
        assert main([*given, "--validation_file=v", "--learning_rat=1"]) == 2
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"]])
def test_a_help_text_that_nobody_reads(words):
    """As behind `| head`, which has gone before all is written."""
    command = [sys.executable, "-m", "tibert_keras.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, "")
