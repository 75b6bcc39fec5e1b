"""The cost of a transfer: steps times seconds per step, by part, and as a ratio to fine-tuning."""

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean, median

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE
from ..records.load import Run
from ..records.published import of_element
from ..records.suites import Suite, SuiteCell, unique
from .table import Cell, SuiteTables, Table

PASSES_TRAINED, PASSES_JUDGED = 3, 1  # forward and, at twice its work, backward; forward alone
STREAMS = ("target", "source", "holdout")
NOTE = (
    "A total is steps times seconds per step; with a pre-trained source, only the method's own"
    " pre-training is counted. The ratio by passes counts three for an image that is trained on and one for"
    " an image that gives a reward."
)


@dataclass(frozen=True)
class Cost:
    """Cost of one method, in the order of the paper's columns; nan where a number is missing."""

    pretraining_steps: float
    transfer_steps: float
    pretraining_seconds_per_step: float
    transfer_seconds_per_step: float
    seconds_from_scratch: float
    seconds_pretrained: float
    step_ratio: float  # to a step of fine-tuning
    passes_ratio: float


COLUMNS: dict[str, Callable[[float], str]] = {
    "pre-training steps": wording.whole,
    "transfer steps": wording.whole,
    "a pre-training step": wording.step_seconds,
    "a transfer step": wording.step_seconds,
    "from scratch": wording.hours,
    "with a pre-trained source": wording.hours,
    "step, ratio to fine-tuning": wording.ratio,
    "ratio by passes": wording.ratio,
}


def measured(cell: SuiteCell) -> Cost:
    """Return the cost of a cell's runs: the median of seconds per step, means of the rest."""
    own_steps, own_seconds = _pretraining(cell.runs, shared=False)
    shared_steps, shared_seconds = _pretraining(cell.runs, shared=True)
    steps = fmean(run.record["num_steps"] for run in cell.runs)
    transfer_seconds = steps * step_seconds(cell.runs)
    return Cost(
        own_steps + shared_steps,
        steps,
        _ratio(own_seconds + shared_seconds, own_steps + shared_steps),
        step_seconds(cell.runs),
        own_seconds + shared_seconds + transfer_seconds,
        own_seconds + transfer_seconds,
        _ratio(step_seconds(cell.runs), step_seconds(cell.reference)),
        _ratio(_passes(cell.runs), _passes(cell.reference)),
    )


def printed(element: str, row: str, source: str) -> Cost | None:
    """Return the published cost of a method, its totals as printed; None if the paper has none."""
    rows = {name: _printed_row(element, name, source) for name in (row, REFERENCE)}
    if not all(rows.values()):
        return None
    own, base = rows[row], rows[REFERENCE]
    return Cost(
        own["pretraining_steps"],
        own["transfer_steps"],
        own["pretraining_seconds_per_step"],
        own["transfer_seconds_per_step"],
        3600 * own["hours_from_scratch"],
        3600 * own["hours_pretrained"],
        own["transfer_seconds_per_step"] / base["transfer_seconds_per_step"],
        _work(_images_per_step(own)) / _work(_images_per_step(base)),
    )


def _printed_row(element: str, row: str, source: str) -> dict[str, float]:
    """Return the published numbers of a row by quantity."""
    return {
        item.quantity: item.value for item in of_element(element) if (item.row, item.source) == (row, source)
    }


def _images_per_step(numbers: dict[str, float]) -> dict[str, float]:
    """Return the published batch sizes by stream."""
    return {name: numbers[f"images_{name}_per_step"] for name in STREAMS}


def _pretraining(runs: Sequence[Run], shared: bool) -> tuple[float, float]:
    """Return steps and seconds of pre-training per run."""
    items = [item for run in runs for item in run.record["pretraining"] if item["shared"] == shared]
    steps, seconds = sum(item["steps"] for item in items), sum(item["seconds"] for item in items)
    return steps / len(runs), seconds / len(runs)


def step_seconds(runs: Sequence[Run]) -> float:
    """Return the median over runs of seconds per step; nan without runs."""
    return median(run.record["seconds"]["per_step_median"] for run in runs) if runs else math.nan


def _passes(runs: Sequence[Run]) -> float:
    """Return the passes of a step, mean over runs; nan without runs."""
    return fmean(_ratio(_work(r.record["images"]), r.record["num_steps"]) for r in runs) if runs else math.nan


def _work(images: dict[str, float]) -> float:
    """Return images by stream as passes."""
    return PASSES_TRAINED * (images["target"] + images["source"]) + PASSES_JUDGED * images["holdout"]


def _ratio(value: float, base: float) -> float:
    """Return value over base; nan if the base is zero."""
    return value / base if base else math.nan


def suite_tables(suite: Suite, title: str) -> SuiteTables:
    """Return the cost of each method, with one sentence per method about its step."""
    return SuiteTables(cost_tables(suite, title), sentences(suite), [NOTE])


