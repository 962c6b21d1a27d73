"""The command line: `tibert <verb>`, one verb a stage. Results go to standard output, the log to standard error."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tibert_keras.command import run_command
from tibert_keras.corpus import CorpusConfig, build_corpus
from tibert_keras.data import (
    Records,
    RecordsConfig,
    build_records,
    inspect_records,
    readable_examples,
    tokenizer_of_records,
)
from tibert_keras.errors import InputError
from tibert_keras.export import (
    ConvertConfig,
    FilledMask,
    FillMaskConfig,
    SavedModelOfBest,
    check_loss,
    compare_precision,
    convert,
    export_saved_model,
    fill_file,
    hugging_face_loss,
    load_task,
    next_version,
    require_tensorflow,
    require_transformers,
    write_card,
    write_filled,
)
from tibert_keras.models import TibertMaskedLM
from tibert_keras.quickstart import QuickstartConfig, run_quickstart
from tibert_keras.serving import ServeConfig, serve
from tibert_keras.storage import join
from tibert_keras.tokenizers import TokenizerConfig, train_tokenizer
from tibert_keras.training import PretrainConfig, choose_champion, evaluate, find_preset, pretrain
from tibert_keras.training.runs import plot_runs, summarize_runs, table
from tibert_keras.training.workers import is_chief

# === Verbs: a function of one dataclass each; the dataclass gives the flags and the help ===


def quickstart(config: QuickstartConfig) -> None:
    """Run every stage on a small made-up corpus, in a few minutes."""
    for mask in run_quickstart(config):
        _print_mask(mask)


def corpus(config: CorpusConfig) -> None:
    """Turn an edition of the canon into text files, a section a line."""
    print(build_corpus(config).summary())


def tokenizer(config: TokenizerConfig) -> None:
    """Train a SentencePiece model on text files."""
    manifest = train_tokenizer(config)
    print(f"{manifest['vocab_size']} pieces ({manifest['model_type']}) in {config.output_dir}/spiece.model")


def records(config: RecordsConfig) -> None:
    """Turn text files into TFRecords of masked examples."""
    print(build_records(config).summary())


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """Looks into a record file.

    Args:
        file: A TFRecord file of masked examples, of `tibert records` or of Google's ALBERT.
        spm_model_file: The SentencePiece model of the records; by default the `spiece.model` beside the file.
        num_examples: How many examples to print as text, each masked token as `⟦original→shown⟧` or, where it was
            kept, `⟦original=⟧`.
        plot: Write the statistics as a picture too, to this PNG file.
    """

    file: str
    spm_model_file: str | None = None
    num_examples: int = 3
    plot: str | None = None

    def __post_init__(self) -> None:
        if not self.file:
            raise InputError("There is no file to look into. Received: file=''. Give a record file.")
        if self.num_examples < 0:
            raise InputError(f"num_examples must not be negative. Received: {self.num_examples}.")


def look(flags: InspectFlags) -> None:
    """Show statistics of a record file, and examples as text with the masks marked."""
    tokenizer = tokenizer_of_records(flags.file, spm_model_file=flags.spm_model_file)
    statistics = inspect_records(flags.file, tokenizer=tokenizer)
    if flags.plot:
        statistics.plot(flags.plot)
    examples = readable_examples(flags.file, tokenizer=tokenizer, count=flags.num_examples)
    print(statistics.summary(), *examples, sep="\n\n")


@dataclass(frozen=True, kw_only=True)
class PretrainFlags(PretrainConfig):
    """Pretrains a masked language model.

    Args:
        export_saved_model: Write a SavedModel to `saved_model/` in the run's folder at each new best checkpoint.
    """

    export_saved_model: bool = False


def train(flags: PretrainFlags) -> None:
    """Pretrain a masked language model. Given again, the same command goes on where it was stopped."""
    exports = flags.export_saved_model and is_chief()
    callbacks = [SavedModelOfBest(flags.output_dir)] if exports else []
    names = {config_field.name for config_field in dataclasses.fields(PretrainConfig)}
    config = PretrainConfig(**{name: getattr(flags, name) for name in names})
    champion = pretrain(config, callbacks=callbacks)
    if exports:
        # Once more: the run may have been killed while the last one was written.
        export_saved_model(champion.preset, join(flags.output_dir, "saved_model"))
    _print_fields(dataclasses.asdict(champion))


@dataclass(frozen=True, kw_only=True)
class RunsFlags:
    """Compares runs.

    Args:
        run_dir: Folders of runs, one or more: each an `--output_dir` of `tibert pretrain`.
        plot: Draw the loss curves of all the runs too, to this PNG file.
    """

    run_dir: list[str]
    plot: str | None = None

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise InputError("There is no run to look at. Received: run_dir=[]. Give the folder of a run.")


def runs(flags: RunsFlags) -> None:
    """Show how far runs are, their losses and their speed, as a table."""
    summaries = summarize_runs(flags.run_dir)
    if flags.plot:
        plot_runs(summaries, flags.plot)
    print(table(summaries))


@dataclass(frozen=True, kw_only=True)
class ChampionFlags:
    """Chooses the best checkpoint of runs.

    Args:
        run_dir: Folders of runs, one or more: each an `--output_dir` of `tibert pretrain`.
        criterion: What is lowest: `loss`, the training loss over the interval before a checkpoint, or `val_loss`, the
            loss on the run's `--validation_file`.
    """

    run_dir: list[str]
    criterion: Literal["loss", "val_loss"] = "loss"

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise InputError("There is no run to choose from. Received: run_dir=[]. Give the folder of a run.")


def champion(flags: ChampionFlags) -> None:
    """Choose the best checkpoint of one run or several, and write it as a preset."""
    _print_fields(dataclasses.asdict(choose_champion(flags.run_dir, criterion=flags.criterion)))


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Evaluates a model.

    Args:
        model: Folder of a model (a preset, as `champion/` of a run), or of a run with a champion.
        input_file: Held-out TFRecord files: a path, a glob pattern, or several with commas between them.
        batch_size: Examples a step; the scores do not depend on it.
        against: `huggingface` exports the model, lets transformers and torch measure the loss too, and fails if the
            two differ by more than 1e-3.
    """

    model: str
    input_file: str
    batch_size: int = 64
    against: Literal["huggingface"] | None = None


