"""Read a column of a table: CSV with any of the usual separators, or TSV."""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence

from tibert_keras.corpus.plain import clean_line
from tibert_keras.corpus.report import ReadingReport
from tibert_keras.errors import InputError
from tibert_keras.tibetan import has_tibetan

TABLE_ENDINGS = (".csv", ".tsv", ".tab")
_SEPARATORS = "\t,;|"
_HEAD_ROWS = 200


def table_text(lines: Iterable[str], report: ReadingReport, *, column: str | None = None) -> Iterator[str]:
    """Read a column of a table, whose cells may be quoted and have several lines, as lines of running text.

    The column is the name in the first row, or the number, from 1; by default it is the one with the most cells in
    Tibetan. Every cell ends a section, with a space.
    """
    lines = iter(lines)
    first = next(lines, "")
    separator = max(_SEPARATORS, key=first.count)
    try:
        rows = csv.reader((f"{line}\n" for line in itertools.chain([first], lines)), delimiter=separator)
        head = list(itertools.islice(rows, _HEAD_ROWS))
        index = _find_column(head, column, report.file)
        for number, row in enumerate(itertools.chain(head, rows)):
            cell = row[index] if index < len(row) else ""
            if number == 0 and not has_tibetan(cell):
                # The names of the columns.
                continue
            report.count("row" if cell.strip() else "row without text", 0)
            *texts, last = (clean_line(text, report) for text in cell.split("\n"))
            yield from texts
            if last:
                yield f"{last} "
    except csv.Error as error:
        raise InputError(f"Not a table: {error}. Received: {report.file!r}. Correct it, or give plain text.") from error


def _find_column(head: Sequence[Sequence[str]], column: str | None, path: str) -> int:
    names = [name.strip() for name in head[0]] if head else []
    if column is None:
        width = max(map(len, head), default=1)
        counts = [sum(index < len(row) and has_tibetan(row[index]) for row in head) for index in range(width)]
        return counts.index(max(counts))
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise InputError(f"No such column. Received: column={column!r} for {path!r}. Its columns are {', '.join(names)}.")
