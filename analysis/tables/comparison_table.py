"""The comparison table: one row per method, as numbers and as text."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from .. import wording
from ..alarms import alarms, checked
from ..records.comparison import CLOSED_FORM, REFERENCE, Comparison
from ..records.load import METRICS, SIZES, Run, runs_frame
from ..statistics.aggregate import holm_corrected
from ..statistics.paired import Difference, comparable_mean, percent_interval
from .chosen import chosen_numbers, chosen_text, is_tuned, shows_chosen, tuning_note, tuning_text
from .csv_text import csv_text
from .data_bound import data_notes
from .formats import narrowed, to_latex, to_markdown
from .frozen import against_frozen
from .labels import label_notes, label_numbers, label_text
from .size_table import NOTE as SIZE_NOTE
from .size_table import size_table
from .table import Cell, Table

STREAMS = ("target", "source", "holdout")
READS = f"image reads: {' / '.join(STREAMS)}"
LEAST = (  # columns in the order in which a narrow terminal leaves them out
    *(READS, "pre-training", "training", "time per step", "tuning"),
    *("seeds", "chosen", "labels", "step, ratio"),
)
METHOD_NOTE = (
    "Scores are means over seeds on the test part, with 95 % t-intervals. Differences are paired with"
    " fine-tuning by seed and, for accuracy, by test image; their confidence intervals (CI) combine"
    " t-intervals over seeds and over test images, and are somewhat wider than 95 % with two or three seeds."
    " p-values are Holm-corrected for the number of methods. The power is that of a single test without"
    " correction. Labels are distinct labeled target images. Time per step is the median over runs; image"
    " reads (repeats counted) and training (preparation and steps) are means per run; tuning is once per row"
    " and not in them; pre-training is counted separately."
)


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row per label, the best first; scores in percent, times in seconds.

    Rows are in the order of their mean scores, as far as their seeds allow (see `comparable_mean`).
    """
    reference = comparison.reference
    base = runs_frame(reference)["seconds_per_step"].median() if reference else math.nan
    differences = checked(comparison).differences
    ordered = sorted(
        comparison.by_label.items(),
        key=lambda row: (-comparable_mean(row[1], reference, differences[row[0]]), row[0]),
    )
    return pd.DataFrame([_row(label, runs, differences[label], base) for label, runs in ordered])


def _row(label: str, runs: list[Run], difference: Difference, base_seconds: float) -> dict[str, Any]:
    """Return the numbers of one label."""
    frame = runs_frame(runs)
    score, low, high = percent_interval(frame["score"])
    step_seconds = frame["seconds_per_step"].median()
    return {
        "label": label,
        "method": runs[0].method,
        "metric": runs[0].metric,
        "num_seeds": len(runs),
        "seeds": " ".join(str(run.seed) for run in runs),
        "score": score,
        "score_low": low,
        "score_high": high,
        "difference": difference.points,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "difference_num_seeds": difference.num_seeds,
        "difference_note": difference.note,
        "difference_p_value": difference.p_value,
        "difference_detectable": difference.detectable,
        "difference_no_claim": difference.no_claim,
        "seconds_per_step": step_seconds,
        "step_ratio": step_seconds / base_seconds if base_seconds else math.nan,
        **{f"images_{name}": frame[f"images_{name}"].mean() for name in STREAMS},
        **label_numbers(runs),
        **chosen_numbers(runs),
        "peak_memory_bytes": frame["peak_memory_bytes"].max(),
        **{name: frame[name].max() for name in SIZES},
        "train_seconds": frame["train_seconds"].mean(),
        "pretraining_own_seconds": frame["pretraining_own_seconds"].mean(),
        "pretraining_shared_seconds": frame["pretraining_shared_seconds"].mean(),
    }


