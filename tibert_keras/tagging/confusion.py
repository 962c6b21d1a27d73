"""Which label was taken for which, as counts and as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tibert_keras.errors import InputError
from tibert_keras.storage import write_picture


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """How often each label was taken for each.

    Attributes:
        labels: The labels that are true or were found, the most frequent true one first.
        counts: int array of shape `[labels, labels]`: true label by label found.
    """

    labels: list[str]
    counts: np.ndarray

    @classmethod
    def of(cls, true: Sequence[str] | np.ndarray, found: Sequence[str] | np.ndarray) -> ConfusionMatrix:
        """Count pairs of labels.

        Args:
            true: The true labels, at least one.
            found: The labels found, as many.

        Raises:
            InputError: If there are none, or not as many of both.
        """
        # Loading it takes a second, which whoever measures nothing is spared.
        from sklearn.metrics import confusion_matrix

        if not len(true) or len(true) != len(found):
            raise InputError(
                f"Each label needs the one found. Received: {len(true)} true labels and {len(found)} found. "
                "Give one for each."
            )
        names, counts = np.unique(np.asarray(true), return_counts=True)
        labels = [str(name) for name in names[np.argsort(-counts, kind="stable")]]
        labels += sorted({str(label) for label in found} - set(labels))
        return cls(labels=labels, counts=confusion_matrix(true, found, labels=labels))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the matrix: a row a true label, and in it the share that was taken for each.

        Args:
            path: The picture, a `.png`; an older one of that name is replaced.

        Raises:
            InputError: If `path` has another ending or is a folder.
        """
        from matplotlib.figure import Figure

        totals = self.counts.sum(axis=1, keepdims=True)
        # A label that was found and is never true has no shares.
        shares = self.counts / np.maximum(totals, 1)
        size = 3 + 0.35 * len(self.labels)
        figure = Figure(figsize=(size + 1, size), layout="constrained")
        panel = figure.subplots()
        # The root makes a confusion of a few percent visible.
        image = panel.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(self.labels))
        panel.set_xticks(ticks, self.labels, rotation=90)
        names = [f"{label} ({total:,})" for label, total in zip(self.labels, totals[:, 0], strict=True)]
        panel.set_yticks(ticks, names)
        panel.set(title="Share of each true label, in percent", xlabel="label found", ylabel="true label")
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            colour = "white" if share > 0.4 else "black"
            panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
        bar = figure.colorbar(image, ax=panel, shrink=0.7, ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "1", "10", "25", "50", "100"])
        write_picture(figure, path)
