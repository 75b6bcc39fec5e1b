"""What a cluster may do to a job, done to it on purpose."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 420.0


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def until(what: Callable[[], Any], words: str, seconds: float = PATIENCE_SECONDS, pause: float = 0.5) -> Any:
    """Wait for something to be true, and give it."""
    end = time.time() + seconds
    while not (found := what()):
        if time.time() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {words}\n{said('squeue', '-a', '-r')}")
        time.sleep(pause)
    return found


def beat_of(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, json.JSONDecodeError):
        return json.loads((folder / "heartbeat").read_text())
    return {}


def lives(folder: Path) -> bool:
    """Tell whether a process really works in a run's folder (a heartbeat may outlive it)."""
    pid = beat_of(folder).get("pid")
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def reaches(folder: Path, step: int) -> dict[str, Any]:
    """Wait until a run in some process has taken steps."""

    def there() -> dict[str, Any] | None:
        beat = beat_of(folder)
        return beat if beat.get("step", 0) >= step and lives(folder) else None

    return until(there, f"{folder}: step {step}")


@contextlib.contextmanager
def stopped_after(folder: Path, points: int) -> Iterator[None]:
    """Stop a run as soon as the checkpoint that follows so many evaluations is written; then let it go on."""
    log, saved = folder / "metrics.jsonl", folder / "checkpoint.pt"

    def is_there() -> bool:
        with contextlib.suppress(OSError):
            is_late = saved.stat().st_mtime_ns > log.stat().st_mtime_ns
            return is_late and len(log.read_text().splitlines()) == points
        return False

    until(is_there, f"{folder}: saved after {points} evaluations", pause=0.005)
    pid = beat_of(folder)["pid"]
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def kill_process(folder: Path, job: str) -> None:
    os.kill(beat_of(folder)["pid"], signal.SIGKILL)


def requeue(folder: Path, job: str) -> None:
    subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True)


def signal_job(folder: Path, job: str) -> None:
    """What submission scripts and users send by hand."""
    subprocess.run(["scancel", "--signal", "USR2", job], check=False)


def preempt(folder: Path, job: str) -> None:
    """Want every CPU for the partition above, for a moment."""
    wrap = ["sbatch", "--partition=main", "--nodes=2", "--exclusive", "--time=1", "--mem=100M"]
    subprocess.run([*wrap, "--output=/dev/null", "--wrap", "sleep 3"], check=True, capture_output=True)


def lose_node(folder: Path, job: str) -> None:
    """Kill a node's daemon and all that it started there, and bring the node back."""
    node = said("squeue", "-h", "-j", job, "-o", "%N")
    if not node:
        return
    kill_slurmd(node)
    listed = said("ps", "-eo", "pid,args").splitlines()
    on_node = said("squeue", "-h", "-w", node, "-t", "R", "-o", "%A").split()
    steps = [
        int(line.split()[0])
        for line in listed
        if "slurmstepd: [" in line and line.split("[")[1].split(".")[0].split("]")[0] in on_node
    ]
    parents = dict(map(int, line.split()) for line in said("ps", "-eo", "pid,ppid").splitlines()[1:])
    below = {p for p in parents if any(a in steps for a in _ancestors(p, parents))}
    for pid in (*steps, *below):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # What SLURM does by itself when a node has been silent for SlurmdTimeout (five minutes).
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=False)
    time.sleep(2)
    subprocess.run(["slurmd", "-N", node], check=False)
    time.sleep(1)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)


def kill_slurmd(node: str) -> None:
    with contextlib.suppress(ProcessLookupError, OSError, ValueError):
        os.kill(int(Path(f"/run/slurm/slurmd.{node}.pid").read_text()), signal.SIGKILL)


def restart_slurmd(folder: Path, job: str) -> None:
    """Kill only the daemon: its jobs go on without it."""
    node = said("squeue", "-h", "-j", job, "-o", "%N")
    if node:
        kill_slurmd(node)
        time.sleep(2)
        subprocess.run(["slurmd", "-N", node], check=False)


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    chain = []
    while pid in parents and pid > 1:
        pid = parents[pid]
        chain.append(pid)
    return chain


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Let a folder be a disk of its own, soon full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left."""
    with contextlib.suppress(OSError), (folder / "ballast").open("ab", buffering=0) as f:
        while True:
            f.write(bytes(4096))


ALL = (kill_process, requeue, signal_job, preempt, lose_node, restart_slurmd)
