"""Runs a verb of the command line: exit statuses, and one line on what went wrong."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentError

from tibert_keras.cli.flags import parse
from tibert_keras.errors import InputError, RunInterrupted


def run_command(verbs: Mapping[str, Callable[[Any], None]], arguments: Sequence[str]) -> int:
    """Run the verb that a command line names.

    Args:
        verbs: By name, functions of one dataclass each.
        arguments: The words after `tibert`.

    Returns:
        The exit status: 0 on success, 1 if an input could not be used, 2 if the command line could not, 130 if the
        keyboard interrupted it.
    """
    verb, words = split_verb(list(arguments) or ["--help"], verbs)
    if verb in ("-h", "--help"):
        print(_overview(verbs))
        return 0
    if verb not in verbs:
        print(f"tibert: no such verb. Received: {verb!r}. Give one of {', '.join(verbs)}.", file=sys.stderr)
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("tibert_keras").setLevel(logging.INFO)
    try:
        verbs[verb](parse(verbs[verb], words, name=f"tibert {verb}"))
    except ArgumentError as error:
        return _complain(verb, f"{str(error).rstrip('.')}. See `tibert {verb} --help`.", status=2)
    except InputError as error:
        return _complain(verb, str(error), status=1)
    except OSError as error:
        # The disk is full, or a folder cannot be written to.
        return _complain(verb, f"{error.strerror or error}. Received: {error.filename!r}.", status=1)
    except RunInterrupted as stop:
        # Not a failure: whoever sent the signal means to go on.
        return _complain(verb, str(stop), status=0)
    except KeyboardInterrupt:
        return _complain(verb, "Stopped.", status=130)
    return 0


def split_verb(words: Sequence[str], verbs: Container[str]) -> tuple[str, Sequence[str]]:
    """Part the verb, of one word or two, from what follows."""
    count = 2 if " ".join(words[:2]) in verbs else 1
    return " ".join(words[:count]), words[count:]


def _complain(verb: str, message: str, *, status: int) -> int:
    print(f"tibert {verb}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _overview(verbs: Mapping[str, Callable[[Any], None]]) -> str:
    width = max(map(len, verbs)) + 2
    lines = [f"  {verb:<{width}}{(inspect.getdoc(function) or '').splitlines()[0]}" for verb, function in verbs.items()]
    return "\n".join(["usage: tibert VERB [FLAGS], tibert VERB --help", "", *lines])
