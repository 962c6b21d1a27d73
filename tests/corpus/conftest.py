"""Real volumes, unpacked for the tests that read them."""

import subprocess
from pathlib import Path

import pytest


def unpack(archive: Path, folder: Path, *patterns: str) -> Path:
    if not archive.is_file():
        pytest.fail(f"the data folder lacks {archive}")
    wanted = ["--wildcards", *patterns]
    subprocess.run(["tar", "xJf", str(archive), "-C", str(folder), *wanted], check=True)
    return folder


@pytest.fixture(scope="session")
def kangyur(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two volumes of the Derge Kangyur in Esukhia's markup."""
    folder = tmp_path_factory.mktemp("esukhia")
    unpack(shared / "data/kangyur/derge-kangyur.tar.xz", folder, "*001_*", "*074_*")
    return next(path.parent for path in folder.rglob("074_*.txt"))


@pytest.fixture(scope="session")
def kangyur_opf(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPF folder with the same two volumes."""
    folder = tmp_path_factory.mktemp("openpecha")
    return unpack(shared / "data/kangyur/P000001-opf-sample.tar.xz", folder, "P000001.opf*") / "P000001.opf"
