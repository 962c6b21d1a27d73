"""The card of a run: what it tells, what it leaves to people, and what it says of what is missing."""

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tibert_keras.cards.card import card_text, write_card
from tibert_keras.cards.commands import corpus_commands, records_command, tokenizer_command, verb_command
from tibert_keras.cards.facts import RunFacts, gather_facts
from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, main, split_verb
from tibert_keras.corpus.sample import write_sample
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.records.build import RecordsConfig
from tibert_keras.records.manifest import Manifest
from tibert_keras.runs.champion import write_evaluation
from tibert_keras.runs.environment import environment, note_environment, read_environment
from tibert_keras.runs.folder import read_config, write_config
from tibert_keras.storage import sha256
from tibert_keras.training.config import PretrainConfig


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def words(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))[1:]


class TestCard:
    def test_a_finished_run(self, run, sample_records, capsys):
        assert main(["card", str(run)]) == 0
        assert capsys.readouterr().out == f"{run}/CARD.md\n"
        text = (run / "CARD.md").read_text(encoding="utf-8")
        _, header, body = text.split("---\n", 2)
        assert yaml.safe_load(header)["language"] == "bo" and yaml.safe_load(header)["pipeline_tag"] == "fill-mask"
        assert body.startswith("\n# Card: run\n")
        assert re.findall("^## (.+)", text, re.MULTILINE) == [
            "Purpose", "Model description", "Training data", "Code version", "Execution steps", "Hyperparameters",
            "Champion selection", "Notable limitations", "Additional comments",
        ]  # fmt: skip
        assert (run / "loss.png").read_bytes().startswith(b"\x89PNG") and "(loss.png)" in text
        assert sha256(sample_records / "train/spiece.model") in text
        for path in sample_records.rglob("*.tf_record"):
            assert f"| {path.name} | " in text and sha256(path) in text
        champion = json.loads((run / "champion.json").read_text())
        assert f"step {champion['step']}, which has the lowest loss on the validation data" in text
        assert f"{environment()['versions']['keras']}" in text and "the one that the run read" in text
        backbone = TibertBackbone.from_preset("tibert_nano", vocabulary_size=400)
        assert f"Its encoder has {backbone.count_params():,} parameters." in text
        assert "no longer exist" not in text and "changed since" not in text

    def test_scores_on_held_out_records(self, run):
        step = json.loads((run / "champion.json").read_text())["step"]
        scores = {"accuracy": 0.63, "top_5_accuracy": 0.785, "loss": 1.862, "masked_tokens": 76658}
        scores |= {f"{kind}_accuracy": 0.5 for kind in ("hidden", "baseline")}
        scores |= {f"{kind}_top_5_accuracy": 0.75 for kind in ("hidden", "baseline")} | {"hidden_tokens": 61571}
        write_evaluation(run, scores, input_file="unseen/*", baseline="seen/*")
        text = card_text(gather_facts(run))
        assert "On `unseen/*`, " in text and "n-grams of `seen/*`:" in text
        assert "| all masked tokens | 76,658 | 1.862 | 63.0% | 78.5% |" in text
        assert "| the same, by counting n-grams | 61,571 | - | 50.0% | 75.0% |" in text
        assert "syllables that" not in text
        # They are not those of a later champion.
        champion = json.loads((run / "champion.json").read_text())
        (run / "champion.json").write_text(json.dumps({**champion, "step": step + 1}))
        assert "unseen/*" not in card_text(gather_facts(run))

    def test_what_people_wrote_is_kept(self, run):
        assert main(["card", str(run)]) == 0
        card = run / "CARD.md"
        text = card.read_text(encoding="utf-8")
        ours = text.replace("license: # to fill in", "license: apache-2.0")
        ours = re.sub(r"(## Notable limitations\n\n).*", r"\1It knows no Bon.", ours)
        card.write_text(ours.replace("| keras | ", "| kears | "), encoding="utf-8")
        assert main(["card", str(run)]) == 0
        assert card.read_text(encoding="utf-8") == ours

    def test_sections_of_people(self, run):
        path = write_card(run)
        text = Path(path).read_text(encoding="utf-8")
        ours = text.replace("# to fill in", "## a comment\nlicense: mit")
        ours = ours.replace("*To fill in: what this one is meant for.*", "```\n## Training data\n```\n\nIt is meant.")
        added = ours.replace(
            "## Champion selection", "## Results\n\n    F1 0.9\n\n## Purpose\n\nMore.\n\n## Champion selection"
        )
        Path(path).write_bytes(b"\xef\xbb\xbf" + added.replace("\n", "\r\n").encode())
        for _ in range(2):
            write_card(run)
            assert (
                Path(path).read_text(encoding="utf-8") == ours + "\n## Results\n\n    F1 0.9\n\n## Purpose\n\nMore.\n"
            )

    def test_a_card_that_is_not_utf_8(self, run):
        (run / "CARD.md").write_bytes("## Purpose\n\ndéjà".encode("latin-1"))
        with pytest.raises(InputError, match="Not a UTF-8 file: .* at byte 13. Received: '.*/CARD.md'"):
            write_card(run)
        assert not (run / "loss.png").exists()

    def test_a_run_that_recorded_nothing(self):
        text = card_text(RunFacts(run_dir="runs/bare", config={"input_file": "a", "num_train_steps": 5}))
        assert "# Card: bare" in text and "step 0 of 5" in text
        for missing in ("sizes are missing", "tokenizer was not recorded", "Not recorded: the run", "No champion"):
            assert missing in text
        assert "loss.png" not in text and "None" not in text

    def test_records_that_are_gone_or_changed(self, run, sample_records, tmp_path):
        moved = tmp_path / "records"
        shutil.copytree(sample_records / "train", moved)
        config = {**read_config(str(run)), "input_file": f"{moved}/*.tf_record"}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        before, manifest = read_environment(str(run))[0], moved / "manifest.json"
        text = card_text(gather_facts(run))
        assert "whose hash the run did not note" in text
        (lost,) = [path for path in before["manifests"] if "/train/" in path]
        assert f"| {lost} | {before['manifests'][lost]} |" in text
        note_environment(str(run), 0, moved.glob("*.tf_record"))
        manifest.write_text(manifest.read_text().replace('"documents": ', '"documents": 1'))
        assert "has changed since the run read it" in card_text(gather_facts(run))
        manifest.unlink()
        halves = {"input_file": f"{moved}/train_0*", "validation_file": f"{moved}/train_1*"}
        (run / "config.yaml").write_text(yaml.safe_dump({**config, **halves}))
        note_environment(str(run), 0, list(map(str, moved.glob("*.tf_record"))))
        text = card_text(gather_facts(run))
        assert text.count(f"`{moved}`, the one that the run read, has no manifest") == 2
        assert f"From which texts `{moved}` was made was not recorded" in text
        digest = read_environment(str(run))[-1]["manifests"][str(moved)]
        shutil.rmtree(moved)
        text = card_text(gather_facts(run))
        assert "The files no longer exist" in text and f"| {moved} | {digest} |" in text

    @pytest.mark.parametrize(
        "name, content",
        [
            ("champion.json", "{}"),
            ("champion.json", None),
            ("evaluation.json", "[]"),
            ("evaluation.json", '{"step": STEP, "scores": {"accuracy": 1}}'),
            ("environment.json", "{}"),
            ("environment.json", '{"phases": [{"from_step": 0}]}'),
            ("environment.json", '{"phases": [5]}'),
        ],
    )
    def test_damaged(self, name, content, run):
        if content is None:
            content = json.dumps({**json.loads((run / name).read_text()), "step": "last"})
        step = json.loads((run / "champion.json").read_text())["step"]
        (run / name).write_text(content.replace("STEP", str(step)))
        with pytest.raises(
            InputError, match=f"Not (a champion|an evaluation|the environment of a run): .* Received: '.*/{name}'"
        ):
            write_card(run)
        assert not (run / "CARD.md").exists()

    def test_no_card_without_its_picture(self, run):
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump({**config, "num_train_steps": 10**30}))
        with pytest.raises(InputError, match="Not the configuration of a run. .* with num_train_steps=1000000"):
            write_card(run)
        assert not (run / "CARD.md").exists()

    def test_bad_input(self, tmp_path, capsys):
        for given, message in (
            ([], "There is no run. Received: run_dir=''"),
            ([str(tmp_path)], "The folder holds no run"),
        ):
            assert main(["card", *given]) == 1
            assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())


