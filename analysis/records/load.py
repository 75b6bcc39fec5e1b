"""Reads the records that finished runs left in a results folder."""

import base64
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ... import InputError, printable
from .answers import Answers, answers_of
from .data_sets import ROLES, Key, Shown, key_of, shown_names
from .schema import METRICS, OF_DATA_SETS, misfit, read_record

__all__ = ["METRICS", "Run", "read_record"]

SIZES = ("trained_parameters", "target_bytes", "prediction_flops")  # of a record's field `size`
MOST_POINTS = 1000  # of one run's curve that are drawn and listed


@dataclass(frozen=True)
class Run:
    """One finished run: the fields that comparisons use, and the whole record."""

    path: Path
    source: str  # as it is shown
    target: str  # as it is shown
    comparison_id: str
    setting: str
    label: str
    method: str
    seed: int
    digest: str
    metric: str
    score: float  # share in [0, 1]
    correct: np.ndarray | None  # [test images] bool
    record: dict[str, Any]
    data_set: str = ""  # the target, without the state of its images
    answers: Answers | None = None  # None in earlier records, and of multi-label images

    @property
    def recorded(self) -> tuple[str, str, str]:
        """Source, target and comparison_id as the record has them, whatever else the folder holds."""
        return self.record["source"], self.record["target"], self.comparison_id


class Unread(NamedTuple):
    """A file that no table can use."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Records:
    """The content of a results folder; a broken file is listed and does not affect the others."""

    runs: list[Run]  # those that enter comparisons, ordered by path
    others: list[dict[str, Any]]  # records of pre-trainings, trials and first stages
    skipped: list[dict[str, Any]]  # source, target, comparison_id, label, reason per row
    unread: list[Unread]


def read_all(results: Path) -> Records:
    """Return all records below `results`."""
    found = Records([], [], [], [])
    for path in sorted(results.glob("**/record.json")):
        try:
            record = read_record(path)
            if record["role"] == "run":
                found.runs.append(parse_run(path, record))
            else:
                found.others.append(record)
        except InputError as error:
            found.unread.append(Unread(path, str(error).removeprefix(f"{path}: ")))
    for path in sorted(results.glob("**/skipped-*.json")):
        try:
            found.skipped.append(_skipped(path))
        except (OSError, ValueError, RecursionError, TypeError) as error:
            found.unread.append(Unread(path, f"is no valid file of a skipped row ({error})"))
    return _distinct(found)


def _distinct(found: Records) -> Records:
    """Return the records with data sets named so that no two share a name."""
    names = shown_names([*(run.record for run in found.runs), *found.skipped])
    skipped = [row | _shown(names, row) for row in found.skipped]
    return replace(found, runs=_named(names, found.runs), skipped=skipped)


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with data sets named so that no two share a name."""
    return _named(shown_names([run.record for run in runs]), runs)


def _named(names: Mapping[Key, Shown], runs: Sequence[Run]) -> list[Run]:
    return [
        replace(run, **_shown(names, run.record), data_set=names[key_of(run.record, "target")].data_set)
        for run in runs
    ]


def _shown(names: Mapping[Key, Shown], record: Mapping[str, Any]) -> dict[str, Any]:
    return {role: names[key_of(record, role)].name for role in ROLES}


