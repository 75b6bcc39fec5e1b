"""Submit tasks as job arrays; tasks that are in the queue already are not submitted again.

Each array is recorded as soon as SLURM has accepted it. If the process is killed before that, or the disk is
full, the runs of these jobs are unknown: the next submission cancels the jobs and submits the runs again.
"""

import contextlib
import json
import math
import os
import re
import shlex
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from .. import InputError, printable
from ..file_lock import lock
from . import queue
from .cluster import Cluster
from .job import RESUME, TEARDOWN, Work

MOST_IDS = 20  # per dependency; with more, the job waits for whole arrays
NAME = "transferbench-{}"  # job name of a sweep
MOST = 10**9  # upper limit of minutes and GB
INCREASE = {"TIMEOUT": ("minutes", 2.0), "OUT_OF_MEMORY": ("memory_gb", 1.5)}


@dataclass(frozen=True)
class Task:
    """One run to submit."""

    digest: str
    folder: str  # of the run, below the results folder
    call: Callable[[], Any]  # executes the run; picklable
    minutes: int
    memory_gb: float
    after: tuple[str, ...] = ()  # digests of the runs it depends on


@dataclass(frozen=True)
class Submitted:
    """A line of jobs.jsonl: one run in one job."""

    digest: str
    folder: str
    job: str  # such as 12 or 12_3
    time: str
    cluster: str
    sweep: str
    minutes: int
    memory_gb: float


def read_jobs(results: Path) -> list[Submitted]:
    """Return all jobs ever submitted from a results folder, oldest first.

    Damaged lines (after a kill or a full disk) are skipped, with one warning each on stderr.
    """
    path = results / "slurm" / "jobs.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            found += [_parsed(line)] if line else []
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            _warn_skipped(f"{path}: line {number} is not a job ({error!s:.100})")
    return found


def _parsed(line: str) -> Submitted:
    """Parse a line. Raises ValueError, TypeError or AttributeError if it is damaged."""
    found = Submitted(**json.loads(line))
    fits = {name: isinstance(value, str) and value.isprintable() for name, value in asdict(found).items()}
    fits["minutes"] = type(found.minutes) is int and 0 < found.minutes < MOST
    fits["memory_gb"] = type(found.memory_gb) in (int, float) and 0 < found.memory_gb < MOST
    fits["job"] = re.fullmatch(r"\d+(_\d+)?", found.job, re.ASCII) is not None
    fits["folder"] &= all(
        map(_is_name, found.folder.split("/"))
    )  # must stay below the results folder, like the sweep
    fits["sweep"] &= _is_name(found.sweep)
    if wrong := [name for name, is_fit in fits.items() if not is_fit]:
        raise ValueError(f"{wrong[0]}={getattr(found, wrong[0])!r:.40}")
    return found


def _is_name(text: str) -> bool:
    return text not in ("..", "") and "/" not in text and len(text) < 256


@cache
def _warn_skipped(message: str) -> None:
    print(f"transferbench: skipped: {printable(message)}", file=sys.stderr)


def latest(results: Path) -> dict[str, Submitted]:
    """Return the latest job of each run, by digest."""
    return {line.digest: line for line in read_jobs(results)}


def new_sweep(results: Path) -> Path:
    """Create a folder for the logs of one submission."""
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    folder = results.resolve() / "slurm" / name
    folder.mkdir(parents=True)
    return folder


def submit(
    tasks: Sequence[Task], results: Path, cluster: Cluster, sweep: Path, code: Path | None
) -> list[Submitted]:
    """Submit the tasks that are not in the queue: one array per set of equal resources and dependencies.

    Args:
        tasks: in an order where dependencies come first.
        results: the results folder; its `slurm/jobs.jsonl` records the submitted jobs.
        cluster: the cluster's settings.
        sweep: the folder for scripts and logs.
        code: the folder with the code to run; None for the installed package.

    Raises:
        InputError: if SLURM does not answer, or rejects the jobs.
    """
    with exclusive(results):
        before = latest(results)
        known = queue.jobs(line.job for line in before.values())
        if known is None:
            raise InputError("on=slurm: squeue does not answer; submit from a machine with SLURM's commands")
        _cancel_unknown(results)
        in_queue = {d: line.job for d, line in before.items() if (j := known.get(line.job)) and j.in_queue}
        new: list[Submitted] = []
        for group in _groups(
            [_with_more_resources(t, before, known) for t in tasks if t.digest not in in_queue], cluster
        ):
            ids = {in_queue[d] for t in group for d in t.after if d in in_queue}
            lines = _submit_array(group, sorted(ids), cluster, sweep, code)
            _append(results, lines)
            in_queue |= {line.digest: line.job for line in lines}
            new += lines
    return new


@contextlib.contextmanager
def exclusive(results: Path) -> Iterator[None]:
    """Lock a results folder, for one process at a time to copy code or submit."""
    (results / "slurm").mkdir(parents=True, exist_ok=True)
    with (results / "slurm" / "lock").open("w", encoding="utf-8") as f:
        lock(f)
        yield


def _append(results: Path, lines: Sequence[Submitted]) -> None:
    """Append jobs to `jobs.jsonl`; after a damaged last line, start a new line."""
    path = results / "slurm" / "jobs.jsonl"
    is_torn = path.exists() and path.read_bytes()[-1:] not in (b"\n", b"")
    with path.open("a", encoding="utf-8") as f:
        f.write("\n" * is_torn + "".join(json.dumps(asdict(line)) + "\n" for line in lines))
        f.flush()
        os.fsync(f.fileno())


