"""The comparison table: one row a method, as numbers, as text and as Markdown."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from .. import wording
from ..records.comparison import REFERENCE, Comparison
from ..records.load import METRICS, Run, runs_frame
from ..statistics.aggregate import holm_corrected
from ..statistics.paired import Difference, mean_interval, paired_difference
from .csv_text import csv_text

STREAMS = ("target", "source", "holdout")
METHOD_NOTE = (
    "Scores are means over seeds on the test part, with 95 % t-intervals. Differences are paired with"
    " fine-tuning by seed and, for accuracy, by test image; their intervals cross t-intervals for seeds"
    " and for test images, and are at 95 % or somewhat wider with two or three seeds. A difference is"
    " called found where it holds after Holm's correction. The time of a step is the median over runs;"
    " images and training (preparation and steps) are means a run; pre-training is counted apart. Memory,"
    " where it is known, is the most of any run: of the GPU's tensors, or on a CPU of the whole process"
    " with its libraries and images."
)


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row a label, the best mean score first; scores in percent, times in seconds."""
    reference = comparison.reference
    base = runs_frame(reference)["seconds_per_step"].median() if reference else math.nan
    rows = [_row(label, runs, reference, base) for label, runs in comparison.by_label.items()]
    return pd.DataFrame(rows).sort_values(["score", "label"], ascending=[False, True], ignore_index=True)


def _row(label: str, runs: list[Run], reference: list[Run], base_seconds: float) -> dict[str, Any]:
    """Return the numbers of one label."""
    frame = runs_frame(runs)
    score, low, high = mean_interval(100 * frame["score"].to_numpy())
    difference = difference_from(reference, label, runs)
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
        "seconds_per_step": step_seconds,
        "step_ratio": step_seconds / base_seconds if base_seconds else math.nan,
        **{f"images_{name}": frame[f"images_{name}"].mean() for name in STREAMS},
        "peak_memory_bytes": frame["peak_memory_bytes"].max(),
        "train_seconds": frame["train_seconds"].mean(),
        "pretraining_own_seconds": frame["pretraining_own_seconds"].mean(),
        "pretraining_shared_seconds": frame["pretraining_shared_seconds"].mean(),
    }


def difference_from(reference: list[Run], label: str, runs: list[Run]) -> Difference:
    """Return the difference of `runs` from fine-tuning; nan for fine-tuning itself."""
    if not reference or label == REFERENCE:
        return Difference(math.nan, math.nan, math.nan, 0)
    return paired_difference(runs, reference)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text: what a reader sees in the terminal and in the report."""
    text = pd.DataFrame([_readable_row(row) for row in _rows(table)])
    return text if table["peak_memory_bytes"].notna().any() else text.drop(columns="memory")


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _readable_row(row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of one row as text."""
    difference = wording.estimate(row["difference"], row["difference_low"], row["difference_high"], sign=True)
    return {
        "method": row["label"],
        "seeds": wording.seeds([int(seed) for seed in row["seeds"].split()]),
        f"{METRICS[row['metric']]}, %": wording.estimate(row["score"], row["score_low"], row["score_high"]),
        "from fine-tuning, points": "reference" if row["label"] == REFERENCE else difference,
        "a step": wording.duration(row["seconds_per_step"]),
        "step, ratio": wording.number(row["step_ratio"], decimals=2),
        "memory": _memory(row["peak_memory_bytes"]),
        **{f"{name} images": wording.count(row[f"images_{name}"]) for name in STREAMS},
        "training": wording.duration(row["train_seconds"]),
        "pre-training": _pretraining(row["pretraining_shared_seconds"], row["pretraining_own_seconds"]),
    }


def _memory(num_bytes: float) -> str:
    """Return an amount of memory, "1.25 GB", of records old enough not to have it a dash."""
    return wording.ABSENT if math.isnan(num_bytes) else f"{wording.count(num_bytes)}B"


def _pretraining(shared_seconds: float, own_seconds: float) -> str:
    """Return the seconds of pre-training, those that all methods share apart from the method's own."""
    parts = [(shared_seconds, "shared"), (own_seconds, "own")]
    return " + ".join(f"{wording.duration(value)} {name}" for value, name in parts if value) or "none"


def sentences(table: pd.DataFrame) -> list[str]:
    """Return one sentence per method about its difference from fine-tuning; none without fine-tuning."""
    if REFERENCE not in set(table["label"]):
        return []
    others = [row for row in _rows(table) if row["label"] != REFERENCE]
    found = holm_corrected([_difference(row) for row in others])
    return [wording.sentence(row["label"], item) for row, item in zip(others, found, strict=True)]


def _difference(row: dict[str, Any]) -> Difference:
    """Return the difference in a row of the table."""
    return Difference(
        row["difference"],
        row["difference_low"],
        row["difference_high"],
        row["difference_num_seeds"],
        row["difference_note"],
        row["difference_p_value"],
        row["difference_detectable"],
    )


def title(comparison: Comparison) -> str:
    """Return "source → target", or the target alone where no source images are used."""
    if comparison.source == "none":
        return f"{comparison.target}, without source images"
    return f"{comparison.source} → {comparison.target}"


def markdown(comparison: Comparison) -> str:
    """Return heading, setting, table, sentences and notes of one comparison."""
    table = comparison_table(comparison)
    setting = comparison.setting or "all settings at their defaults"
    notes = "\n".join(f"- {note}" for note in [*comparison.notes, METHOD_NOTE])
    claims = "".join(f"- {claim}\n" for claim in sentences(table))
    return (
        f"## {title(comparison)}\n\n{setting} (comparison {comparison.comparison_id})\n\n"
        f"{markdown_table(readable(table))}\n{claims}\nNotes:\n{notes}\n"
    )


def markdown_table(text: pd.DataFrame) -> str:
    """Return a Markdown table whose source is aligned too; every column but the first is right-aligned."""
    rows = [[_escaped(cell) for cell in row] for row in [list(text.columns), *text.to_numpy().tolist()]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(text.columns))]
    rule = [("-" * width) if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines = []
    for row in [rows[0], rule, *rows[1:]]:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _escaped(cell: str) -> str:
    """Return the cell with what would end a Markdown cell or row taken out."""
    return cell.replace("|", "\\|").replace("\n", " ")


def write_table(comparison: Comparison, folder: Path) -> None:
    """Write the comparison as Markdown, and its numbers in full precision as CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{comparison.slug}.md").write_text(markdown(comparison), encoding="utf-8")
    (folder / f"{comparison.slug}.csv").write_text(csv_text(comparison_table(comparison)), encoding="utf-8")
