"""Query jobs: squeue for those in the queue, sacct for those that have ended."""

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TIMEOUT_SECONDS = 30.0
CHUNK = 200  # ids per command
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Job:
    """One job, or one element of a job array."""

    id: str
    state: str
    reason: str = ""
    node: str = ""
    name: str = ""  # of jobs in the queue
    in_queue: bool = True

    @property
    def waits(self) -> bool:
        """Return whether it has not started yet."""
        return self.in_queue and self.state in WAITING


def run_command(command: Sequence[str]) -> str | None:
    """Return the output of a SLURM command; None if it is missing, fails or times out."""
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=environment,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def queued() -> dict[str, Job] | None:
    """Return this user's waiting and running jobs by id; None if squeue fails."""
    output = run_command(["squeue", "-h", "-r", "-a", "-u", str(os.getuid()), "-o", "%i|%T|%r|%N|%j"])
    if output is None:
        return None
    found = {}
    for line in output.splitlines():
        job, state, reason, node, name = line.split("|", 4)
        found[job] = Job(job, state, reason, node, name)
    return found


def finished(ids: Iterable[str]) -> dict[str, Job]:
    """Return jobs from SLURM's accounting, by id; none without accounting."""
    found: dict[str, Job] = {}
    job_ids = sorted({i.partition("_")[0] for i in ids})
    for start in range(0, len(job_ids), CHUNK):
        chunk = ",".join(job_ids[start : start + CHUNK])
        output = run_command(["sacct", "-n", "-P", "-o", "JobID,State,ExitCode,NodeList", "-j", chunk])
        for line in (output or "").splitlines():
            _add_line(line, found)
    return found


def _add_line(line: str, found: dict[str, Job]) -> None:
    """Add the line of a job or of a step; only steps have the state OUT_OF_MEMORY."""
    name, state, code, node = line.split("|")[:4]
    job, _, step = name.partition(".")
    state = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 0"
    if not step:
        found[job] = Job(job, state, f"exit code {code}", node, in_queue=False)
    elif state == "OUT_OF_MEMORY" and job in found:
        found[job] = Job(job, state, found[job].reason, node, in_queue=False)


def jobs(ids: Iterable[str]) -> dict[str, Job] | None:
    """Return jobs by id, from the queue or otherwise from the accounting; None if squeue fails."""
    ids = set(ids)
    waiting = queued()
    if waiting is None:
        return None
    return finished(ids - waiting.keys()) | {i: waiting[i] for i in ids & waiting.keys()}


def largest_array() -> int:
    """Return the maximum number of elements of an array: MaxArraySize limits the index."""
    for line in (run_command(["scontrol", "show", "config"]) or "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return max(1, int(value) - 1)
    return 1000  # one less than SLURM's default


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs."""
    for start in range(0, len(ids), CHUNK):
        run_command(["scancel", *ids[start : start + CHUNK]])
