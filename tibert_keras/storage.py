"""Find files by pattern, read them with clear errors, and write them whole or not at all.

Paths may be local or have any scheme of `tf.io.gfile`, such as `gs://`. Only remote paths import TensorFlow.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import IO, Any

from tibert_keras.errors import InputError
from tibert_keras.globs import check_name, find_matches
from tibert_keras.lazy import tf

UNFINISHED = ".part"  # the ending of unfinished files and folders


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` has a scheme, such as `gs://`."""
    return "://" in os.fspath(path)


def absolute(path: str | os.PathLike[str]) -> str:
    """Make a path valid in any working directory."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(path)


def join(folder: str | os.PathLike[str], *names: str) -> str:
    """Join a local or remote folder, with or without a trailing slash, and names."""
    return "/".join([os.fspath(folder).rstrip("/"), *names])


def folder_of(path: str | os.PathLike[str]) -> str:
    """Return the folder of a file, `.` for a name alone."""
    return os.path.dirname(path) or "."


@contextmanager
def explaining_tensorflow(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield `tf.io.gfile`, and turn TensorFlow's errors into `InputError`, or `OSError` if the path is local."""
    try:
        yield tf.io.gfile
    except tf.errors.OpError as error:
        reason = re.sub(r"\{\{.*?\}\} | \[Op:\w+\]", "", error.message or type(error).__name__).splitlines()[0]
        if is_remote(path):
            raise InputError(f"The remote path cannot be used: {reason}. Received: {os.fspath(path)!r}.") from error
        raise OSError(errno.EIO, reason.rpartition("; ")[2], os.fspath(path)) from error


def expand_glob(pattern: str, *, folder_endings: tuple[str, ...] = ()) -> list[str]:
    """List the files that match a path or glob pattern, or several separated by commas, sorted and without duplicates.

    With `folder_endings`, a local folder stands for all files with these endings in it, at any depth.
    """
    paths: set[str] = set()
    # Some names of canon volumes contain commas.
    parts = [pattern] if Path(pattern).is_file() else pattern.split(",")
    for part in filter(None, (part.strip() for part in parts)):
        if is_remote(part):
            with explaining_tensorflow(part) as gfile:
                found = gfile.glob(part)
        else:
            found = [match for match in find_matches(part) if Path(match).is_file()]
            # Some contain brackets, which are not a pattern then.
            found = found or ([part] if Path(part).is_file() else [])
            if folder_endings and Path(part).is_dir():
                found = [os.fspath(path) for path in Path(part).rglob("*") if path.name.endswith(folder_endings)]
        if not found:
            raise InputError(f"No file matches the pattern. Received: {part!r}. Check the path, and quote the pattern.")
        paths.update(found)
    if not paths:
        raise InputError(f"An input file or pattern is needed. Received: {pattern!r}.")
    for path in paths:
        check_name(path)
    # A file that links lead to as well is read once, under its shortest name.
    by_file = {os.path.realpath(path): path for path in sorted(paths, key=lambda path: (-len(path), path))}
    return sorted(by_file.values())


