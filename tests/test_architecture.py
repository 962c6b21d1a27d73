"""The direction of imports and the size of things, read from the syntax trees."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tibert_keras"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each may import what stands before it, and the modules at the top, which are everyone's.
ORDER = [
    "corpus", "tokenizers", "records", "tagging", "optimizers", "models", "runs", "formats", "training", "finetuning",
    "saved_model", "inference", "cards", "serving", "cli",
]  # fmt: skip
# They only name, lazily, what others define.
FACES = {"__init__.py", "callbacks.py"}
SHARED_MODULES = {
    "errors", "globs", "lazy", "storage", "json_types", "integrity", "locks", "yaml_files", "pictures", "tibetan",
    "transcription", "normalization", "parallel", "registration",
}  # fmt: skip
# These run on JAX alone, so TensorFlow may be imported inside functions only.
WITHOUT_TENSORFLOW = [*ORDER[: ORDER.index("saved_model")], "cards", "cli"]
# `tibert --help` and the verbs before training import these; tests/test_startup.py looks at what they load in fact.
LIGHT = [
    *(f"{name}.py" for name in sorted(SHARED_MODULES)), "corpus", "tokenizers", "records", "tagging", "runs", "cards",
    "cli",
]  # fmt: skip


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(nodes: list[ast.stmt]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            module = node.module or ""
            # `from tibert_keras.formats import hugging_face` imports a module.
            submodules = [f"{module}.{alias.name}" for alias in node.names]
            names += [name for name in submodules if _file(name)] or [module]
    return names


@cache
def _file(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in candidates if file in MODULES), None)


@cache
def _all_imports(path: Path) -> list[str]:
    return _imports([node for node in ast.walk(_tree(path)) if isinstance(node, ast.stmt)])


def test_imports_point_up_the_list_only() -> None:
    for path in MODULES:
        folder = path.relative_to(PACKAGE).parts[0]
        allowed = SHARED_MODULES | set(ORDER[: ORDER.index(folder) + 1] if folder in ORDER else [])
        for name in _all_imports(path):
            if folder not in FACES and name.startswith("tibert_keras."):
                assert name.split(".")[1] in allowed, f"{path} imports {name}"


def test_no_module_imports_itself_in_a_circle() -> None:
    files = {path: [_file(name) for name in _all_imports(path)] for path in MODULES}
    graph = {path: [file for file in found if file and file.name != "__init__.py"] for path, found in files.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_every_folder_is_in_the_list_and_exports_nothing() -> None:
    faces = sorted(PACKAGE.glob("*/__init__.py"))
    assert {face.parent.name for face in faces} == set(ORDER)
    for face in faces:
        assert [type(node) for node in _tree(face).body] == [ast.Expr], f"{face} has more than a docstring"


@pytest.mark.parametrize("place", WITHOUT_TENSORFLOW)
def test_no_tensorflow_at_module_level(place: str) -> None:
    _check_top_level(place, ("tensorflow", "tensorflow_text"))


@pytest.mark.parametrize("place", LIGHT)
def test_light_modules(place: str) -> None:
    _check_top_level(place, ("tensorflow", "tensorflow_text", "keras", "keras_nlp", "jax", "sklearn", "matplotlib"))


def _check_top_level(place: str, names: tuple[str, ...]) -> None:
    path = PACKAGE / place
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        for name in _imports(_tree(file).body):
            assert name.split(".")[0] not in names, f"{file} imports {name}"


def test_modules_and_functions_stay_small() -> None:
    for path in MODULES:
        assert path.read_text(encoding="utf-8").count("\n") <= 350, f"split {path}"
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node) or ""
                length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n")
                assert length <= 75, f"{node.name} in {path} has {length} lines"


def test_there_is_no_utils() -> None:
    assert not [path for path in PACKAGE.rglob("*") if path.stem in {"utils", "helpers", "common", "misc"}]


def test_no_test_imports_another() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in _all_imports(path):
            assert not re.match(r"tests\.(.*\.)?(test_|conftest)", name), f"{path} imports {name}"
