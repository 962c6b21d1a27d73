"""The scores of a fine-tuning: of each seed, their mean and deviation, and of the baseline, as a table."""

import hashlib
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tibert_keras.errors import InputError, refuse_changes
from tibert_keras.runs.folder import SCORES_FILE, read_config
from tibert_keras.runs.summary import in_columns
from tibert_keras.storage import exists, join, read_json, write_text

CONFUSION_PICTURE = "confusion.png"

_ADVICE = "Give the folder of a fine-tuning that has ended."


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a fine-tuning, as stored in `scores.json`, together with the mean and the deviation.

    Attributes:
        part: The data they were measured on: `test`, or `validation` if there is no test.
        criterion: The score whose maximum on the validation data marks the best epoch.
        columns: The scores to show in tables.
        data: Files, sizes and labels of the data.
        baseline: The scores of the baseline.
        seeds: For each seed its `seed`, the best `epoch`, the number of `epochs`, the `seconds` they took, and its
            scores on `validation` and `test`.
    """

    part: str
    criterion: str
    columns: Sequence[str]
    data: dict[str, Any]
    baseline: dict[str, float]
    seeds: list[dict[str, Any]] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """The values of a score, of the seeds that have it."""
        found = [seed[self.part].get(name) for seed in self.seeds]
        return [value for value in found if value is not None and not math.isnan(value)]

    def mean(self) -> dict[str, float]:
        """The means over the seeds."""
        return {name: statistics.fmean(values) for name in self._names() if (values := self.values(name))}

    def deviation(self) -> dict[str, float]:
        """The sample standard deviations over the seeds; none for a single seed."""
        return {name: statistics.stdev(values) for name in self._names() if len(values := self.values(name)) > 1}

    def best_seed(self) -> int:
        """The index of the seed with the highest criterion on the validation data."""
        return max(range(len(self.seeds)), key=lambda index: self.seeds[index]["validation"][self.criterion])

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for seed in self.seeds for name in seed[self.part]))


def write_scores(scores: Scores, run_dir: str) -> None:
    """Write the scores of a run into its folder."""
    write_json({**asdict(scores), "mean": scores.mean(), "deviation": scores.deviation()}, join(run_dir, SCORES_FILE))


def write_json(content: Mapping[str, Any], path: str) -> None:
    """Write a JSON file, with `null` for NaN and infinity."""
    finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
    write_text(path, json.dumps(finite, indent=2, ensure_ascii=False))


def read_scores(run_dir: str | os.PathLike[str]) -> Scores:
    """Read the scores of a run."""
    path = join(run_dir, SCORES_FILE)
    content = read_json(path, what="the scores of a fine-tuning", advice=_ADVICE)
    try:
        scores = Scores(**{name: value for name, value in content.items() if name not in ("mean", "deviation")})
        scores.mean(), scores.deviation(), scores.best_seed(), dict(scores.baseline)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"Not the scores of a fine-tuning: {reason}. Received: {path!r}. {_ADVICE}") from error
    return scores


def fingerprint(content: Any) -> str:
    """A hash that identifies data."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def check_same_data(scores: Scores, run_dir: str, compare_with: Sequence[str]) -> None:
    """Check, before a training, that its scores will be comparable with those in the folder and of other runs."""
    if exists(join(run_dir, SCORES_FILE)):
        refuse_changes(_trained_on(read_scores(run_dir)), _trained_on(scores), folder=run_dir)
    for folder in compare_with:
        refuse_changes(_measured_on(read_scores(folder)), _measured_on(scores), folder=folder)


def score_rows(run_dir: str, scores: Scores, compare_with: Sequence[str] = ()) -> list[list[str]]:
    """Make the table of a run's scores: for each score a row for the baseline, each run to compare with, and the run.

    The cells of a row are the name of the score (in its first row only), the run, and `mean ± deviation`; where scores
    are split, over all words, those seen in training and those not seen.
    """
    runs: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [("baseline", scores.baseline, {})]
    for folder in [*compare_with, run_dir]:
        other = scores if folder == run_dir else read_scores(folder)
        refuse_changes(_measured_on(other), _measured_on(scores), folder=folder)
        runs.append((_label(folder, len(other.seeds)), other.mean(), other.deviation()))
    split = {"": "score"}
    if any(f"unseen_{name}" in scores.baseline for name in scores.columns):
        split = {"": "all", "seen_": "seen", "unseen_": "not seen"}
    rows = [[scores.part, "of", *split.values()]]
    # In older files some parts of the split are columns of their own.
    for name in (name for name in scores.columns if not name.startswith(("seen_", "unseen_"))):
        for index, (label, mean, deviation) in enumerate(runs):
            cells = (_cell(mean.get(prefix + name), deviation.get(prefix + name)) for prefix in split)
            rows.append(["" if index else name, label, *cells])
    return rows


def score_table(run_dir: str, scores: Scores, compare_with: Sequence[str] = ()) -> str:
    """`score_rows` as text."""
    return in_columns(score_rows(run_dir, scores, compare_with), left=2)


def _measured_on(scores: Scores) -> dict[str, Any]:
    return {"part": scores.part, "measured_on": scores.data.get("measured_on")}


def _trained_on(scores: Scores) -> dict[str, Any]:
    return {**scores.data.get("files", {}), "labels": scores.data.get("labels")}


def _label(run_dir: str, num_seeds: int) -> str:
    how = "" if read_config(run_dir).get("pretrained", True) else "not pretrained, "
    return f"{os.path.basename(run_dir.rstrip('/'))} ({how}{num_seeds} seed{'s' * (num_seeds != 1)})"


def _cell(mean: float | None, deviation: float | None) -> str:
    if mean is None or math.isnan(mean):
        return "-"
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")
