"""The command line: `tibert <verb>`, one verb a stage. Results go to standard output, the log to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from tibert_keras.command import run_command
from tibert_keras.export import FilledMask
from tibert_keras.quickstart import QuickstartConfig, run_quickstart
from tibert_keras.verbs import finetune, prepare, train, use


def quickstart(config: QuickstartConfig) -> None:
    """Run every stage on a small made-up corpus, in a few minutes."""
    for mask in run_quickstart(config):
        _print_mask(mask)


def _print_mask(mask: FilledMask) -> None:
    """Print a line with tabs: number of text and mask, the guesses with their probabilities, the filled text."""
    guesses = " ".join(
        f"{piece}:{probability:.3f}" for piece, probability in zip(mask.pieces, mask.probabilities, strict=True)
    )
    print(f"{mask.text + 1}.{mask.mask + 1}\t{guesses}\t{mask.filled}")


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
