"""What became of every run: its folder's word first, then SLURM's."""

import json
import shlex
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
from ..training import heartbeat

WATCH_SECONDS = 3.0
REASONS = {  # SLURM's words for why a job waits, where they need a translation
    "Dependency": "for what it rests on",
    "Priority": "behind jobs of higher priority",
    "Resources": "for a free node",
    "BeginTime": "to be started again",
    "JobArrayTaskLimit": "for others of its array",
    "None": "to be looked at",
}
ENDS = {
    "TIMEOUT": "ran into its time limit before it could save; retry asks for more",
    "OUT_OF_MEMORY": "took more memory than it asked for; retry asks for more",
    "CANCELLED": "was cancelled",
    "NODE_FAIL": "lost its node",
    "PREEMPTED": "was preempted",
}


@dataclass(frozen=True)
class State:
    """One run: done, running, pending, failed or lost, with a few words on it."""

    name: str  # its folder, below the results folder
    digest: str
    word: str
    about: str


def shell(name: str, results: Path) -> str:
    """Write a command for a person to copy."""
    return f"`{shlex.join(['transferbench', name, f'results={results}'])}`"


def states(results: Path) -> list[State]:
    """List every run that has a folder or was submitted. Raises: InputError where there is none."""
    lines = submit.latest(results)
    folders = {str(p.parent.relative_to(results)) for p in results.glob("*/*/*/config.json")}
    digests = {line.folder: line.digest for line in lines.values()}
    digests |= {name: name.rpartition("-")[2] for name in folders}
    if not digests:
        raise InputError(f"results={results}: no runs there; {shell('bench', results)} makes some")
    open_ids = [line.job for line in lines.values() if not is_done(results / line.folder)]
    jobs = (queue.jobs(open_ids) if open_ids else None) or {}
    found = []
    for name, digest in sorted(digests.items()):
        job = jobs.get(lines[digest].job) if digest in lines else None
        found.append(State(name, digest, *state_of(results / name, job)))
    return found


def state_of(folder: Path, job: queue.Job | None = None) -> tuple[str, str]:
    """Tell a run's state, and a few words on it; `job` is what SLURM says of its last job."""
    if is_done(folder):
        try:
            done = read_record(record_path(folder))
        except InputError as error:
            return "done", str(error)
        scores = done.get("test") or done.get("holdout") or {}
        score = scores.get(done.get("metric"))
        return "done", "" if score is None else f"{100 * score:.1f} %"
    beat = heartbeat.read(folder / "heartbeat")
    lives = heartbeat.living(folder / "heartbeat") and not (job and job.waits)
    if lives and beat:
        left = "" if beat["seconds_left"] is None else f", {duration(beat['seconds_left'])} left"
        return "running", f"step {beat['step']} of {beat['steps']}{left}"
    if job and job.waits:
        at = f", goes on at step {beat['step']}" if beat else ""
        return "pending", f"job {job.id} waits {REASONS.get(job.reason, f'({job.reason})')}{at}"
    if job and job.in_queue:
        return "running", f"job {job.id} on {job.node}: starts"
    if (folder / "error.json").exists():
        return "failed", _last_line(folder / "error.json")
    if job:
        if job.reason == f"exit code {DISK_FULL}:0":
            return "lost", f"job {job.id} found no space left in {folder}; free some, then retry"
        return "lost", f"job {job.id} {ENDS.get(job.state, f'ended as {job.state} ({job.reason})')}"
    return "lost", "its process is gone; the same command goes on with it"


def _last_line(path: Path) -> str:
    """Give the last line of what a run left as its error."""
    try:
        text = str(json.loads(path.read_text())["error"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return f"{path} cannot be read"
    return printable((text.strip().splitlines() or [""])[-1])


def status(results: Path) -> int:
    """Print the state of every run. Raises: InputError for a folder without runs."""
    console = Console(highlight=False, soft_wrap=True)
    found = states(results)
    console.print(_table(found))
    console.print(_sum(found))
    return 0


def watch(results: Path, sleep: Callable[[float], None] = time.sleep) -> int:
    """Show the state of every run until none waits or runs; gives 1 when one failed or is lost."""
    console = Console(highlight=False, soft_wrap=True)
    shown = ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = states(results)
            words = _sum(found)
            if console.is_terminal:
                live.update(_table(found, words), refresh=True)
            elif words != shown:
                console.print(words)
            shown = words
            if not any(s.word in ("pending", "running") for s in found):
                return int(any(s.word != "done" for s in found))
            sleep(WATCH_SECONDS)


def _table(found: Sequence[State], caption: str | None = None) -> Table:
    table = Table(box=None, caption=caption, caption_justify="left")
    for heading in ("run", "state", ""):
        table.add_column(heading)
    for state in found:
        table.add_row(*map(Text, (state.name, state.word, state.about)))  # as it is: no markup
    return table


def _sum(found: Sequence[State]) -> str:
    words = [s.word for s in found]
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
