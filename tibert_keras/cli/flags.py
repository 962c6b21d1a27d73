"""Words of a command line to a dataclass: flags, help and YAML configs from its fields and their docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser

from tibert_keras.storage import read_bytes

# Fields that are given as words, not as flags.
_POSITIONAL = {"file", "models", "run_dir", "text"}
# Fields that are called like a word of Python's, which no field can be, and their flags.
_KEYWORDS = {"from_": "from"}
# How the original's flags may spell the value of a switch.
_TRUTH = {"true": "true", "t": "true", "1": "true", "false": "false", "f": "false", "0": "false"}


def parse(function: Callable[[Any], None], words: Sequence[str], *, name: str) -> Any:
    """Parse words into the dataclass that a function takes.

    Args:
        function: Takes one dataclass, and has a docstring that explains.
        words: The command line after the name. Flags override what the YAML file after `--config` says.
        name: What the help calls the command.

    Returns:
        The dataclass.

    Raises:
        ArgumentError: If a flag or value is unknown.
        InputError: If the values do not go together.
    """
    (config_class,) = [kind for field, kind in get_type_hints(function).items() if field != "return"]
    # Not abbreviated: a flag that is added later must not change what an old command means.
    parser = ArgumentParser(prog=name, description=inspect.getdoc(function), exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with values for any of the flags below")
    parser.add_argument("--verbose", action="store_true", help="Show what TensorFlow and other libraries log too.")
    kinds = get_type_hints(config_class)
    # The value where there are no words.
    positional: dict[str, Any] = {field: "" if kinds[field] is str else [] for field in _POSITIONAL & kinds.keys()}
    keywords = [field for field in _KEYWORDS if field in kinds]
    for field, none in positional.items():
        nargs = "?" if kinds[field] is str else "*"
        parser.add_argument(field, nargs=nargs, type=str, default=none, help=_field_help(config_class, field))
    for field in keywords:
        help_text = _field_help(config_class, field)
        parser.add_argument(f"--{_KEYWORDS[field]}", type=kinds[field], required=True, help=help_text)
    parser.add_class_arguments(config_class, as_group=False, skip={*positional, *keywords})
    switches = {field for field, kind in kinds.items() if kind is bool}
    values = parser.parse_args(_spell_out_switches(_config_first(words), switches)).as_dict()
    # Read by `main`: it has to come before the libraries are imported.
    del values["verbose"]
    for config in values.pop("config") or []:
        for field, none in positional.items():
            # argparse puts "no words" in place of what the file says.
            values[field] = values[field] or yaml.safe_load(read_bytes(config.absolute)).get(field, none)
    for field in keywords:
        values[field] = values.pop(_KEYWORDS[field])
    return config_class(**values)


def _field_help(config_class: type, name: str) -> str | None:
    fields = docstring_parser.parse(inspect.getdoc(config_class) or "").params
    return next((field.description for field in fields if field.arg_name == name), None)


def _config_first(words: Sequence[str]) -> list[str]:
    """Move `--config FILE` to the front: whatever comes after it overrides it."""
    first, others = [], list(words)
    while "--config" in others[:-1]:
        index = others.index("--config")
        first += others[index : index + 2]
        del others[index : index + 2]
    return [*first, *sorted(others, key=lambda word: not word.startswith("--config="))]


def _spell_out_switches(words: Sequence[str], switches: set[str]) -> list[str]:
    """Give switches their values, as the original's flags take them: `--do_train`, `--nodo_train`, `--do_train=1`."""
    spelled = []
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in switches and value:
            word = f"--{name}={_TRUTH.get(value.lower(), value)}"
        elif word.startswith("--") and name in switches and following.lower() not in _TRUTH.values():
            word = f"{word}=true"
        elif word.startswith("--no") and name.removeprefix("no") in switches:
            word = f"--{name.removeprefix('no')}=false"
        spelled.append(word)
    return spelled
