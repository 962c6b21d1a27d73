"""Files that are found by pattern, read with clear errors, and written whole or not at all.

Paths may be local or of any scheme that `tf.io.gfile` knows (`gs://...`); TensorFlow is imported only for the
latter.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tibert_keras.errors import InputError


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether `path` has a scheme, such as `gs://`, and so is not on this machine."""
    return "://" in os.fspath(path)


def _gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile


def expand_glob(pattern: str) -> list[str]:
    """List the files that a pattern, or several with commas between them, stand for.

    Args:
        pattern: A path or glob pattern, or several separated by commas, as the original scripts'
            `--input_file`.

    Returns:
        The paths, each once, sorted.

    Raises:
        InputError: If one of the patterns matches no file.
    """
    paths: set[str] = set()
    # Names of canon volumes hold commas now and then: take an existing path as it is.
    parts = [pattern] if Path(pattern).is_file() else pattern.split(",")
    for part in filter(None, (part.strip() for part in parts)):
        if is_remote(part):
            found = _gfile().glob(part)
        else:
            found = [match for match in glob.glob(part, recursive=True) if Path(match).is_file()]
            # They hold brackets too, which are no pattern then.
            found = found or ([part] if Path(part).is_file() else [])
        if not found:
            raise InputError(f"No file matches the pattern. Received: {part!r}. Check the path, and quote the pattern.")
        paths.update(found)
    if not paths:
        raise InputError(f"An input file or pattern is needed. Received: {pattern!r}.")
    return sorted(paths)


def open_binary(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a local or remote file for reading bytes.

    Raises:
        InputError: If it cannot be opened.
    """
    if is_remote(path):
        return _open_remote(os.fspath(path))
    try:
        return open(path, "rb")  # noqa: PTH123, SIM115 (the caller closes it)
    except OSError as error:
        raise InputError(f"Cannot read the file: {error.strerror or error}. Received: {os.fspath(path)!r}.") from error


def _open_remote(path: str) -> IO[bytes]:
    import tensorflow as tf

    try:
        # A GFile is opened when it is first read: ask now whether it is there.
        tf.io.gfile.stat(path)
    except tf.errors.OpError as error:
        reason = error.message or type(error).__name__
        raise InputError(f"Cannot read the file: {reason}. Received: {path!r}.") from error
    return tf.io.gfile.GFile(path, "rb")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole local or remote file; raises `InputError` if that fails."""
    with open_binary(path) as file:
        return file.read()


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    r"""Iterate over the lines of a UTF-8 file, without their line ends and without a byte-order mark.

    Only `\n` ends a line, as in every edition read here; a `\r` before it goes too.

    Raises:
        InputError: If the file cannot be read, is empty, or is not UTF-8 (naming the byte).
    """
    offset = 0
    with open_binary(path) as file:
        for raw in file:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"Not a UTF-8 file: {error.reason} at byte {offset + error.start}. "
                    f"Received: {os.fspath(path)!r}. Convert it to UTF-8 first."
                ) from error
            if offset == 0:
                line = line.removeprefix("\ufeff")
            offset += len(raw)
            yield line.rstrip("\n").rstrip("\r")
    if offset == 0:
        raise InputError(f"The file is empty. Received: {os.fspath(path)!r}.")


def list_folder(path: str | os.PathLike[str]) -> list[str]:
    """The names in a local or remote folder, sorted; none if there is no such folder."""
    if is_remote(path):
        gfile = _gfile()
        return sorted(name.rstrip("/") for name in gfile.listdir(path)) if gfile.isdir(path) else []
    folder = Path(path)
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a local or remote file or folder of this name."""
    return bool(_gfile().exists(os.fspath(path))) if is_remote(path) else Path(path).exists()


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Remove a local or remote folder with all that is in it."""
    if is_remote(path):
        _gfile().rmtree(os.fspath(path))
    else:
        shutil.rmtree(path)


@contextmanager
def local_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the path of a folder on this machine: a local one's own, or a temporary copy of a remote one."""
    if not is_remote(path):
        yield os.fspath(path)
        return
    gfile, source = _gfile(), os.fspath(path).rstrip("/") + "/"
    with tempfile.TemporaryDirectory() as folder:
        for parent, _, names in gfile.walk(source):
            local = Path(folder) / parent.removeprefix(source).strip("/")
            local.mkdir(parents=True, exist_ok=True)
            for name in names:
                gfile.copy(f"{parent.rstrip('/')}/{name}", os.fspath(local / name), overwrite=True)
        yield folder


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open_binary(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_output(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary local path for a file or folder that appears at `path` only when it is whole.

    What the body wrote is synced to disk and moved to `path` (for a remote path: copied there) when the body
    ends; if the body raises, it is removed and whatever `path` held before stays as it was.

    Args:
        path: Where the file or folder will be. Parent folders are made. An older one of that name is
            replaced.

    Yields:
        A path that does not exist yet, beside the final one if that is local.
    """
    final = os.fspath(path)
    if is_remote(final):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "output"
            yield temporary
            _copy_to_remote(temporary, final)
        return
    target = Path(final)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        for part in [*temporary.rglob("*"), temporary]:
            _sync(part)
        if target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def _copy_to_remote(source: Path, target: str) -> None:
    gfile = _gfile()
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    # A remote folder cannot be renamed in one go: what was written last, as a mark that all is there, comes last.
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns):
        remote = target if file == source else f"{target}/{file.relative_to(source).as_posix()}"
        gfile.makedirs(remote.rpartition("/")[0])
        gfile.copy(os.fspath(file), f"{remote}.part", overwrite=True)
        gfile.rename(f"{remote}.part", remote, overwrite=True)