def _skipped(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    content.setdefault("comparison_id", content.get("bench"))  # its name until format 3 of records
    names = ("source", "target", "comparison_id", "label", "reason")
    about = {name: content.get(name) for name in ("fingerprints", "data_sets")}
    if wrong := misfit(about, OF_DATA_SETS):
        raise ValueError(wrong)
    return {**{name: _printed(content[name]) for name in names}, **about}


def _printed(text: Any) -> str:
    """Return a text that can be encoded. Raises ValueError, or TypeError if it is no text."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r:.60} is no text")
    text.encode()
    return text


def load(results: Path) -> list[Run]:
    """Return the runs below `results` that enter comparisons, ordered by path.

    Raises:
        InputError: if there is no such run.
    """
    return load_records(results).runs


def load_records(results: Path) -> Records:
    """Return all records below `results`, and print which are left out.

    Raises:
        InputError: if there is no run that enters comparisons.
    """
    found = read_all(results)
    if not found.runs:
        raise InputError(_no_runs_message(results, found))
    return _reported(found)


def _no_runs_message(results: Path, found: Records) -> str:
    """Return the message for a folder without runs, with what it contains."""
    if found.unread:
        first = found.unread[0]
        more = f", and {len(found.unread) - 1} more such files" if len(found.unread) > 1 else ""
        return f"no results in '{results}': {first.path}: {first.reason}{more}"
    count = len(found.others)
    words = f"{count} record(s), none of them of a run" if count else "no record.json"
    return f"no results in '{results}' ({words}); `transferbench bench` fills this folder"


def load_any(results: Path) -> list[Run]:
    """Return the runs below `results` that enter comparisons; none if there are none yet."""
    return _reported(read_all(results)).runs


def _reported(found: Records) -> Records:
    for path, reason in found.unread:
        _say_left_out(path, reason)
    return found


@cache
def _say_left_out(path: Path, reason: str) -> None:
    """Print a file that is left out to stderr, once in a process."""
    print(f"transferbench: left out: {printable(f'{path}: {reason}')}", file=sys.stderr)


def tests_by_seed(run: Run) -> bool:
    """Return whether a run has test images that other seeds have not (`draw=folds`)."""
    return run.record.get("config", {}).get("draw") == "folds"


def parse_run(path: Path, record: dict[str, Any]) -> Run:
    """Return the run that `record` describes.

    Raises:
        InputError: if fields contradict each other.
    """
    same = ("source", "target", "comparison_id", "setting", "label", "method", "seed", "digest", "metric")
    correct = _unpack(path, record["correct"], record["test"].get("num_images"))
    try:
        answers = answers_of(record, correct)
    except ValueError as error:
        raise InputError(f"{path}: no whole record ({error})") from error
    return Run(
        path=path,
        score=float(record["test"][record["metric"]]),
        correct=correct,
        answers=answers,
        record=record,
        data_set=record["target"],
        **{name: record[name] for name in same},
    )


def _unpack(path: Path, packed: str | None, num_images: Any) -> np.ndarray | None:
    """Return the per-example correctness [test images], or None if none was stored."""
    if type(num_images) is not int or num_images < 0:
        raise InputError(f"{path}: no whole record (field 'test' has no valid num_images)")
    if not packed:
        return None
    try:
        octets = np.frombuffer(base64.b64decode(packed, validate=True), dtype=np.uint8)
    except ValueError as error:
        raise InputError(f"{path}: field 'correct' is no base64 ({error})") from error
    if len(octets) != -(-num_images // 8):
        raise InputError(
            f"{path}: field 'correct' holds {len(octets)} bytes, where {num_images} test images"
            f" take {-(-num_images // 8)}"
        )
    return np.unpackbits(octets, count=num_images).astype(bool)


def runs_frame(runs: list[Run]) -> pd.DataFrame:
    """Return one row per run; scores are shares, times seconds."""
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: Run) -> dict[str, Any]:
    """Return the tidy row of one run."""
    record = run.record
    seconds, environment = record["seconds"], record["environment"]
    own = [item for item in record["pretraining"] if not item["shared"]]
    shared = [item for item in record["pretraining"] if item["shared"]]
    return {
        "source": run.source,
        "target": run.target,
        "comparison_id": run.comparison_id,
        "label": run.label,
        "method": run.method,
        "seed": run.seed,
        "digest": run.digest,
        "metric": run.metric,
        "score": run.score,
        "seconds_per_step": seconds["per_step_median"],
        "train_seconds": seconds["prepare"] + seconds["step"],
        "pretraining_own_seconds": sum(item["seconds"] for item in own),
        "pretraining_shared_seconds": sum(item["seconds"] for item in shared),
        **{f"images_{name}": record["images"][name] for name in ("target", "source", "holdout")},
        "num_steps": record["num_steps"],
        "peak_memory_bytes": math.nan if record["peak_memory_bytes"] is None else record["peak_memory_bytes"],
        **{name: float((record.get("size") or {}).get(name, math.nan)) for name in SIZES},
        "device": environment["device"],
        "host": environment["host"],
        "threads": environment["threads"],
        "fingerprint": record["fingerprints"]["target"],
        "commit": environment["commit"] + (" + changes" if environment["dirty"] else ""),
        "ended": record["ended"],
    }


def score_name(metric: str) -> str:
    """Return the name of a metric as a heading: "Accuracy", "AUROC"."""
    name = METRICS[metric]
    return name[0].upper() + name[1:]


def curve_frame(runs: list[Run]) -> pd.DataFrame:
    """Return one row per run and step at which the holdout part was scored."""
    rows = [point for run in runs for point in _points(run)]
    return pd.DataFrame(rows, columns=["label", "seed", "step", "seconds", "score"])


def _points(run: Run) -> list[dict[str, Any]]:
    """Return the points of one run's curve; of very many, some that are evenly spread, and the last."""
    scored = [point for point in run.record["curve"] if point["holdout"] is not None]
    points = [point for point in scored if not math.isnan(point["holdout"][run.metric])]
    every = max(1, -(-len(points) // MOST_POINTS))
    return [
        {
            "label": run.label,
            "seed": run.seed,
            "step": point["step"],
            "seconds": point["seconds"],
            "score": point["holdout"][run.metric],
        }
        for point in points[::-every][::-1]
    ]