def score(flags: EvaluateFlags) -> None:
    """Measure a model's loss, in nats, and accuracy on the masked tokens of held-out records."""
    if flags.against is not None:
        require_transformers()  # before the work of minutes
    model = TibertMaskedLM.from_preset(find_preset(flags.model))
    records = Records.find(flags.input_file)
    scores = evaluate(model, records, batch_size=flags.batch_size)
    _print_fields(scores)
    if flags.against is not None:
        theirs = hugging_face_loss(flags.model, records, batch_size=flags.batch_size)
        print(f"loss of transformers: {theirs:.4f}\ndifference: {abs(scores['loss'] - theirs):.1e}")
        check_loss(scores["loss"], theirs, model=flags.model)


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
        input_file: Held-out TFRecord files, which another `precision` than `float32` needs: what it costs in
            accuracy is measured on them and printed.
    """

    model: str
    output_dir: str
    top_k: int = 5
    versioned: bool = False
    precision: Literal["float32", "float16", "dynamic_range"] = "float32"
    input_file: str | None = None

    def __post_init__(self) -> None:
        if (self.precision == "float32") != (self.input_file is None):
            raise InputError(
                "Records to measure the loss in accuracy on go with a precision below float32. "
                f"Received: precision={self.precision!r}, input_file={self.input_file!r}. Give both or neither."
            )


def export(flags: ExportFlags) -> None:
    """Write a model as a SavedModel that takes strings, for TensorFlow Serving too."""
    require_tensorflow()
    model = load_task(flags.model)
    if flags.input_file is not None:
        print(compare_precision(model, flags.precision, Records.find(flags.input_file)))
    output_dir = next_version(flags.output_dir) if flags.versioned else flags.output_dir
    export_saved_model(model, output_dir, top_k=flags.top_k, precision=flags.precision)
    print(output_dir)


def exchange(config: ConvertConfig) -> None:
    """Convert a model between Google's checkpoints, transformers' folders and Keras presets, and prove it."""
    proof = convert(config)
    for name, difference in proof.differences.items():
        print(f"{name}: {difference:.1e}")
    print(f"largest difference: {proof.largest:.1e}")


@dataclass(frozen=True, kw_only=True)
class CardFlags:
    """Describes a run.

    Args:
        run_dir: Folder of a run, an `--output_dir` of `tibert pretrain`; the paths in its options are looked up from
            where this command is given.
    """

    run_dir: str

    def __post_init__(self) -> None:
        if not self.run_dir:
            raise InputError("There is no run to describe. Received: run_dir=''. Give the folder of a run.")


def card(flags: CardFlags) -> None:
    """Write the card of a run, CARD.md: its data, code, commands, options and champion, from what it recorded."""
    print(write_card(flags.run_dir))


def fill(config: FillMaskConfig) -> None:
    """Guess what is in the gaps of texts."""
    filled = fill_file(config)
    if config.output_file is not None:
        print(f"{write_filled(filled, config.output_file)} texts filled in {config.output_file}")
        return
    for text in filled:
        for number, guesses in enumerate(text.gaps, 1):
            shown = " ".join(f"{guess}:{score:.3f}" for guess, score in guesses)
            print(f"{text.number}.{number}\t{shown}\t{text.filled}")


def serve_models(config: ServeConfig) -> None:
    """Serve SavedModels over HTTP, with a page for filling gaps. Ends at SIGTERM or Ctrl-C."""
    serve(config, on_ready=lambda url: print(url, flush=True))


VERBS: dict[str, Callable[[Any], None]] = {
    "quickstart": quickstart,
    "corpus": corpus,
    "tokenizer": tokenizer,
    "records": records,
    "records inspect": look,
    "pretrain": train,
    "runs": runs,
    "champion": champion,
    "evaluate": score,
    "export": export,
    "convert": exchange,
    "card": card,
    "fill-mask": fill,
    "serve": serve_models,
}


def _print_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


def _print_mask(mask: FilledMask) -> None:
    """Print a line with tabs: number of text and mask, the guesses with their probabilities, the filled text."""
    guesses = " ".join(
        f"{piece}:{probability:.3f}" for piece, probability in zip(mask.pieces, mask.probabilities, strict=True)
    )
    print(f"{mask.text + 1}.{mask.mask + 1}\t{guesses}\t{mask.filled}")


# === The command ===


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: The words after `tibert`; those of the process by default.

    Returns:
        The exit status, as of `run_command`.
    """
    return run_command(VERBS, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
