"""The options of `build_records`."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tibert_keras.errors import InputError
from tibert_keras.records.examples import ExamplePolicy
from tibert_keras.records.masking import MaskingPolicy
from tibert_keras.records.original_flags import OriginalFlags, folder_of_output_files
from tibert_keras.records.text_reader import ErrorHandling

_NOT_IN_RECORDS = {"input_file", "output_dir", "spm_model_file", "errors", "workers", "scheduler"}
_NOT_IN_RECORDS |= {field.name for field in dataclasses.fields(OriginalFlags)}


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(ExamplePolicy, MaskingPolicy, OriginalFlags):
    """Turns text files into TFRecords of masked examples.

    Args:
        input_file: Text files, a section in each line and an empty line between documents: a path, a glob pattern,
            or several separated by commas.
        output_dir: Folder for a `.tf_record` for each text file, `manifest.json` and a copy of the tokenizer.
        spm_model_file: The SentencePiece model.
        random_seed: Seed of masks, lengths, sampled tokens and the order of examples.
        stochastic_tokens: Sample encodings (nbest 64, alpha 0.1) instead of taking the best one.
        shuffle_examples: Shuffle the examples of all files together. The files then have the same size, and
            `output_dir` needs three times their space on disk during the work.
        tsheg_pretokenization: Let no piece cross a mark between syllables.
        underline_between_sections: Encode the space before a section as `▁`; `between`, as in the original, leaves out
            that at the start of a sequence, and makes each a token of its own.
        errors: What to do with a line that is not UTF-8: `strict` stops, `skip` skips and counts it.
        workers: Number of processes, or 0 for one a core, fewer if the input is small. In a script, more than one
            need `if __name__ == "__main__":`.
        scheduler: Address of a Dask scheduler, such as `tcp://HOST:PORT`, whose workers do the work instead.
    """

    input_file: str
    spm_model_file: str
    output_dir: str = ""
    random_seed: int = 12345
    stochastic_tokens: bool = False
    shuffle_examples: bool = False
    tsheg_pretokenization: bool = False
    underline_between_sections: bool | Literal["between"] = True
    errors: ErrorHandling = "strict"
    workers: int = 0
    scheduler: str | None = None

    def __post_init__(self) -> None:
        # Each policy checks its own options.
        ExamplePolicy.__post_init__(self)
        MaskingPolicy.__post_init__(self)
        if self.masked_lm_prob == 0:
            raise InputError("Nothing would be masked, and nothing learned. Received: masked_lm_prob=0. Give more.")
        OriginalFlags.__post_init__(self)
        if not (self.output_dir or self.output_files):
            raise InputError("There is no folder for the records. Received: output_dir=''. Give output_dir.")
        if not self.output_dir:
            object.__setattr__(self, "output_dir", folder_of_output_files(self.output_files))
        if self.random_seed < 0:
            raise InputError(f"random_seed must not be negative. Received: {self.random_seed}.")
        if self.errors not in get_args(ErrorHandling):
            raise InputError(f"errors must be 'strict' or 'skip'. Received: {self.errors!r}.")

    @property
    def options(self) -> dict[str, Any]:
        """The options that decide the content of the records, without paths and workers."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_IN_RECORDS}
