"""Verbs for trained models: export, convert, use and serve them."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

from tibert_keras.corpus.transliteration import to_wylie
from tibert_keras.errors import InputError
from tibert_keras.formats.convert import ConvertConfig
from tibert_keras.formats.convert import convert as convert_model
from tibert_keras.inference.classify import ClassifyConfig, classify_text
from tibert_keras.inference.conjectures import write_conjectures
from tibert_keras.inference.fill import FilledText, FillMaskConfig, fill_file, write_filled
from tibert_keras.inference.segment import SegmentConfig, SegmentExamplesConfig, segment_text
from tibert_keras.inference.segment import segment_examples as write_examples
from tibert_keras.inference.tag import TagConfig, tag_files, tag_text, write_pieces
from tibert_keras.locks import only_writer
from tibert_keras.models.tibert_presets import MASKED_LM
from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.presets import describe_preset, load_model
from tibert_keras.serving.config import ServeConfig
from tibert_keras.tagging.spaces import escape

_IN_COLUMN = "\n\r\t"


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Writes a SavedModel.

    Args:
        model: Folder of a model (a preset, such as the `champion/` of a run), or of a run with a champion; or the name
            of a model that comes with the package.
        output_dir: Folder for the SavedModel; an older SavedModel in it is replaced.
        top_k: Number of guesses to return for each mask, the most probable first.
        versioned: Write the SavedModel to the next numbered folder in `output_dir`, as TensorFlow Serving expects.
        precision: How to store the weights: `float32`, `bfloat16` or `float16` (half the size), or `dynamic_range`,
            8-bit integers with scales (a quarter). Only `bfloat16` also computes in fewer bits: it is faster on
            accelerators, and on processors with AVX512-BF16 or AMX.
        input_file: Held-out files, required for a `precision` below `float32`: its cost is measured on them and
            printed. TFRecord files for a masked language model, tagged files for a tagger, tables of
            `label<TAB>text` for a text classifier.
        split_file: For a tagger: table of the documents of `input_file`, as in its fine-tuning; the test documents
            are used.
        universal_tags: For a tagger: map the tags of the SOAS corpus to universal ones, as in its fine-tuning.
    """

    output_dir: str
    model: str = MASKED_LM
    top_k: int = 5
    versioned: bool = False
    precision: Literal["float32", "bfloat16", "float16", "dynamic_range"] = "float32"
    input_file: str | None = None
    split_file: str | None = None
    universal_tags: bool = False

    def __post_init__(self) -> None:
        if (self.precision == "float32") != (self.input_file is None):
            raise InputError(
                "A precision below float32 requires held-out files to measure its cost, and float32 takes none. "
                f"Received: precision={self.precision!r}, input_file={self.input_file!r}. Give both or neither."
            )
        if self.input_file is None and (self.split_file is not None or self.universal_tags):
            raise InputError(
                "split_file and universal_tags apply to the tagged files in input_file. Received: input_file=None, "
                f"split_file={self.split_file!r}, universal_tags={self.universal_tags}. Give input_file."
            )


def export(flags: ExportFlags) -> None:
    """Write a model as a SavedModel that takes strings, for TensorFlow Serving too."""
    preset = find_preset(flags.model)  # before TensorFlow is imported
    from tibert_keras.saved_model.export import export_saved_model, require_tensorflow
    from tibert_keras.saved_model.precision import compare_precision, read_held_out
    from tibert_keras.saved_model.versions import next_version

    require_tensorflow()
    model = load_model(preset)
    if flags.input_file is not None:
        held_out = read_held_out(
            model, flags.input_file, split_file=flags.split_file, universal_tags=flags.universal_tags
        )
        report, model = compare_precision(model, flags.precision, held_out)
        print(report)
    # No other export may take the same number.
    with only_writer(flags.output_dir) if flags.versioned else nullcontext():
        output_dir = next_version(flags.output_dir) if flags.versioned else flags.output_dir
        export_saved_model(
            model, output_dir, top_k=flags.top_k, precision=flags.precision, description=describe_preset(preset)
        )
    print(output_dir)


def convert(config: ConvertConfig) -> None:
    """Convert a model between Google's checkpoints, transformers' folders and Keras presets, and verify it."""
    from tibert_keras.cards.card import copy_card

    differences = convert_model(config)
    if config.to == "keras" and not config.check:
        copy_card(config)
    for name, difference in differences.items():
        print(f"{name}: {difference:.1e}")
    print(f"largest difference: {max(differences.values()):.1e}")


def fill_mask(config: FillMaskConfig) -> None:
    """Fill gaps in texts with ranked guesses."""
    filled = fill_file(config)
    if config.whole_text:
        (text,) = filled
        if config.conjectures_file is not None:
            write_conjectures(
                text.text, text.gaps, config.conjectures_file, signs=text.signs, show_wylie=config.show_wylie
            )
        write_pieces([text.filled], config.output_file)
        return
    if config.output_file is not None:
        count = write_filled(filled, config.output_file, show_wylie=config.show_wylie)
        print(f"{count} texts filled in {config.output_file}")
        return
    print_filled(filled, show_wylie=config.show_wylie)


def print_filled(filled: Iterable[FilledText], *, show_wylie: bool = False) -> None:
    """Print one line per gap, tab-separated: numbers of text and gap, the guesses with scores, the filled text."""
    for text in filled:
        for number, guesses in enumerate(text.gaps, 1):
            shown = " ".join(
                f"{guess or '(nothing)'}{f' [{to_wylie(guess)}]' if show_wylie else ''}:{score:.3f}"
                for guess, score in guesses
            )
            print(f"{text.number}.{number}\t{shown or '(none)'}\t{escape(text.filled, _IN_COLUMN)}")


def tag(config: TagConfig) -> None:
    """Find the words in texts and their parts of speech."""
    if config.writes_beside:
        for path in tag_files(config):
            print(path)
        return
    write_pieces(tag_text(config), config.output_file)


def classify(config: ClassifyConfig) -> None:
    """Classify texts, one per line."""
    write_pieces(classify_text(config), config.output_file)


def segment(config: SegmentConfig) -> None:
    """Split texts into sentences, at the ends of sections."""
    write_pieces(segment_text(config), config.output_file)


def segment_examples(config: SegmentExamplesConfig) -> None:
    """Make examples for `tibert finetune text` from text with one sentence per line."""
    for label, count in write_examples(config).items():
        print(f"{label}: {count}")


def serve(config: ServeConfig) -> None:
    """Serve SavedModels over HTTP, with a page for filling gaps. Ends at SIGTERM or Ctrl-C."""
    from tibert_keras.serving.server import serve

    serve(config, on_ready=lambda url: print(url, flush=True))
