"""Trains a fine-tuning once per seed, keeps the best epoch of each, and gathers the scores."""

from __future__ import annotations

import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import keras
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tibert_keras.errors import DivergedError
from tibert_keras.finetuning.config import FinetuneConfig, data_hashes, find_encoder
from tibert_keras.finetuning.scores import Scores, check_data, fingerprint, write_json, write_scores
from tibert_keras.models.tibert_presets import foreign_preset
from tibert_keras.models.tibert_tokenizer import TibertTokenizer
from tibert_keras.optimizers.schedules import WarmupPolynomialDecay
from tibert_keras.runs.environment import note_environment
from tibert_keras.runs.folder import CHAMPION_PRESET, SCORES_FILE, write_config
from tibert_keras.runs.history import History
from tibert_keras.storage import atomic_output, exists, join, read_json, remove_folder

# Inputs, labels and weights, each with the sequences along its first axis.
Sequences = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]

_LOG = logging.getLogger(__name__)


class FinetuningTask(ABC):
    """What to learn: the data, the model and the scores.

    Args:
        config: The options.
        parts: The prepared documents or texts of `train`, `validation` and, if there is one, `test`.
        labels: The labels of the training data.
        options: Further options of the model's preprocessor.
    """

    # The score whose maximum marks the best epoch.
    criterion: str
    # The scores to show.
    columns: Sequence[str]
    model_class: Any
    preprocessor_class: Any

    def __init__(self, config: Any, parts: Mapping[str, Sequence[Any]], labels: list[str], **options: Any) -> None:
        self.config, self.parts, self.labels = config, parts, labels
        self.final_part = "test" if parts.get("test") else "validation"
        self.preset, tokenizer = load_encoder(config)
        self.preprocessor = self.preprocessor_class(
            tokenizer, labels, sequence_length=config.max_seq_length, class_weight=config.class_weight, **options
        )
        self.sequences = self.encode("train")

    @abstractmethod
    def encode(self, part: str) -> Sequences:
        """Encode a part of the data for training."""

    @abstractmethod
    def measure(self, model: keras.Model, part: str) -> dict[str, float]:
        """Score a model on `validation` or `test`."""

    @abstractmethod
    def baseline(self, part: str) -> dict[str, float]:
        """Score a method that needs no model."""

    @abstractmethod
    def draw(self, model: keras.Model, part: str, run_dir: str) -> None:
        """Draw the confusion matrix into the run's folder."""

    @abstractmethod
    def describe_data(self) -> dict[str, Any]:
        """The sizes of the parts, and as `measured_on` everything that the scores depend on."""

    def make_model(self, dtype: str) -> keras.Model:
        """Make the model over the preset's encoder, trainable as far as the options say."""
        model = self.model_class.from_preset(
            self.preset,
            load_weights=self.config.pretrained,
            labels=self.labels,
            preprocessor=self.preprocessor,
            dropout=self.config.dropout,
            dtype=dtype,
        )
        # A preset may have been saved frozen.
        model.backbone.trainable = not self.config.freeze_backbone
        if self.config.lora_rank is not None:
            model.backbone.enable_lora(self.config.lora_rank)
        return model


def load_encoder(config: FinetuneConfig) -> tuple[str, TibertTokenizer]:
    """Return the folder of the preset that a fine-tuning starts from, and its tokenizer.

    Raises:
        InputError: If there is none, it is not one of ours or has no tokenizer, or its encoder has fewer positions than
            the sequences.
    """
    preset = find_encoder(config)
    if exists(path := join(preset, "preprocessor.json")):
        preprocessor = read_json(path, what="a part of a preset", advice="Give the champion of a run.")
        trained = preprocessor.get("config", {}).get("sequence_length")
        if trained and config.max_seq_length > trained:
            _LOG.warning(
                "the encoder was trained on %d positions, and has learnt nothing of later ones: max_seq_length=%d",
                trained,
                config.max_seq_length,
            )
    with foreign_preset(preset):
        return preset, TibertTokenizer.from_preset(preset)


