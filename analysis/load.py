"""Reads the records that finished runs left in a results folder."""

import base64
import binascii
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import InputError

FORMAT = 1
ROLES = ("run", "pretraining", "trial", "first_stage")
METRICS = {"top1": "accuracy", "mean_per_class": "mean per-class accuracy", "auroc": "AUROC"}


@dataclass(frozen=True)
class Run:
    """One finished run: what comparisons are made of, and the whole record for the rest."""

    path: Path
    source: str
    target: str
    bench: str
    setting: str
    label: str
    method: str
    seed: int
    digest: str
    metric: str
    score: float  # share in [0, 1]
    correct: np.ndarray | None  # [test images] bool
    record: dict[str, Any]


def load(results: Path) -> list[Run]:
    """Return the runs below `results` that enter comparisons, ordered by path.

    Raises:
        InputError: if there is no such run, or a record cannot be read.
    """
    runs = load_any(results)
    if not runs:
        count = len(list(results.glob("**/record.json")))
        found = f"{count} record(s), none of them of a run" if count else "no record.json"
        raise InputError(f"no results in '{results}' ({found}); `transferbench bench` fills this folder")
    return runs


def load_any(results: Path) -> list[Run]:
    """Return the same where there may be none yet.

    Raises:
        InputError: if a record cannot be read.
    """
    read = [(path, read_record(path)) for path in sorted(results.glob("**/record.json"))]
    return [parse_run(path, record) for path, record in read if record["role"] == "run"]


def load_skipped(results: Path) -> list[dict[str, str]]:
    """Return what could not run below `results`: source, target, bench, label and reason of each row."""
    return [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("**/skipped-*.json"))
    ]


def read_record(path: Path) -> dict[str, Any]:
    """Return one record as plain JSON, after checking that it is of the kind read here.

    Raises:
        InputError: if the file is no JSON object, or its format, role or status is unknown.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path}: broken JSON ({error}); delete the file and run the same command again"
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: a {type(record).__name__}, where a record is a JSON object")
    for key, known in (("format", (FORMAT,)), ("role", ROLES), ("status", ("done",))):
        if record.get(key) not in known:
            right = " or ".join(repr(value) for value in known)
            raise InputError(f"{path}: {key} {record.get(key)!r} is unknown; this version reads {right}")
    return record


def parse_run(path: Path, record: dict[str, Any]) -> Run:
    """Return the run that `record` describes.

    Raises:
        InputError: if a field is missing, or contradicts another one.
    """
    try:
        metric = record["metric"]
        if metric not in METRICS:
            raise InputError(f"{path}: metric {metric!r} is unknown; known: {', '.join(METRICS)}")
        same = ("source", "target", "bench", "setting", "label", "method", "seed", "digest", "metric")
        run = Run(
            path=path,
            score=float(record["test"][metric]),
            correct=_unpack(path, record.get("correct"), record["test"]["num_images"]),
            record=record,
            **{name: record[name] for name in same},
        )
        _row(run), _points(run)  # what tables and curves read is there, or the file is named here
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no whole record ({type(error).__name__}: {error})") from error
    return run


def _unpack(path: Path, packed: str | None, num_images: int) -> np.ndarray | None:
    """Return the per-example correctness [test images], or None where none was stored."""
    if not packed:
        return None
    try:
        octets = np.frombuffer(base64.b64decode(packed, validate=True), dtype=np.uint8)
    except binascii.Error as error:
        raise InputError(f"{path}: field 'correct' is no base64 ({error})") from error
    if len(octets) != -(-num_images // 8):
        raise InputError(
            f"{path}: field 'correct' holds {len(octets)} bytes, where {num_images} test images"
            f" take {-(-num_images // 8)}"
        )
    return np.unpackbits(octets, count=num_images).astype(bool)


def runs_frame(runs: list[Run]) -> pd.DataFrame:
    """Return one row a run; scores are shares, times seconds."""
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
        "bench": run.bench,
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
        "peak_memory_bytes": record.get("peak_memory_bytes", math.nan),
        "device": environment["device"],
        "host": environment["host"],
        "threads": environment.get("threads", 0),
        "fingerprint": record["fingerprints"]["target"],
        "commit": environment["commit"] + (" + changes" if environment["dirty"] else ""),
        "ended": record["ended"],
    }


def curve_frame(runs: list[Run]) -> pd.DataFrame:
    """Return one row a run and step at which the holdout part was scored."""
    rows = [point for run in runs for point in _points(run)]
    return pd.DataFrame(rows, columns=["label", "seed", "step", "seconds", "score"])


def _points(run: Run) -> list[dict[str, Any]]:
    """Return the points of one run's curve."""
    return [
        {
            "label": run.label,
            "seed": run.seed,
            "step": point["step"],
            "seconds": point["seconds"],
            "score": point["holdout"][run.metric],
        }
        for point in run.record["curve"]
        if point["holdout"] is not None
    ]
