"""Test scores: published and measured, their differences, and sentences about them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import wording
from ..alarms import checked
from ..records.comparison import comparisons
from ..records.load import Run
from ..records.published import Published, find, of_element
from ..records.suites import Suite, SuiteCell, unique
from ..statistics.aggregate import holm_corrected, iqm, probability_of_improvement
from ..statistics.paired import Difference, paired_difference, pairs_of, percent_interval

NO_REFERENCE = Difference(math.nan, math.nan, math.nan, 0, "no run of fine-tuning with the same settings")
MEAN = "mean"  # over labels


@dataclass(frozen=True)
class Result:
    """One score of a table: published, measured, and the differences."""

    panel: str  # its table, if a suite has several
    row: str
    column: str
    where: str  # "L2TL on birds", to begin a sentence
    printed: Published | None
    cell: SuiteCell | None  # None where the paper alone has a number
    runs: list[Run]
    difference: Difference | None = None  # from fine-tuning; None for fine-tuning itself, and without runs

    @property
    def score(self) -> tuple[float, float, float]:
        """The mean over seeds in percent, and its 95 % t-interval."""
        return percent_interval([run.score for run in self.runs])

    @property
    def from_printed(self) -> float:
        """By how many points the mean is above the published score; nan if one of them is missing."""
        return self.score[0] - self.printed.value if self.printed else math.nan


def results(suite: Suite) -> list[Result]:
    """Return every score of a suite, one per method and target: published scores without runs come first."""
    return _completed(suite, [_cell_result(suite, cell, "", cell.column) for cell in suite.cells])


def shots_results(suite: Suite) -> list[Result]:
    """Return every score of a suite, one per method, target and number of images per class."""
    return _completed(suite, [_cell_result(suite, cell, cell.column, f"{cell.at}") for cell in suite.cells])


def label_results(suite: Suite) -> list[Result]:
    """Return every score of a suite, one per method and label of a multi-label target."""
    names = label_names(suite)
    measured = [_label_result(suite, cell, name) for cell in suite.cells for name in names]
    return _completed(suite, measured, by_label=True)


def _completed(suite: Suite, measured: list[Result], by_label: bool = False) -> list[Result]:
    """Return the scores with Holm correction, after the published scores without a cell."""
    return [*_printed_alone(suite, measured, by_label), *corrected(_doubted(suite, measured))]


def _doubted(suite: Suite, measured: list[Result]) -> list[Result]:
    """Return the results with the reason where nothing may be claimed, by the alarms of their comparisons."""
    reasons = {
        run.path: difference.no_claim
        for comparison in comparisons(suite.runs)
        for label, difference in checked(comparison).differences.items()
        for run in comparison.by_label[label]
    }
    return [
        replace(
            result,
            difference=result.difference
            and replace(result.difference, no_claim=reasons.get(result.runs[0].path, "")),
        )
        for result in measured
    ]


def _cell_result(suite: Suite, cell: SuiteCell, panel: str, column: str) -> Result:
    """Return the score of one cell."""
    metric = cell.runs[0].metric if cell.runs else "top1"
    printed = find(suite.element, cell.row, cell.source, cell.target, metric)
    where = f"{cell.row} on {cell.column}"
    if panel:
        is_all = cell.at in (None, "all")
        where += " with all images" if is_all else f" with {cell.at} image{'s' * (cell.at != 1)} per class"
    return _result(cell, panel, column, where, printed, cell.runs, cell.reference)


def label_names(suite: Suite) -> list[str]:
    """Return the metrics of a multi-label suite: "auroc:<label>" per label, and "auroc", their mean."""
    names = [name for run in suite.runs for name in run.record["test"] if name.startswith("auroc:")]
    targets = {cell.target for cell in suite.cells}
    printed = [item.quantity for item in of_element(suite.element) if item.target in targets]
    names += [name for name in printed if name.startswith("auroc:")]
    return [*unique(names), "auroc"]


def _label_result(suite: Suite, cell: SuiteCell, name: str) -> Result:
    """Return the score of one label, paired by seed alone: the test images are not kept by label."""
    heading = name.removeprefix("auroc:") if ":" in name else MEAN
    printed = find(suite.element, cell.row, cell.source, cell.target, name)
    runs, reference = _of_label(cell.runs, name), _of_label(cell.reference, name)
    where = f"{cell.row} on {cell.column}, {'mean over labels' if heading == MEAN else heading}"
    return _result(cell, "", heading, where, printed, runs, reference)


def _of_label(runs: Sequence[Run], name: str) -> list[Run]:
    """Return the runs with the score of one label in the place of theirs, where they have it."""
    if name == "auroc":
        return [run for run in runs if run.metric == "auroc"]
    return [
        replace(run, score=run.record["test"][name], metric=name, correct=None)
        for run in runs
        if name in run.record["test"]
    ]


def _result(
    cell: SuiteCell,
    panel: str,
    column: str,
    where: str,
    printed: Published | None,
    runs: list[Run],
    reference: list[Run],
) -> Result:
    """Return one score with its difference from fine-tuning."""
    difference = None
    if runs and not cell.is_reference:
        difference = paired_difference(runs, reference) if reference else NO_REFERENCE
    return Result(panel, cell.row, column, where, printed, cell, runs, difference)


def _printed_alone(suite: Suite, measured: list[Result], by_label: bool) -> list[Result]:
    """Return the published scores of the suite's columns that have no cell in the plan."""
    joined = {result.printed for result in measured}
    sources = {cell.source for cell in suite.cells}
    headings = {cell.target: cell.column for cell in suite.cells}
    alone = [item for item in of_element(suite.element) if item not in joined and item.target in headings]
    found = []
    for item in alone:
        row = item.row if item.source in sources else f"{item.row}, from {item.source}"
        column = headings[item.target]
        if by_label:
            column = item.quantity.removeprefix("auroc:") if ":" in item.quantity else MEAN
        found.append(Result("", row, column, row, item, None, []))
    return found