class TestCommands:
    def test_pretrain(self, finished_run):
        recorded = read_config(str(finished_run))
        verb, flags = split_verb(words(verb_command("pretrain", PretrainConfig, recorded)), VERBS)
        given = parse(VERBS[verb], flags, name="tibert pretrain")
        assert {name: getattr(given, name) for name in recorded} == recorded
        # Without the rest, which are defaults.
        assert len(flags) < len(recorded) / 2

    @pytest.mark.parametrize("changes", [{"jit_compile": False}, {"jit_compile": True}, {"output_dir": "a b's"}])
    def test_values(self, changes):
        options = PretrainConfig(**{"input_file": "a", "output_dir": "b", "preset": "tibert_nano", **changes}).__dict__
        _, *flags = words(verb_command("pretrain", PretrainConfig, options))
        given = parse(VERBS["pretrain"], flags, name="tibert pretrain")
        assert {name: getattr(given, name) for name in options} == options

    def test_values_like_the_names_of_flags(self):
        options = {"from_": "keras", "input": "from_scratch", "to": "google", "output": "into"}
        given = parse(
            VERBS["convert"], words(verb_command("convert", ConvertConfig, options))[1:], name="tibert convert"
        )
        assert {name: getattr(given, name) for name in options} == options

    def test_records(self, sample_records):
        manifest = Manifest.read(sample_records / "train")
        verb, flags = split_verb(words(records_command("records", manifest)), VERBS)
        given = parse(VERBS[verb], flags, name="tibert records")
        assert isinstance(given, RecordsConfig) and given.options == manifest.options
        folder = manifest.sources["train_0.tf_record"]["folder"]
        assert given.input_file == f"{folder}/train_0.txt,{folder}/train_1.txt"
        spm_model_file = manifest.made_from["tokenizer"]["spm_model_file"]
        assert (given.output_dir, given.spm_model_file) == ("records", spm_model_file)

    def test_records_of_an_older_version(self, sample_records):
        manifest = dataclasses.replace(Manifest.read(sample_records / "train"), made_from={})
        for source in manifest.sources.values():
            del source["folder"]
        given = parse(VERBS["records"], words(records_command("records", manifest))[1:], name="tibert records")
        assert given.input_file == "$TEXTS/train_0.txt,$TEXTS/train_1.txt"
        assert (given.output_dir, given.spm_model_file) == ("records", "records/spiece.model")
        assert tokenizer_command(manifest) is None and corpus_commands(manifest) == []

    def test_a_tokenizer_that_was_renamed(self):
        made = {"spm_model_file": "tokenizer/spiece.model", "manifest": {"vocab_size": 60}}
        manifest = Manifest(options={}, tokenizer={}, made_from={"tokenizer": made})
        assert "--vocab_size=60" in words(tokenizer_command(manifest))
        made["spm_model_file"] = "tokenizer/my.model"
        assert tokenizer_command(manifest) is None


