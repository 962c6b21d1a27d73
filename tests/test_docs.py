"""What the README, the docs and the recipes say to type is what the program takes."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from pathlib import Path
from xml.etree import ElementTree

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


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_set_up_commands_are_those_that_ci_runs() -> None:
    first, second = _blocks("README.md", "sh")
    assert first.startswith("pip install . && tibert ") and second == "tibert quickstart\n"
    (tests,) = _blocks("CONTRIBUTING.md", "sh")
    assert tests.startswith('pip install ".[test,docs]" && pytest')


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_the_reference_tells_every_verb() -> None:
    text = (ROOT / "docs/reference/command_line.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"`tibert {verb}`" not in text] == []


@pytest.mark.any_backend
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks("README.md", "python")
    exec(block, {})
    assert (tmp_path / "my_model/task.json").exists() and (tmp_path / "run/saved_model/saved_model.pb").exists()


@pytest.mark.any_backend
def test_the_tests_that_pages_name_are_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py[:\w]*)`", page.read_text("utf-8"))}
    assert len(named) > 50
    assert [name for name in sorted(named) if not _is_there(*name.split("::"))] == []


def _is_there(path: str, *names: str) -> bool:
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_fit_their_command_and_open_with_their_cost(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = recipe.read_text(encoding="utf-8").split("\n\n")[0]
    told = dict(re.findall(r"^# (\w+) +(.+)$", header, re.MULTILINE))
    assert told.keys() >= {"purpose", "command", "hardware", "duration"} and told.keys() & {"score", "size"}
    verb, words = split_verb(shlex.split(told["command"])[1:], VERBS)
    monkeypatch.chdir(ROOT)
    assert f"--config=examples/recipes/{recipe.name}" in words
    parse(VERBS[verb], words, name=verb)


def test_charts_show_the_figures_of_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = re.findall(r"^    python (tests/benchmarks/chart\.py .*)$", text, re.MULTILINE)
    drawn = {Path(shlex.split(command)[1]).name for command in commands}
    # Its figures are all at the rounding of float32.
    measured = {page.name for page in (ROOT / "docs/benchmarks").glob("2*.md")} - {"2026-11-24-replicas.md"}
    assert measured - drawn == set()
    monkeypatch.chdir(ROOT)
    for command in commands:
        script, page, chart, *options = shlex.split(command)
        runpy.run_path(script)["main"]([page, f"{tmp_path}/new.svg", *options])
        new, old = ([each.text for each in ElementTree.parse(path).iter()] for path in (f"{tmp_path}/new.svg", chart))
        assert new == old, f"Draw it again: python {command}"


def test_the_tree_on_the_page_for_contributors_is_the_tree() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in (ROOT / "tibert_keras").glob("*/__init__.py"):
        assert f"  {folder.parent.name}/ " in text
