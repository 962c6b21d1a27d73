"""The errors that users of the command line see, and the checks of options that raise them most often."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints


class InputError(ValueError):
    """Something the user gave cannot be used: a file, an option, or a mix of them.

    The message is one line: what is wrong, the value received, and what to do. The command line prints it
    and exits with status 1; from Python it is an ordinary `ValueError`.
    """

    # Keras adds the arguments of the layer that raised an error, in many lines, unless it has this.
    _keras_call_info_injected = True


class DivergedError(InputError):
    """The training loss or a weight is not finite, or the loss has risen far above its lowest."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class RunInterrupted(Exception):  # noqa: N818 (nothing went wrong)
    """A run was told to stop and has saved a checkpoint, from which the same command resumes it."""

    def __init__(self, step: int) -> None:
        super().__init__(f"Stopped at step {step}, where a checkpoint is. Give the same command again to go on.")
        self.step = step


def check_options(config: Any, *, positive: Sequence[str] = (), not_negative: Sequence[str] = ()) -> None:
    """Check the choices and numbers among the fields of a dataclass.

    A field of a `Literal` type must have one of its values, those named in `positive` be positive and finite, and those
    in `not_negative` at least 0. Numbers that are `None` are not checked.
    """
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal and getattr(config, name) not in get_args(kind):
            choices = ", ".join(map(repr, get_args(kind)))
            raise InputError(f"No such {name}. Received: {name}={getattr(config, name)!r}. Give one of {choices}.")
    for name in [*positive, *not_negative]:
        value = getattr(config, name)
        # Rejects NaN too.
        if value is not None and not (0 < value < math.inf if name in positive else value >= 0):
            lowest = "positive" if name in positive else "at least 0"
            raise InputError(f"{name} must be {lowest}. Received: {name}={value}.")


def refuse_changes(previous: Mapping[str, Any], current: Mapping[str, Any], *, folder: str) -> None:
    """Refuse to mix the results in a folder with those of other options."""
    changed = [name for name in {**previous, **current} if previous.get(name) != current.get(name)]
    if changed:
        values = ", ".join(f"{name}={previous.get(name)!r} there, {current.get(name)!r} now" for name in changed)
        raise InputError(
            f"{folder!r} holds results of other options. Received: {values}. Choose another output folder."
        )


def check_arguments(
    function: str, given: Mapping[str, Any], allowed: Collection[str], advice: str = "Leave it out."
) -> None:
    """Refuse arguments that do not exist, which Keras's models would ignore."""
    if unknown := [name for name in given if name not in allowed]:
        shown = ", ".join(f"{name}={given[name]!r}"[:60] for name in unknown)
        raise InputError(f"{function} takes no such argument. Received: {shown}. {advice}")