class TestSteps:
    @pytest.fixture
    def facts(self, tmp_path, monkeypatch):
        """The facts of a run that read records of a corpus, in the working folder, which holds all that made them."""
        (tmp_path / "first").mkdir()
        monkeypatch.chdir(tmp_path / "first")
        write_sample("sample it", num_documents=30, num_files=3)
        for step in (
            ["corpus", "--input_file=sample it/*.txt", "--output_dir=corpus", "--validation_volumes=[2]"],
            ["tokenizer", "--input_file=corpus/*.txt", "--output_dir=tokenizer", "--recipe=albert", "--vocab_size=300"],
            ["records", "--input_file=corpus/train_*.txt", "--output_dir=records", "--ngram=1", *self.RECORDS],
            ["records", "--input_file=corpus/validation_*.txt", "--output_dir=held_out", *self.RECORDS],
        ):
            assert main([*step, *self.ONE_WORKER[: step[0] != "tokenizer"]]) == 0
        return self.gather()

    RECORDS = ("--spm_model_file=tokenizer/spiece.model", "--max_seq_length=32", "--max_predictions_per_seq=5")
    ONE_WORKER = ("--workers=1",)

    def gather(self):
        config = PretrainConfig(
            input_file="records/*.tf_record", validation_file="held_out/*.tf_record", output_dir="run",
            preset="tibert_nano",
        )  # fmt: skip
        write_config(config)
        return gather_facts("run")

    def commands(self, facts):
        section = card_text(facts).split("## Execution steps\n\n")[1].split("\n\n## ")[0]
        notes, block = section.removesuffix("\n```").split("\n\n```sh\n")
        return notes, [words(f"tibert {command}") for command in re.split(r"^tibert ", block, flags=re.MULTILINE)[1:]]

    def test_pasted_into_another_folder(self, facts, tmp_path, monkeypatch, capfd):
        """They make the very same records."""
        notes, commands = self.commands(facts)
        assert notes.startswith("Run these in the folder where the run was started. Paths") and "\n" not in notes
        assert [command[0] for command in commands] == ["corpus", "tokenizer", "records", "records", "pretrain"]
        shutil.copytree("sample it", tmp_path / "second/sample it")
        monkeypatch.chdir(tmp_path / "second")
        for command in commands[:-1]:
            assert main([*command, *self.ONE_WORKER[: command[0] != "tokenizer"]]) == 0, capfd.readouterr().err
        for path in [*(tmp_path / "first").glob("records/*"), *(tmp_path / "first").glob("held_out/*")]:
            assert Path(path.relative_to(tmp_path / "first")).read_bytes() == path.read_bytes(), path

    def test_what_was_not_recorded_is_said(self, facts):
        Path("corpus/corpus.json").unlink()
        shutil.copy("corpus/train_text1.txt", "corpus/train_text9.txt")
        shutil.rmtree("records")
        Path("tokenizer/tokenizer_manifest.json").unlink()
        words_of_records = ["--input_file=corpus/train_*.txt", "--output_dir=records", *self.RECORDS, *self.ONE_WORKER]
        assert main(["records", *words_of_records]) == 0
        notes, commands = self.commands(self.gather())
        assert notes.splitlines()[1:] == [
            "How the texts of `records` were made of an edition was not recorded.",
            "How the tokenizer of `records` was trained was not recorded.",
        ]
        assert "--spm_model_file=records/spiece.model" in commands[2]

    def test_a_text_that_was_changed(self, facts):
        Path("corpus/train_text1.txt").write_text("ཀ་ཁ་ག\nང་ཅ་ཆ\n", encoding="utf-8")
        words_of_records = ["--input_file=corpus/train_*.txt", "--output_dir=records", "--ngram=1", *self.RECORDS]
        assert main(["records", *words_of_records, *self.ONE_WORKER]) == 0
        notes, _ = self.commands(self.gather())
        assert "How the texts of `records` were made of an edition was not recorded." in notes


class TestEnvironment:
    def test_a_run_notes_it(self, finished_run, sample_records):
        (phase,) = read_environment(str(finished_run))
        assert {**environment(), "from_step": 0} == {name: phase[name] for name in phase if name != "manifests"}
        folders = [f"{sample_records}/{name}" for name in ("held_out", "train")]
        assert phase["manifests"] == {f"{each}/manifest.json": Manifest.read(each).digest() for each in folders}

    def test_changes(self, tmp_path, monkeypatch):
        for step in (0, 10):
            note_environment(str(tmp_path), step, [])
        monkeypatch.setattr("tibert_keras.runs.environment._commit", lambda: "f00d-dirty")
        for step in (20, 30):
            note_environment(str(tmp_path), step, [])
        phases = read_environment(str(tmp_path))
        assert [phase["from_step"] for phase in phases] == [0, 20]
        assert phases[1]["commit"] == "f00d-dirty"
        text = card_text(RunFacts(run_dir="run", config={}, environment=phases))
        assert "From step 20, " in text and "> f00d-dirty\n" in text