def open_binary(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a local or remote file for reading bytes."""
    if is_remote(path):
        with explaining_tensorflow(path) as gfile:
            # A GFile is opened only when it is first read.
            gfile.stat(path)
            return gfile.GFile(path, "rb")
    with _explaining_reads(path):
        # A shell passes the output of another command as a pipe there. Any other may never be written to.
        mode = os.stat(path).st_mode
        if not (S_ISREG(mode) or S_ISDIR(mode) or os.fspath(path).startswith(("/dev/fd/", "/dev/stdin"))):
            raise InputError(f"Cannot read the file: it is a pipe or a device. Received: {os.fspath(path)!r}.")
        return open(path, "rb")  # noqa: PTH123, SIM115 (the caller closes it)


@contextmanager
def _explaining_reads(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot read the file: {error.strerror or error}. Received: {os.fspath(path)!r}.") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole local or remote file; raises `InputError` if that fails."""
    with open_binary(path) as file, _explaining_reads(path):
        return file.read()


def read_json(path: str | os.PathLike[str], *, what: str, advice: str) -> dict[str, Any]:
    """Read a JSON object from a local or remote file. `what` it should be and the `advice` are for the message."""
    return read_object(path, json.loads, "JSON", what=what, advice=advice)


def read_object(
    path: str | os.PathLike[str], parse: Callable[[bytes], Any], language: str, *, what: str, advice: str
) -> dict[str, Any]:
    """Read a file whose content is an object; `parse` raises a `ValueError` if it cannot read it."""
    try:
        content = read_bytes(path)
    except InputError as error:
        raise InputError(f"{error} {advice}") from error
    try:
        value = parse(content)
        if not isinstance(value, dict):
            raise ValueError(f"it is not a {language} object")
    # Thousands of brackets, one in the other, take more levels than Python has.
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Not {what}: {reason}. Received: {os.fspath(path)!r}. {advice}") from error
    return value


def decode_utf8(content: bytes, path: str | os.PathLike[str], *, offset: int = 0) -> str:
    """Decode the content of a file, or a part of it from an offset on."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"Not a UTF-8 file: {error.reason} at byte {offset + error.start}. Received: {os.fspath(path)!r}. "
            "Convert it to UTF-8 first."
        ) from error


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    r"""Iterate over the lines of a UTF-8 file, without line ends and byte-order mark.

    Only `\n`, with or without a `\r` before it, ends a line.
    """
    offset = 0
    with open_binary(path) as file:
        for raw in file:
            line = decode_utf8(raw, path, offset=offset)
            if offset == 0:
                line = line.removeprefix("\ufeff")
            offset += len(raw)
            yield line.rstrip("\n").rstrip("\r")
    if offset == 0:
        raise InputError(f"The file is empty. Received: {os.fspath(path)!r}.")


def list_folder(path: str | os.PathLike[str]) -> list[str]:
    """List the names in a local or remote folder, sorted, or none if there is no such folder.

    Unfinished outputs of killed processes are left out.
    """
    if is_remote(path):
        with explaining_tensorflow(path) as gfile:
            names = [name.rstrip("/") for name in gfile.listdir(path)] if gfile.isdir(path) else []
    else:
        names = [entry.name for entry in Path(path).iterdir()] if Path(path).is_dir() else []
    return sorted(name for name in names if not name.endswith(UNFINISHED))


def exists(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a local or remote file or folder of this name."""
    if not is_remote(path):
        return Path(path).exists()
    with explaining_tensorflow(path) as gfile:
        return bool(gfile.exists(os.fspath(path)))


def size(path: str | os.PathLike[str]) -> int:
    """Return the size of a local or remote file, in bytes."""
    if not is_remote(path):
        return Path(path).stat().st_size
    with explaining_tensorflow(path) as gfile:
        return int(gfile.stat(os.fspath(path)).length)


def move(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file on the same local or remote storage, replacing an older one of that name."""
    if not is_remote(target):
        Path(source).replace(target)
        return
    with explaining_tensorflow(target) as gfile:
        gfile.rename(os.fspath(source), os.fspath(target), overwrite=True)


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a local or remote file or folder, if it is there; of a link to a folder elsewhere, the link alone."""
    if is_remote(path):
        with explaining_tensorflow(path) as gfile:
            if gfile.exists(os.fspath(path)):
                (gfile.rmtree if gfile.isdir(os.fspath(path)) else gfile.remove)(os.fspath(path))
    elif Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


@contextmanager
def local_folder(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a local path of a folder: its own, or that of a temporary copy of a remote folder."""
    if not is_remote(path):
        yield os.fspath(path)
        return
    source = f"{os.fspath(path).rstrip('/')}/"
    with tempfile.TemporaryDirectory() as folder:
        with explaining_tensorflow(path) as gfile:
            for parent, _, names in gfile.walk(source):
                local = Path(folder) / parent.removeprefix(source).strip("/")
                local.mkdir(parents=True, exist_ok=True)
                for name in names:
                    gfile.copy(f"{parent.rstrip('/')}/{name}", os.fspath(local / name), overwrite=True)
        yield folder


def sha256(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
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
def atomic_output(path: str | os.PathLike[str], *, last: str | None = None) -> Iterator[Path]:
    """Yield a temporary local path for a file or folder that appears at `path` only when it is whole.

    When the body ends, the output is synced to disk and moved to `path`, or copied if that is remote. If the body
    raises, the output is removed, and `path` stays as it was. Parent folders are made. An older file or folder is
    replaced; of a link, its target. The temporary path does not exist yet, and lies beside the final one if that is
    local.

    `last` is the name of the file by which readers tell that a folder is whole. It is copied to a remote folder last.
    """
    final = os.fspath(path).rstrip("/")
    if is_remote(final):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "output"
            yield temporary
            _copy_to_remote(temporary, final, last=last)
        return
    try:
        with _beside(Path(os.path.realpath(final)), os.fspath(path)) as temporary:
            yield temporary
    except OSError as error:
        # A full disk is reported without the name of a file, and others with that of the unfinished one.
        if error.filename is None or UNFINISHED in os.fspath(error.filename):
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)) from error
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a local or remote file, as `atomic_output`."""
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def _beside(target: Path, path: str) -> Iterator[Path]:
    """Yield a path beside an output, and move it there. `path` is the output's name for messages."""
    # Not the target: of a pipe, as `/dev/stdout` may be, it is no path.
    given = Path(path)
    if target.is_symlink() or (given.exists() and not given.is_file() and not given.is_dir()):
        raise InputError(f"The output is a pipe, a device or a link to itself. Received: {path!r}. Choose another.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # One process at a time writes an output, so an unfinished one was left by a process that was killed or lost.
    # `.run2.part` does not belong to the output `run`.
    leftover = re.compile(rf"\.{re.escape(target.name)}(\.replaced|(?!\.lock)\.\w+)?{re.escape(UNFINISHED)}")
    for sibling in target.parent.iterdir():
        if leftover.fullmatch(sibling.name):
            remove(sibling)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    replaced = target.with_name(f".{target.name}.replaced{UNFINISHED}")
    try:
        yield temporary
        for part in [*temporary.rglob("*"), temporary]:
            _sync(part)
        if target.exists() and target.is_dir() != temporary.is_dir():
            kinds = ("a folder", "a file") if target.is_dir() else ("a file", "a folder")
            raise InputError(f"The output is {kinds[0]}, not {kinds[1]}. Received: {path!r}. Choose another.")
        if target.is_dir():
            # A folder cannot be replaced atomically: move the old one aside.
            target.rename(replaced)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        remove(temporary)
        remove(replaced)


def _copy_to_remote(source: Path, target: str, *, last: str | None) -> None:
    files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
    with explaining_tensorflow(target) as gfile:
        for file in sorted(files, key=lambda file: file.name == last):
            remote = target if file == source else f"{target}/{file.relative_to(source).as_posix()}"
            gfile.makedirs(remote.rpartition("/")[0])
            gfile.copy(os.fspath(file), f"{remote}{UNFINISHED}", overwrite=True)
            gfile.rename(f"{remote}{UNFINISHED}", remote, overwrite=True)
