"""The card of a run, in the form of the original's registry: https://github.com/CompassionAI/data-registry."""

from __future__ import annotations

import os
from datetime import timedelta

from tibert_keras.cards.commands import corpus_commands, corpus_of, pretrain_command, records_command, tokenizer_command
from tibert_keras.cards.facts import RecordFolder, RunFacts, gather_facts
from tibert_keras.cards.finetuning import finetuning_sections, is_finetuning
from tibert_keras.cards.sections import FILL_IN, Sections, code_versions, join_sections, table, write_sections
from tibert_keras.records.manifest import Manifest
from tibert_keras.runs.summary import plot_runs, summarize_runs
from tibert_keras.storage import join

CARD_FILE = "CARD.md"
PICTURE = "loss.png"

_HEADER = """---
language: bo
license: # to fill in
library_name: keras-hub
pipeline_tag: fill-mask
tags:
- albert
- masked-lm
- classical-tibetan
- keras-hub
---

# Card: {name}

"""
_PURPOSE = """A masked language model for classical Tibetan: it guesses the pieces of a text behind `[MASK]`, and is
where taggers and classifiers start from.

*To fill in: what this one is meant for.*"""
_LIMITATIONS = "what an expert would not expect: which texts and spellings it never saw, what it is bad at."
_COMMENTS = "the hardware, whether options were swept, and whatever did not go as planned; none of it was recorded."
# Options that say where things are, and are in the commands.
_PATHS = {"input_file", "output_dir", "albert_config_file", "spm_model_file", "validation_file", "init_checkpoint"}
_ROLES = {"input_file": "Trained on", "validation_file": "Validated on"}
# Of records, by whether they changed.
_STATES = {
    None: "whose hash the run did not note",
    False: "the one that the run read",
    True: "**which has changed since the run read it**",
}
_SIZES = (
    "vocabulary_size", "num_layers", "num_groups", "num_inner_repetitions", "embedding_dim", "hidden_dim",
    "intermediate_dim", "num_heads", "max_sequence_length", "num_segments", "dropout",
)  # fmt: skip


def write_card(run_dir: str | os.PathLike[str]) -> str:
    """Write `CARD.md` into the folder of a run, and for a pretraining `loss.png`, the curve of its losses.

    What people wrote into an older card (the header, the purpose, the limitations, the comments, and sections that
    they added, which go to the end) is kept.

    Args:
        run_dir: The run's folder.

    Returns:
        The card's path.

    Raises:
        InputError: If the folder holds no run, or a file in it is damaged, an older card included.

    Example:
    ```python
    print(Path(write_card("run")).read_text())
    ```
    """
    run_dir = os.fspath(run_dir).rstrip("/") or "/"
    if is_finetuning(run_dir):
        return write_sections(finetuning_sections(run_dir), join(run_dir, CARD_FILE))
    facts = gather_facts(run_dir)
    path = write_sections(card_sections(facts), join(facts.run_dir, CARD_FILE))
    if any("loss" in row for row in facts.rows):
        plot_runs(summarize_runs([facts.run_dir]), join(facts.run_dir, PICTURE))
    return path


def card_text(facts: RunFacts) -> str:
    """The text of a card, which depends on nothing but the facts."""
    return join_sections(card_sections(facts))


def card_sections(facts: RunFacts) -> Sections:
    """The sections of a card by their headings; the first, the header with the title, has none."""
    sections = {
        "": _HEADER.format(name=os.path.basename(facts.run_dir)),
        "Purpose": _PURPOSE,
        "Model description": _model(facts),
        "Training data": _data(facts),
        "Code version": code_versions(facts.environment),
        "Execution steps": _steps(facts),
        "Hyperparameters": _hyperparameters(facts),
        "Champion selection": _champion(facts),
        "Notable limitations": FILL_IN.format(_LIMITATIONS),
        "Additional comments": FILL_IN.format(_COMMENTS),
    }
    return list(sections.items())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


# === Sections ===


def _model(facts: RunFacts) -> str:
    task = "masked pieces and the order of sentences" if facts.config.get("sop") else "masked pieces"
    lines = [f"ALBERT, with SentencePiece's pieces of text for tokens, trained to predict {task}."]
    if facts.parameter_count is not None:
        lines.append(f"Its encoder has {facts.parameter_count:,} parameters.")
    if not facts.backbone:
        return " ".join([*lines, "Its sizes are missing: the run has no initial model."])
    sizes = [(name, facts.backbone[name]) for name in _SIZES if name in facts.backbone]
    return f"{' '.join(lines)}\n\n{table(('size', 'value'), sizes)}"


def _data(facts: RunFacts) -> str:
    parts = [_tokenizer(facts)]
    for option, folders in facts.records.items():
        parts.append(f"{_ROLES[option]} `{facts.config[option]}`.")
        if option == "input_file" and facts.num_examples is not None:
            parts[-1] += f" The run counted {facts.num_examples:,} examples."
        if not folders:
            parts.append("The files are not there any more.")
        parts += [part for folder in folders for part in _folder(folder)]
    if facts.lost_records:
        parts.append(
            "Of records that are not there any more the run noted this hash, of the manifest or the file list:"
        )
        parts.append(table(("records", "SHA-256"), facts.lost_records.items()))
    if len(facts.records) < len(_ROLES):
        parts.append("There was no validation.")
    return "\n\n".join(parts)


