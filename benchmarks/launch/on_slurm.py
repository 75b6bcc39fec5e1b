"""`on=slurm`: submit runs as SLURM jobs; a job writes the same record as a local run."""

import errno
import math
import os
import signal
import sys
import time
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from ... import InputError
from ...analysis.records.schema import read_record
from ...datasets import distributed
from ...home import provide_home
from ...slurm import submit
from ...slurm.cluster import Cluster
from ...slurm.cluster import load as load_cluster
from ...slurm.job import DISK_FULL, RESUME
from ...slurm.snapshot import snapshot
from ...terminal import configure_output
from ..config.schema import RunConfig
from ..training import interrupt
from ..training.record import write_json
from ..training.run import requirements, run_one
from ..training.tuning import KEPT, last_round
from .hint import command_hint
from .plan import run_order
from .pool import num_threads
from .stage_data import stage

START_MINUTES = 10  # time of a job for loading, evaluation and writing
NOT_IN_SCRIPTS = ("%j", "%t", "%A", "%a", "\\", ":")  # patterns and escapes of log files; PYTHONPATH's end
SPARE = 1.5  # requested time and memory, relative to an earlier run
ORDER_SECONDS = 1800.0  # longest time that a saved run waits for SLURM to end its job


def queue_missing(
    configs: Sequence[RunConfig],
    results: Path,
    cluster: str | None,
    device: str,
    command: Sequence[str],
    console: Console,
    only: Container[str] | None = None,
) -> int:
    """Submit all runs that have no record and are not in the queue; return the exit code at once.

    Args:
        configs: the requested runs.
        results: the results folder.
        cluster: name of the cluster, or path of its file.
        device: device of the jobs.
        command: the command line, which `retry` repeats.
        console: where to print.
        only: digests of the runs that may be submitted; None: all.

    Raises:
        InputError: the path of the results folder has characters that cannot be printed, or git fails.
    """
    chosen = load_cluster(cluster)
    _check_folder(results)
    todo = [c for c in run_order(configs, results) if only is None or c.digest in only]
    if not todo:
        console.print(f"all {len(configs)} runs are done" if only is None else "no run to resubmit")
        return 0
    tasks = _tasks([replace(c, device=device) for c in todo], results.resolve(), chosen)
    code = snapshot(results)
    sweep = submit.new_sweep(results)
    write_json(sweep / "sweep.json", {"command": list(command), "cluster": cluster, "code": str(code)})
    new = submit.submit(tasks, results, chosen, sweep, code)
    before = len(tasks) - len(new)
    if not new:
        (sweep / "sweep.json").unlink()
        sweep.rmdir()
    queued = f"{len(new)} runs are queued in {len({line.job.partition('_')[0] for line in new})} jobs"
    console.print(f"{queued}; {before} were in the queue already" if before else queued)
    console.print(f"see: {command_hint('status', results)}", markup=False)
    return 0


def _check_folder(results: Path) -> None:
    """Check that job scripts can name the results folder."""
    path = str(results.resolve())
    if not path.isprintable():  # it is part of a line of the script
        raise InputError(f"results={str(results)!r}: expected a path of one line for on=slurm")
    if wrong := [text for text in NOT_IN_SCRIPTS if text in path]:
        raise InputError(
            f"results={results}: '{wrong[0]}' has another meaning in job scripts; expected a path without it "
            "for on=slurm"
        )


def _tasks(configs: Sequence[RunConfig], results: Path, cluster: Cluster) -> list[submit.Task]:
    earlier = list(_earlier_records(results))
    here = {c.digest for c in configs}
    tasks = []
    for c in {c.digest: c for c in configs}.values():
        minutes, memory_gb = _resources(c, earlier, cluster)
        after = tuple(sorted(r.digest for r in requirements(c) if r.digest in here))
        folder = str(c.folder(results).relative_to(results))
        call = partial(work, c, results, _environment())
        tasks.append(submit.Task(c.digest, folder, call, minutes, memory_gb, after))
    return tasks


