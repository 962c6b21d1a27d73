"""The models that are served: versions in folders, taken up as they come and let go as they are replaced."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any

import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tibert_keras.errors import InputError
from tibert_keras.saved_model.versions import SAVED_MODEL, is_saved_model, list_versions, read_warm_up
from tibert_keras.serving.protocol import DEFAULT_SIGNATURE, RequestError
from tibert_keras.serving.signature import Signature
from tibert_keras.storage import is_remote, join, read_bytes

_LOG = logging.getLogger(__name__)

# How often a folder that is replaced while it is being loaded is loaded anew.
_TRIES = 3
# Seconds after which one that could not be loaded is tried again though it has not changed: a network may be back.
_PATIENCE = 60.0


class Version:
    """A loaded SavedModel. Requests that hold it can finish after it has been replaced.

    Args:
        folder: The SavedModel.
        fingerprint: What tells it from one that takes its place.

    Attributes:
        loaded: What `tf.saved_model.load` returns.
        signatures: Its signatures by name.
        signature_def: Their description, as TensorFlow Serving's metadata has it.

    Raises:
        InputError: If it cannot be loaded, or has no signatures.
    """

    def __init__(self, folder: str, fingerprint: str) -> None:
        import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

        self.fingerprint = fingerprint
        try:
            self.loaded: Any = tf.saved_model.load(folder)
            description = SavedModel.FromString(read_bytes(join(folder, SAVED_MODEL))).meta_graphs[0]
        except Exception as error:  # of any kind, as the file is torn
            reason = str(error).partition("\n")[0]
            raise InputError(f"The SavedModel cannot be loaded: {reason} Received: {folder!r}.") from error
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
        self._warm_up(folder)

    def _warm_up(self, folder: str) -> None:
        """Answer the requests that come with the model, so that the first client does not wait; or one of our own."""
        untried = dict(self.signatures)
        try:
            for name, inputs in read_warm_up(folder):
                self.signatures[name or DEFAULT_SIGNATURE].try_out(inputs)
                untried.pop(name or DEFAULT_SIGNATURE, None)
        except Exception as error:  # it can be served all the same
            reason = str(error).partition("\n")[0]
            _LOG.warning("The warm-up requests cannot be answered: %s Received: %r.", reason, folder)
        for name, signature in untried.items():
            try:
                signature.try_out(signature.sample())
            except Exception as error:  # it takes other things
                _LOG.info("Signature %s is computed request by request, since it refuses a trial: %s", name, error)


class ServedModel:
    """A model under a name, with the newest of its versions.

    Args:
        name: What requests call it.
        folder: A SavedModel, which is version 1, or a folder of versions `1/`, `2/`, ...
        num_versions: How many of the newest versions to serve.

    Attributes:
        versions: What is served, by number.
        failures: What could not be loaded, and why, by number.

    Example:
    ```python
    model = ServedModel("tibert", "tibert", num_versions=1)
    model.refresh()
    number, version = model.find(None)
    version.signatures["serving_default"].inputs
    ```
    """

    def __init__(self, name: str, folder: str, *, num_versions: int = 1) -> None:
        self.name = name
        self.folder = folder
        self.num_versions = num_versions
        self.versions: dict[int, Version] = {}
        self.failures: dict[int, str] = {}
        self._refused: dict[int, tuple[str, float]] = {}

    def find(self, number: int | None) -> tuple[int, Version]:
        """The version of this number, or the newest.

        Raises:
            RequestError: If it is not served.
        """
        versions = self.versions
        chosen = max(versions, default=None) if number is None else number
        if chosen is None or chosen not in versions:
            wanted = "any version" if number is None else f"version {number}"
            raise RequestError(404, f"Servable not found: {wanted} of model {self.name!r}. Served: {sorted(versions)}.")
        return chosen, versions[chosen]

    def refresh(self) -> None:
        """Look at the folder, load what is new, and let go of what is no longer wanted.

        What is served stays until what replaces it is loaded, and if there is nothing for the moment.
        """
        wanted = self._wanted()
        available, failures = dict(self.versions), dict(self.failures)
        for number, folder in wanted.items():
            fingerprint = _fingerprint(folder)
            served = available[number].fingerprint if number in available else None
            if fingerprint == served or self._is_refused(number, fingerprint):
                continue
            try:
                available[number] = _load(folder)
            except InputError as error:
                self._refused[number], failures[number] = (fingerprint, time.monotonic()), str(error)
                _LOG.error("Version %d of %s: %s", number, self.name, error)
            else:
                failures.pop(number, None)
                _LOG.info("Serving version %d of %s.", number, self.name)
        if wanted and wanted.keys() <= available.keys():
            available = {number: available[number] for number in wanted}
        # In one go: this runs in a thread of its own, and no request sees a model without versions.
        self.versions, self.failures = available, failures

    def _is_refused(self, number: int, fingerprint: str) -> bool:
        """Whether a version that could not be loaded is not to be tried again yet."""
        refused, when = self._refused.get(number, (None, 0.0))
        return refused == fingerprint and time.monotonic() < when + _PATIENCE

    def _wanted(self) -> dict[int, str]:
        """The newest versions that are whole, and their folders."""
        if is_saved_model(self.folder):
            return {1: self.folder}
        whole = [(number, path) for number, path in list_versions(self.folder).items() if is_saved_model(path)]
        return dict(whole[-self.num_versions :])


def load_models(models: Sequence[str], *, num_versions: int) -> dict[str, ServedModel]:
    """Load models for the first time.

    Args:
        models: Each a folder, or `NAME=FOLDER`.
        num_versions: How many of the newest versions of each to serve.

    Raises:
        InputError: If one cannot be loaded, or two have the same name.
    """
    loaded: dict[str, ServedModel] = {}
    for given in models:
        named = re.fullmatch(r"([\w.-]+)=(.+)", given)
        folder = named[2] if named else given
        name = named[1] if named else os.path.basename(os.path.abspath(folder.rstrip("/")))
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"A model cannot have this name. Received: {name!r}. Give NAME={folder}.")
        if name in loaded:
            raise InputError(f"Two models have the same name. Received: {name!r}. Give one as NAME={folder}.")
        loaded[name] = ServedModel(name, folder, num_versions=num_versions)
        loaded[name].refresh()
        for reason in loaded[name].failures.values():
            raise InputError(reason)
        if not loaded[name].versions:
            raise InputError(
                f"Neither a SavedModel nor a folder of versions 1/, 2/, ... Received: {folder!r}. "
                "Make one with `tibert export`."
            )
    return loaded


def _load(folder: str) -> Version:
    """Load a version; if it is replaced meanwhile, the one that has taken its place."""
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
    """Changes when a folder is replaced; of a remote one only the file is watched that comes last."""
    if is_remote(folder):
        with suppress(tf.errors.OpError):
            stat = tf.io.gfile.stat(join(folder, SAVED_MODEL))
            return f"{stat.length} {stat.mtime_nsec}"
        return ""
    stats = []
    for path in sorted(Path(folder).rglob("*")):
        with suppress(FileNotFoundError):  # it has been removed meanwhile
            stats.append((path.relative_to(folder).as_posix(), path.stat()))
    return repr([(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats if S_ISREG(stat.st_mode)])
