"""Show statistics of record files as text and as a picture."""

import os
from dataclasses import dataclass
from typing import Any

from tibert_keras.pictures import write_picture

# The shares and their wholes; "kept" by choice or by chance, "pieces of text" as they were before masking.
SHARES = {
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

    With `do_permutation`, predicted tokens that were exchanged count as replaced by another token.

    Attributes:
        examples: Number of examples.
        documents: Number of documents in the file's text, or `None` without a manifest.
        source_tokens: Number of tokens in this text, without special ones, or `None` without a manifest.
        tokens: Number of tokens in the examples, including [CLS] and [SEP].
        masked_tokens: Number of predicted tokens among them.
        lengths: Number of examples of each length in tokens.
        predictions: Number of examples with each number of predicted positions.
        run_lengths: Number of runs of consecutive predicted positions, of each length. Adjacent n-grams are one run.
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
        """Format the counts, the shares, and the histograms as lines of text."""
        counts = {
            "examples": self.examples,
            "tokens in them": self.tokens,
            "documents of the text": self.documents,
            "tokens of the text": self.source_tokens,
        }
        rows = {name: "unknown" if count is None else f"{count:,}" for name, count in counts.items()}
        rows |= {label: f"{getattr(self, name):.2%}" for name, label in SHARES.items()}
        lines = [f"{label:<38}{value:>10}" for label, value in rows.items()]
        for name, (values, counted) in HISTOGRAMS.items():
            lines += ["", f"{counted} by {values}", *_bars(getattr(self, name))]
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the histograms and the shares."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(12, 8), layout="constrained")
        # Subfigures, so that the long names of the shares do not shift the histograms.
        halves: Any = figure.subfigures(2, 1)
        upper, lower = halves
        for panel, (name, (values, counted)) in zip(upper.subplots(1, 3), HISTOGRAMS.items(), strict=True):
            counts = getattr(self, name)
            panel.bar(list(counts), list(counts.values()), width=0.9)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set(title=f"{counted.capitalize()} by {values}", xlabel=values, ylabel=counted)
        shares = lower.subplots()
        bars = shares.barh(list(SHARES.values()), [100 * getattr(self, name) for name in SHARES])
        shares.bar_label(bars, fmt="%.2f", padding=3)
        shares.invert_yaxis()
        shares.set(title="Shares", xlabel="percent", ylabel="share", xlim=(0, 107))
        figure.suptitle(f"{self.examples:,} examples, {self.tokens:,} tokens, {self.masked_tokens:,} of them predicted")
        write_picture(figure, path)


def _bars(counts: dict[int, int]) -> list[str]:
    """Draw a histogram in at most ten lines of text, with adjacent values grouped if there are more."""
    if not counts:
        return []
    first, last = min(counts), max(counts)
    step = -(-(last - first + 1) // 10)
    lines: dict[str, int] = {}
    for start in range(first, last + 1, step):
        end = min(start + step - 1, last)
        lines[f"{start}-{end}" if end > start else f"{start}"] = sum(counts.get(n, 0) for n in range(start, end + 1))
    scale = 30 / max(lines.values())
    return [f"  {label:>9}  {'#' * int(count * scale):<30} {count:>8,}" for label, count in lines.items()]
