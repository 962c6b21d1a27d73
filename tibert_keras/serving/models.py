"""Loads the models to serve, and follows the versions in their folders."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tibert_keras.errors import InputError
from tibert_keras.saved_model.versions import (
    SAVED_MODEL,
    is_saved_model,
    list_versions,
    load_saved_model,
    read_description,
    read_warm_up,
)
from tibert_keras.serving.config import find_models
from tibert_keras.serving.protocol import DEFAULT_SIGNATURE, RequestError
from tibert_keras.serving.signature import Signature
from tibert_keras.storage import is_remote, join, read_bytes

_LOG = logging.getLogger(__name__)

# How often to load a folder that is replaced while it is being loaded.
_TRIES = 3
# Seconds after which to retry a version that failed to load though it has not changed: the network may be back.
_RETRY_SECONDS = 60.0


class Version:
    """A loaded SavedModel, which requests may keep using after it has been replaced."""

    def __init__(self, folder: str, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.loaded: Any = load_saved_model(folder)
        description = SavedModel.FromString(read_bytes(join(folder, SAVED_MODEL))).meta_graphs[0]
        self.signatures = {name: Signature(function) for name, function in self.loaded.signatures.items()}
        if not self.signatures:
            raise InputError(f"The SavedModel has no signatures. Received: {folder!r}. Export it with some.")
        self.signature_def = {
            name: MessageToDict(
                description.signature_def[name],
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name in sorted(self.signatures)
        }
        self.description = read_description(folder)
        self._warm_up(folder)

    def _warm_up(self, folder: str) -> None:
        """Run each signature once, on the model's warm-up requests or on made-up inputs, so that no client waits."""
        untried = dict(self.signatures)
        try:
            for name, inputs in read_warm_up(folder):
                self.signatures[name or DEFAULT_SIGNATURE].try_out(inputs)
                untried.pop(name or DEFAULT_SIGNATURE, None)
        except Exception as error:  # the model can be served all the same
            reason = str(error).partition("\n")[0]
            _LOG.warning("The warm-up requests cannot be answered: %s Received: %r.", reason, folder)
        for name, signature in untried.items():
            try:
                signature.try_out(signature.sample())
            except Exception as error:  # it takes other inputs
                _LOG.info("Signature %s is computed request by request, since it rejects a trial: %s", name, error)


class _Refused(NamedTuple):
    """A version that failed to load, when it did, and why."""

    fingerprint: str
    when: float
    reason: str


class ServedModel:
    """A model with the newest of its versions.

    Attributes:
        versions: The versions served, by number.
        failures: Why versions in the folder cannot be loaded, by number; an older state of them may be served.
    """

    def __init__(self, name: str, folder: str, *, num_versions: int = 1) -> None:
        self.name = name
        self.folder = folder
        self.num_versions = num_versions
        self.versions: dict[int, Version] = {}
        self.failures: dict[int, str] = {}
        self._refused: dict[int, _Refused] = {}

    def find(self, number: int | None) -> tuple[int, Version]:
        """Return the number and the version of this number, or of the newest."""
        versions = self.versions
        chosen = max(versions, default=None) if number is None else number
        if chosen is None or chosen not in versions:
            wanted = "any version" if number is None else f"version {number}"
            raise RequestError(404, f"Servable not found: {wanted} of model {self.name!r}. Served: {sorted(versions)}.")
        return chosen, versions[chosen]

    def refresh(self) -> None:
        """Load the new versions in the folder, and drop those that are no longer wanted.

        A version is served until its replacement is loaded, and as long as the folder is empty.
        """
        try:
            wanted = self._wanted()
            available, failures = dict(self.versions), {}
            for number, folder in wanted.items():
                fingerprint = _fingerprint(folder)
                if number in available and available[number].fingerprint == fingerprint:
                    continue
                last = self._refused.pop(number, None)
                if last is None or last.fingerprint != fingerprint or time.monotonic() >= last.when + _RETRY_SECONDS:
                    try:
                        available[number] = _load(folder)
                        _LOG.info("Serving version %d of %s.", number, self.name)
                        continue
                    except InputError as error:
                        last = _Refused(fingerprint, time.monotonic(), str(error))
                self._refused[number], failures[number] = last, last.reason
            if wanted and wanted.keys() <= available.keys():
                available = {number: available[number] for number in wanted}
            for number in available.keys() - wanted.keys():
                if _fingerprint(available[number].folder) != available[number].fingerprint:
                    failures[number] = f"Its files have changed or are gone. Received: {available[number].folder!r}."
        except OSError as error:
            available, newest = self.versions, max(self.versions, default=1)
            failures = {newest: f"Its folder cannot be read: {error.strerror}. Received: {self.folder!r}."}
        self._tell(failures)
        # Replaced at once, not changed: this runs in a thread of its own, beside the requests.
        self.versions, self.failures = available, failures

    def _tell(self, failures: dict[int, str]) -> None:
        for number, reason in failures.items():
            if self.failures.get(number) != reason:
                _LOG.error("Version %d of %s: %s", number, self.name, reason)
        for number in self.failures.keys() - failures.keys():
            _LOG.info("Version %d of %s is not at fault any more, or is gone.", number, self.name)

    def _wanted(self) -> dict[int, str]:
        """The newest complete versions, and their folders."""
        if is_saved_model(self.folder):
            return {1: self.folder}
        complete = [(number, path) for number, path in list_versions(self.folder).items() if is_saved_model(path)]
        return dict(complete[-self.num_versions :])


def load_models(models: Sequence[str], *, num_versions: int) -> dict[str, ServedModel]:
    """Load the models that `find_models` finds; one that cannot be loaded is an `InputError`."""
    loaded: dict[str, ServedModel] = {}
    for name, folder in find_models(models).items():
        loaded[name] = ServedModel(name, folder, num_versions=num_versions)
        loaded[name].refresh()
        for reason in loaded[name].failures.values():
            raise InputError(reason)
    return loaded


def _load(folder: str) -> Version:
    """Load a version, again if it is replaced meanwhile."""
    for _ in range(_TRIES):
        fingerprint = _fingerprint(folder)
        failure = None
        try:
            version = Version(folder, fingerprint)
        except InputError as error:
            failure = error
        if _fingerprint(folder) == fingerprint:
            if failure is not None:
                raise failure
            return version
    raise InputError(
        f"The SavedModel changes while it is being loaded. Received: {folder!r}. Write it beside and rename it."
    )


def _fingerprint(folder: str) -> str:
    """Identify the content of a folder; of a remote one, by the file that is written last."""
    if is_remote(folder):
        with suppress(tf.errors.OpError):
            stat = tf.io.gfile.stat(join(folder, SAVED_MODEL))
            return f"{stat.length} {stat.mtime_nsec}"
        return ""
    stats = []
    for path in sorted(Path(folder).rglob("*")):
        with suppress(OSError):  # removed meanwhile, or a link to nowhere
            stats.append((path.relative_to(folder).as_posix(), path.stat()))
    return repr(
        [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats if not S_ISDIR(stat.st_mode)]
    )
