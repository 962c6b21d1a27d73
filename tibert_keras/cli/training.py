"""Verbs for runs: train, compare, choose, evaluate and describe them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from tibert_keras.errors import InputError
from tibert_keras.finetuning.config import FinetuneConfig, FinetuneTextConfig, FinetuneTokensConfig, check_run
from tibert_keras.models.tibert_presets import MASKED_LM, find_by_name, policy_of
from tibert_keras.records.pipeline import Records
from tibert_keras.runs.champion import evaluation_rows, write_evaluation
from tibert_keras.runs.folder import find_preset
from tibert_keras.runs.presets import load_model
from tibert_keras.runs.summary import in_columns
from tibert_keras.storage import join
from tibert_keras.training.config import PretrainConfig, check_pretraining
from tibert_keras.training.workers import is_chief

if TYPE_CHECKING:
    from tibert_keras.finetuning.scores import Scores


@dataclass(frozen=True, kw_only=True)
class PretrainFlags(PretrainConfig):
    """Pretrains a masked language model.

    Args:
        export_saved_model: Write a SavedModel to `saved_model/` in the run's folder at each new best checkpoint.
    """

    export_saved_model: bool = False


def pretrain(flags: PretrainFlags) -> None:
    """Pretrain a masked language model. The same command, run again, resumes where it was stopped."""
    config = PretrainConfig(**{field.name: getattr(flags, field.name) for field in fields(PretrainConfig)})
    check_pretraining(config)  # before Keras is imported
    from tibert_keras.training.pretrain import pretrain

    if not (flags.export_saved_model and is_chief()):
        champion = pretrain(config)
    else:
        from tibert_keras.saved_model.export import SavedModelOfBest, export_saved_model

        champion = pretrain(config, callbacks=[SavedModelOfBest(flags.output_dir)])
        # Again, because the run may have been killed while the last one was being written.
        export_saved_model(champion.preset, join(flags.output_dir, "saved_model"))
    _print_fields(asdict(champion))


@dataclass(frozen=True, kw_only=True)
class RunsFlags:
    """Compares runs.

    Args:
        run_dir: Folders of one or more runs: each an `--output_dir` of `tibert pretrain` or `tibert finetune`, whose
            seeds are shown as separate runs.
        plot: PNG file to draw the loss curves of all runs to.
    """

    run_dir: list[str]
    plot: str | None = None


def runs(flags: RunsFlags) -> None:
    """Show the progress, losses and speed of runs as a table."""
    from tibert_keras.runs.summary import plot_runs, summarize_runs, summary_table

    summaries = summarize_runs(flags.run_dir)
    if flags.plot:
        plot_runs(summaries, flags.plot)
    print(summary_table(summaries))


@dataclass(frozen=True, kw_only=True)
class ChampionFlags:
    """Chooses the best checkpoint of runs.

    Args:
        run_dir: Folders of one or more runs: each an `--output_dir` of `tibert pretrain`.
        criterion: The loss to minimize: `loss`, the training loss over the window before a checkpoint, or `val_loss`,
            the loss on the run's `--validation_file`.
    """

    run_dir: list[str]
    criterion: Literal["loss", "val_loss"] = "loss"


def champion(flags: ChampionFlags) -> None:
    """Choose the best checkpoint of one or more runs, and write it as a preset."""
    from tibert_keras.runs.champion import choose_champion

    _print_fields(asdict(choose_champion(flags.run_dir, criterion=flags.criterion)))


# Scores that `evaluate` prints by name; a table gives them with others.
_FIELDS = ("loss", "accuracy", "top_5_accuracy", "unigram_entropy", "nats_below_unigram", "masked_tokens")


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Evaluates a model.

    Args:
        model: Folder of a model (a preset, such as the `champion/` of a run), or of a run with a champion, whose card
            then gives the scores; or the name of a model that comes with the package.
        input_file: Held-out TFRecord files: a path, a glob pattern, or several separated by commas.
        baseline: TFRecord files, usually those that the model was trained on, of which n-grams are counted to guess the
            same tokens: a model should do better.
        batch_size: Examples per step; the scores do not depend on it.
        mixed_precision: `mixed_bfloat16` (`bfloat16` for short) computes in bfloat16, which rounds the scores and is
            faster where the processor has it. A run's card keeps the scores in float32.
        against: `huggingface` exports the model, also measures the loss with transformers and torch, and fails if the
            two differ by more than 1e-3.
    """

    input_file: str
    model: str = MASKED_LM
    baseline: str | None = None
    batch_size: int = 64
    mixed_precision: Literal["float32", "mixed_bfloat16", "bfloat16"] = "float32"
    against: Literal["huggingface"] | None = None

    def __post_init__(self) -> None:
        if self.against is not None and self.mixed_precision != "float32":
            raise InputError(
                f"The losses are compared in float32. Received: against={self.against!r}, "
                f"mixed_precision={self.mixed_precision!r}. Leave one out."
            )


