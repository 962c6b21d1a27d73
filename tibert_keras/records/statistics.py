"""Statistics of record files, as lines of text and as a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tibert_keras.pictures import write_picture

_SHARES = {
    "masked_share": "predicted, of all tokens",
    "mask_token_share": "became [MASK], of the predicted",
    "kept_share": "kept, of the predicted",
    "random_share": "became another, of the predicted",
    "unknown_share": "unknown, of the pieces of text",
    "combining_share": "begin with a combining mark, of these",
    "two_segments_share": "with two segments, of the examples",
    "swapped_share": "swapped segments, of these",
}
HISTOGRAMS = {
    "lengths": ("length in tokens", "examples"),
    "predictions": ("predicted positions", "examples"),
    "run_lengths": ("length in positions", "predicted runs"),
}


@dataclass(frozen=True, kw_only=True)
class RecordStatistics:
    """Statistics of a record file.

    With `do_permutation`, predicted tokens that were exchanged count as replaced by another.

    Attributes:
        examples: Number of examples.
        documents: Documents in the text behind the file, or `None` if no manifest tells.
        source_tokens: Tokens of this text, without special ones and each once, or `None` if no manifest tells.
        tokens: Tokens in the examples, [CLS] and [SEP] counted.
        masked_tokens: How many of them are to be predicted.
        lengths: Number of examples of each length in tokens.
        predictions: Number of examples with each number of predicted positions.
        run_lengths: Number of runs of neighbouring predicted positions, of each length. N-grams that touch are one.
        masked_share: Predicted tokens, of `tokens`.
        mask_token_share: Predicted tokens that became [MASK], of the predicted ones.
        kept_share: Predicted tokens that are as they were, by choice or by chance, of the predicted ones.
        random_share: Predicted tokens that became another ordinary token, of the predicted ones.
        unknown_share: Tokens that are `<unk>`, of those that are not special, before masking.
        combining_share: Tokens that begin with a combining mark, such as a vowel sign without its letter, of the same.
        two_segments_share: Examples with two segments, of all.
        swapped_share: Examples with exchanged segments, of those with two.
    """

    examples: int
    documents: int | None
    source_tokens: int | None
    tokens: int
    masked_tokens: int
    lengths: dict[int, int]
    predictions: dict[int, int]
    run_lengths: dict[int, int]
    masked_share: float
    mask_token_share: float
    kept_share: float
    random_share: float
    unknown_share: float
    combining_share: float
    two_segments_share: float
    swapped_share: float

    def summary(self) -> str:
        """Lines for people: the counts, the shares, and the histograms."""
        counts = {
            "examples": self.examples,
            "tokens in them": self.tokens,
            "documents of the text": self.documents,
            "tokens of the text": self.source_tokens,
        }
        rows = {name: "unknown" if count is None else f"{count:,}" for name, count in counts.items()}
        rows |= {label: f"{getattr(self, name):.2%}" for name, label in _SHARES.items()}
        lines = [f"{label:<38}{value:>10}" for label, value in rows.items()]
        for name, (values, counted) in HISTOGRAMS.items():
            lines += ["", f"{counted} by {values}", *_bars(getattr(self, name))]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the histograms and the shares.

        Args:
            path: The picture, a `.png`; an older one of that name is replaced.

        Raises:
            InputError: If `path` has another ending or is a folder.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(12, 8), layout="constrained")
        # Figures of their own: the long names of the shares must not move the histograms.
        halves: Any = figure.subfigures(2, 1)
        upper, lower = halves
        for panel, (name, (values, counted)) in zip(upper.subplots(1, 3), HISTOGRAMS.items(), strict=True):
            counts = getattr(self, name)
            panel.bar(list(counts), list(counts.values()), width=0.9)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set(title=f"{counted.capitalize()} by {values}", xlabel=values, ylabel=counted)
        shares = lower.subplots()
        bars = shares.barh(list(_SHARES.values()), [100 * getattr(self, name) for name in _SHARES])
        shares.bar_label(bars, fmt="%.2f", padding=3)
        shares.invert_yaxis()
        shares.set(title="Shares", xlabel="percent", ylabel="share", xlim=(0, 107))
        figure.suptitle(f"{self.examples:,} examples, {self.tokens:,} tokens, {self.masked_tokens:,} of them predicted")
        write_picture(figure, path)


def _bars(counts: dict[int, int], *, most: int = 10) -> list[str]:
    """A histogram in lines of text, with neighbouring values together if there are many."""
    if not counts:
        return []
    first, last = min(counts), max(counts)
    step = -(-(last - first + 1) // most)
    lines: dict[str, int] = {}
    for start in range(first, last + 1, step):
        end = min(start + step - 1, last)
        lines[f"{start}-{end}" if end > start else f"{start}"] = sum(counts.get(n, 0) for n in range(start, end + 1))
    scale = 30 / max(lines.values())
    return [f"  {label:>9}  {'#' * -(-int(count * scale) // 1):<30} {count:>8,}" for label, count in lines.items()]
