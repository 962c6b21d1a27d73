"""Parses a command line into a dataclass, whose fields and docstring define the flags and their help."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import product, zip_longest
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from tibert_keras.errors import InputError
from tibert_keras.globs import check_name
from tibert_keras.json_types import misfit
from tibert_keras.yaml_files import read_yaml

# Fields given as positional arguments, not as flags, and what those are that have to be given.
_POSITIONAL = {"file": "file", "run_dir": "run", "models": None, "text": None}
# Fields whose flag is a Python keyword, which cannot name a field.
_KEYWORDS = {"from_": "from"}
# How messages name types.
_TYPES: dict[Any, list[str]] = {
    int: ["a whole number"], float: ["a number"], bool: ["true", "false"], str: ["text"], dict: ["a JSON object"],
    list: ["a list"],
}  # fmt: skip
_MISFIT = re.compile(r'Parser key "(?P<name>\w+)":.*(?:Got value|Given value): (?P<value>.*)', re.DOTALL)
# Spellings of a boolean that the original's flags accept.
_TRUTH = {"true": "true", "t": "true", "1": "true", "false": "false", "f": "false", "0": "false"}


def parse(function: Callable[[Any], None], words: Sequence[str], *, name: str) -> Any:
    """Parse a command line into the dataclass that a function takes. Flags override `--config FILE.yaml`."""
    (config_class,) = [kind for field, kind in get_type_hints(function).items() if field != "return"]
    # No abbreviations: a flag added later must not change the meaning of an old command.
    parser = ArgumentParser(prog=name, description=inspect.getdoc(function), exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with values for any of the flags below")
    parser.add_argument("--verbose", action="store_true", help="Also show the logs of TensorFlow and other libraries.")
    kinds = get_type_hints(config_class)
    # The value of each if no words are given.
    positional: dict[str, Any] = {field: "" if kinds[field] is str else [] for field in _POSITIONAL if field in kinds}
    keywords = [field for field in _KEYWORDS if field in kinds]
    for field, none in positional.items():
        nargs = "?" if kinds[field] is str else "*"
        parser.add_argument(field, nargs=nargs, type=str, default=none, help=_field_help(config_class, field))
    for field in keywords:
        help_text = _field_help(config_class, field)
        parser.add_argument(f"--{_KEYWORDS[field]}", type=kinds[field], required=True, help=help_text)
    last = {field.name for base in config_class.__mro__ if "shown_last" in vars(base) for field in fields(base)}
    for shown in filter(None, (kinds.keys() - last, last)):
        hidden = kinds.keys() - shown
        parser.add_class_arguments(config_class, as_group=False, skip={*positional, *keywords, *hidden})
    switches = {field for field, kind in kinds.items() if kind in (bool, bool | None)}
    for word in words:
        check_name(word)
    # Before jsonargparse reads them: it has no bounds.
    paths, flags = _split_config(words)
    files = [read_yaml(path, what="a file of flags", advice="Give a YAML file of `flag: value`.") for path in paths]
    for field, config in product(positional, files):
        if misfit(config.get(field), str | list[str] | None) is not None:
            raise InputError(f"{field} has another type. Received: {field}={config[field]!r}. Give a list of words.")
    try:
        # The files first, since later arguments override earlier ones.
        given = [*(f"--config={path}" for path in paths), *_spell_out_switches(flags, switches)]
        values = parser.parse_args(given).as_dict()
    except ArgumentError as error:
        raise _explained(error, {_KEYWORDS.get(field, field): kind for field, kind in kinds.items()}) from error
    # `main` has read it already: it must take effect before the libraries are imported.
    del values["verbose"]
    del values["config"]
    for config in files:
        for field, none in positional.items():
            # argparse overwrites the file's value with the default.
            values[field] = values[field] or config.get(field, none)
    for field in positional:
        if (what := _POSITIONAL[field]) and not values[field]:
            raise InputError(f"There is no {what}. Received: {field}={values[field]!r}. Give the path of one.")
    for field in keywords:
        values[field] = values.pop(_KEYWORDS[field])
    defaults = {field.name: field.default for field in fields(config_class)}
    for field, value in values.items():
        name = _KEYWORDS.get(field, field)
        _check_range(name, value)
        # It would be the current folder, or `/`.
        if name in ("output", "output_dir") and value == "" != defaults[field]:
            raise InputError(f"{name} must be a path. Received: {name}=''. Give one.")
        # What jsonargparse lets through.
        if value is None and kinds[field] is not Any and type(None) not in get_args(kinds[field]):
            raise InputError(f"{name} needs a value. Received: {name}=null. Give one, or leave it out.")
    return config_class(**values)


def _explained(error: ArgumentError, kinds: dict[str, Any]) -> ArgumentError:
    """Say of a value that does not fit what would, where jsonargparse lists Python's types."""
    if not (match := _MISFIT.match(str(error))) or match["name"] not in kinds:
        return error
    *others, last = _described(kinds[name := match["name"]])
    fitting = f"{', '.join(others)} or {last}" if others else last
    return ArgumentError(None, f"{name} must be {fitting}. Received: {name}={match['value']!r}")


def _described(kind: Any) -> list[str]:
    """Name the values that a type allows."""
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    if names := _TYPES.get(kind) or _TYPES.get(get_origin(kind)):
        return names
    return [name for part in get_args(kind) if part is not NoneType for name in _described(part)]


def _check_range(name: str, value: Any) -> None:
    """Refuse what libraries behind the verbs would refuse in their own words: more than 32 bits, and NUL in text."""
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, int) and abs(each) >= 1 << 31:
            raise InputError(f"{name} is out of range. Received: {name}={each}. Give a number below {1 << 31}.")
        if isinstance(each, str) and "\0" in each:
            raise InputError(f"No name or text has a NUL character. Received: {name}={each!r}. Leave it out.")


def _field_help(config_class: type, name: str) -> str | None:
    fields = docstring_parser.parse(inspect.getdoc(config_class) or "").params
    return next((field.description for field in fields if field.arg_name == name), None)


def _split_config(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the files of `--config` from the other words."""
    files, others = [], []
    remaining = iter(words)
    for word in remaining:
        name, is_given, path = word.partition("=")
        if name == "--config" and (is_given or (path := next(remaining, ""))):
            files.append(path)
        else:
            others.append(word)
    return files, others


def _spell_out_switches(words: Sequence[str], switches: set[str]) -> list[str]:
    """Write out the values of booleans, which the original spells `--do_train`, `--nodo_train` or `--do_train=1`."""
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
