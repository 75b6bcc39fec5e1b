"""`retry`, `cancel` and `logs`: for runs that were submitted to SLURM."""

import json
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from ... import InputError
from ...analysis.records.migrations import with_present_name
from ...slurm import queue, submit
from ..launch.hint import command_hint
from .status import State, states

TAIL_LINES = 40


def retry(results: Path, words: Collection[str] = ("failed", "lost")) -> int:
    """Resubmit failed or lost runs with the current code; a submission that is refused stops no other.

    Args:
        results: the results folder.
        words: the states to resubmit: `failed`, `lost`.

    Returns:
        The exit code.

    Raises:
        InputError: nothing was submitted from this results folder.
    """
    from .bench import bench
    from .suite import suite

    _submitted(results)
    wanted = {s.digest for s in states(results) if s.word in words}
    if not wanted:
        print(f"no run is {' or '.join(words)}")
        return 0
    code = 0
    done: list[list[str]] = []
    for path in sorted(results.glob("slurm/*/sweep.json")):
        command = json.loads(path.read_text(encoding="utf-8"))["command"]
        if command in done:
            continue
        done.append(command)
        kind, *given = map(with_present_name, command)
        overrides = [*(o for o in given if not o.startswith("results=")), f"results={results}"]
        try:
            again = (
                bench(overrides, only=wanted)
                if kind == "bench"
                else suite(overrides[0], overrides[1:], only=wanted)
            )
        except InputError as error:  # other submissions may be right
            print(f"not resubmitted: {shlex.join(command)}: {error}", file=sys.stderr)
            again = 2
        code = max(code, again)
    return code


def cancel(results: Path, names: Sequence[str]) -> int:
    """Cancel the jobs of all runs, or of the named ones; return the exit code.

    Runs that share a job with a named one are cancelled, too, and named.

    Raises:
        InputError: no run has that name, or SLURM does not answer.
    """
    lines = _submitted(results)
    chosen = {s.digest for name in names for s in matching(results, name)} if names else set(lines)
    jobs = queue.queued()
    if jobs is None:
        raise InputError("cancel: squeue does not answer; run this command where SLURM's commands work")
    ids = sorted({lines[d].job for d in chosen if d in lines and lines[d].job in jobs})
    for digest, line in lines.items():
        if line.job in ids and digest not in chosen:
            print(f"cancelled too, in the same job: {line.folder}")
    queue.cancel(ids)
    print(f"{len(ids)} jobs cancelled; their checkpoints are kept")
    return 0


def logs(results: Path, name: str) -> int:
    """Print the last lines of a run's last job; return the exit code. Raises InputError for a wrong name."""
    lines = _submitted(results)
    for state in matching(results, name):
        if state.digest not in lines:
            raise InputError(f"logs {name}: {state.name} was not submitted to SLURM; see its error.json")
        line = lines[state.digest]
        files = sorted((results / "slurm" / line.sweep).glob(f"{line.job}_*_log.*"))
        print(f"{state.name}: {state.word} {state.about}")
        for path in files:
            text = path.read_text(errors="replace", encoding="utf-8").splitlines()
            print(f"-- {path}: {len(text)} lines{', the last' if len(text) > TAIL_LINES else ''}")
            sys.stdout.writelines(f"{words}\n" for words in text[-TAIL_LINES:])
        if not files:
            print(f"job {line.job} has written nothing yet")
    return 0


def matching(results: Path, name: str) -> list[State]:
    """Return the runs whose folder contains a name, such as `l2tl/seed0` or a digest.

    Raises:
        InputError: there is none.
    """
    found = [s for s in states(results) if name.strip("/") in s.name]
    if not found:
        raise InputError(f"'{name}': no such run; {command_hint('status', results)} lists all")
    return found


def _submitted(results: Path) -> dict[str, submit.Submitted]:
    lines = submit.latest(results)
    if not lines:
        raise InputError(
            f"results={results}: nothing was submitted to SLURM from here; "
            "without SLURM, repeat the bench command to run what is missing"
        )
    return lines
