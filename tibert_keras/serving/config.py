"""The options of `tibert serve`, and the models that they name."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tibert_keras.errors import InputError, check_options
from tibert_keras.models.tibert_presets import MASKED_LM, TAGGER, find_by_name, list_presets
from tibert_keras.saved_model.versions import find_saved_model

_POSITIVE = (
    "num_versions", "max_connections", "max_batch_size", "max_queue_size", "max_queue_bytes", "max_gap_queue_size",
    "max_request_bytes", "max_answer_bytes", "timeout", "poll_seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serves SavedModels over HTTP.

    Args:
        models: SavedModels, each a folder or `NAME=FOLDER`: a SavedModel, or a folder of versions `1/`, `2/`, ...; by
            default the name is the folder's. Or models that come with the package, by name, which are exported first;
            without any, all of these.
        host: Address to listen on; `0.0.0.0` accepts other machines, and then a token is advisable.
        port: Port to listen on; 0 picks a free one.
        allowed_hosts: Names under which web pages may address the server, separated by commas, besides addresses and
            names without a dot; and names of servers whose pages may ask it. `*` allows any, as does a token.
        token_file: File with the token that requests must send as `Authorization: Bearer TOKEN`.
        num_versions: Number of the newest versions of a model to serve at a time.
        max_connections: Maximum number of connections that stay open; at most a third of the files that the process may
            open.
        max_batch_size: Maximum number of texts of concurrent requests to compute together.
        max_queue_size: Maximum number of waiting texts, of each request no more than `max_batch_size` being counted;
            requests beyond that get status 429.
        max_queue_bytes: Maximum size of the waiting texts, in bytes; requests beyond that get status 429 too.
        max_gap_queue_size: Maximum number of gaps waiting to be searched; requests beyond that get status 429.
        max_request_bytes: Maximum size of a request's body; a larger one gets status 413.
        max_answer_bytes: Maximum size of the tensors of an answer, before they are written as JSON; beyond that a
            request gets status 400.
        timeout: Seconds after which a request that has not arrived gets status 408, one without an answer gets 504, and
            after which a server that was told to stop gives up unfinished requests.
        poll_seconds: Seconds between two checks of the folders for new versions.
    """

    models: list[str]
    host: str = "127.0.0.1"
    port: int = 8501
    allowed_hosts: str | None = None
    token_file: str | None = None
    num_versions: int = 1
    max_connections: int = 1000
    max_batch_size: int = 32
    max_queue_size: int = 1024
    max_queue_bytes: int = 64 * 2**20
    max_gap_queue_size: int = 64
    max_request_bytes: int = 4 * 2**20
    max_answer_bytes: int = 64 * 2**20
    timeout: float = 30.0
    poll_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.models:
            found = [name for name in (MASKED_LM, TAGGER) if name in list_presets()]
            object.__setattr__(self, "models", found or [MASKED_LM])
        check_options(self, positive=_POSITIVE)
        if not 0 <= self.port < 65536:
            raise InputError(f"port must be from 0 to 65535. Received: {self.port}.")
        for name in self.host_names - {"*"}:
            if not re.fullmatch(r"[\w.-]+", name):
                raise InputError(
                    f"allowed_hosts are names without port and path. Received: {name!r}. Give one like www.example.org."
                )

    @property
    def host_names(self) -> frozenset[str]:
        """The names in `allowed_hosts`, in lower case."""
        names = (self.allowed_hosts or "").lower().split(",")
        return frozenset(name.strip() for name in names if name.strip())


def find_models(models: Sequence[str]) -> dict[str, str]:
    """Return the folders of models, as in `ServeConfig.models`, by their names, without loading any."""
    folders: dict[str, str] = {}
    for given in models:
        named = re.fullmatch(r"([\w.-]+)=(.+)", given)
        folder = named[2] if named else given
        name = named[1] if named else os.path.basename(os.path.abspath(folder.rstrip("/")))
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(f"A model cannot have this name. Received: {name!r}. Give NAME={folder}.")
        if name in folders:
            raise InputError(f"Two models have the same name. Received: {name!r}. Give one as NAME={folder}.")
        if (preset := find_by_name(folder)) == folder and find_saved_model(folder) is None:
            raise InputError(
                f"Neither a SavedModel nor a folder of versions 1/, 2/, ... Received: {folder!r}. "
                "Make one with `tibert export`."
            )
        folders[name] = preset
    return folders
