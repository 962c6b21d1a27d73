"""The card of a fine-tuning: its data, code, command, options and scores."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from tibert_keras.cards.commands import finetune_command
from tibert_keras.cards.sections import FILL_IN, Sections, code_versions, table
from tibert_keras.finetuning.scores import Scores, read_scores, score_rows
from tibert_keras.finetuning.seeds import CONFUSION_PICTURE
from tibert_keras.runs.environment import read_environment
from tibert_keras.runs.folder import read_config, read_kind
from tibert_keras.storage import exists, join, read_json

_HEADER = """---
language: bo
license: # to fill in
library_name: keras-hub
pipeline_tag: {task}
tags:
- albert
- classical-tibetan
- keras-hub
---

# Card: {name}

"""
_TOKENS = """A tagger of classical Tibetan: it finds the words of a text and their parts of speech.

*To fill in: what this one is meant for.*"""
_TEXTS = """A classifier of texts in classical Tibetan, which tells {labels} apart.

*To fill in: what this one is meant for.*"""
_LIMITATIONS = "what an expert would not expect: which texts and spellings it never saw, what it is bad at."
_COMMENTS = "the hardware, whether options were swept, and whatever did not go as planned; none of it was recorded."
_WHERE = "To be given in the folder in which the run was begun."
# Options that say where things are, and are in the command.
_PATHS = {"input_file", "output_dir", "model", "split_file", "validation_file", "test_file", "compare_with"}
_ADVICE = "Choose the folder of another run."


def is_finetuning(run_dir: str) -> bool:
    """Whether a run is a fine-tuning, and not a pretraining.

    Raises:
        InputError: If the folder holds no run.
    """
    return read_kind(run_dir) != "pretrain"


def finetuning_sections(run_dir: str) -> Sections:
    """The sections of a fine-tuning's card by their headings; the first, the header with the title, has none.

    Raises:
        InputError: If a file of the run is damaged, or no seed has ended.
    """
    config, scores = read_config(run_dir), read_scores(run_dir)
    is_tagger = read_kind(run_dir) == "finetune tokens"
    labels = " and ".join(f"`{label}`" for label in scores.data.get("labels", []))
    options = [(name, value) for name, value in config.items() if name not in _PATHS and value is not None]
    sections = {
        "": _HEADER.format(
            name=os.path.basename(run_dir), task="token-classification" if is_tagger else "text-classification"
        ),
        "Purpose": _TOKENS if is_tagger else _TEXTS.format(labels=labels),
        "Model description": _model(run_dir, config),
        "Training data": _data(scores.data),
        "Code version": code_versions(read_environment(run_dir)),
        "Execution steps": f"{_WHERE}\n\n```sh\n{finetune_command(config)}\n```",
        "Hyperparameters": table(("option", "value"), options),
        "Scores": _scores(run_dir, scores),
        "Notable limitations": FILL_IN.format(_LIMITATIONS),
        "Additional comments": FILL_IN.format(_COMMENTS),
    }
    return list(sections.items())


def _model(run_dir: str, config: dict[str, Any]) -> str:
    begun = f"the weights of `{config.get('model')}`"
    if not config.get("pretrained", True):
        begun = f"fresh weights, with the architecture and the tokenizer of `{config.get('model')}`"
    text = f"ALBERT with a classifier on top, begun with {begun}."
    path = join(run_dir, "champion", "metadata.json")
    if not exists(path):
        return text
    count = read_json(path, what="a part of a preset", advice=_ADVICE).get("parameter_count")
    return f"{text} It has {count:,} parameters." if isinstance(count, int) else text


def _data(data: dict[str, Any]) -> str:
    counts = [
        (unit, *(data[unit].get(part, "-") for part in ("train", "validation", "test")))
        for unit in ("documents", "words", "texts")
        if unit in data
    ]
    return "\n\n".join(
        [
            table(("", "training", "validation", "test"), counts),
            f"The training's were cut into {data.get('sequences', 0):,} sequences. "
            f"The labels are {', '.join(f'`{label}`' for label in data.get('labels', []))}.",
            table(("file", "SHA-256"), data.get("files", {}).items()),
        ]
    )


def _scores(run_dir: str, scores: Scores) -> str:
    header, *rows = score_rows(run_dir, scores)
    seeds = [
        (seed["seed"], seed["epoch"], seed["epochs"], timedelta(seconds=round(seed["seconds"])), *_both(seed, scores))
        for seed in scores.seeds
    ]
    parts = [
        f"On the {scores.part} data, the mean and the deviation over the seeds, beside a baseline that needs no model"
        f"{', over all words, those seen in training and those not' * ('not seen' in header)}:",
        table(header, rows),
        f"Of each seed the epoch was kept with the highest {scores.criterion} on the validation data. "
        f"`champion/` is the model of seed {scores.seeds[scores.best_seed()]['seed']}.",
        table(("seed", "epoch", "of", "time", f"{scores.criterion} (validation)", f"({scores.part})"), seeds),
    ]
    if exists(join(run_dir, CONFUSION_PICTURE)):
        parts.append(f"![What was taken for what]({CONFUSION_PICTURE})")
    return "\n\n".join(parts)


def _both(seed: dict[str, Any], scores: Scores) -> tuple[str, ...]:
    return tuple(f"{seed[part][scores.criterion]:.4f}" for part in ("validation", scores.part))
