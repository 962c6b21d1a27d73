"""Columns of tables."""

import pytest

from tibert_keras.corpus.report import ReadingReport
from tibert_keras.corpus.sections import split_sections
from tibert_keras.corpus.table import table_text
from tibert_keras.errors import InputError

QUOTED = ["id,text,note", '1,"ཀ་ཁ།', 'ག་, ""ང""",x', "2,ཅ།,ཆ", "3,,"]


def read(lines: list[str], column: str | None = None) -> list[str]:
    return list(split_sections(table_text(lines, ReadingReport("a.csv"), column=column)))


def test_cells_are_cleaned_as_plain_text() -> None:
    assert read(["id,text", "1,\tཀ་\0ཁ། (12)ག་"]) == ["ཀ་ཁ།", "ག་"]


def test_the_column_with_the_most_tibetan() -> None:
    assert read(QUOTED) == ["ཀ་ཁ།", "ག་,", '"ང"', "ཅ།"]


@pytest.mark.parametrize("column", ["note", "3"])
def test_a_column_by_name_or_number(column: str) -> None:
    assert read(QUOTED, column) == ["x", "ཆ"]


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_other_separators(separator: str) -> None:
    assert read([f"a{separator}ཀ།", f"b{separator}ཁ", "c"]) == ["ཀ།", "ཁ"]


@pytest.mark.parametrize("column", ["names", "4", "0", "-1"])
def test_no_such_column(column: str) -> None:
    with pytest.raises(InputError, match=f"column='{column}' for 'a.csv'. Its columns are id, text, note"):
        read(QUOTED, column)
