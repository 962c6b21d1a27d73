"""The direction of imports and the size of things, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tibert_keras"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# What each subpackage may import of the others; SHARED_MODULES, at the top, are everyone's.
ALLOWED = {
    "corpus": set(),
    "tokenizers": set(),
    "models": set(),
    "optimizers": set(),
    "tagging": set(),
    "data": {"corpus", "tokenizers", "tagging"},
    "training": {"tagging", "data", "models", "optimizers", "tokenizers"},
    "export": {"corpus", "tagging", "tokenizers", "data", "models", "optimizers", "training"},
    "serving": {"export"},
    "verbs": {"corpus", "tokenizers", "data", "models", "training", "export", "serving"},
}
SHARED_MODULES = {"errors", "pictures", "script", "storage", "tasks"}
# These run on JAX alone, so TensorFlow may be imported inside functions only.
WITHOUT_TENSORFLOW = ["models", "optimizers", "training", "records/masking.py", "records/examples.py"]


def _imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            names.append(node.module or "")
            if node.module == "tibert_keras":
                names += [f"tibert_keras.{alias.name}" for alias in node.names]
    return names


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_up_the_list_only(path: Path) -> None:
    subpackage = path.relative_to(PACKAGE).parts[0]
    if subpackage not in ALLOWED:
        pytest.skip("a module at the top puts the parts together")
    for name in _imports(_tree(path)):
        if name.startswith("tibert_keras."):
            imported = name.split(".")[1]
            assert imported in {subpackage} | SHARED_MODULES | ALLOWED[subpackage], f"{path} imports {name}"


def test_every_subpackage_is_in_the_list() -> None:
    subpackages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert subpackages <= ALLOWED.keys()


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_no_tensorflow_at_module_level(name: str) -> None:
    place = PACKAGE / name
    for path in [place] if place.is_file() else place.rglob("*.py"):
        top_level = [node for node in _tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in top_level:
            for imported in _imports(node):
                assert imported.split(".")[0] not in {"tensorflow", "tensorflow_text"}, f"{path} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 350, "split it"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node) or ""
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n")
            assert length <= 75, f"{node.name} has {length} lines"


def test_there_is_no_utils() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.stem in {"utils", "helpers", "common", "misc"}]