def evaluate(flags: EvaluateFlags) -> None:
    """Measure a model's loss, in nats, and accuracy on the masked tokens of held-out records."""
    # Before Keras is imported.
    preset, records = find_preset(flags.model, task="TibertMaskedLM"), Records.find(flags.input_file)
    baseline = Records.find(flags.baseline) if flags.baseline else None

    from tibert_keras.models.tibert_masked_lm import TibertMaskedLM
    from tibert_keras.training.evaluate import check_same_loss, evaluate, hugging_face_loss, require_transformers

    if flags.against is not None:
        require_transformers()  # before minutes of work
    in_float32 = flags.mixed_precision == "float32"
    model = load_model(preset, dtype=None if in_float32 else "mixed_bfloat16")
    # What is behind a handle shows only now.
    if not isinstance(model, TibertMaskedLM):
        raise InputError(
            f"Only a masked language model is evaluated. Received: model={flags.model!r}, a {type(model).__name__}. "
            "Give the champion of `tibert pretrain`."
        )
    if flags.against is not None:
        policy_of(preset, "float32")  # refuses a quantized model, which has no weights there
    scores = evaluate(model, records, batch_size=flags.batch_size, baseline=baseline)
    _print_fields({name: scores[name] for name in _FIELDS})
    print(f"\n{in_columns(evaluation_rows(scores), left=1)}")
    if in_float32:
        write_evaluation(find_by_name(flags.model), scores, input_file=flags.input_file, baseline=flags.baseline)
    if flags.against is not None:
        theirs = hugging_face_loss(flags.model, records, batch_size=flags.batch_size)
        print(f"loss of transformers: {theirs:.4f}\ndifference: {abs(scores['loss'] - theirs):.1e}")
        check_same_loss(scores["loss"], theirs, model=flags.model)


@dataclass(frozen=True, kw_only=True)
class CardFlags:
    """Describes a run.

    Args:
        run_dir: Folder of a run, an `--output_dir` of `tibert pretrain` or `tibert finetune`. Relative paths in its
            options are resolved from the current folder. Or a model that comes with the package, by name: its card is
            there already, and its path is printed.
    """

    run_dir: str


def card(flags: CardFlags) -> None:
    """Write CARD.md, a model card of a run's data, code, commands, options and results, from the run's records."""
    from tibert_keras.cards.card import write_card

    print(write_card(flags.run_dir))


def finetune_tokens(config: FinetuneTokensConfig) -> None:
    """Fine-tune and evaluate a tagger of words and parts of speech. Run again, it trains the missing seeds."""
    check_run(config)  # before Keras is imported
    from tibert_keras.finetuning.tokens import finetune_tokens

    _show_scores(config, finetune_tokens(config))


def finetune_text(config: FinetuneTextConfig) -> None:
    """Fine-tune and evaluate a text classifier. Run again, it trains the missing seeds."""
    check_run(config)  # before Keras is imported
    from tibert_keras.finetuning.text import finetune_text

    _show_scores(config, finetune_text(config))


def _show_scores(config: FinetuneConfig, scores: Scores) -> None:
    """Write the card of a run, and print its scores."""
    from tibert_keras.cards.card import write_card
    from tibert_keras.finetuning.scores import score_table

    write_card(config.output_dir)
    print(score_table(config.output_dir, scores, config.others))


def _print_fields(values: dict[str, Any]) -> None:
    for name, value in values.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
