"""The tables of the report's page: what is read, what it is ordered by, and the runs behind it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE, Comparison
from ..records.load import Run
from ..statistics.aggregate import iqm, probability_of_improvement
from ..tables import comparison_table
from ..tables.csv_text import csv_text
from . import svg_charts
from .headline import Finding

SORTED_BY = {  # columns of the readable table: what their rows are ordered by
    "method": "",
    "seeds": "num_seeds",
    "from fine-tuning, points": "difference",
    "a step": "seconds_per_step",
    "step, ratio": "step_ratio",
    "training": "train_seconds",
    "pre-training": "pretraining_shared_seconds",
}
IMAGES = " / ".join(f"{name}" for name in comparison_table.STREAMS) + " images"


class Cell(NamedTuple):
    """One cell of a table: text, what it is sorted by, and the runs behind it."""

    text: str
    value: float = math.nan
    digests: Sequence[str] = ()
    mark: str = ""  # a verdict, or "code"
    drawn: str = ""  # SVG, in the place of text

    @property
    def head(self) -> str:
        """What stands in the first line."""
        return self.text.partition(" (")[0] if self.is_number else self.text

    @property
    def tail(self) -> str:
        """An interval, or another remark in brackets: in a line of its own."""
        return self.text.partition(" (")[2].replace(")", "", 1) if self.is_number else ""

    @property
    def is_number(self) -> bool:
        """Whether the cell is ordered as a number."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Grid:
    """A table of the page."""

    name: str  # for who cannot see it
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    ordered: tuple[int, str] | None = None  # column and direction in which it is ordered as it comes
    heads: Mapping[int, str] = field(default_factory=dict)  # SVG below the name of a column
    data: str = ""  # address of its numbers

    def is_numeric(self, column: int) -> bool:
        """Whether a column stands on the right."""
        return any(row[column].is_number for row in self.rows)


class Picture(NamedTuple):
    """A figure of the page: SVG with its own words, what is said below it, and the data behind it."""

    svg: str
    caption: str
    data: str
    file: str
    wide: int = 0  # px below which it is scrolled; 0: it shrinks


