"""What `tibert serve` can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tibert_keras.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serves SavedModels over HTTP.

    Args:
        models: SavedModels, each a folder or `NAME=FOLDER`: a SavedModel, or a folder of versions `1/`, `2/`, ...; the
            name is the folder's otherwise.
        host: Address to listen on; `0.0.0.0` lets other machines in, which then should need a token.
        port: Port to listen on; 0 takes a free one.
        token_file: File with the token that requests must bring as `Authorization: Bearer TOKEN`.
        num_versions: How many of the newest versions of a model to serve at a time.
        max_batch_size: How many texts of concurrent requests are computed together at most.
        max_queue_size: How many texts may wait; requests beyond that get status 429.
        max_queue_bytes: How many bytes those texts may have; requests beyond that get status 429 too.
        max_gap_queue_size: How many gaps may wait to be searched; requests beyond that get status 429.
        max_request_bytes: How large a request's body may be; a larger one gets status 413.
        max_answer_bytes: How large the tensors of an answer may be, before they are written as JSON; beyond that a
            request gets status 400.
        timeout: Seconds after which a request that has no answer gets status 504.
        poll_seconds: Seconds between two looks at the folders for new versions.
    """

    models: list[str]
    host: str = "127.0.0.1"
    port: int = 8501
    token_file: str | None = None
    num_versions: int = 1
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
            raise InputError("There is no model to serve. Received: models=[]. Give the folder of a SavedModel.")
        for name in (
            "num_versions",
            "max_batch_size",
            "max_queue_size",
            "max_queue_bytes",
            "max_gap_queue_size",
            "max_request_bytes",
            "max_answer_bytes",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1. Received: {getattr(self, name)}.")
        for name in ("timeout", "poll_seconds"):
            # Neither 0 nor less, nor not a number.
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a positive number of seconds. Received: {getattr(self, name)}.")
        if not 0 <= self.port < 65536:
            raise InputError(f"port must be from 0 to 65535. Received: {self.port}.")
