"""What all fine-tunings do: a training for each seed, its best epoch, and the scores of all together."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

import keras
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tibert_keras.errors import DivergedError, InputError
from tibert_keras.finetuning.config import FinetuneConfig
from tibert_keras.finetuning.scores import Scores, check_data, read_scores, write_json, write_scores
from tibert_keras.models.tibert_presets import foreign_preset
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.runs.environment import note_environment
from tibert_keras.runs.folder import CHAMPION_PRESET, SCORES_FILE, check_folder, find_preset, write_config
from tibert_keras.runs.history import History
from tibert_keras.storage import absolute, atomic_output, exists, expand_glob, join, read_json, remove_folder, sha256

CONFUSION_PICTURE = "confusion.png"
# What a run may be given again with: seeds are added to those that are there.
CHANGEABLE = {"output_dir", "num_seeds", "compare_with", "eval_batch_size", "jit_compile"}

# Inputs, labels and weights, each with the sequences along its first axis.
Sequences = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]

# The options that name the parts of the data.
_PARTS = ("input_file", "validation_file", "test_file")
_ADVICE = "Give the champion of a run."

_LOG = logging.getLogger(__name__)


class Task(Protocol):
    """What is learned: a task has its data, its model and its scores."""

    # The score that is highest at the best epoch.
    criterion: str
    # Those that are shown.
    columns: Sequence[str]
    # What to learn from.
    sequences: Sequences
    # What the run is to remember of its data.
    data: dict[str, Any]
    has_test: bool

    def make_model(self, dtype: str) -> keras.Model:
        """Make the model as it is before the training, to compute in a type or a mix of types."""

    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        """Score a model on the `validation` or `test`."""

    def baseline(self, part: str) -> dict[str, float]:
        """The scores of what needs no model."""

    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        """Draw what a picture shows better, into the run's folder."""


def begin(config: FinetuneConfig) -> None:
    """Check a run's folder and files before any work, and whether the runs to compare with are there.

    Raises:
        InputError: If it holds anything but the same run, or more seeds than asked for, a run to compare with has no
            scores, or a file is missing or in two parts of the data.
    """
    for folder in config.others:
        read_scores(folder)
    check_folder(config, CHANGEABLE)
    # The champion may be one of them.
    if exists(join(config.output_dir, f"seed_{config.num_seeds}", SCORES_FILE)):
        raise InputError(
            "The folder holds the scores of more seeds. Received: "
            f"num_seeds={config.num_seeds} for {config.output_dir!r}. Give as many as before, or more."
        )
    part_of: dict[str, str] = {}
    for part in _PARTS:
        pattern = getattr(config, part)
        for path in map(absolute, expand_glob(pattern) if pattern else ()):
            if part_of.setdefault(path, part) != part:
                raise InputError(
                    "A file is in two parts of the data, which are to be different texts. "
                    f"Received: {path!r} in {part_of[path]} and in {part}. Take it out of one."
                )


def find_encoder(config: FinetuneConfig) -> tuple[str, TibertTokenizer]:
    """Return the folder of the preset that a fine-tuning begins with, and its tokenizer.

    Raises:
        InputError: If there is none, it is not one of ours or has no tokenizer, or its encoder has fewer positions than
            the sequences.
    """
    preset = find_preset(config.model)
    encoder = read_json(join(preset, "config.json"), what="an encoder", advice=_ADVICE).get("config", {})
    positions = encoder.get("max_sequence_length", 0)
    if config.max_seq_length > positions:
        raise InputError(
            "The sequences are longer than the encoder takes. Received: "
            f"max_seq_length={config.max_seq_length}, and {positions} positions in {preset!r}. Give fewer."
        )
    if exists(path := join(preset, "preprocessor.json")):
        trained = read_json(path, what="a part of a preset", advice=_ADVICE).get("config", {}).get("sequence_length")
        if trained and config.max_seq_length > trained:
            _LOG.warning(
                "the encoder learnt %d positions, those beyond have learnt nothing: max_seq_length=%d",
                trained,
                config.max_seq_length,
            )
    with foreign_preset(preset):
        return preset, TibertTokenizer.from_preset(preset)


