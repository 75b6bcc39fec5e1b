"""Where and how long runs ran, which failed or did not finish, and which are missing."""

import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .. import wording
from ..next_commands import in_results
from ..records.comparison import Comparison
from ..records.schema import is_done

ROLES = {
    "run": "runs",
    "pretraining": "source pre-training",
    "trial": "trials of tuning",
}


class Unfinished(NamedTuple):
    """A run's folder without a record."""

    run: str  # its path below the results
    state: str  # "failed" or "not finished"
    reason: str
    detail: str  # the traceback, or ""
    time: str


class Gap(NamedTuple):
    """Runs that a comparison lacks for some of its methods."""

    what: str
    command: str


def times(records: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row per record, without first stages: machine, role, label and timed seconds."""
    rows = [
        {
            "host": record["environment"]["host"],
            "device": record["environment"]["device"],
            "label": record["label"],
            "role": record["role"],
            "seconds": record["seconds"]["prepare"] + record["seconds"]["step"],
            "started": record["started"],
            "ended": record["ended"],
        }
        for record in records
        if record["role"] != "first_stage"  # its time is in that of the run which replays it
    ]
    return pd.DataFrame(rows)


def by_machine(frame: pd.DataFrame) -> list[list[tuple[str, float]]]:
    """Return the cells of one row per machine and device, the longest used first, as text and number."""
    rows = []
    for (host, device), group in frame.groupby(["host", "device"]):
        seconds = group["seconds"].sum()
        days = sorted({group["started"].min()[:10], group["ended"].max()[:10]})
        rows.append([_text(host), _text(device), (str(len(group)), len(group)),
                     (wording.duration(seconds), seconds), _text(" to ".join(days))])  # fmt: skip
    return sorted(rows, key=lambda row: -row[3][1])


def by_method(frame: pd.DataFrame) -> list[list[tuple[str, float]]]:
    """Return the cells of one row per method, or per role that serves all methods; the longest first."""
    is_run = frame["role"] == "run"
    names = frame["label"].where(is_run, frame["role"].map(ROLES))
    total = frame["seconds"].sum()
    rows = []
    for name, group in frame.groupby(names):
        seconds = group["seconds"].sum()
        share = 100 * seconds / total if total else 0.0
        rows.append([_text(name), (str(len(group)), len(group)), (wording.duration(seconds), seconds),
                     (wording.duration(seconds / len(group)), seconds / len(group)),
                     (wording.number(share), share)])  # fmt: skip
    return sorted(rows, key=lambda row: -row[2][1])


def _text(value: Any) -> tuple[str, float]:
    return str(value), float("nan")


def unfinished(results: Path) -> list[Unfinished]:
    """Return the runs below `results` that failed, run still, or were stopped: folders without a record."""
    folders = sorted(path.parent for path in results.glob("**/config.json"))
    return [_state(folder, results) for folder in folders if not is_done(folder)]


def _state(folder: Path, results: Path) -> Unfinished:
    """Return the state of a run from the files in its folder; a broken file counts as missing."""
    name = str(folder.relative_to(results))
    if error := _read(folder / "error.json"):
        return Unfinished(
            name, "failed", *(_writable(error.get(key, "")) for key in ("error", "traceback", "time"))
        )
    beat = _read(folder / "heartbeat")
    if not beat:
        return Unfinished(name, "not finished", "its process has ended", "", "")
    try:
        time = (
            datetime.fromtimestamp(float(beat.get("time", 0)), UTC).isoformat(timespec="seconds")[:19] + "Z"
        )
    except (TypeError, ValueError, OverflowError, OSError):  # no time, or of no calendar
        time = ""
    where = _writable(f"step {beat.get('step')} of {beat.get('steps')} on {beat.get('host')}")
    return Unfinished(name, "not finished", f"{where} at its last heartbeat", "", time)


def _writable(value: Any) -> str:
    """Return the value as text that can be encoded."""
    return str(value).encode(errors="replace").decode()


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one if the file cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def gaps(comparison: Comparison) -> list[Gap]:
    """Return which seeds each method lacks that another has, with the command that would run them."""
    seeds = {run.seed for run in comparison.runs}
    found = []
    for label, runs in comparison.by_label.items():
        missing = sorted(seeds - {run.seed for run in runs})
        if missing:
            what = f"{label}: seed{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
            found.append(Gap(what, command(comparison, label, max(seeds) + 1)))
    return found


def command(comparison: Comparison, label: str, num_seeds: int) -> str:
    """Return the command that runs one method of a comparison; PATH stands for images of the user."""
    first = comparison.by_label[label][0]
    sets = first.record.get("data_sets") or {}
    names = [
        f"{role}={'PATH' if (sets.get(role) or {}).get('place') else first.record[role]}"
        for role in ("target", "source")
    ]
    words = [
        *names,
        *in_results(Path(*first.path.parts[:-4])),
        f"methods={first.method}",
        f"seeds={num_seeds}",
    ]
    return shlex.join(["transferbench", "bench", *words, *first.record["overrides"]])
