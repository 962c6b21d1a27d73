"""Writes the card of a run, in the form of the original's registry: https://github.com/CompassionAI/data-registry."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tibert_keras.cards.commands import reproduction_steps, verb_command
from tibert_keras.cards.facts import FinetuningFacts, RunFacts, gather_facts
from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneTextConfig, FinetuneTokensConfig
from tibert_keras.finetuning.scores import CONFUSION_PICTURE
from tibert_keras.formats.convert import ConvertConfig
from tibert_keras.models.tibert_presets import find_by_name
from tibert_keras.runs.champion import evaluation_rows
from tibert_keras.runs.summary import plot_runs, summarize_runs
from tibert_keras.storage import atomic_output, decode_utf8, exists, join, read_bytes, write_text

if TYPE_CHECKING:
    import jinja2

CARD_FILE = "CARD.md"
PICTURE = "loss.png"

# Options that give paths. They are in the commands.
_PATHS = {
    "input_file", "output_dir", "albert_config_file", "spm_model_file", "validation_file", "init_checkpoint",
    "continue_from", "model", "split_file", "test_file", "compare_with",
}  # fmt: skip
_SIZES = (
    "vocabulary_size", "num_layers", "num_groups", "num_inner_repetitions", "embedding_dim", "hidden_dim",
    "intermediate_dim", "num_heads", "max_sequence_length", "num_segments", "dropout",
)  # fmt: skip
_STEPS = "Execution steps"
# Sections that people write, and that a new card keeps. The first is the header.
_OF_PEOPLE = ("", "Purpose", "Notable limitations", "Additional comments")
# Matches headings of the second level, and, so as to skip them, the YAML header and fenced code.
_HEADING = re.compile(
    r"\A---\n.*?^---$|^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)|\Z)|^## +(?P<name>[^\n]+?) *$",
    re.DOTALL | re.MULTILINE,
)

# The headings of a card with the texts below them. The header has the heading "".
_Sections = list[tuple[str, str]]


def write_card(run_dir: str | os.PathLike[str]) -> str:
    """Write `CARD.md` into the folder of a run, with its loss curve if it is a pretraining, and return the card's path.

    People's own texts in an older card are kept: the header, the purpose, the limitations, the comments, and other
    sections, which go to the end.
    """
    if (folder := find_by_name(run_dir)) != os.fspath(run_dir) and exists(card := join(folder, CARD_FILE)):
        return card
    try:
        facts = gather_facts(run_dir)
        text = card_text(facts)
        # Before anything is written.
        drawn = summarize_runs([facts.run_dir]) if isinstance(facts, RunFacts) and facts.has_loss else []
    except (InputError, OSError, MemoryError):
        raise
    # A value of another type or range may be in any file of the run, and end in any error, also of the templates.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"A file of the run has invalid content: {reason}. Received: {os.fspath(run_dir)!r}. "
            "Choose the folder of another run."
        ) from error
    path = join(facts.run_dir, CARD_FILE)
    if exists(path):
        text = _join_sections(_keep_sections(_split_sections(text), _split_sections(_read_text(path))))
    write_text(path, text)
    if drawn:
        plot_runs(drawn, join(facts.run_dir, PICTURE))
    return path


def copy_card(config: ConvertConfig) -> None:
    """Copy the card of a run, if it has one, to the preset that its champion was converted into, with its pictures."""
    source = find_by_name(config.input)
    if not exists(path := join(source, CARD_FILE)):
        return
    title = f"# Card: {os.path.basename(os.path.abspath(config.output))}"
    conversion = verb_command("convert", ConvertConfig, asdict(config))
    changes: dict[str, Callable[[str], str]] = {
        "": lambda text: re.sub("^# Card: .*$", lambda _: title, text, count=1, flags=re.MULTILINE),
        _STEPS: lambda text: f"{text.rstrip()}\n\nThe preset was made of the champion:\n\n```sh\n{conversion}\n```",
    }
    sections = _split_sections(_read_text(path))
    text = _join_sections([(name, changes.get(name, str)(text)) for name, text in sections])
    files = {CARD_FILE: text.encode()}
    for name in (PICTURE, CONFUSION_PICTURE):
        if f"({name})" in text and exists(picture := join(source, name)):
            files[name] = read_bytes(picture)
    for name, content in files.items():
        with atomic_output(join(config.output, name)) as temporary:
            temporary.write_bytes(content)


def card_text(facts: RunFacts | FinetuningFacts) -> str:
    """Render the text of a card, which depends on nothing but the facts."""
    values = {
        "facts": facts,
        "name": os.path.basename(facts.run_dir),
        "options": [(name, value) for name, value in facts.config.items() if name not in _PATHS and value is not None],
    }
    if isinstance(facts, FinetuningFacts):
        template, values = "finetuning.md.j2", values | _finetuning_values(facts)
    else:
        template, values = "pretraining.md.j2", values | _pretraining_values(facts)
    return _join_sections(_split_sections(_templates().get_template(template).render(values)))


def _pretraining_values(facts: RunFacts) -> dict[str, Any]:
    backbone = facts.backbone or {}
    commands, not_recorded = reproduction_steps(
        facts.config, [(folder.path, folder.manifest) for folder in facts.folders]
    )
    step = facts.champion and facts.champion.step
    row = next((row for row in facts.rows if row["step"] == step), {})
    return {
        "pipeline_tag": "fill-mask",
        "sizes": [(name, backbone[name]) for name in _SIZES if name in backbone],
        "commands": commands,
        "not_recorded": not_recorded,
        "seconds": sum(row.get("seconds", 0) for row in facts.rows),
        "figures": [(name, _number(value)) for name, value in row.items()],
        "evaluation_rows": evaluation_rows(facts.evaluation["scores"]) if facts.evaluation else [],
        "picture": PICTURE,
    }


def _finetuning_values(facts: FinetuningFacts) -> dict[str, Any]:
    config_class = FinetuneTokensConfig if facts.is_tagger else FinetuneTextConfig
    return {
        "pipeline_tag": "token-classification" if facts.is_tagger else "text-classification",
        "labels": [f"`{label}`" for label in facts.scores.data.get("labels", [])],
        "command": verb_command(config_class.kind, config_class, facts.config),
    }


# === Templates ===


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tibert_keras.cards"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.filters |= {"number": _number, "table": _table}
    environment.filters["duration"] = lambda seconds: str(timedelta(seconds=round(seconds)))
    return environment


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _table(rows: Iterable[Iterable[Any]], *header: str) -> str:
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# === Sections ===


def _read_text(path: str) -> str:
    return decode_utf8(read_bytes(path), path).removeprefix("\ufeff").replace("\r\n", "\n")


def _split_sections(text: str) -> _Sections:
    headings = [match for match in _HEADING.finditer(text) if match["name"]]
    names, starts = ["", *(match["name"] for match in headings)], [0, *(match.end() for match in headings)]
    ends = [*(match.start() for match in headings), len(text)]
    return [(name, text[start:end]) for name, start, end in zip(names, starts, ends, strict=True)]


def _join_sections(sections: _Sections) -> str:
    return "\n\n".join((f"## {name}\n\n" if name else "") + text.strip("\n") for name, text in sections) + "\n"


def _keep_sections(sections: _Sections, older: _Sections) -> _Sections:
    """Take over the sections that people write from an older card, and append those that they added."""
    theirs: dict[str, str] = {}
    added = []
    for name, text in older:
        if name in theirs or name not in dict(sections):
            added.append((name, text))
        else:
            theirs[name] = text
    return [(name, theirs.get(name, text) if name in _OF_PEOPLE else text) for name, text in sections] + added