def run_seeds(config: FinetuneConfig, task: Task) -> Scores:
    """Train with each seed that is missing, and write the scores of all after each.

    Args:
        config: The options; `begin` has checked their folder.
        task: What to learn.

    Returns:
        The scores.

    Raises:
        InputError: If the seeds that are there, or a run to compare with, are of other data, or a loss is not finite.
    """
    part = "test" if task.has_test else "validation"
    scores = Scores(
        part=part, criterion=task.criterion, columns=task.columns, data=task.data, baseline=task.baseline(part)
    )
    check_data(scores, config.output_dir, config.others)
    # Only now that all fits together, so that a mistake leaves nothing behind.
    write_config(config)
    note_environment(config.output_dir, 0, task.data["files"])
    _LOG.info("baseline: %s", _shown(scores.baseline, task.columns))
    folders = [join(config.output_dir, f"seed_{index}") for index in range(config.num_seeds)]
    # All of them before a training: a later seed may be better than the one that is missing.
    finished = {
        folder: read_json(path, what="the scores of a seed", advice="Remove it, to train again.")
        for folder in folders
        if exists(path := join(folder, SCORES_FILE))
    }
    scores.seeds.extend(finished.values())
    for index, folder in enumerate(folders):
        if folder in finished:
            continue
        if exists(folder):
            # What was left of a training that was killed.
            remove_folder(folder)
        seed = config.seed + index
        keras.utils.set_random_seed(seed)
        model = task.make_model(config.mixed_precision)
        result = {"seed": seed, **train(config, task, model, seed=seed, folder=folder)}
        if task.has_test:
            result["test"] = task.measure(model, "test")
        scores.seeds.append(result)
        scores.seeds.sort(key=itemgetter("seed"))
        if config.mixed_precision != "float32":
            # Whoever loads a preset computes as they like.
            weights, model = model.get_weights(), task.make_model("float32")
            model.set_weights(weights)
        _save(model, join(folder, CHAMPION_PRESET))
        best = scores.seeds[scores.best_seed()]
        if best is not result:
            # The champion may have been this seed's, trained before and better.
            model = type(model).from_preset(join(folders[best["seed"] - config.seed], CHAMPION_PRESET))
        _save(model, join(config.output_dir, CHAMPION_PRESET))
        task.draw(model, part, config.output_dir)
        # These first, which tell on what data a seed was trained, and its own last: a seed is done when it has scores.
        write_scores(scores, config.output_dir)
        write_json(result, join(folder, SCORES_FILE))
        _LOG.info("seed %d of %d: %s", index + 1, config.num_seeds, _shown(result[part], task.columns))
    # Once more: all seeds may have been there already.
    write_scores(scores, config.output_dir)
    return scores


def train(config: FinetuneConfig, task: Task, model: keras.Model, *, seed: int, folder: str) -> dict[str, Any]:
    """Train a model, and leave it as it was at the end of its best epoch.

    Args:
        config: The options.
        task: What to learn.
        model: The model, which is compiled anew.
        seed: Seed of the order of the data.
        folder: Where the history is written.

    Returns:
        The best `epoch`, from 1, how many `epochs` there were, their `seconds`, and the scores of the `validation`.

    Raises:
        DivergedError: If the loss is not finite.
    """
    x, y, weights = task.sequences
    part_size = min(config.train_batch_size, len(y)) // config.gradient_accumulation_steps or 1
    # Whole batches alone, of one shape: what is left over is other sequences in each epoch.
    parts = len(y) // part_size
    _compile(config, model, steps=parts * config.num_epochs)
    rng = np.random.default_rng(seed)
    history, best, started = History(folder), _Best(), time.monotonic()
    with (
        tqdm(desc="fine-tuning", total=parts * config.num_epochs, unit="step", disable=None) as bar,
        logging_redirect_tqdm(),
    ):
        for epoch in range(1, config.num_epochs + 1):
            order = rng.permutation(len(y))[: parts * part_size]
            logs = model.fit(
                {name: values[order] for name, values in x.items()},
                y[order],
                sample_weight=None if weights is None else weights[order],
                batch_size=part_size,
                shuffle=False,
                verbose=0,
                callbacks=[_Progress(bar)],
            ).history
            loss = float(logs["loss"][0])
            if not math.isfinite(loss):
                message = f"The loss is not finite in epoch {epoch}. Received: {loss}. Lower the learning rate."
                raise DivergedError(epoch * parts, message)
            scores = task.measure(model, "validation")
            seconds = round(time.monotonic() - started, 1)
            history.append({"step": epoch * parts, "epoch": epoch, "loss": loss, **scores, "seconds": seconds})
            is_best = best.look_at(epoch, scores, task.criterion, model)
            _LOG.info("epoch %d: loss %.4f, %s%s", epoch, loss, _shown(scores, task.columns), " (best)" * is_best)
            if config.patience is not None and epoch - best.epoch >= config.patience:
                break
    model.set_weights(best.weights)
    return {"epoch": best.epoch, "epochs": epoch, "seconds": seconds, "validation": best.scores}


