"""The tables of the report's page, with links to the runs behind each number."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd

from .. import wording
from ..alarms import checked
from ..records.comparison import REFERENCE, Comparison, main_metric
from ..records.load import METRICS, Run
from ..statistics.aggregate import iqm, probability_of_improvement
from ..tables import comparison_table
from ..tables.csv_text import csv_text
from ..tables.table import Cell, Table
from . import svg_charts
from .headline import Finding

UNITS = re.compile(r"(?<=\d) (?=[A-Za-z])")  # between a number and its unit: no line break

BESIDE_SCORES = ("seeds", "from fine-tuning, points", "chosen", "training")  # the others have their own table
WITHIN = re.compile(r"(?<=[^,/]) (?=[^/])")  # between a setting and its value, as in "lr 0.01, head 0.1"


class Picture(NamedTuple):
    """A figure of the page: SVG with its alternative text, a caption and a link to its data."""

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
    """Return the frame as a data URL."""
    return "data:text/csv;charset=utf-8," + quote(csv_text(frame), safe=",-._:+")


def comparison_grids(
    comparison: Comparison, numbers: pd.DataFrame, outcomes: Mapping[str, str]
) -> tuple[Table, Table]:
    """Return the comparison table in two: scores with a drawing of the seeds and marks, and costs."""
    table = comparison_table.method_table(comparison, numbers)
    scores = {label: [100 * run.score for run in runs] for label, runs in comparison.by_label.items()}
    lines = [{str(name): value for name, value in row.items()} for row in numbers.to_dict("records")]
    ends = svg_charts.row_limits(lines)
    base = next((row["score"] for row in lines if row["label"] == REFERENCE), math.nan)
    score = next(name for name in table.columns if name.endswith(", %"))
    first = [name for name in ("method", score, *BESIDE_SCORES) if name in table.columns]
    others = ["method", *(name for name in table.columns if name not in first)]
    rows, costs = [], []
    for row, cells in zip(lines, table.rows, strict=True):
        by_name = dict(zip(table.columns, cells, strict=True))
        by_name["from fine-tuning, points"] = by_name["from fine-tuning, points"]._replace(
            mark=outcomes.get(row["label"], "")
        )
        if chosen := by_name.get("chosen"):
            text = WITHIN.sub("\N{NO-BREAK SPACE}", chosen.text)
            by_name["chosen"] = chosen._replace(text=text)
        strip = svg_charts.strip(row, scores[row["label"]], ends, base)
        shown = [_unbroken(by_name[name]) for name in first]
        rows.append([by_name["method"], shown[1], Cell("", row["score"], svg=strip), *shown[2:]])
        costs.append([by_name["method"], *(_unbroken(by_name[name]) for name in others[1:])])
    grid = replace(
        table,
        columns=[*first[:2], "each seed, mean, interval", *first[2:]],
        rows=rows,
        sorted_by=(1, "descending"),
        column_svg={2: svg_charts.strip_axis(*ends)},
    )
    return grid, Table(f"Cost and labels of each method: {comparison.target}", others, costs)


def _unbroken(cell: Cell) -> Cell:
    """Return a cell without a line break between a number and its unit."""
    return cell._replace(text=UNITS.sub("\N{NO-BREAK SPACE}", cell.text))


def runs_grid(runs: Sequence[Run], kept: set[Path], anchors: Anchors) -> Table:
    """Return the list of runs; numbers of other tables link to its rows."""
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
    return Table("Runs", columns, rows)


def overview(found: Sequence[Finding], places: Mapping[str, str]) -> Table | None:
    """Return the differences from fine-tuning, methods by comparisons; None for a single comparison."""
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
    return Table(
        "Differences from fine-tuning",
        ["method", *(places[slug] for slug in compared)],
        rows,
        frame,
    )


def _rank(label: str, found: Sequence[Finding]) -> tuple[float, str]:
    """Return the sort key of a method: its mean difference."""
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


def across_grid(known: Sequence[Comparison]) -> Table | None:
    """Return each method over the targets where it has runs as fine-tuning has; None if no method has two.

    Of a target with several comparisons the one with the most runs counts, and of several scores the one of
    most targets. A row about which a comparison claims nothing does not count there.
    """
    by_target = {
        item.data_set: item for item in sorted(known, key=lambda item: len(item.runs)) if item.reference
    }
    metric = main_metric([*by_target.values()])
    beside: dict[str, list[Comparison]] = defaultdict(list)
    for item in by_target.values():
        for label, difference in checked(item).differences.items():
            if label != REFERENCE and not difference.no_claim and item.metric == metric:
                beside[label].append(item)
    rows = [_across_row(label, items) for label, items in beside.items() if len(items) > 1]
    if not rows:
        return None
    rows.sort(key=lambda row: (-row[4].value, row[0].text))
    names = [
        "method",
        "targets",
        "interquartile mean, %",
        "fine-tuning there, %",
        "probability of improvement",
    ]
    columns = ["method", "num_targets", "interquartile_mean", "of_fine_tuning", "probability_of_improvement"]
    frame = pd.DataFrame([[row[0].text, *(cell.value for cell in row[1:])] for row in rows], columns=columns)
    scored = f" with {METRICS[metric]}" if any(item.metric != metric for item in by_target.values()) else ""
    return Table(f"Over targets{scored}", names, rows, frame, sorted_by=(4, "descending"))


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
