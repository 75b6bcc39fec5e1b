"""Run many configurations on this machine: one worker per GPU, or one per core."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ... import InputError, RunFailed
from ..config.schema import RunConfig
from ..training import interrupt

PATIENCE_SECONDS = 10.0  # time for a worker to end its step
Report = Callable[[RunConfig, str | None], None]  # called when a run ended, with its error or None
_runs = threading.Event()  # set in a worker while it has a run


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_workers(asked: int, device: str) -> int:
    """Return the number of runs at a time: `asked`, or one per GPU, or one per core."""
    import torch

    if asked:
        return asked
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return gpus or num_cores()


def num_threads(asked: int, device: str, workers: int) -> int:
    """Return the threads of one run: `asked`, or one on a CPU, since their number changes the last digits."""
    from ..training.problem import device_of

    on_cpu = device_of(device).type == "cpu"
    return asked or (1 if on_cpu else max(1, num_cores() // workers))


def run_all(
    configs: Sequence[RunConfig], results: Path, workers: int, report: Report, tick: Callable[[], None]
) -> None:
    """Run all configurations; a run that fails or whose process is killed does not stop the others.

    A killed worker breaks its whole pool. Runs start in order, so the killed one is among the first
    `workers` unfinished runs. Those are repeated one at a time; then the others run as before.

    Args:
        configs: the runs.
        results: the results folder.
        workers: runs at a time.
        report: called for each run that ended.
        tick: called twice a second while runs are active.
    """
    context = multiprocessing.get_context("spawn")
    threads = num_threads(configs[0].threads, configs[0].device, workers)
    waiting = [(list(configs), workers)]
    while waiting:
        batch, at_once = waiting.pop(0)
        places = context.Queue()
        for place in range(at_once):
            places.put(place)
        with ProcessPoolExecutor(
            min(at_once, len(batch)),
            mp_context=context,
            initializer=_start_worker,
            initargs=(places, threads),
        ) as pool:
            jobs = {pool.submit(_work, c, results): c for c in batch}
            try:
                broken = _gather(jobs, report, tick)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the exit short
                _end(pool)
                raise
            except OSError:
                _end(pool)
                raise
        begun, others = broken[:at_once], broken[at_once:]
        if at_once == 1 and begun:
            report(begun.pop(), "its process was killed (out of memory?)")
        waiting = [(left, count) for left, count in ((begun, 1), (others, at_once), *waiting) if left]


def _end(pool: ProcessPoolExecutor) -> None:
    """Let all workers save and exit; kill those whose step takes too long."""
    processes = list(pool._processes.values())  # shutdown forgets them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    end = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        process.join(max(0, end - time.monotonic()))
        process.kill()


def _gather(jobs: dict[Future[None], RunConfig], report: Report, tick: Callable[[], None]) -> list[RunConfig]:
    """Wait for all jobs; return the runs that a killed process left unfinished, in their order."""
    broken = set()
    pending = set(jobs)
    while pending:
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        tick()
        for job in done:
            error = job.exception()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise error  # every other run would fail, too
            if isinstance(error, BrokenProcessPool):
                broken.add(job)
            else:
                report(jobs[job], None if error is None else _message(error))
    return [config for job, config in jobs.items() if job in broken]


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, InputError | RunFailed) else f"{type(error).__name__}: {error}"


def _start_worker(places: "multiprocessing.Queue[int]", threads: int) -> None:
    """Prepare a worker: its signals, its GPU, its threads."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    place = places.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())
    torch.set_num_threads(threads)


def _leave_with_parent() -> None:
    """Exit when the parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    _leave()


def _leave(*_: object) -> None:
    """Ask the run to save and stop; without a run, exit."""
    interrupt.request()
    if not _runs.is_set():
        os._exit(0)


def _work(config: RunConfig, results: Path) -> None:
    from ..training.run import run_one

    _runs.set()
    try:
        run_one(config, results)
    except interrupt.Interrupted:
        os._exit(0)
    finally:
        _runs.clear()