def cost_tables(suite: Suite, title: str) -> list[Table]:
    """Return the table of the paper, and the seconds of a step by part where something was run."""
    lines, numbers = [], []
    for row in suite.rows:
        cells = [cell for cell in suite.cells if cell.row == row]
        published = printed(suite.element, row, cells[0].source)
        if published:
            lines.append(_line(row, "published", published, ()))
            numbers.append({"row": row, "kind": "published", **vars(published), "runs": ""})
        for cell in cells:
            name, digests = name_of(suite, cell), tuple(run.digest for run in cell.runs)
            ours = measured(cell) if cell.runs else None
            lines.append(_line(name, "ours", ours, digests))
            if ours:
                numbers.append({"row": name, "kind": "ours", **vars(ours), "runs": " ".join(digests)})
    first = Table(title, ["method", "number", *COLUMNS], lines, pd.DataFrame(numbers))
    done = [cell for cell in suite.cells if cell.runs]
    return [first, _parts_table(suite, done)] if done else [first]


def name_of(suite: Suite, cell: SuiteCell) -> str:
    """Return the name of a cell: its row, and its target if there are several."""
    return cell.row if len(suite.columns) == 1 else f"{cell.row} on {cell.column}"


def _line(name: str, kind: str, cost: Cost | None, digests: tuple[str, ...]) -> list[Cell]:
    """Return one line of the table; empty without runs."""
    if cost is None:
        return [Cell(name), Cell(kind), *[Cell() for _ in COLUMNS]]
    pairs = zip(COLUMNS.values(), astuple(cost), strict=True)
    return [Cell(name), Cell(kind), *[Cell(text(value), value, digests) for text, value in pairs]]


def _parts_table(suite: Suite, cells: Sequence[SuiteCell]) -> Table:
    """Return the seconds of a step by part, means over runs; the rest is outside of all parts."""
    names = unique(part for cell in cells for run in cell.runs for part in run.record["seconds"]["parts"])
    parts = [_parts(cell.runs, names) for cell in cells]
    lines, rows = [], []
    for cell, seconds in zip(cells, parts, strict=True):
        name, digests = name_of(suite, cell), tuple(run.digest for run in cell.runs)
        lines.append([Cell(name), *[Cell(wording.duration(v), v, digests) for v in seconds.values()]])
        rows.append({"row": name, **seconds, "runs": " ".join(digests)})
    head = ["method", *names, "rest", "a step"]
    return Table("Seconds of a step by part, means over runs", head, lines, pd.DataFrame(rows), "parts")


def _parts(runs: Sequence[Run], names: list[str]) -> dict[str, float]:
    """Return the mean seconds per step: of each part, outside of all parts, and in total."""
    seconds = [(run.record["seconds"], max(1, run.record["num_steps"])) for run in runs]
    parts = {name: fmean(item["parts"].get(name, 0.0) / steps for item, steps in seconds) for name in names}
    whole = fmean(item["step"] / steps for item, steps in seconds)
    return {**parts, "rest": max(0.0, whole - sum(parts.values())), "a step": whole}


def sentences(suite: Suite) -> list[str]:
    """Return one sentence per method about its time per step."""
    cells = [cell for cell in suite.cells if cell.runs and not cell.is_reference]
    return [f"{name_of(suite, cell)}: {_step_sentence(suite, cell)}." for cell in cells]


def _step_sentence(suite: Suite, cell: SuiteCell) -> str:
    """Return the time per step as a ratio to fine-tuning's, if both ran on the same device."""
    if not cell.reference:
        return "no run of fine-tuning with the same settings, so its time per step is not compared"
    devices = {run.record["environment"]["device"] for run in [*cell.runs, *cell.reference]}
    if len(devices) > 1:
        names = wording.listing(sorted(devices))
        return f"its time per step is not compared with fine-tuning's because they ran on {names}"
    ours, published = measured(cell), printed(suite.element, cell.row, cell.source)
    parts = [
        f"a step takes {wording.ratio(ours.step_ratio)} times as long as in fine-tuning{_spread(cell)}",
        f"counted by passes {wording.ratio(ours.passes_ratio)}",
    ]
    if published:
        both = (wording.ratio(published.step_ratio), wording.ratio(published.passes_ratio))
        parts.append("in the paper {}, by passes {}".format(*both))
    return "; ".join(parts)


def _spread(cell: SuiteCell) -> str:
    """Return the least and the greatest ratio of runs of the same seed, where there are two or more."""
    base = {run.seed: step_seconds([run]) for run in cell.reference}
    ratios = [_ratio(step_seconds([run]), base[run.seed]) for run in cell.runs if run.seed in base]
    if len(ratios) < 2:
        return " on one seed" if ratios else ""
    return f" ({wording.ratio(min(ratios))} to {wording.ratio(max(ratios))} on {len(ratios)} seeds)"
