"""The report's page: the values that the template shows."""

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from .. import wording
from ..alarms import Alarm, alarms, is_sound
from ..records.comparison import Comparison
from ..records.load import Run, curve_frame, score_name
from ..tables import comparison_table
from ..tables.frozen import against_frozen
from ..tables.paper_tables import PaperTable
from ..tables.size_table import NOTE as SIZE_NOTE
from ..tables.size_table import size_table
from ..tables.table import Cell, Table
from . import run_log, svg_charts
from .headline import Finding, findings, headline, places
from .page_tables import (
    Anchors,
    Picture,
    across_grid,
    comparison_grid,
    csv_address,
    overview,
    runs_grid,
)
from .wrong import wrong_part

HERE = Path(__file__).parent
ARROWS = {"above": "\N{BLACK UP-POINTING TRIANGLE}", "below": "\N{BLACK DOWN-POINTING TRIANGLE}"}
NOTE = (
    "Scores are means over seeds on the test part, with 95 % t-intervals. Differences from fine-tuning are"
    " paired by seed and, for accuracy, by test image; their confidence intervals (CI) cover the choice of"
    " both. Above or below means: significant at 5 % after Holm correction for all differences of several"
    " seeds on this page; in tables and figures of the paper, for all those of the table. Inconclusive means"
    " that the interval includes zero; then the sentence gives the minimum detectable effect at 80 % power,"
    " without correction. Chosen are the values that tuning found; head is the rate of the head. Time per"
    " step is the median over runs, and its ratio is to fine-tuning's; labels are distinct labeled target"
    " images;"
    " image reads (repeats counted) and training (preparation and steps)"
    " are means per run;"
    " tuning is once per row and not in them; pre-training is counted separately."
)


def comparison_section(
    comparison: Comparison,
    table: pd.DataFrame,
    place: str,
    found: Sequence[Finding],
    look: dict[str, str],
    doubts: Sequence[Alarm],
    pictures: Mapping[int, str],
) -> dict[str, Any]:
    """Return the template's values for one comparison."""
    return {
        "slug": comparison.slug,
        "place": place,
        "title": comparison_table.title(comparison),
        "comparison_id": comparison.comparison_id,
        "setting": comparison_table.setting(comparison),
        "grid": comparison_grid(comparison, table, {item.label: item.outcome for item in found}),
        "alarms": [alarm.text for alarm in doubts],
        "sentences": [*against_frozen(comparison), *(item.sentence for item in _in_order(table, found))],
        "notes": comparison_table.notes(comparison, table),
        "sizes": size_table(comparison, table),
        "wrong": wrong_part(comparison, list(table["label"]), pictures),
        "pictures": _pictures(comparison, table, look, score_name(comparison.metric)),
    }


def _in_order(table: pd.DataFrame, found: Sequence[Finding]) -> list[Finding]:
    """Return the findings in the order of the table's rows."""
    place = {label: i for i, label in enumerate(table["label"])}
    return sorted(found, key=lambda item: place[item.label])


def _pictures(comparison: Comparison, table: pd.DataFrame, look: dict[str, str], name: str) -> list[Picture]:
    """Return the curves and the cost of one comparison, where there is something to draw."""
    drawn = []
    curve = curve_frame(comparison.runs)
    if not curve.empty:
        drawn.append(
            Picture(
                svg_charts.curves(curve, look, name),
                "Holdout score during training. Thin lines are seeds, thick lines their mean; scores far"
                " below the best are cut off.",
                csv_address(curve.round({"seconds": 3, "score": 6})),
                f"{comparison.slug}-curves.csv",
            )
        )
    spent = table.assign(seconds=table["train_seconds"] + table["pretraining_own_seconds"])
    if len(spent) > 1 and (spent["seconds"] > 0).all():
        drawn.append(
            Picture(
                svg_charts.cost(spent, look, name),
                "Test score against training time, without the shared pre-training. Dashed line:"
                " accuracy-time Pareto front.",
                csv_address(spent[["label", "score", "score_low", "score_high", "seconds"]]),
                f"{comparison.slug}-cost.csv",
            )
        )
    return drawn


