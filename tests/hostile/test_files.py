"""Every kind of file that the product reads, damaged in many ways, through every verb that reads it.

Each must end in one line with exit status 1 or 2, leave nothing behind and take less than half a minute. Where the
product cannot know that something is wrong, such as in a text that has been cut, it may also succeed.

The suite tries a part of all cases, drawn with `HOSTILE_SEED` (0 by default); `pytest -m soak tests/hostile` tries all.
"""

import io
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.damage import DAMAGES, SETTINGS_DAMAGES, Damage
from tibert_keras.cli.main import main
from tibert_keras.integrity import MANIFEST_FILE
from tibert_keras.models.tibert_presets import list_preset_files

SEED = int(os.environ.get("HOSTILE_SEED", "0"))
SECONDS = 30

FILL = ("fill-mask", "--unit=pieces", "--model={x}", "བླ་མ་[MASK]ལ་ཕྱག་འཚལ་ལོ།")
TAG = ("tag", "--model={x}", "བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ། །")
CLASSIFY = ("classify", "--model={x}", "བླ་མ་ཆོས་ལ་ཕྱག་འཚལ་ལོ།")
TO_GOOGLE = ("convert", "--from=keras", "--input={x}", "--to=google", "--output={out}")
EVALUATE = ("evaluate", "--model={x}", "--input_file={all}/records/*.tf_record")
SERVE = ("serve", "m={x}", "--port=0")
EXPORT = ("export", "--model={x}", "--output_dir={out}")
FINETUNE = (
    "finetune", "text", "--model={x}", "--input_file={all}/train.tsv", "--validation_file={all}/validation.tsv",
    "--num_epochs=1", "--max_seq_length=32", "--output_dir={out}",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of thing on disk.

    Attributes:
        folder: Where it lies among the artefacts.
        files: Patterns of the files in it that are damaged.
        verbs: The command lines that read it: `{x}` is the damaged copy, `{out}` a new folder, `{all}` all artefacts.
        sample: How many cases the suite tries.
        checked: Whether any damage is to be noticed, because sizes and hashes are known.
        relisted: Whether the list of files is made anew after the damage, as by somebody who means it.
        draws: How many values of a file of settings each damage tries in turn.
    """

    folder: str
    files: tuple[str, ...]
    verbs: tuple[tuple[str, ...], ...]
    sample: int
    checked: bool = False
    relisted: bool = False
    draws: int = 1


CORPUS = ("corpus", "--edition=plain", "--workers=1")
TOKENIZER = ("tokenizer", "--vocab_size=120", "--tsheg_pretokenization=true")
RECORDS = (
    "records", "--workers=1", "--tsheg_pretokenization=true", "--max_seq_length=32", "--max_predictions_per_seq=5",
)  # fmt: skip
TAGGER = (
    "finetune", "tokens", "--model={all}/preset", "--input_file={x}/train.txt", "--validation_file={x}/validation.txt",
    "--num_epochs=1", "--max_seq_length=32", "--min_tag_count=1", "--output_dir={out}",
)  # fmt: skip
FROM = ("convert", "--input={x}", "--to=keras", "--output={out}")
SPM = "--spm_model_file={all}/spm/spiece.model"

PRESET = ("*.json", "*.h5", "assets/tokenizer/*")
PRESET_VERBS = (FILL, TO_GOOGLE, EVALUATE, EXPORT, FINETUNE)
RUN_VERBS = (("runs", "{x}"), ("card", "{x}"))
KINDS = {
    "preset": Kind("preset", PRESET, PRESET_VERBS, sample=15, checked=True),
    "preset with a new list": Kind("preset", PRESET, (FILL,), sample=8, relisted=True, draws=20),
    "tagger with a new list": Kind("tagger/champion", PRESET, (TAG,), sample=12, relisted=True, draws=20),
    "older preset": Kind("older_preset", PRESET, PRESET_VERBS, sample=4),
    "older tagger": Kind("tagger/champion", PRESET, (TAG, TO_GOOGLE, EXPORT), sample=3),
    "older classifier": Kind("classifier/champion", PRESET, (CLASSIFY,), sample=3),
    "SavedModel": Kind("listed_saved_model", ("**/*",), (FILL, SERVE), sample=15, checked=True),
    "older SavedModel": Kind("saved_model", ("**/*",), (FILL, SERVE), sample=3),
    "checkpoint": Kind(
        "run",
        ("checkpoints/*/*", "config.yaml", "history.csv", "initial/*.json", "initial/assets/tokenizer/*"),
        (("champion", "{x}"), ("convert", "--from=keras", "--input={x}/checkpoints/40", *TO_GOOGLE[3:])),
        sample=12,
    ),
    "run": Kind(
        "run",
        ("config.yaml", "history.csv", "environment.json", "checkpoints/*/*", "initial/*.json"),
        RUN_VERBS,
        sample=25,
        draws=5,
    ),
    "fine-tuning": Kind(
        "tagger",
        ("config.yaml", "scores.json", "environment.json", "seed_0/scores.json", "seed_0/history.csv"),
        RUN_VERBS,
        sample=25,
        draws=20,
    ),
    "records": Kind(
        "records",
        ("*.tf_record", "manifest.json", "spiece.model"),
        (
            ("records", "inspect", "{x}/train_text1.tf_record"),
            ("evaluate", "--model={all}/preset", "--input_file={x}/*.tf_record"),
            (*RECORDS, "--input_file={all}/corpus/*.txt", "--output_dir={x}", SPM),
        ),
        sample=25,
        draws=20,
    ),
    "Google checkpoint": Kind("google", ("*",), ((*FROM, "--from=google"),), sample=4),
    "transformers folder": Kind("huggingface", ("*",), ((*FROM, "--from=huggingface"),), sample=5),
    "corpus": Kind(
        "corpus",
        ("*",),
        (
            (*CORPUS, "--input_file={x}/*.txt", "--output_dir={out}"),
            (*CORPUS, "--input_file={all}/text.txt", "--output_dir={x}"),
            (*TOKENIZER, "--input_file={x}/*.txt", "--output_dir={out}"),
            (*RECORDS, "--input_file={x}/*.txt", "--output_dir={out}", SPM),
        ),
        sample=25,
        draws=20,
    ),
    "tokenizer": Kind(
        "spm",
        ("spiece.model", "tokenizer.json"),
        (
            (*RECORDS, "--input_file={all}/corpus/*.txt", "--output_dir={out}", "--spm_model_file={x}/spiece.model"),
            (*TOKENIZER, "--input_file={all}/corpus/*.txt", "--output_dir={x}", "--normalization=none"),
        ),
        sample=20,
    ),
    "tagged text": Kind("texts", ("train.txt", "validation.txt"), (TAGGER,), sample=3),
    "flags": Kind(
        "flags", ("flags.yaml",), (("tokenizer", "--config={x}/flags.yaml", "--output_dir={out}"),), sample=20
    ),
}  # fmt: skip


# The kinds whose verbs load no model.
QUICK = ("run", "fine-tuning", "corpus", "tokenizer", "flags")


class Slow(BaseException):
    """A verb took too long. Not an error, which the verb would explain."""


@dataclass(frozen=True)
class Case:
    """A file of a kind, a damage by its name, and a verb."""

    kind: Kind
    file: str
    damage: str
    verb: tuple[str, ...]
    draw: int = 0

    def __str__(self) -> str:
        return f"{self.file} {self.damage}{f' ({self.draw})' * bool(self.draw)}: {' '.join(self.verb[:2])}"


def cases(kind: Kind, folder: Path) -> Iterator[Case]:
    files = {file.relative_to(folder).as_posix() for pattern in kind.files for file in folder.glob(pattern)}
    files -= {MANIFEST_FILE} if kind.relisted else set()
    for file in sorted(file for file in files if (folder / file).is_file()):
        settings = [(name, draw) for draw in range(kind.draws) for name in SETTINGS_DAMAGES]
        known = [(name, 0) for name in DAMAGES] + settings * (Path(file).suffix in (".json", ".yaml"))
        yield from (Case(kind, file, damage, verb, draw) for damage, draw in known for verb in kind.verbs)


def outcome(case: Case, artefacts: Path, tmp_path: Path, seed: str) -> str:
    """Damage a copy, run the verb, and tell how it ended: `refused`, `succeeded`, or what is wrong."""
    rng, everything = random.Random(f"{seed} {case}"), {**DAMAGES, **SETTINGS_DAMAGES}
    copy, out = tmp_path / "in" / "copy", tmp_path / "new" / "out"
    shutil.copytree(artefacts / case.kind.folder, copy)
    damage: Damage = everything[case.damage]
    whole = (copy / case.file).read_bytes()
    damage(copy / case.file, rng)
    if case.kind.relisted:
        list_preset_files(copy)
    unchanged = (copy / case.file).is_file() and (copy / case.file).read_bytes() == whole
    before = contents(copy)
    words = [word.format(x=copy, out=out, all=artefacts) for word in case.verb]
    errors = io.StringIO()

    def stop(*_: Any) -> None:
        raise Slow

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with redirect_stderr(errors), redirect_stdout(io.StringIO()):
            status = main(words)
    except BaseException as error:  # what a user would see as a traceback
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    lines = errors.getvalue().splitlines()
    if status == 0:
        # Without its list, it passes for what an older version wrote.
        unlisted = (case.file, case.damage) == (MANIFEST_FILE, "removed")
        return "not noticed" if case.kind.checked and not unlisted and not unchanged else "succeeded"
    if status not in (1, 2) or len(lines) != 1 or not lines[0].startswith("tibert "):
        return f"status {status} with {len(lines)} lines: {lines[:2]}"
    left = sorted(str(path) for path in tmp_path.rglob("*") if path.name.endswith(".part") or path == out)
    if left or contents(copy) - before:
        return f"left behind: {left or sorted(contents(copy) - before)}"
    return "refused"


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def servers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the models are loaded."""
    monkeypatch.setattr("tibert_keras.serving.server.BoundedServer.run", lambda *_, **__: None)


def check(name: str, artefacts: Path, tmp_path: Path, chosen: list[Case], seed: str) -> None:
    print(f"{name}: {len(chosen)} cases with HOSTILE_SEED={seed}")
    counts: Counter[str] = Counter()
    wrong = []
    for number, case in enumerate(chosen):
        found = outcome(case, artefacts, tmp_path / str(number), seed)
        shutil.rmtree(tmp_path / str(number))
        counts[found if found in ("refused", "succeeded") else "wrong"] += 1
        if found not in ("refused", "succeeded"):
            wrong.append(f"{case} -> {found}")
    print(f"{name}: {dict(counts)}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)} with HOSTILE_SEED={seed}:", *wrong])


@pytest.mark.parametrize("name", KINDS)
def test_a_part_of_all_cases(name: str, artefacts: Path, tmp_path: Path) -> None:
    kind = KINDS[name]
    known = list(cases(kind, artefacts / kind.folder))
    chosen = random.Random(f"{SEED} {name}").sample(known, min(kind.sample, len(known)))
    check(name, artefacts, tmp_path, chosen, str(SEED))


@pytest.mark.soak
@pytest.mark.parametrize("name", KINDS)
def test_all_cases(name: str, artefacts: Path, tmp_path: Path) -> None:
    check(name, artefacts, tmp_path, list(cases(KINDS[name], artefacts / KINDS[name].folder)), str(SEED))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in KINDS]
)
def test_what_is_whole_is_taken(name: str, artefacts: Path, tmp_path: Path) -> None:
    """Else the damage would not be why a verb refuses."""
    kind = KINDS[name]
    for number, verb in enumerate(kind.verbs):
        copy = shutil.copytree(artefacts / kind.folder, tmp_path / f"in{number}")
        assert main([word.format(x=copy, out=tmp_path / f"out{number}", all=artefacts) for word in verb]) == 0, verb
