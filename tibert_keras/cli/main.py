"""The command line: `tibert <verb>`, one verb a stage. Results go to standard output, the log to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from tibert_keras.cli import data as prepare
from tibert_keras.cli import finetune, train, use
from tibert_keras.cli.command import run_command
from tibert_keras.cli.quickstart import QuickstartConfig, run_quickstart


def quickstart(config: QuickstartConfig) -> None:
    """Run every stage on a small made-up corpus, in a few minutes."""
    use.print_filled(run_quickstart(config))


VERBS: dict[str, Callable[[Any], None]] = {
    "quickstart": quickstart,
    "corpus": prepare.corpus,
    "tokenizer": prepare.tokenizer,
    "records": prepare.records,
    "records inspect": prepare.look,
    "pretrain": train.train,
    "runs": train.runs,
    "champion": train.champion,
    "evaluate": train.score,
    "export": use.export,
    "convert": use.exchange,
    "card": train.card,
    "finetune tokens": finetune.tokens,
    "finetune text": finetune.text,
    "fill-mask": use.fill,
    "tag": use.tag,
    "segment": use.segment,
    "segment examples": use.make_segment_examples,
    "serve": use.serve_models,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: The words after `tibert`; those of the process by default.

    Returns:
        The exit status, as of `run_command`.
    """
    return run_command(VERBS, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