def run_seeds(config: FinetuneConfig, task: FinetuningTask) -> Scores:
    """Train each seed that is missing, and write the scores of all seeds after each.

    Args:
        config: The options, which `check_run` has checked.
        task: What to learn.

    Returns:
        The scores.

    Raises:
        InputError: If the seeds in the folder, or a run to compare with, are of other data, or a loss is not finite.
    """
    part, described = task.final_part, task.describe_data()
    data = {
        "files": data_hashes(config),
        **described,
        "sequences": len(task.sequences[1]),
        "labels": task.labels,
        # Runs with the same fingerprint can be compared.
        "measured_on": fingerprint(described["measured_on"]),
    }
    scores = Scores(part=part, criterion=task.criterion, columns=task.columns, data=data, baseline=task.baseline(part))
    check_data(scores, config.output_dir, config.others)
    # Not before all checks have passed, so that a mistake leaves nothing behind.
    write_config(config)
    note_environment(config.output_dir, 0, data["files"])
    _LOG.info("baseline: %s", _shown(scores.baseline, task.columns))
    folders = [join(config.output_dir, f"seed_{index}") for index in range(config.num_seeds)]
    # Read before any training: a later seed may be better than a missing one.
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
            # Left by a training that was killed.
            remove_folder(folder)
        seed = config.seed + index
        keras.utils.set_random_seed(seed)
        model = task.make_model(config.mixed_precision)
        result = {"seed": seed, **_train(config, task, model, seed, folder)}
        if part == "test":
            result["test"] = task.measure(model, "test")
        scores.seeds.append(result)
        scores.seeds.sort(key=itemgetter("seed"))
        if config.mixed_precision != "float32":
            # A preset leaves the precision to those who load it.
            weights, model = model.get_weights(), task.make_model("float32")
            model.set_weights(weights)
        _save(model, join(folder, CHAMPION_PRESET))
        best = scores.seeds[scores.best_seed()]
        if best is not result:
            # The champion may have been an earlier, better training of this seed.
            model = type(model).from_preset(join(folders[best["seed"] - config.seed], CHAMPION_PRESET))
        _save(model, join(config.output_dir, CHAMPION_PRESET))
        task.draw(model, part, config.output_dir)
        # The run's scores first, which say on what data a seed was trained; its own last, which mark it as finished.
        write_scores(scores, config.output_dir)
        write_json(result, join(folder, SCORES_FILE))
        _LOG.info("seed %d of %d: %s", index + 1, config.num_seeds, _shown(result[part], task.columns))
    # All seeds may have been there already.
    write_scores(scores, config.output_dir)
    return scores


def _train(config: FinetuneConfig, task: FinetuningTask, model: keras.Model, seed: int, folder: str) -> dict[str, Any]:
    """Train a model, restore its best epoch, and return the number and the scores of that epoch."""
    batches = _ShuffledBatches(task.sequences, config, seed=seed)
    steps = len(batches) * config.num_epochs
    _compile(config, model, steps=steps)
    with tqdm(desc="fine-tuning", total=steps, unit="step", disable=None) as bar, logging_redirect_tqdm():
        best = _BestEpoch(task, batches, History(folder), bar)
        # Not KerasHub's `fit`, which would preprocess the batches.
        keras.Model.fit(model, batches, epochs=config.num_epochs, shuffle=False, verbose=0, callbacks=[best])
    return {
        "epoch": best.best_epoch + 1,
        "epochs": len(best.scores),
        "seconds": best.seconds,
        "validation": best.scores[best.best_epoch],
    }


class _ShuffledBatches(keras.utils.PyDataset):
    """Full batches, so that all have one shape; which sequences are left over changes with each epoch."""

    def __init__(self, sequences: Sequences, config: FinetuneConfig, *, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.weights = sequences
        self.size = min(config.train_batch_size, len(self.y)) // config.gradient_accumulation_steps or 1
        self.rng = np.random.default_rng(seed)
        self.order = np.arange(len(self.y))

    def __len__(self) -> int:
        return len(self.y) // self.size

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        chosen = self.order[index * self.size : (index + 1) * self.size]
        x = {name: values[chosen] for name, values in self.x.items()}
        return (x, self.y[chosen]) if self.weights is None else (x, self.y[chosen], self.weights[chosen])

    def shuffle(self) -> None:
        """Draw the order of the next epoch. Keras calls `on_epoch_end` more often than there are epochs."""
        self.order = self.rng.permutation(len(self.y))


class _BestEpoch(keras.callbacks.EarlyStopping):
    """Scores each epoch on the validation data and restores the best one at the end; moves a bar across all epochs."""

    def __init__(self, task: FinetuningTask, batches: _ShuffledBatches, history: History, bar: tqdm[Any]) -> None:
        patience = task.config.patience or task.config.num_epochs
        super().__init__(task.criterion, mode="max", patience=patience, restore_best_weights=True)
        self.task, self.batches, self.history, self.bar = task, batches, history, bar
        self.scores: list[dict[str, float]] = []
        self.started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.shuffle()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.bar.update():
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number, step, loss = epoch + 1, (epoch + 1) * len(self.batches), float(logs["loss"])
        if not math.isfinite(loss):
            raise DivergedError(
                step, f"The loss is not finite in epoch {number}. Received: {loss}. Lower the learning rate."
            )
        scores = self.task.measure(self.model, "validation")
        self.scores.append(scores)
        self.seconds = round(time.monotonic() - self.started, 1)
        self.history.append({"step": step, "epoch": number, "loss": loss, **scores, "seconds": self.seconds})
        super().on_epoch_end(epoch, scores)
        is_best = self.best_epoch == epoch
        _LOG.info("epoch %d: loss %.4f, %s%s", number, loss, _shown(scores, self.task.columns), " (best)" * is_best)


def _compile(config: FinetuneConfig, model: keras.Model, *, steps: int) -> None:
    """Compile as the original's trainer did: Adam with clipped gradients, a warm-up and a linear decay.

    Keras's optimizers count the parts of a batch as steps when they ask the schedule for the rate.
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


def _save(model: keras.Model, path: str) -> None:
    # KerasHub saves whether an encoder is frozen; further training of the preset should train all of it.
    model.backbone.trainable = True
    with atomic_output(path, last="task.json") as folder:
        model.save_to_preset(os.fspath(folder))


def _shown(scores: Mapping[str, float], columns: Sequence[str]) -> str:
    return ", ".join(f"{name} {scores[name]:.4f}" for name in columns)
