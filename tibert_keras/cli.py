"""The command line: `tibert <verb>`, one verb a stage. Results go to standard output, the log to standard error."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from tibert_keras.corpus import CorpusConfig, build_corpus
from tibert_keras.data import Records, RecordsConfig, build_records
from tibert_keras.errors import InputError
from tibert_keras.export import FilledMask, SavedModelOfBest, export_saved_model, fill_mask
from tibert_keras.models import TibertMaskedLM
from tibert_keras.quickstart import QuickstartConfig, run_quickstart
from tibert_keras.storage import read_lines
from tibert_keras.tokenizers import TokenizerConfig, train_tokenizer
from tibert_keras.training import PretrainConfig, choose_champion, evaluate, find_preset, pretrain

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
class PretrainFlags(PretrainConfig):
    """Pretrains a masked language model.

    Args:
        export_saved_model: Write a SavedModel of each new best checkpoint.
    """

    export_saved_model: bool = False


def train(flags: PretrainFlags) -> None:
    """Pretrain a masked language model. Given again, the same command goes on where it was stopped."""
    callbacks = [SavedModelOfBest(flags.output_dir)] if flags.export_saved_model else []
    names = {config_field.name for config_field in dataclasses.fields(PretrainConfig)}
    config = PretrainConfig(**{name: getattr(flags, name) for name in names})
    _print_fields(dataclasses.asdict(pretrain(config, callbacks=callbacks)))


@dataclass(frozen=True, kw_only=True)
class ChampionFlags:
    """Chooses the best checkpoint of runs.

    Args:
        run_dir: Folders of runs.
        criterion: `loss`, the lowest training loss over the interval before a checkpoint, or `val_loss`.
    """

    run_dir: list[str]
    criterion: Literal["loss", "val_loss"] = "loss"


def champion(flags: ChampionFlags) -> None:
    """Choose the best checkpoint of one run or several, and write it as a preset."""
    _print_fields(dataclasses.asdict(choose_champion(flags.run_dir, criterion=flags.criterion)))


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Evaluates a model.

    Args:
        model: A preset, or a run with a champion.
        input_file: Held-out TFRecord files.
        batch_size: Examples a step.
    """

    model: str
    input_file: str
    batch_size: int = 64


def score(flags: EvaluateFlags) -> None:
    """Measure a model's loss, in nats, and accuracy on the masked tokens of held-out records."""
    model = TibertMaskedLM.from_preset(find_preset(flags.model))
    _print_fields(evaluate(model, Records.find(flags.input_file), batch_size=flags.batch_size))


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Writes a SavedModel.

    Args:
        model: A preset, or a run with a champion.
        output_dir: Folder of the SavedModel.
        top_k: Guesses that it gives for each mask.
    """

    model: str
    output_dir: str
    top_k: int = 5


def export(flags: ExportFlags) -> None:
    """Write a model as a SavedModel that takes strings."""
    export_saved_model(flags.model, flags.output_dir, top_k=flags.top_k)
    print(flags.output_dir)


@dataclass(frozen=True, kw_only=True)
class FillMaskFlags:
    """Fills masks.

    Args:
        text: Texts with `[MASK]` in them.
        model: A SavedModel, a preset, or a run with a champion.
        input_file: File with a text a line, in place of `text`.
        top_k: Guesses for each mask.
    """

    text: list[str]
    model: str
    input_file: str | None = None
    top_k: int = 5


def fill(flags: FillMaskFlags) -> None:
    """Guess what is behind each [MASK] in texts."""
    texts = [*flags.text, *(filter(None, read_lines(flags.input_file)) if flags.input_file else [])]
    if not texts:
        raise InputError("There is no text. Received: no text and input_file=None. Give one or the other.")
    for mask in fill_mask(texts, model=flags.model, top_k=flags.top_k):
        _print_mask(mask)


VERBS: dict[str, Callable[[Any], None]] = {
    "quickstart": quickstart,
    "corpus": corpus,
    "tokenizer": tokenizer,
    "records": records,
    "pretrain": train,
    "champion": champion,
    "evaluate": score,
    "export": export,
    "fill-mask": fill,
}
# Fields that are given as words after the verb, not as flags; "*" may be none.
_POSITIONAL = {"run_dir": "+", "text": "*"}


def _print_fields(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


def _print_mask(mask: FilledMask) -> None:
    """Print a line with tabs: number of text and mask, the guesses with their probabilities, the filled text."""
    guesses = " ".join(
        f"{piece}:{probability:.3f}" for piece, probability in zip(mask.pieces, mask.probabilities, strict=True)
    )
    print(f"{mask.text + 1}.{mask.mask + 1}\t{guesses}\t{mask.filled}")


# === The parser ===


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: The words after `tibert`; those of the process by default.

    Returns:
        The exit status: 0 on success, 1 if an input could not be used, 2 if the command line could not.
    """
    verb, *words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb not in VERBS:
        print(f"tibert: no such verb. Received: {verb!r}. Give one of {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("tibert_keras").setLevel(logging.INFO)
    try:
        VERBS[verb](parse(verb, words))
    except (ArgumentError, InputError) as error:
        print(f"tibert {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError) else 1
    return 0


def parse(verb: str, words: Sequence[str]) -> Any:
    """Parse the words after a verb into the dataclass that the verb's function takes.

    Raises:
        ArgumentError: If a flag or value is unknown.
        InputError: If the values do not go together.
    """
    function = VERBS[verb]
    (config_class,) = [kind for name, kind in get_type_hints(function).items() if name != "return"]
    parser = ArgumentParser(prog=f"tibert {verb}", description=inspect.getdoc(function), exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with values for any of the flags below")
    names = {config_field.name: config_field for config_field in dataclasses.fields(config_class)}
    positional = _POSITIONAL.keys() & names.keys()
    for name in positional:
        parser.add_argument(name, nargs=_POSITIONAL[name], type=str, default=[], help="one or more")
    parser.add_class_arguments(config_class, as_group=False, skip=set(positional))
    switches = {name for name, kind in get_type_hints(config_class).items() if kind is bool}
    values = parser.parse_args(_spell_out_switches(words, switches)).as_dict()
    values.pop("config")
    return config_class(**values)


def _spell_out_switches(words: Sequence[str], switches: set[str]) -> list[str]:
    """Give switches their values, as the original's flags take them: `--do_train` and `--nodo_train`."""
    spelled = []
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name = word.removeprefix("--")
        if word.startswith("--") and name in switches and following not in ("true", "false"):
            word = f"{word}=true"
        elif word.startswith("--no") and name.removeprefix("no") in switches:
            word = f"--{name.removeprefix('no')}=false"
        spelled.append(word)
    return spelled


def _overview() -> str:
    verbs = [f"  {verb:<12}{(inspect.getdoc(function) or '').splitlines()[0]}" for verb, function in VERBS.items()]
    return "\n".join(["usage: tibert VERB [FLAGS], tibert VERB --help", "", *verbs])


if __name__ == "__main__":
    sys.exit(main())
