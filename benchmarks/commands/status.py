"""`status` and `watch`: the state of every run, from its folder first, then from SLURM."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ... import InputError, printable
from ...analysis.records.schema import is_done, read_record, record_path
from ...analysis.wording import duration
from ...slurm import queue, submit
from ...slurm.job import DISK_FULL
from ..launch.hint import command_hint
from ..training import heartbeat

WATCH_SECONDS = 3.0
REASONS = {  # plain words for SLURM's reasons why a job is pending
    "Dependency": "for runs that it requires",
    "Priority": "behind jobs of higher priority",
    "Resources": "for a free node",
    "BeginTime": "for its next start",
    "JobArrayTaskLimit": "for other jobs of its array",
    "None": "for the scheduler",
}
ENDS = {
    "TIMEOUT": "reached its time limit before it could save; retry requests more time",
    "OUT_OF_MEMORY": "used more memory than it requested; retry requests more",
    "CANCELLED": "was cancelled",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "was preempted",
}


@dataclass(frozen=True)
class State:
    """The state of one run: done, damaged, running, pending, failed or lost; and a short explanation."""

    name: str  # folder of the run, below the results folder
    digest: str
    word: str
    about: str


def states(results: Path) -> list[State]:
    """Return the state of every run that has a folder or was submitted. Raises InputError if none has."""
    lines = submit.latest(results)
    folders = {str(p.parent.relative_to(results)) for p in results.glob("*/*/*/config.json")}
    digests = {line.folder: line.digest for line in lines.values()}
    digests |= {name: name.rpartition("-")[2] for name in folders}
    if results.exists() and not results.is_dir():
        raise InputError(f"results={results}: not a folder")
    if not digests:
        raise InputError(
            f"results={results}: no runs there; start some with {command_hint('bench', results)}"
        )
    open_ids = [line.job for line in lines.values() if not is_done(results / line.folder)]
    jobs = (queue.jobs(open_ids) if open_ids else None) or {}
    found = []
    for name, digest in sorted(digests.items()):
        job = jobs.get(lines[digest].job) if digest in lines else None
        found.append(State(name, digest, *state_of(results / name, job)))
    return found


def state_of(folder: Path, job: queue.Job | None = None) -> tuple[str, str]:
    """Return the state of a run and a short explanation.

    Args:
        folder: folder of the run.
        job: its last job, as SLURM reports it.
    """
    if is_done(folder):
        try:
            done = read_record(record_path(folder))
        except InputError as error:
            return "damaged", str(error)
        scores = done.get("test") or done.get("holdout") or {}
        score = scores.get(done.get("metric"))
        return "done", "" if score is None else f"{100 * score:.1f} %"
    beat = heartbeat.read(folder / "heartbeat")
    lives = heartbeat.living(folder / "heartbeat") and not (job and job.waits)
    if lives and beat:
        left = "" if beat["seconds_left"] is None else f", {duration(beat['seconds_left'])} left"
        return "running", f"step {beat['step']} of {beat['steps']}{left}"
    if job and job.waits:
        at = f", resumes at step {beat['step']}" if beat else ""
        return "pending", f"job {job.id} waits {REASONS.get(job.reason, f'({job.reason})')}{at}"
    if job and job.in_queue:
        return "running", f"job {job.id} on {job.node}: starting"
    if (folder / "error.json").exists():
        return "failed", _last_line(folder / "error.json")
    if job:
        if job.reason == f"exit code {DISK_FULL}:0":
            return "lost", f"job {job.id}: no space left in {folder}; free some, then retry"
        return "lost", f"job {job.id} {ENDS.get(job.state, f'ended as {job.state} ({job.reason})')}"
    return "lost", "its process is gone; repeat the command to resume"


def _last_line(path: Path) -> str:
    """Return the last line of a run's error."""
    try:
        text = str(json.loads(path.read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return f"{path} cannot be read"
    return printable((text.strip().splitlines() or [""])[-1])


def status(results: Path) -> int:
    """Print the state of every run; return the exit code. Raises InputError for a folder without runs."""
    console = Console(highlight=False, soft_wrap=True)
    found = states(results)
    if not console.is_terminal:  # a file or a pipe has no width: paths stay whole
        console.width = max(console.width, *(len(s.name) + len(s.word) + len(s.about) + 8 for s in found))
    console.print(_table(found))
    console.print(_summary(found))
    return 0


def watch(results: Path, sleep: Callable[[float], None] = time.sleep) -> int:
    """Show the state of every run until none is pending or running; return 1 if one failed or was lost."""
    console = Console(highlight=False, soft_wrap=True)
    shown = ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = states(results)
            summary = _summary(found)
            if console.is_terminal:
                live.update(_table(found, summary), refresh=True)
            elif summary != shown:
                console.print(summary)
            shown = summary
            if not any(s.word in ("pending", "running") for s in found):
                return int(any(s.word != "done" for s in found))
            sleep(WATCH_SECONDS)


def _table(found: Sequence[State], caption: str | None = None) -> Table:
    table = Table(box=None, caption=caption, caption_justify="left")
    for heading in ("run", "state", ""):
        table.add_column(heading, overflow="fold")
    for state in found:
        table.add_row(*map(Text, (state.name, state.word, state.about)))  # without markup
    return table


def _summary(found: Sequence[State]) -> str:
    words = [s.word for s in found]
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
