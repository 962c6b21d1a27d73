"""Runs `tibert VERB`, one verb per stage. Results go to standard output, the log to standard error."""

import inspect
import logging
import os
import select
import sys
from collections.abc import Callable, Container, Sequence
from typing import Any

from tibert_keras.cli import data, models, training
from tibert_keras.cli.quickstart import quickstart
from tibert_keras.cli.stderr import filter_stderr
from tibert_keras.errors import InputError, RunInterrupted

# Each function takes one dataclass, which defines the flags and their help, and imports what it uses when it runs.
VERBS: dict[str, Callable[[Any], None]] = {
    "quickstart": quickstart,
    "corpus": data.corpus,
    "tokenizer": data.tokenizer,
    "records": data.records,
    "records inspect": data.records_inspect,
    "pretrain": training.pretrain,
    "runs": training.runs,
    "champion": training.champion,
    "evaluate": training.evaluate,
    "finetune tokens": training.finetune_tokens,
    "finetune text": training.finetune_text,
    "card": training.card,
    "export": models.export,
    "convert": models.convert,
    "fill-mask": models.fill_mask,
    "tag": models.tag,
    "classify": models.classify,
    "segment": models.segment,
    "segment examples": models.segment_examples,
    "serve": models.serve,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the words after `tibert`, by default those of the process, and return the exit status.

    This is 0 on success, 1 for bad input, 2 for a bad command line, and 130 after Ctrl-C.
    """
    verb, words = split_verb(list(sys.argv[1:] if arguments is None else arguments) or ["--help"], VERBS)
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb not in VERBS:
        print(f"tibert: no such verb. Received: {verb!r}. Give one of {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    verbose = "--verbose" in words
    if arguments is None and not verbose:
        filter_stderr()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    logging.getLogger("tibert_keras").setLevel(logging.INFO)
    return _run(verb, words)


def split_verb(words: Sequence[str], verbs: Container[str]) -> tuple[str, Sequence[str]]:
    """Split a command line into the verb, one or two words, and its arguments."""
    count = 2 if " ".join(words[:2]) in verbs else 1
    return " ".join(words[:count]), words[count:]


def _run(verb: str, words: Sequence[str]) -> int:
    # Imported here because the list of verbs needs neither.
    from jsonargparse import ArgumentError

    from tibert_keras.cli.flags import parse

    try:
        VERBS[verb](parse(VERBS[verb], words, name=f"tibert {verb}"))
        sys.stdout.flush()
    except ArgumentError as error:
        return _complain(verb, f"{str(error).rstrip('.')}. See `tibert {verb} --help`.", status=2)
    except InputError as error:
        return _complain(verb, str(error), status=1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return 0
        # For example, the disk is full or a folder is not writable.
        return _complain(verb, f"{error.strerror or error}. Received: {error.filename!r}.", status=1)
    except MemoryError:
        return _complain(verb, "There is not enough memory. Give smaller batches, or a machine with more.", status=1)
    except RunInterrupted as stop:
        # Not a failure: the run can be resumed.
        return _complain(verb, str(stop), status=0)
    except KeyboardInterrupt:
        return _complain(verb, "Stopped.", status=130)
    return 0


def nobody_reads() -> bool:
    """Whether the reader of standard output, such as `head`, has gone; then nothing more is written to it."""
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    if not any(events & select.POLLERR for _, events in output.poll(0)):
        return False
    # Python would complain of the rest at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _complain(verb: str, message: str, *, status: int) -> int:
    print(f"tibert {verb}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _overview() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [f"  {verb:<{width}}{(inspect.getdoc(function) or '').splitlines()[0]}" for verb, function in VERBS.items()]
    return "\n".join(["usage: tibert VERB [FLAGS], tibert VERB --help", "", *lines])
