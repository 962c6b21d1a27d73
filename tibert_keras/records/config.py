"""The options of `build_records`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

from tibert_keras.errors import InputError
from tibert_keras.records.examples import ExamplePolicy
from tibert_keras.records.masking import MaskingPolicy
from tibert_keras.records.text_reader import ErrorHandling

_NOT_IN_RECORDS = {"input_file", "output_dir", "spm_model_file", "errors", "workers", "scheduler"}


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(ExamplePolicy, MaskingPolicy):
    """Turns text files into TFRecords of masked examples.

    Args:
        input_file: Text files, a section a line and an empty line between documents: a path, a glob pattern, or
            several with commas between them.
        output_dir: Folder for one `.tf_record` a text file, `manifest.json` and a copy of the tokenizer.
        spm_model_file: The SentencePiece model.
        random_seed: Seed of masks, lengths, sampled tokens and the order of examples.
        stochastic_tokens: Sample encodings (nbest 64, alpha 0.1) in place of the best one.
        shuffle_examples: Put the examples of all files into one random order. The files are then of one size, and
            `output_dir` takes three times their space on disk while it works.
        tsheg_pretokenization: Let no piece cross a mark between syllables.
        underline_between_sections: Encode the space before a section as `▁`.
        errors: What to do with a line that is not UTF-8: `strict` stops, `skip` leaves it out and counts it.
        workers: Processes that work at a time, or 0 for one a core. More than one need a main module that can be
            imported, as the command line is.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead.
    """

    input_file: str
    output_dir: str
    spm_model_file: str
    random_seed: int = 12345
    stochastic_tokens: bool = False
    shuffle_examples: bool = False
    tsheg_pretokenization: bool = False
    underline_between_sections: bool = True
    errors: ErrorHandling = "strict"
    workers: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        # Each policy checks its own options and knows nothing of the other.
        ExamplePolicy.__post_init__(self)
        MaskingPolicy.__post_init__(self)
        if self.random_seed < 0:
            raise InputError(f"random_seed must not be negative. Received: {self.random_seed}.")
        if self.errors not in get_args(ErrorHandling):
            raise InputError(f"errors must be 'strict' or 'skip'. Received: {self.errors!r}.")

    @property
    def options(self) -> dict[str, Any]:
        """All that decides what the records are; where things lie and who does the work does not."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_IN_RECORDS}
