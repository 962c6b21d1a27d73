"""Trains a fine-tuning once per seed, keeps the best epoch of each, and gathers the scores."""

import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from operator import itemgetter
from typing import Any

import keras

from tibert_keras.finetuning.config import FinetuneConfig, check_run
from tibert_keras.finetuning.epochs import batch_size, can_go_on, compile_model, shown, train
from tibert_keras.finetuning.scores import Scores, check_same_data, fingerprint, write_json, write_scores
from tibert_keras.finetuning.task import FinetuningTask
from tibert_keras.locks import only_writer
from tibert_keras.models.tibert_backbone import TibertBackbone
from tibert_keras.runs.checkpoints import Checkpoints
from tibert_keras.runs.environment import note_environment
from tibert_keras.runs.folder import CHAMPION_PRESET, SCORES_FILE, write_config
from tibert_keras.storage import atomic_output, exists, join, read_json, remove
from tibert_keras.training.precision import with_fastest_precision
from tibert_keras.training.strategy import Strategy, chosen_strategy

_LOG = logging.getLogger(__name__)


def run_seeds(config: FinetuneConfig, make_task: Callable[[Any], FinetuningTask]) -> Scores:
    """Train each seed that is missing, write the scores of all seeds after each, and return them.

    Seeds in the folder, or runs to compare with, must be of the same data.
    """
    config = config.as_begun()
    check_run(config)
    task = make_task(config)
    with only_writer(config.output_dir):
        return _run_seeds(task)


def _run_seeds(task: FinetuningTask) -> Scores:
    config, part, described = task.config, task.final_part, task.describe_data()
    data = {
        "files": task.files,
        **described,
        "sequences": len(task.sequences[1]),
        "labels": task.labels,
        # Runs with the same fingerprint can be compared.
        "measured_on": fingerprint(described["measured_on"]),
    }
    scores = Scores(part=part, criterion=task.criterion, columns=task.columns, data=data, baseline=task.baseline(part))
    check_same_data(scores, config.output_dir, config.others)
    folders = [join(config.output_dir, f"seed_{index}") for index in range(config.num_seeds)]
    # Read before any training: a later seed may be better than a missing one.
    finished = {
        folder: read_json(path, what="the scores of a seed", advice="Remove it, to train again.")
        for folder in folders
        if exists(path := join(folder, SCORES_FILE))
    }
    scores.seeds.extend(finished.values())
    missing = [index for index, folder in enumerate(folders) if folder not in finished]
    with chosen_strategy(config) if missing else nullcontext(Strategy()) as strategy:
        batch_size(task, strategy)
        if missing and config.mixed_precision == "auto":
            task.config = _with_fastest_precision(task, strategy)
        # The first model is made now: older presets tell only when they are loaded whether they are whole.
        model = _new_model(task, strategy, missing[0]) if missing else None
        # Not before all checks have passed, so that a mistake leaves nothing behind.
        write_config(task.config)
        note_environment(config.output_dir, 0, task.files)
        _LOG.info("baseline: %s", shown(scores.baseline, task.columns))
        for index in missing:
            _run_seed(task, strategy, scores, folders, index, model or _new_model(task, strategy, index))
            model = None
    # All seeds may have been there already.
    write_scores(scores, config.output_dir)
    return scores


def _with_fastest_precision(task: FinetuningTask, strategy: Strategy) -> FinetuneConfig:
    def make_model(config: FinetuneConfig, backbone: TibertBackbone) -> keras.Model:
        model = task.model_over(partial(task.model_class, backbone))
        compile_model(config, model, steps=config.num_epochs)
        return model

    make_untrained = partial(task.model_class.from_preset, task.preset, load_weights=False, dtype="float32")
    with strategy.scope():
        backbone = task.model_over(make_untrained).backbone
        return with_fastest_precision(task.config, strategy, backbone, make_model=make_model, batch=task.sequences)


def _new_model(task: FinetuningTask, strategy: Strategy, index: int) -> keras.Model:
    with strategy.scope():
        keras.utils.set_random_seed(task.config.seed + index)
        return task.make_model(task.config.mixed_precision)


def _run_seed(
    task: FinetuningTask, strategy: Strategy, scores: Scores, folders: list[str], index: int, model: keras.Model
) -> None:
    """Train a seed, add its scores, and write them, its model and the champion."""
    config, folder = task.config, folders[index]
    if exists(folder) and not can_go_on(folder, task.files):
        # Left by a training that was killed in its first epoch, or of an older version.
        remove(folder)
    seed = config.seed + index
    result = {"seed": seed, **train(task, model, strategy, seed=seed, folder=folder)}
    if scores.part == "test":
        result["test"] = task.measure(model, "test")
    scores.seeds.append(result)
    scores.seeds.sort(key=itemgetter("seed"))
    if config.mixed_precision != "float32" or strategy.num_replicas > 1:
        # A preset leaves precision and devices to those who load it.
        weights, model = model.get_weights(), task.make_model("float32")
        model.set_weights(weights)
    _save(model, join(folder, CHAMPION_PRESET))
    best = scores.seeds[scores.best_seed()]
    if best is not result:
        # The champion may have been an earlier, better training of this seed.
        model = type(model).from_preset(join(folders[best["seed"] - config.seed], CHAMPION_PRESET))
    _save(model, join(config.output_dir, CHAMPION_PRESET))
    task.draw(model, scores.part, config.output_dir)
    # The run's scores first, which say on what data a seed was trained; its own last, which mark it as finished.
    write_scores(scores, config.output_dir)
    write_json(result, join(folder, SCORES_FILE))
    remove(Checkpoints(folder).folder)
    _LOG.info("seed %d of %d: %s", index + 1, config.num_seeds, shown(result[scores.part], task.columns))


def _save(model: keras.Model, path: str) -> None:
    # KerasHub saves whether an encoder is frozen; further training of the preset should train all of it.
    model.backbone.trainable = True
    with atomic_output(path, last="task.json") as folder:
        model.save_to_preset(os.fspath(folder))