def method_table(comparison: Comparison, numbers: pd.DataFrame) -> Table:
    """Return the comparison as it is read, one row per method.

    Args:
        comparison: for the runs behind each row.
        numbers: from `comparison_table`.
    """
    rows = [_cells(row, comparison) for row in _rows(numbers)]
    pretraining = numbers[["pretraining_shared_seconds", "pretraining_own_seconds"]]
    shown = {
        "labels": numbers["labels_all"].notna().any(),
        "pre-training": (pretraining > 0).any(axis=None),
        "chosen": shows_chosen(comparison),
        "tuning": is_tuned(comparison),
    }
    columns = [name for name in rows[0] if shown.get(name, True)]
    score = next(i for i, name in enumerate(columns) if name.endswith(", %"))
    by_score = (score, "descending") if numbers["score"].is_monotonic_decreasing else None
    return Table(
        f"Methods compared: {title(comparison)}",
        columns,
        [[row[name] for name in columns] for row in rows],
        numbers,
        sorted_by=by_score,
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _cells(row: dict[str, Any], comparison: Comparison) -> dict[str, Cell]:
    """Return the cells of one row, by column."""
    difference = wording.estimate(row["difference"], row["difference_low"], row["difference_high"], sign=True)
    score = wording.score(row["score"], row["score_low"], row["score_high"], row["num_seeds"])
    seeds = wording.seeds([int(seed) for seed in row["seeds"].split()])
    runs = comparison.by_label[row["label"]]
    digests = [run.digest for run in runs]
    pretraining = _pretraining(row["pretraining_shared_seconds"], row["pretraining_own_seconds"])
    reads = [row[f"images_{name}"] for name in STREAMS]
    is_closed = row["method"] in CLOSED_FORM  # one step reads every image: no step to compare
    step, ratio = (math.nan if is_closed else row[name] for name in ("seconds_per_step", "step_ratio"))
    tuning = tuning_text(row["tuning_trials"], row["tuning_steps"], row["tuning_seconds"])
    return {
        "method": Cell(row["label"]),
        "seeds": Cell(seeds, row["num_seeds"], digests),
        f"{METRICS[row['metric']]}, %": Cell(score, row["score"]),
        "from fine-tuning, points": Cell(
            "reference" if row["label"] == REFERENCE else difference, row["difference"]
        ),
        "chosen": Cell(chosen_text(runs)),
        "tuning": Cell(tuning, row["tuning_seconds"]),
        "labels": Cell(label_text(row["labels_all"]), row["labels_all"]),
        "time per step": Cell(wording.ABSENT if is_closed else wording.duration(step), step),
        "step, ratio": Cell(wording.number(ratio, decimals=2), ratio),
        "training": Cell(wording.duration(row["train_seconds"]), row["train_seconds"]),
        "pre-training": Cell(pretraining, row["pretraining_shared_seconds"]),
        READS: Cell(" / ".join(map(wording.count, reads)), sum(reads)),
    }


def _pretraining(shared_seconds: float, own_seconds: float) -> str:
    """Return the seconds of pre-training, shared by all methods and the method's own."""
    parts = [(shared_seconds, "shared"), (own_seconds, "own")]
    return " + ".join(f"{wording.duration(value)} {name}" for value, name in parts if value) or "none"


def sentences(table: pd.DataFrame) -> list[str]:
    """Return one sentence per method about its difference from fine-tuning; none without fine-tuning."""
    found = differences(table)
    corrected = holm_corrected(list(found.values()))
    return [wording.sentence(label, item) for label, item in zip(found, corrected, strict=True)]


def differences(table: pd.DataFrame) -> dict[str, Difference]:
    """Return the differences from fine-tuning in a table, by label; none without fine-tuning."""
    if REFERENCE not in set(table["label"]):
        return {}
    return {
        row["label"]: Difference(
            row["difference"],
            row["difference_low"],
            row["difference_high"],
            row["difference_num_seeds"],
            row["difference_note"],
            row["difference_p_value"],
            row["difference_detectable"],
            no_claim=row["difference_no_claim"],
        )
        for row in _rows(table)
        if row["label"] != REFERENCE
    }


def title(comparison: Comparison) -> str:
    """Return "source → target", or the target alone if no source images are used."""
    if comparison.source == "none":
        return f"{comparison.target}, without source images"
    return f"{comparison.source} → {comparison.target}"


def markdown(comparison: Comparison, width: int | None = None) -> str:
    """Return heading, alarms, setting, tables, sentences and notes of one comparison.

    Args:
        comparison: the comparison.
        width: characters of a line of its tables; columns that do not fit are left out and named.
    """
    numbers = comparison_table(comparison)
    methods, sizes = method_table(comparison, numbers), size_table(comparison, numbers)
    left_out = ""
    if width is not None:
        every, methods = methods.columns, narrowed(methods, width, LEAST)
        sizes = narrowed(sizes, width, ()) if sizes else sizes
        if names := [name for name in every if name not in methods.columns]:
            left_out = f"On the page, and in a wider terminal: {'; '.join(names)}.\n\n"
    explained = [*notes(comparison, numbers), METHOD_NOTE, *([SIZE_NOTE] if sizes else [])]
    remarks = "\n".join(f"- {note}" for note in explained)
    found = [*against_frozen(comparison), *sentences(numbers)]
    conclusions = "".join(f"- {sentence}\n" for sentence in found)
    warnings = "".join(f"- **Alarm:** {alarm.text}\n" for alarm in alarms(comparison))
    if warnings:
        warnings += "\n"
    return (
        f"## {title(comparison)}\n\n{warnings}"
        f"{setting(comparison)} (comparison {comparison.comparison_id})\n\n"
        f"{to_markdown(methods)}\n{left_out}{conclusions}\n"
        f"{to_markdown(sizes) if sizes else ''}\nNotes:\n{remarks}\n"
    )


def notes(comparison: Comparison, numbers: pd.DataFrame) -> list[str]:
    """Return the notes on one comparison: on its runs, its labels, its learning rates and its data."""
    given = [*comparison.notes, *_seed_note(numbers), *label_notes(numbers), *tuning_note(comparison)]
    return [*given, *data_notes(comparison.by_label)]


def _seed_note(numbers: pd.DataFrame) -> list[str]:
    """Return a note if rows are not in the order of their means, since their seeds differ."""
    if numbers["score"].is_monotonic_decreasing:
        return []
    return ["Rows with other seeds than fine-tuning's are placed by their paired difference from it."]


def setting(comparison: Comparison) -> str:
    """Return the settings of a comparison."""
    return comparison.setting or "all settings at their defaults"


def write_table(comparison: Comparison, folder: Path) -> None:
    """Write the comparison as Markdown and LaTeX, and its numbers in full precision as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = comparison_table(comparison)
    table = method_table(comparison, numbers)
    captioned = replace(table, title=f"{table.title}; {setting(comparison)}")
    stem = comparison.slug
    (folder / f"{stem}.md").write_text(markdown(comparison), encoding="utf-8")
    (folder / f"{stem}.tex").write_text(to_latex(captioned, stem), encoding="utf-8")
    (folder / f"{stem}.csv").write_text(csv_text(numbers), encoding="utf-8")
