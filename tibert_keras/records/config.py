"""The options of `build_records`, with the flags that only the original's scripts need."""

import dataclasses
import os
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from sentencepiece import sentencepiece_model_pb2

from tibert_keras.errors import InputError, check_options
from tibert_keras.records.examples import ExamplePolicy
from tibert_keras.records.masking import MaskingPolicy
from tibert_keras.records.text_reader import ErrorHandling
from tibert_keras.storage import read_bytes, read_lines


@dataclass(frozen=True, kw_only=True)
class OriginalFlags:
    """Flags by which `tibert records` takes the command lines of the original's scripts as they are.

    Args:
        output_file: In place of `output_dir`: a record file for each text file, separated by commas, in one folder.
        vocab_file: The list of pieces of `spm_model_file`, which is compared with it.
        input_file_mode: `r` or `rb`: text files are read in the same way by either.
        do_lower_case: Refused unless false: no letter is changed here.
        keep_accents: Refused unless true: without accents, Google's code takes vowel signs away too.
        random_next_sentence: Refused unless false: the second segment is never that of another document.
    """

    output_file: str | None = None
    vocab_file: str | None = None
    input_file_mode: str = "r"
    do_lower_case: bool = False
    keep_accents: bool = True
    random_next_sentence: bool = False

    def __post_init__(self) -> None:
        if self.do_lower_case or not self.keep_accents:
            raise InputError(
                "Text is encoded as it is: Google's treatment of case and accents deletes the vowel signs of "
                f"Tibetan. Received: do_lower_case={self.do_lower_case}, keep_accents={self.keep_accents}. "
                "Give do_lower_case=false and keep_accents=true."
            )
        if self.random_next_sentence:
            raise InputError(
                "ALBERT learns the order of two segments of one document, where BERT learns whether they are of one. "
                "Received: random_next_sentence=True. Give sop=true for their order."
            )
        if self.input_file_mode not in ("r", "rb"):
            raise InputError(f"Files can only be read. Received: input_file_mode={self.input_file_mode!r}. Give r.")

    @property
    def output_files(self) -> list[str]:
        """The paths in `output_file`."""
        return [path.strip() for path in (self.output_file or "").split(",") if path.strip()]


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
        check_options(self, not_negative=("random_seed",))

    @property
    def options(self) -> dict[str, Any]:
        """The options that decide the content of the records, without paths and workers."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _NOT_IN_RECORDS}


def folder_of_output_files(paths: list[str]) -> str:
    """Return the folder of record files."""
    folders, names = ({part(path) for path in paths} for part in (os.path.dirname, os.path.basename))
    if len(folders) != 1 or len(names) != len(paths):
        raise InputError(
            "The manifest of a folder describes all its record files, whose names must differ. "
            f"Received: output_file={','.join(paths)!r}. Make each folder by a command of its own."
        )
    return folders.pop() or "."


def name_targets(sources: list[str], output_files: list[str]) -> list[str]:
    """Return the names of the record files of text files: by default, the same ones."""
    if not output_files:
        return [f"{Path(path).stem}.tf_record" for path in sources]
    if len(output_files) != len(sources):
        raise InputError(
            "Each text file becomes a record file. Received: "
            f"{len(sources)} text files, output_file={','.join(output_files)!r}. Give as many, or output_dir."
        )
    return [os.path.basename(path) for path in output_files]


def check_vocab_file(vocab_file: str, spm_model_file: str) -> None:
    """Check that a list of pieces is that of a SentencePiece model."""
    listed = [line.split("\t")[0] for line in read_lines(vocab_file)]
    model = sentencepiece_model_pb2.ModelProto.FromString(read_bytes(spm_model_file))
    for number, (theirs, ours) in enumerate(zip_longest(listed, (piece.piece for piece in model.pieces)), 1):
        if theirs != ours:
            raise InputError(
                f"The list of pieces is not that of the tokenizer. Received: {theirs!r} in line {number} of "
                f"{vocab_file!r}, {ours!r} in {spm_model_file!r}. Leave vocab_file out: the model has the pieces too."
            )
