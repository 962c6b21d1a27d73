"""The command line: `tibert <verb>`, one verb a stage. Results go to standard output, the log to standard error."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tibert_keras.errors import InputError


@dataclass(frozen=True)
class Verb:
    """A subcommand: which function runs it, from a dataclass of its options.

    Attributes:
        target: `module:function`; the function takes the dataclass and prints its result.
        config: `module:Dataclass` with the options.
        help: What it does, in a line.
    """

    target: str
    config: str
    help: str


VERBS = {
    "quickstart": Verb("commands:quickstart", "quickstart:QuickstartConfig", "all stages, on a small made-up corpus"),
    "corpus": Verb("commands:corpus", "corpus:CorpusConfig", "an edition of the canon to text files of sections"),
    "tokenizer": Verb("commands:tokenizer", "tokenizers:TokenizerConfig", "train a SentencePiece model"),
    "records": Verb("commands:records", "data:RecordsConfig", "text files to TFRecords of masked examples"),
    "pretrain": Verb("commands:pretrain", "commands:PretrainCommand", "train a masked language model"),
    "champion": Verb("commands:champion", "commands:ChampionCommand", "choose the best checkpoint of runs"),
    "evaluate": Verb("commands:evaluate", "commands:EvaluateCommand", "loss and accuracy on held-out records"),
    "export": Verb("commands:export", "commands:ExportCommand", "a model to a SavedModel for serving"),
    "fill-mask": Verb("commands:fill_mask", "commands:FillMaskCommand", "guess what is behind [MASK] in texts"),
}