def _environment() -> dict[str, str]:
    """Return the variables that name the places of images: a job may start in another environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("TRANSFERBENCH_")}


def work(config: RunConfig, results: Path, environment: dict[str, str]) -> None:
    """Do one run inside a job.

    Args:
        config: the run.
        results: the results folder.
        environment: variables to set.

    Raises:
        SystemExit: with `RESUME` if it stopped on request and saved a checkpoint; with `FULL` on a full disk.
    """
    import torch

    os.environ.update(environment)
    configure_output()
    provide_home()
    ordered: list[int] = []

    def on_term(number: int, frame: FrameType | None) -> None:
        ordered.append(number)
        interrupt.request()

    signal.signal(signal.SIGTERM, on_term)
    interrupt.on_signal(signal.SIGUSR2)
    if scratch := os.environ.get("TRANSFERBENCH_SCRATCH"):
        stage({config.source_name, config.target_name}, Path(scratch))
    cores = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))  # the node may show all that it has
    torch.set_num_threads(config.threads or min(cores, num_threads(0, config.device, 1)))
    try:
        with distributed.process_group():
            if not distributed.on_first(_failed_before, config.folder(results)):
                run_one(config, results)
    except interrupt.Interrupted as stopped:
        print(stopped, file=sys.stderr, flush=True)
        if ordered:  # SLURM will end the job or requeue it
            time.sleep(ORDER_SECONDS)
        sys.exit(RESUME)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(DISK_FULL)


def _failed_before(folder: Path) -> bool:
    """Return whether the run failed before this job was requeued; then only other runs of the job go on."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and (folder / "error.json").exists()


def _earlier_records(results: Path) -> Iterable[dict[str, Any]]:
    for path in results.glob("*/*/*/record.json"):
        with suppress(InputError):  # the report names an unreadable record
            yield read_record(path)


def _cost_key(config: dict[str, Any], method: str) -> tuple[Any, ...]:
    """Return the settings that determine the cost of a run."""
    recipe = config["recipe"]
    of = [recipe[name] for name in ("steps", "batch_size", "image_size")]
    of.append(recipe.get("source_batch_size", 0))
    return (method, config["backbone"], config["source"], config["target"], *of)


def _resources(config: RunConfig, earlier: Sequence[dict[str, Any]], cluster: Cluster) -> tuple[int, float]:
    """Return minutes and GB to request: from similar runs, or else from the cluster's file.

    Both are rounded up to powers of two, because runs with equal requests share a job array.
    """
    like = _like(config, earlier)
    seconds = max(map(_seconds, like), default=None)
    of_cpu = [r for r in like if r["environment"]["device"].startswith("cpu")]
    on_cpu = [r["peak_memory_bytes"] for r in of_cpu if r["peak_memory_bytes"] is not None]
    minutes = cluster.minutes
    if seconds is not None:
        seconds += _of_last_round(config, earlier, seconds)
        minutes = min(minutes, _round_up(START_MINUTES + SPARE * seconds / 60, START_MINUTES))
    memory_gb = cluster.memory_gb if not on_cpu else _round_up(SPARE * max(on_cpu) / 2**30, 1)
    return minutes, float(memory_gb)


def _like(config: RunConfig, earlier: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the earlier records of runs with the same cost."""
    own = _cost_key(config.resolved(), config.method)
    return [r for r in earlier if _cost_key(r["config"], r["method"]) == own]


def _seconds(record: dict[str, Any]) -> float:
    """Return the seconds of a run, with the source pre-trainings that only its job does."""
    own = sum(r["seconds"] for r in record.get("pretraining", ()) if not r["shared"])
    return record["seconds"]["prepare"] + record["seconds"]["step"] + own


def _of_last_round(config: RunConfig, earlier: Sequence[dict[str, Any]], seconds: float) -> float:
    """Return the seconds of the last round of tuning, which the job of a run does itself.

    Args:
        config: the run.
        earlier: records.
        seconds: those of the run, to which trials without an earlier one are in proportion.
    """
    last = [trial for own in last_round(config)[:KEPT] for trial in own]
    if not last:
        return 0.0
    share = last[0].recipe.steps / config.recipe.steps
    return len(last) * max(map(_seconds, _like(last[0], earlier)), default=share * seconds)


def _round_up(least: float, start: int) -> int:
    """Round up to start x 2^n."""
    return start * 2 ** max(0, math.ceil(math.log2(least / start)))
