"""The numbers that the L2TL paper prints (Zhu et al., arXiv 1908.11406), each with its standing."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")
STAR = "*"  # ends the name of a row that the paper took from another paper


@dataclass(frozen=True)
class Published:
    """One printed number; scores and weights are as printed, so scores are in percent."""

    element: str  # "Table 2"
    row: str
    source: str
    target: str  # "" if the paper names none
    quantity: str  # top1, auroc, auroc:<label>, weight:<rank>, or a column of Table 5
    text: str  # as printed: "90.0"
    standing: str  # "measured" by the authors, or "quoted" by them
    note: str = ""

    @property
    def value(self) -> float:
        """The number itself."""
        return float(self.text)

    @property
    def is_quoted(self) -> bool:
        """Return whether the authors took it from another paper."""
        return self.standing == "quoted"


@cache
def published() -> tuple[Published, ...]:
    """Return every number of the file, in the paper's order."""
    with FILE.open(newline="", encoding="utf-8") as lines:
        return tuple(Published(text=row.pop("value"), **row) for row in csv.DictReader(lines))


def of_element(element: str) -> list[Published]:
    """Return the numbers of one table of the paper; none for an element that is not in the file."""
    return [item for item in published() if item.element == element]


def find(element: str, row: str, source: str, target: str, quantity: str) -> Published | None:
    """Return the printed number of a cell: measured by the authors, else quoted by them, else None."""
    for name in (row, row + STAR):
        for item in of_element(element):
            here = (item.row, item.source, item.quantity) == (name, source, quantity)
            if here and item.target in ("", target):
                return item
    return None