class Anchors:
    """Places of runs in the page, by digest."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.of_run: dict[Path, str] = {}
        self.of_digest: dict[str, str] = {}
        used: set[str] = set()
        for run in runs:
            plain = "run-" + re.sub(r"[^A-Za-z0-9]+", "-", run.digest)
            place, again = plain, 1
            while place in used:
                again += 1
                place = f"{plain}-{again}"
            used.add(place)
            self.of_run[run.path] = place
            self.of_digest.setdefault(run.digest, place)


def csv_address(frame: pd.DataFrame) -> str:
    """Return the frame as an address that holds it: nothing is fetched."""
    return "data:text/csv;charset=utf-8," + quote(csv_text(frame), safe=",-._:+")


def comparison_grid(comparison: Comparison, table: pd.DataFrame, verdicts: Mapping[str, str]) -> Grid:
    """Return the comparison table with a drawing of the seeds in each row."""
    text = _images_together(comparison_table.readable(table))
    columns = [str(name) for name in text.columns]
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    scores = {label: [100 * run.score for run in runs] for label, runs in comparison.by_label.items()}
    ends = svg_charts.limits([row["score"] for row in rows])
    base = next((row["score"] for row in rows if row["label"] == REFERENCE), math.nan)
    grid = []
    for row, cells in zip(rows, text.to_numpy().tolist(), strict=True):
        label = row["label"]
        line = [
            Cell(cell, _value(row, name), mark=verdicts.get(label, "") if "from fine-tuning" in name else "")
            for name, cell in zip(columns, cells, strict=True)
        ]
        seeds = columns.index("seeds")
        line[seeds] = line[seeds]._replace(digests=[run.digest for run in comparison.by_label[label]])
        drawn = svg_charts.strip(row, scores[label], ends, base)
        grid.append([line[0], Cell("", row["score"], drawn=drawn), *line[1:]])
    names = [columns[0], "each seed, mean, interval", *columns[1:]]
    score = next(i for i, name in enumerate(names) if name.endswith(", %"))
    return Grid(
        f"Methods compared: {comparison_table.title(comparison)}",
        names,
        grid,
        (score, "descending"),
        {1: svg_charts.strip_axis(*ends)},
        csv_address(table),
    )


def _images_together(text: pd.DataFrame) -> pd.DataFrame:
    """Return the readable table with its counts of images in one column, the last: it is wide as it is.

    A number is not parted from its unit.
    """
    names = [f"{name} images" for name in comparison_table.STREAMS]
    whole = [name for name in (*names, "memory", "a step", "training", "pre-training") if name in text]
    text = text.assign(
        **text[whole].map(lambda words: re.sub(r"(?<=\d) (?=[A-Za-z])", "\N{NO-BREAK SPACE}", words))
    )
    return text.drop(columns=names).assign(**{IMAGES: text[names].agg(" / ".join, axis=1)})


def _value(row: Mapping[str, Any], column: str) -> float:
    """Return what a cell of the comparison table is ordered by."""
    if column == IMAGES:
        return float(sum(row[f"images_{name}"] for name in comparison_table.STREAMS))
    name = SORTED_BY.get(column, "score" if column.endswith(", %") else "")
    return float(row[name]) if name else math.nan


def runs_grid(runs: Sequence[Run], kept: set[Path], anchors: Anchors) -> Grid:
    """Return the list of runs: the rows that numbers are linked to."""
    rows = []
    for run in sorted(runs, key=lambda run: (run.label, run.seed, run.record["ended"])):
        environment, seconds = run.record["environment"], run.record["seconds"]
        spent = seconds["prepare"] + seconds["step"]
        left_out = "" if run.path in kept else " (left out: a later run of this seed is used)"
        rows.append(
            [
                Cell(run.label + left_out),
                Cell(str(run.seed), run.seed),
                Cell(run.digest, mark="code"),
                Cell(wording.number(100 * run.score, decimals=2), 100 * run.score),
                Cell(wording.duration(spent), spent),
                Cell(f"{environment['device']} on {environment['host']}"),
                Cell(
                    environment["commit"][:10] + (" + changes" if environment["dirty"] else ""), mark="code"
                ),
                Cell(run.record["ended"].replace("T", " ").removesuffix("Z")),
                Cell(anchors.of_run[run.path]),
            ]
        )
    columns = ["method", "seed", "run", "score, %", "training", "device", "commit", "ended, UTC"]
    return Grid("Runs", columns, rows)


def overview(found: Sequence[Finding], places: Mapping[str, str]) -> Grid | None:
    """Return the differences from fine-tuning, methods by comparisons; None for a single one."""
    cells = {(item.label, item.comparison.slug): item for item in found}
    compared = [slug for slug in places if any(slug == other for _, other in cells)]
    if len(compared) < 2:
        return None
    rows = []
    for label in sorted({item.label for item in found}, key=lambda label: _rank(label, found)):
        row = [cells.get((label, slug)) for slug in compared]
        rows.append([Cell(label), *(_difference_cell(item) for item in row)])
    frame = pd.DataFrame(
        {"comparison": item.place, "method": item.label, **asdict(item.difference),
         "verdict": item.outcome}
        for item in found
    )  # fmt: skip
    return Grid(
        "Differences from fine-tuning",
        ["method", *(places[slug] for slug in compared)],
        rows,
        data=csv_address(frame),
    )


def _rank(label: str, found: Sequence[Finding]) -> tuple[float, str]:
    """Return what methods are ordered by: their mean difference."""
    points = [item.difference.points for item in found if item.label == label]
    known = [value for value in points if not math.isnan(value)]
    return -sum(known) / max(1, len(known)), label


def _difference_cell(item: Finding | None) -> Cell:
    """Return one difference with its verdict and its runs."""
    if item is None:
        return Cell("")
    runs = [*item.comparison.by_label[item.label], *item.comparison.reference]
    found = item.difference
    text = wording.estimate(found.points, found.low, found.high, sign=True)
    return Cell(text, found.points, [run.digest for run in runs], item.outcome)


def across_grid(known: Sequence[Comparison]) -> Grid | None:
    """Return each method over the targets where it stands beside fine-tuning; None where none has two.

    Of a target with several comparisons the one with the most runs counts.
    """
    by_target = {
        item.target: item for item in sorted(known, key=lambda item: len(item.runs)) if item.reference
    }
    labels = {label for item in by_target.values() for label in item.by_label} - {REFERENCE}
    beside = {label: [item for item in by_target.values() if label in item.by_label] for label in labels}
    rows = [_across_row(label, items) for label, items in beside.items() if len(items) > 1]
    if not rows:
        return None
    rows.sort(key=lambda row: (-row[4].value, row[0].text))
    names = [
        "method",
        "targets",
        "interquartile mean, %",
        "fine-tuning there, %",
        "a run scores above one of fine-tuning, probability",
    ]
    columns = ["method", "num_targets", "interquartile_mean", "of_fine_tuning", "probability_of_improvement"]
    frame = pd.DataFrame([[row[0].text, *(cell.value for cell in row[1:])] for row in rows], columns=columns)
    return Grid("Over targets", names, rows, (4, "descending"), data=csv_address(frame))


def _across_row(label: str, items: Sequence[Comparison]) -> list[Cell]:
    """Return one method over targets, and fine-tuning on the same ones."""
    own, base = [item.by_label[label] for item in items], [item.reference for item in items]
    scores = [_scores(runs) for runs in own], [_scores(runs) for runs in base]
    digests, base_digests = ([run.digest for runs in side for run in runs] for side in (own, base))
    middle, base_middle = iqm(scores[0]), iqm(scores[1])
    better, low, high = probability_of_improvement(*scores)
    return [
        Cell(label),
        Cell(str(len(items)), len(items)),
        Cell(wording.estimate(*middle), middle[0], digests),
        Cell(wording.estimate(*base_middle), base_middle[0], base_digests),
        Cell(
            f"{wording.number(better, 2)} ({wording.interval(low, high, 2)})",
            better,
            [*digests, *base_digests],
        ),
    ]


def _scores(runs: Sequence[Run]) -> list[float]:
    """Return scores in percent."""
    return [100 * run.score for run in runs]
