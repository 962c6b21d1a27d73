"""The verbs of trained models: export, convert, use and serve them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig
from tibert_keras.inference.fill_file import FilledText, FillMaskConfig
from tibert_keras.inference.segment import SegmentConfig, SegmentExamplesConfig
from tibert_keras.inference.tag import TagConfig
from tibert_keras.serving.config import ServeConfig


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Writes a SavedModel.

    Args:
        model: Folder of a model (a preset, as `champion/` of a run), or of a run with a champion.
        output_dir: Folder for the SavedModel; an older SavedModel in it is replaced.
        top_k: How many guesses it is to give for each mask, the likeliest first.
        versioned: Write the SavedModel to a numbered folder in `output_dir`, the next one, as TensorFlow Serving
            wants it.
        precision: How the weights are held: `float32`, `float16` (half the size), or `dynamic_range`, 8-bit integers
            with scales (a quarter).
        input_file: Held-out files, which another `precision` than `float32` needs: what it costs is measured on them
            and printed. TFRecord files for a masked language model, tagged files for a tagger, tables of
            `label<TAB>text` for a classifier of texts.
        split_file: For a tagger: table of the documents of `input_file`, as its fine-tuning had it; those for the test
            are taken.
        universal_tags: For a tagger: turn the tags of the SOAS corpus into universal ones, as its fine-tuning did.
    """

    model: str
    output_dir: str
    top_k: int = 5
    versioned: bool = False
    precision: Literal["float32", "float16", "dynamic_range"] = "float32"
    input_file: str | None = None
    split_file: str | None = None
    universal_tags: bool = False

    def __post_init__(self) -> None:
        if (self.precision == "float32") != (self.input_file is None):
            raise InputError(
                "Files to measure the loss in accuracy on go with a precision below float32. "
                f"Received: precision={self.precision!r}, input_file={self.input_file!r}. Give both or neither."
            )
        if self.input_file is None and (self.split_file is not None or self.universal_tags):
            raise InputError(
                "How tagged files are read is said where there are some. Received: input_file=None, "
                f"split_file={self.split_file!r}, universal_tags={self.universal_tags}. Give input_file."
            )


def export(flags: ExportFlags) -> None:
    """Write a model as a SavedModel that takes strings, for TensorFlow Serving too."""
    from tibert_keras.runs.presets import load_model

    # Refuses a folder that holds no model, before TensorFlow is imported.
    model = load_model(flags.model)

    from tibert_keras.saved_model.export import export_saved_model, require_tensorflow
    from tibert_keras.saved_model.precision import compare_precision, read_held_out
    from tibert_keras.saved_model.versions import next_version

    require_tensorflow()
    if flags.input_file is not None:
        held_out = read_held_out(
            model, flags.input_file, split_file=flags.split_file, universal_tags=flags.universal_tags
        )
        print(compare_precision(model, flags.precision, held_out))
    output_dir = next_version(flags.output_dir) if flags.versioned else flags.output_dir
    export_saved_model(model, output_dir, top_k=flags.top_k, precision=flags.precision)
    print(output_dir)


def convert(config: ConvertConfig) -> None:
    """Convert a model between Google's checkpoints, transformers' folders and Keras presets, and prove it."""
    from tibert_keras.formats.convert import convert

    proof = convert(config)
    for name, difference in proof.differences.items():
        print(f"{name}: {difference:.1e}")
    print(f"largest difference: {proof.largest:.1e}")


def fill_mask(config: FillMaskConfig) -> None:
    """Guess what is in the gaps of texts."""
    from tibert_keras.inference.fill_file import fill_file, write_filled

    filled = fill_file(config)
    if config.output_file is not None:
        print(f"{write_filled(filled, config.output_file)} texts filled in {config.output_file}")
        return
    print_filled(filled)


def print_filled(filled: Iterable[FilledText]) -> None:
    """Print a line a gap, with tabs: number of text and gap, the guesses with their scores, the filled text."""
    for text in filled:
        for number, guesses in enumerate(text.gaps, 1):
            shown = " ".join(f"{guess}:{score:.3f}" for guess, score in guesses)
            print(f"{text.number}.{number}\t{shown}\t{text.filled}")


def tag(config: TagConfig) -> None:
    """Find the words of texts and their parts of speech."""
    from tibert_keras.inference.tag import tag_text

    _write_pieces(tag_text(config), config.output_file)


def segment(config: SegmentConfig) -> None:
    """Cut texts into sentences, at the ends of sections."""
    from tibert_keras.inference.segment import segment_text

    _write_pieces(segment_text(config), config.output_file)


def segment_examples(config: SegmentExamplesConfig) -> None:
    """Make examples for `tibert finetune text` from text with a sentence a line."""
    from tibert_keras.inference.segment import segment_examples

    for label, count in segment_examples(config).items():
        print(f"{label}: {count}")


def _write_pieces(pieces: Iterable[str], output_file: str | None) -> None:
    if output_file is not None:
        from tibert_keras.inference.tag import write_pieces

        write_pieces(pieces, output_file)
        return
    for piece in pieces:
        print(piece, end="")


def serve(config: ServeConfig) -> None:
    """Serve SavedModels over HTTP, with a page for filling gaps. Ends at SIGTERM or Ctrl-C."""
    from tibert_keras.serving.server import serve

    serve(config, on_ready=lambda url: print(url, flush=True))