def corrected(measured: list[Result]) -> list[Result]:
    """Return the results with Holm correction over all their differences."""
    differences = holm_corrected([result.difference for result in measured])
    return [replace(result, difference=item) for result, item in zip(measured, differences, strict=True)]


def sentences(found: list[Result]) -> list[str]:
    """Return one sentence for every score that was measured, except those of fine-tuning."""
    return [wording.sentence(result.where, result.difference) for result in found if result.difference]


def across_sentences(found: list[Result]) -> list[str]:
    """Return one sentence per method about all its targets, if two or more have seeds of fine-tuning too."""
    compared = [
        r
        for r in found
        if r.cell and r.difference and not math.isnan(r.difference.points) and not r.difference.no_claim
    ]
    by_row = [(row, [r for r in compared if r.row == row]) for row in unique(r.row for r in compared)]
    return [
        _across(row, own) for row, own in by_row if len(own) > 1 and len({r.runs[0].metric for r in own}) == 1
    ]


def _across(row: str, found: list[Result]) -> str:
    """Return the scores of a method and of fine-tuning over several targets, on the seeds that both have."""
    pairs = [pairs_of(result.runs, result.cell.reference) for result in found if result.cell]
    ours, base = ([[100 * pair[i].score for pair in own] for own in pairs] for i in (0, 1))
    share, low, high = probability_of_improvement(ours, base)
    chance = f"{wording.ratio(share)} (95 % CI {wording.interval(low, high, 2)})"
    verdict = "; inconclusive over these targets" if low <= 0.5 <= high else ""
    return (
        f"{row} over {len(found)} targets: interquartile mean {wording.estimate(*iqm(ours))} %, fine-tuning"
        f" {wording.estimate(*iqm(base))} %; a run of it scores above a run of fine-tuning with probability"
        f" {chance}{verdict}."
    )