def _cancel_unknown(results: Path) -> None:
    """Cancel jobs of this folder that are not recorded."""
    sweeps = {NAME.format(path.name) for path in (results / "slurm").iterdir()}
    known = {line.job for line in read_jobs(results)}
    waiting = queue.queued() or {}
    unknown = sorted(id for id, job in waiting.items() if job.name in sweeps and id not in known)
    if unknown:
        queue.cancel(unknown)
        print(
            f"transferbench: canceled {', '.join(unknown)}: the submitting process ended before it "
            "recorded their runs; these are submitted again",
            file=sys.stderr,
        )


def _with_more_resources(task: Task, before: dict[str, Submitted], known: dict[str, queue.Job]) -> Task:
    """Increase the resource that its last job exceeded."""
    last = before.get(task.digest)
    job = known.get(last.job) if last else None
    if last is None or job is None or job.state not in INCREASE:
        return task
    name, times = INCREASE[job.state]
    more = max(getattr(task, name), math.ceil(times * getattr(last, name)))
    return replace(task, minutes=more) if name == "minutes" else replace(task, memory_gb=more)


def _groups(tasks: Sequence[Task], cluster: Cluster) -> list[list[Task]]:
    """Group tasks into arrays; tasks that others depend on form separate arrays."""
    needed = {d for t in tasks for d in t.after}
    depth: dict[str, int] = {}
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for t in tasks:
        depth[t.digest] = max((depth.get(d, 0) + 1 for d in t.after), default=0)
        key = (depth[t.digest], t.digest not in needed, t.minutes, t.memory_gb, t.after)
        groups.setdefault(key, []).append(t)
    most = (cluster.max_array or queue.largest_array()) * cluster.runs_per_gpu
    ordered = [group for _, group in sorted(groups.items(), key=lambda item: item[0])]
    return [group[i : i + most] for group in ordered for i in range(0, len(group), most)]


def _submit_array(
    tasks: Sequence[Task], after: Sequence[str], cluster: Cluster, sweep: Path, code: Path | None
) -> list[Submitted]:
    import submitit

    packs = [tasks[i : i + cluster.runs_per_gpu] for i in range(0, len(tasks), cluster.runs_per_gpu)]
    try:
        executor = submitit.SlurmExecutor(sweep, python=cluster.python and shlex.quote(cluster.python))
        executor.update_parameters(**parameters(tasks[0], after, cluster, sweep, code, len(packs) > 1))
        with executor.batch():
            shared = cluster.processes > 1
            jobs = [executor.submit(Work.of([t.call for t in pack], shared)) for pack in packs]
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        words = [line for line in str(error).splitlines() if "error:" in line]
        raise InputError(f"cluster={cluster.name}: sbatch: {' '.join(words) or error}") from error
    time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return [
        Submitted(t.digest, t.folder, job.job_id, time, cluster.name, sweep.name, t.minutes, t.memory_gb)
        for pack, job in zip(packs, jobs, strict=True)
        for t in pack
    ]


def parameters(
    task: Task,
    after: Sequence[str],
    cluster: Cluster,
    sweep: Path,
    code: Path | None,
    is_array: bool = False,
) -> dict[str, Any]:
    """Return submitit's parameters of a job; resources add up over its runs and processes."""
    given = {name: getattr(cluster, name) for name in ("partition", "account", "qos", "gres", "constraint")}
    given |= {"gpus_per_node": None if cluster.gres else cluster.gpus_per_node}
    tasks = cluster.runs_per_gpu * cluster.tasks_per_node
    logs = _log_files(sweep, is_array)
    ids = after if len(after) <= MOST_IDS else sorted({i.partition("_")[0] for i in after})
    return {
        **{name: value for name, value in given.items() if value is not None},
        "job_name": NAME.format(sweep.name),
        "nodes": cluster.nodes,
        "ntasks_per_node": tasks,
        "cpus_per_task": cluster.cpus_per_task,
        "mem": f"{math.ceil(1024 * task.memory_gb * tasks)}M",
        "time": task.minutes,
        "signal_delay_s": cluster.signal_seconds,
        "array_parallelism": cluster.array_parallelism,
        "setup": [*_environment(cluster, code), *cluster.setup],
        "teardown": TEARDOWN.format(
            folder=shlex.quote(str(sweep)), resume=RESUME, restarts=cluster.restarts
        ).splitlines(),
        "srun_args": [f"--{name}={file}" for name, file in logs.items()],
        "additional_parameters": {
            "requeue": True,
            **{name: file.replace("%t", "0") for name, file in logs.items()},
            **cluster.sbatch,
        },
        **({"dependency": f"afterany:{':'.join(ids)}"} if ids else {}),
    }


def _log_files(sweep: Path, is_array: bool) -> dict[str, str]:
    """Return the patterns of a job's log files; a `%` in the folder's name is doubled: it is no pattern."""
    job = "%A_%a" if is_array else "%j"
    place = str(sweep).replace("%", "%%")
    return {"output": f"{place}/{job}_%t_log.out", "error": f"{place}/{job}_%t_log.err"}


def _environment(cluster: Cluster, code: Path | None) -> list[str]:
    """Return the shell lines that set the code's path and the folder for copies of images."""
    lines = ["export PYTHONSAFEPATH=1 PYTHONUTF8=1"]
    if code:
        lines.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
    if cluster.scratch:
        lines.append(f'export TRANSFERBENCH_SCRATCH="{cluster.scratch}"')
    return lines
