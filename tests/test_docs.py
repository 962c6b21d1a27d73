"""What the README, the docs and the recipes say to type is what the program takes."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import keras
import pytest

from tibert_keras.cli.flags import parse
from tibert_keras.cli.main import VERBS, split_verb

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECIPES = sorted((ROOT / "examples" / "recipes").glob("*.yaml"))


def _commands(text: str) -> list[list[str]]:
    """The `tibert` commands of a page, each at the start of a line or indented as a block, split into words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if re.match(r"(    )?tibert [a-z-]+ -?", line)]


COMMANDS = [(page, command) for page in PAGES for command in _commands(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=[f"{page.name}:{' '.join(command)[:40]}" for page, command in COMMANDS]
)
def test_commands_parse(page: Path, command: list[str]) -> None:
    verb, words = split_verb(command, VERBS)
    parse(VERBS[verb], words, name=verb)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", page.read_text(encoding="utf-8")):
        path, *parts = name.split("::")
        nodes: list[ast.AST] = [ast.parse((ROOT / path).read_text(encoding="utf-8"))]
        for part in parts:
            inside = [child for node in nodes for child in getattr(node, "body", [])]
            nodes = [child for child in inside if getattr(child, "name", "") == part]
            assert nodes, name


def test_the_readme_has_two_set_up_commands_and_tells_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert blocks[0] == "pip install . && tibert quickstart\n"
    assert blocks[1].startswith('pip install ".[test]" && pytest')
    assert [verb for verb in VERBS if f"`tibert {verb}`" not in text and verb != "quickstart"] == []


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it makes a SavedModel, which is TensorFlow's")
def test_the_python_of_the_readme_runs(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tibert_quickstart").mkdir()
    (tmp_path / "tibert_quickstart/run").symlink_to(finished_run)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    for block in blocks:
        exec(block, {})
    assert (tmp_path / "my_model/task.json").exists() and (tmp_path / "my_run/saved_model/saved_model.pb").exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_fit_their_command_and_open_with_their_cost(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = recipe.read_text(encoding="utf-8").split("\n\n")[0]
    told = dict(re.findall(r"^# (\w+) +(.+)$", header, re.MULTILINE))
    assert told.keys() >= {"purpose", "command", "hardware", "duration"} and told.keys() & {"score", "size"}
    verb, words = split_verb(shlex.split(told["command"])[1:], VERBS)
    monkeypatch.chdir(ROOT)
    assert f"--config=examples/recipes/{recipe.name}" in words
    parse(VERBS[verb], words, name=verb)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in (ROOT / "tibert_keras").glob("*/__init__.py"):
        assert f"  {folder.parent.name}/ " in text