def _tokenizer(facts: RunFacts) -> str:
    if facts.tokenizer_sha256 is None:
        return "The tokenizer was not recorded."
    return f"The tokenizer, SentencePiece's model in the champion, has the SHA-256 `{facts.tokenizer_sha256}`."


def _folder(folder: RecordFolder) -> list[str]:
    used = folder.used
    if used is None:
        return [
            f"`{folder.path}`, {_STATES[folder.changed]}, has no manifest: how its files were made was not recorded. "
            f"The names and sizes of all that the run reads there have the SHA-256 `{folder.sha256}`."
        ]
    known = [(name, used.files.get(name, {}), used.sources.get(name, {})) for name in folder.files]
    rows = [
        (name, file.get("examples", "-"), file.get("sha256", "-"), text.get("file", "-"), text.get("sha256", "-"))
        for name, file, text in known
    ]
    return [
        f"By the manifest of `{folder.path}`, {_STATES[folder.changed]}: {used.summary()}. "
        f"Its tokenizer has the SHA-256 `{used.tokenizer['sha256']}`.",
        table(("file", "examples", "SHA-256", "named after the text", "SHA-256 of the text"), rows),
    ]


def _steps(facts: RunFacts) -> str:
    lines = [
        "To be given in the folder in which the run was begun. Paths of texts, corpora and tokenizers are as they were "
        "given to the earlier verbs."
    ]
    before: list[str] = []
    records: list[str] = []
    for path, folder in _folders(facts).items():
        lines += [f"{missing} was not recorded." for missing in _not_recorded(path, folder.manifest)]
        if folder.manifest is not None and (command := records_command(path, folder.manifest)):
            before += [*corpus_commands(folder.manifest), tokenizer_command(folder.manifest) or ""]
            records.append(command)
    if "$TEXTS" in "".join(records):
        lines.append("`TEXTS` is the folder of the texts, which was not recorded; their names and hashes are above.")
        records.insert(0, "TEXTS=FOLDER_OF_THE_TEXTS")
    # Those of the corpus before those of the tokenizer, each once: training and validation have them in common.
    before = sorted(filter(None, dict.fromkeys(before)), key=lambda command: not command.startswith("tibert corpus"))
    return "\n".join(lines) + "\n\n```sh\n" + "\n".join([*before, *records, pretrain_command(facts.config)]) + "\n```"


def _not_recorded(path: str, manifest: Manifest | None) -> list[str]:
    """What is not known of how a folder of records was made."""
    if manifest is None or not manifest.sources:
        return [f"From which texts `{path}` was made"]
    parts = []
    if any(corpus_of(source, manifest) is None for source in manifest.sources.values()):
        parts.append(f"How the texts of `{path}` were made of an edition")
    if not tokenizer_command(manifest):
        parts.append(f"How the tokenizer of `{path}` was trained")
    return parts


def _hyperparameters(facts: RunFacts) -> str:
    options = [(name, value) for name, value in facts.config.items() if name not in _PATHS and value is not None]
    parts = ["Of the training:", table(("option", "value"), options)]
    for path, folder in _folders(facts).items():
        if folder.manifest is not None:
            parts += [f"Of the records in `{path}`:", table(("option", "value"), folder.manifest.options.items())]
    return "\n\n".join(parts)


def _folders(facts: RunFacts) -> dict[str, RecordFolder]:
    """The folders of records, each once: those of training and validation may lie in one."""
    return {folder.path: folder for role in facts.records.values() for folder in role}


def _champion(facts: RunFacts) -> str:
    steps = f"The run is at step {facts.step:,} of {facts.config.get('num_train_steps', 0):,}."
    if seconds := sum(row.get("seconds", 0) for row in facts.rows):
        steps += f" Its intervals took {timedelta(seconds=round(seconds))} (h:mm:ss)."
    parts = [steps, _chosen(facts)]
    if any("loss" in row for row in facts.rows):
        parts.append(f"![The loss over the steps]({PICTURE})")
    return "\n\n".join(parts)


def _chosen(facts: RunFacts) -> str:
    if facts.champion is None:
        return "No champion has been chosen yet."
    step, criterion = facts.champion.step, facts.champion.criterion
    meaning = {"loss": "training loss over the interval before a checkpoint", "val_loss": "loss on the validation data"}
    text = (
        f"The champion is the checkpoint of step {step:,}, which has the lowest "
        f"{meaning.get(criterion, criterion)}, {facts.champion.value:.4f} nats, "
        f"of the {facts.champion.candidates} that it was chosen from."
    )
    rows = [row for row in facts.rows if row["step"] == step]
    figures = [(name, _number(value)) for name, value in (rows[0] if rows else {}).items()]
    return f"{text}\n\n{table(('in the interval before', 'figure'), figures)}" if figures else text