def suite_part(section: PaperTable, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the template's values for one suite."""
    return {
        "slug": "suite-" + re.sub(r"[^A-Za-z0-9_]+", "-", section.name),
        "title": f"{section.element}: {section.title}" if section.element else section.title,
        "short": section.element or section.title,
        "section": section,
        "pictures": pictures,
    }


def accounts(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template's values for the time by machine and by method."""
    frame = run_log.times(records)
    machines = ["machine", "device", "runs", "time", "when"]
    methods = ["method", "runs", "time", "per run", "share, %"]
    return {
        "num": len(frame),
        "total": wording.duration(frame["seconds"].sum()),
        "machines": Table(
            "Time by machine", machines, _cells(run_log.by_machine(frame)), sorted_by=(3, "descending")
        ),
        "methods": Table(
            "Time by method", methods, _cells(run_log.by_method(frame)), frame, sorted_by=(2, "descending")
        ),
    }


def _cells(rows: Iterable[Iterable[tuple[str, float]]]) -> list[list[Cell]]:
    return [[Cell(text, value) for text, value in row] for row in rows]


def render(context: Mapping[str, Any]) -> str:
    """Return the page as HTML. Style and script are inline; its policy forbids to load anything else."""
    style, *scripts = (
        (HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "wrong.js")
    )
    script = "".join(scripts)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    known = context["anchors"].of_digest
    environment.filters["csv_address"] = csv_address
    environment.filters["anchors"] = lambda digests: [known[name] for name in digests if name in known]
    template = environment.from_string((HERE / "template.html").read_text(encoding="utf-8"))
    return template.render(
        **context,
        style=style,
        script=script,
        script_hash=allowed,
        arrows=ARROWS,
        absent=wording.ABSENT,
        size_note=SIZE_NOTE,
    )


def page_context(
    compared: Sequence[tuple[Comparison, pd.DataFrame]],
    runs: Sequence[Run],
    records: Sequence[Mapping[str, Any]],
    suites: Sequence[dict[str, Any]],
    unfinished: Sequence[run_log.Unfinished],
    skipped: Sequence[Mapping[str, str]],
    unread: Sequence[tuple[str, str]] = (),
    speed: Mapping[str, Any] | None = None,
    pictures: Callable[[Comparison], Mapping[int, str]] = lambda comparison: {},
) -> dict[str, Any]:
    """Return all that the template shows."""
    names = places([comparison for comparison, _ in compared])
    found = findings([(comparison, names[comparison.slug], table) for comparison, table in compared])
    look = svg_charts.series(run.label for run in runs)
    anchors = Anchors(runs)
    by_bench: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_bench[run.target, run.source, run.comparison_id].append(run)
    sections = []
    doubts = {comparison.slug: alarms(comparison) for comparison, _ in compared}
    for comparison, table in compared:
        own = [item for item in found if item.comparison is comparison]
        section = comparison_section(
            comparison,
            table,
            names[comparison.slug],
            own,
            look,
            doubts[comparison.slug],
            pictures(comparison),
        )
        every = by_bench[comparison.target, comparison.source, comparison.comparison_id]
        section["runs"] = runs_grid(every, {run.path for run in comparison.runs}, anchors)
        section["target"] = comparison.target
        sections.append(section)
    return {
        "num_runs": len(runs),
        "ended": max(run.record["ended"] for run in runs)[:16].replace("T", " "),
        "alarms": _by_place(doubts, names),
        "headline": headline(found),
        "overview": overview(found, names),
        "across": across_grid([comparison for comparison, _ in compared if is_sound(comparison)]),
        "sections": sections,
        "targets": _targets(sections),
        "num_targets": len({comparison.data_set for comparison, _ in compared}),
        "suites": suites,
        "accounts": accounts(records),
        "speed": speed,
        "unfinished": unfinished,
        "unread": unread,
        "skipped": [dict(row) | {"place": f"{row['source']} → {row['target']}"} for row in skipped],
        "gaps": [(names[item.slug], gap) for item, _ in compared for gap in run_log.gaps(item)],
        "anchors": anchors,
        "note": NOTE,
    }


def _by_place(doubts: Mapping[str, Sequence[Alarm]], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return every alarm with the place and the section of its comparison, the most important first."""
    found = [(alarm, slug) for slug, own in doubts.items() for alarm in own]
    found.sort(key=lambda pair: pair[0].rank)
    return [{"place": names[slug], "slug": slug, "text": alarm.text} for alarm, slug in found]


def _targets(sections: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons by target."""
    by_target: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for section in sections:
        by_target[section["target"]].append(section)
    return [
        {"name": target, "slug": f"target-{number}", "sections": group}
        for number, (target, group) in enumerate(by_target.items(), start=1)
    ]