class _Best:
    """The best epoch so far, with its weights."""

    epoch = 0
    scores: Mapping[str, float] = {}
    weights: list[np.ndarray] = []

    def look_at(self, epoch: int, scores: Mapping[str, float], criterion: str, model: keras.Model) -> bool:
        if self.epoch and scores[criterion] <= self.scores[criterion]:
            return False
        self.epoch, self.scores, self.weights = epoch, scores, model.get_weights()
        return True


class _Progress(keras.callbacks.Callback):
    """Moves a bar on, over all epochs."""

    def __init__(self, bar: tqdm[Any]) -> None:
        super().__init__()
        self.bar = bar

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.bar.update():
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)


def _compile(config: FinetuneConfig, model: keras.Model, *, steps: int) -> None:
    """Compile as the original's trainer did: Adam with clipped gradients, a warm-up and a linear decay.

    Keras's optimizers ask the schedule for the rate at each part of a batch: it counts these.
    """
    schedule = WarmupPolynomialDecay(
        config.learning_rate, decay_steps=steps, warmup_steps=int(steps * config.warmup_share)
    )
    parts = config.gradient_accumulation_steps
    optimizer = keras.optimizers.Adam(
        schedule, epsilon=1e-8, global_clipnorm=1.0, gradient_accumulation_steps=parts if parts > 1 else None
    )
    model.compile(optimizer=optimizer, jit_compile=config.jit_compile)
    optimizer.build(model.trainable_variables)


def load_model(classifier: Any, config: FinetuneConfig, preset: str, preprocessor: Any, *, dtype: str) -> keras.Model:
    """Make a classifier of a class of ours over the encoder of a preset, which trains only what the options say."""
    model = classifier.from_preset(
        preset,
        load_weights=config.pretrained,
        labels=preprocessor.labels,
        preprocessor=preprocessor,
        dropout=config.dropout,
        dtype=dtype,
    )
    # A preset may have been saved frozen.
    model.backbone.trainable = not config.freeze_backbone
    if config.lora_rank is not None:
        model.backbone.enable_lora(config.lora_rank)
    return model


def data_hashes(config: FinetuneConfig) -> dict[str, str]:
    """The SHA-256 of each file that the options name, of a split too."""
    patterns = filter(None, (getattr(config, name, None) for name in (*_PARTS, "split_file")))
    return {path: sha256(path) for pattern in patterns for path in expand_glob(pattern)}


def _save(model: keras.Model, path: str) -> None:
    # KerasHub saves that an encoder is frozen: whoever trains the preset further is to train all of it.
    model.backbone.trainable = True
    with atomic_output(path, last="task.json") as folder:
        model.save_to_preset(os.fspath(folder))


def _shown(scores: Mapping[str, float], columns: Sequence[str]) -> str:
    return ", ".join(f"{name} {scores[name]:.4f}" for name in columns)
