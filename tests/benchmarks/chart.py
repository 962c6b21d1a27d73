"""Draws a table of figures, as benchmarks print them and pages in `docs` hold them, as an SVG.

    python tests/benchmarks/chart.py docs/benchmarks/2026-11-26-serving.md chart.svg --names=2 --column=texts/s

A column becomes bars, one for each row, which its first `--names` cells name; several columns stand side by side.
Without `--column` each row becomes a line over the columns whose names are numbers. `--table` counts the tables from 1,
of the page or, with `--under`, after the heading that contains these words.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Table = list[list[str]]


def read_tables(text: str) -> list[Table]:
    """The tables of a Markdown page, each a list of rows without emphasis, the header first."""
    groups = itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|"))
    return [
        [_cells(line) for line in lines if not re.match(r"\|[-|]+$", line)] for in_table, lines in groups if in_table
    ]


def _cells(line: str) -> list[str]:
    return [re.sub(r"[*`]", "", cell).strip() for cell in line.strip().strip("|").split("|")]


def _number(cell: str) -> str:
    """The number that a cell begins with, as it is written there, or nothing."""
    found = re.match(r"\d[\d,]*(\.\d+)?", cell)
    return found[0] if found else ""


def _value(cell: str) -> float:
    return float(_number(cell).replace(",", ""))


def draw_bars(panel: Axes, table: Table, columns: Sequence[str], *, names: int) -> None:
    header, *rows = table
    height = 0.8 / len(columns)
    for place, column in enumerate(columns):
        cells = {row: cell for row, line in enumerate(rows) if _number(cell := line[header.index(column)])}
        centres = [row + (place + 0.5) * height - 0.4 for row in cells]
        bars = panel.barh(centres, list(map(_value, cells.values())), height=0.92 * height, label=column)
        panel.bar_label(bars, labels=list(map(_number, cells.values())), padding=3, fontsize=8)
    panel.set_yticks(range(len(rows)), [", ".join(filter(None, row[:names])) for row in rows])
    panel.set_ylabel(", ".join(filter(None, header[:names])))
    panel.invert_yaxis()
    panel.margins(x=0.12, y=0.02)
    if len(columns) > 1:
        panel.figure.legend(loc="outside upper center", ncols=len(columns))
    else:
        panel.set_xlabel(columns[0])


def draw_lines(panel: Axes, table: Table, *, x: str, y: str) -> None:
    header, *rows = table
    places = [place for place, name in enumerate(header) if place and _number(name) == name]
    for row in rows:
        points = [(_value(header[place]), _value(row[place])) for place in places if _number(row[place])]
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=row[0])
    panel.set(xlabel=x, ylabel=y)
    panel.legend()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--under", default="")
    parser.add_argument("--table", type=int, default=1)
    parser.add_argument("--names", type=int, default=1)
    parser.add_argument("--column", action="append", default=[])
    parser.add_argument("--x", default="step")
    parser.add_argument("--y", default="loss, nats")
    options = parser.parse_args(words)
    text = options.page.read_text(encoding="utf-8")
    heading = re.search(rf"^#.*{re.escape(options.under)}.*$", text, re.MULTILINE)
    if heading is None:
        raise SystemExit(f"No such heading. Received: --under={options.under!r}. Give words of one in {options.page}.")
    table = read_tables(text[heading.end() :])[options.table - 1]
    bars = (len(table) - 1) * len(options.column)
    # Text stays text, and an equal chart an equal file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "chart", "font.size": 9}):
        figure = Figure(figsize=(8, 0.8 + 0.22 * bars if bars else 4), layout="constrained")
        panel = figure.subplots()
        panel.spines[["top", "right"]].set_visible(False)
        if bars:
            draw_bars(panel, table, options.column, names=options.names)
        else:
            draw_lines(panel, table, x=options.x, y=options.y)
        figure.savefig(options.output, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
