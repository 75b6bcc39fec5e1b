"""What SLURM says of jobs: squeue of those in the queue, sacct of those that have ended."""

import getpass
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TIMEOUT_SECONDS = 30.0
CHUNK = 200  # ids in one question
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Job:
    """One job, or one element of an array, as SLURM has it."""

    id: str
    state: str
    reason: str = ""
    node: str = ""
    name: str = ""  # of those in the queue
    in_queue: bool = True

    @property
    def waits(self) -> bool:
        """Tell whether it has yet to start."""
        return self.in_queue and self.state in WAITING


def run_command(command: Sequence[str]) -> str | None:
    """Ask one of SLURM's commands; None where it is absent, fails, or does not answer in time."""
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def queued() -> dict[str, Job] | None:
    """Give this user's jobs that wait or run, by id; None when SLURM cannot be asked."""
    said = run_command(["squeue", "-h", "-r", "-a", "-u", getpass.getuser(), "-o", "%i|%T|%r|%N|%j"])
    if said is None:
        return None
    found = {}
    for line in said.splitlines():
        job, state, reason, node, name = line.split("|", 4)
        found[job] = Job(job, state, reason, node, name)
    return found


def finished(ids: Iterable[str]) -> dict[str, Job]:
    """Give what the accounting says of jobs, by id; nothing where there is none."""
    found: dict[str, Job] = {}
    whole = sorted({i.partition("_")[0] for i in ids})
    for start in range(0, len(whole), CHUNK):
        chunk = ",".join(whole[start : start + CHUNK])
        said = run_command(["sacct", "-n", "-P", "-o", "JobID,State,ExitCode,NodeList", "-j", chunk])
        for line in (said or "").splitlines():
            _add_line(line, found)
    return found


def _add_line(line: str, found: dict[str, Job]) -> None:
    """Read a line of a job or of a step: only the step says that the memory was too little."""
    name, state, code, node = line.split("|")[:4]
    job, _, step = name.partition(".")
    state = state.split()[0] if state else "UNKNOWN"  # "CANCELLED by 0"
    if not step:
        found[job] = Job(job, state, f"exit code {code}", node, in_queue=False)
    elif state == "OUT_OF_MEMORY" and job in found:
        found[job] = Job(job, state, found[job].reason, node, in_queue=False)


def jobs(ids: Iterable[str]) -> dict[str, Job] | None:
    """Give what is known of jobs, the queue's word first; None when SLURM cannot be asked."""
    ids = set(ids)
    waiting = queued()
    if waiting is None:
        return None
    return finished(ids - waiting.keys()) | {i: waiting[i] for i in ids & waiting.keys()}


def largest_array() -> int:
    """Ask how many elements an array may have: MaxArraySize bounds the index."""
    for line in (run_command(["scontrol", "show", "config"]) or "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize":
            return max(1, int(value) - 1)
    return 1000  # one less than SLURM's own default


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue, or end them."""
    for start in range(0, len(ids), CHUNK):
        run_command(["scancel", *ids[start : start + CHUNK]])
