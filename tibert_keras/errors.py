"""The one error that users of the command line are meant to see, and the check that most often raises it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used: a file, an option, or a mix of them.

    The message is one line: what is wrong, the value received, and what to do. The command line prints it
    and exits with status 1; from Python it is an ordinary `ValueError`.
    """


def refuse_changes(previous: Mapping[str, Any], current: Mapping[str, Any], *, folder: str) -> None:
    """Refuse to mix what is already in a folder with the results of other options.

    Args:
        previous: Options that the folder's content was made with.
        current: Options given now.
        folder: The folder, for the message.

    Raises:
        InputError: If an option differs, with both values.
    """
    changed = [name for name in {**previous, **current} if previous.get(name) != current.get(name)]
    if changed:
        values = ", ".join(f"{name}={previous.get(name)!r} there, {current.get(name)!r} now" for name in changed)
        raise InputError(
            f"{folder!r} holds results of other options. Received: {values}. Choose another output folder."
        )
