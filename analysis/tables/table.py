"""A table: as it is read, cell by cell, and its numbers in full precision.

`formats` writes it as Markdown, LaTeX, CSV and Parquet; the page shows it as HTML.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd


class Cell(NamedTuple):
    """One cell of a table."""

    text: str = ""
    value: float = math.nan  # sort key of a number
    digests: Sequence[str] = ()  # of the runs behind it
    mark: str = ""  # on the page: the outcome of a comparison, or "code"
    svg: str = ""  # on the page: a drawing in place of the text

    @property
    def head(self) -> str:
        """The first line on the page."""
        return self.text.partition(" (")[0] if self.is_number else self.text

    @property
    def tail(self) -> str:
        """The second line on the page: an interval, or another remark in brackets."""
        return self.text.partition(" (")[2].replace(")", "", 1) if self.is_number else ""

    @property
    def is_number(self) -> bool:
        """Return whether the cell is sorted as a number."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Table:
    """A table as text, and its numbers as a data frame; the two may differ in rows and columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    slug: str = ""  # ends the names of its files; "" for the first table of a suite
    sorted_by: tuple[int, str] | None = None  # column and direction in which its rows are sorted
    column_svg: Mapping[int, str] = field(default_factory=dict)  # on the page: drawings below column names

    @property
    def has_numbers(self) -> bool:
        """Return whether there are numbers to download."""
        return not self.numbers.empty

    def is_numeric(self, column: int) -> bool:
        """Return whether a column holds numbers and is right-aligned."""
        return any(row[column].is_number for row in self.rows)


@dataclass(frozen=True)
class SuiteTables:
    """The tables of a suite, the sentences that they support, and notes on how to read them."""

    tables: list[Table]  # the first is the paper's own
    sentences: list[str]
    notes: list[str]
