"""Run many configurations on this machine: one worker per GPU, or one per core."""

import errno
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType

from ... import InputError, RunFailed, printable
from ...terminal import configure_output
from ..config.schema import RunConfig
from ..training import interrupt

PATIENCE_SECONDS = 10.0  # time for a worker to end its step
ECHO_SECONDS = 1.0  # time for the last words of a worker that has ended
MOST_CHARACTERS = 300  # of its last line
Report = Callable[[RunConfig, str | None], None]  # called when a run ended, with its error or None
_runs = threading.Event()  # set in a worker while it has a run


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_workers(asked: int, device: str) -> int:
    """Return the number of runs at a time: `asked`, or one per GPU that they may use, or one per core."""
    import torch

    if asked:
        return asked
    if device.startswith("cuda:"):
        return 1
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
    """Run all configurations; a run that fails or whose process ends does not stop the others.

    A run whose process ended is repeated once, alone after all others: together they may have needed too
    much memory.

    Args:
        configs: the runs.
        results: the results folder.
        workers: runs at a time.
        report: called for each run that ended.
        tick: called twice a second while runs are active.
    """
    if os.name == "posix":
        resource_tracker.ensure_running()  # otherwise the first worker starts it, with its own stderr
    threads = num_threads(configs[0].threads, configs[0].device, workers)

    def start(place: int) -> _Worker:
        return _Worker(place, threads, results)

    for config, _ in _run(configs, workers, start, report, tick):
        for _, reason in _run([config], 1, start, report, tick):
            report(config, reason)


class _Worker:
    """A process that does one run after the other; its stderr is repeated on ours."""

    def __init__(self, place: int, threads: int, results: Path) -> None:
        self.place = place
        self.config: RunConfig | None = None  # the active run
        self._last_line = ""
        context = multiprocessing.get_context("spawn")
        self.connection, far = context.Pipe()
        read, write = os.pipe()
        self.process = context.Process(target=_serve, args=(far, place, threads, results))
        with _for_child(write), _without_main():
            self.process.start()
        far.close()
        os.close(write)
        self._echo = threading.Thread(target=self._repeat, args=(read,), daemon=True)
        self._echo.start()

    def begin(self, config: RunConfig | None) -> None:
        """Start a run, or let the process end."""
        self.config = config
        with suppress(OSError):  # its process has ended, as its connection will show
            self.connection.send(config)

    def close(self, end: float) -> None:
        """Wait until the process has ended; kill it at `end` of the monotonic clock."""
        self.process.join(max(0.0, end - time.monotonic()))
        self.process.kill()
        self.process.join()
        self._echo.join(ECHO_SECONDS)

    def why_ended(self) -> str:
        """Return how its process ended: the signal, or the exit code with the last line of stderr."""
        self.close(time.monotonic() + PATIENCE_SECONDS)
        code = self.process.exitcode or 0
        if -code == getattr(signal, "SIGKILL", None):  # which Windows lacks
            return _out_of_memory(self.config)
        said = f": {self._last_line}" if self._last_line else ""
        names = {int(known): known.name for known in signal.Signals}
        if code < 0:
            return f"its process was ended by {names.get(-code, f'signal {-code}')}{said}"
        return f"its process ended with exit code {code}{said}"

    def _repeat(self, number: int) -> None:
        with open(number, encoding="utf-8", errors="backslashreplace") as lines:  # noqa: PTH123
            for line in lines:
                self._last_line = " ".join(printable(line).split())[:MOST_CHARACTERS] or self._last_line
                sys.stderr.write(line)


def _out_of_memory(config: RunConfig | None) -> str:
    """Return what to lower if the process of a run was killed twice, the second time without others."""
    from ..training.misfit import batch_setting

    setting = batch_setting(config) if config else "recipe.batch_size"
    return (
        f"its process was killed, also without others (out of memory?); expected less than {setting}, or a "
        "smaller recipe.image_size; the other runs are done"
    )


@contextmanager
def _for_child(stderr: int) -> Iterator[None]:
    """Start a process with another stderr, and without Ctrl-C, which its parent handles."""
    own = os.dup(2)
    _mask_interrupt("SIG_BLOCK")
    os.dup2(stderr, 2)
    try:
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)
        _mask_interrupt("SIG_UNBLOCK")


def _mask_interrupt(how: str) -> None:
    """Block or unblock Ctrl-C in this thread and in processes that it starts; Windows cannot."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), {signal.SIGINT})


@contextmanager
def _without_main() -> Iterator[None]:
    """Start a process that does not import the main module again: a user's script would begin anew there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _run(
    configs: Sequence[RunConfig],
    at_once: int,
    start: Callable[[int], _Worker],
    report: Report,
    tick: Callable[[], None],
) -> list[tuple[RunConfig, str]]:
    """Do runs, `at_once` at a time; return those whose process ended, with the reason."""
    waiting, ended = deque(configs), list[tuple[RunConfig, str]]()
    workers: list[_Worker] = []
    try:
        for place in range(min(at_once, len(configs))):
            workers.append(start(place))
            workers[place].begin(waiting.popleft())
        while active := {w.connection: w for w in workers if w.config is not None}:
            answered = wait(list(active), timeout=0.5)
            tick()
            for worker in [w for connection, w in active.items() if connection in answered]:
                if (reason := _answer(worker, report)) and worker.config:
                    ended.append((worker.config, reason))
                    if waiting:
                        worker = workers[worker.place] = start(worker.place)
                worker.begin(waiting.popleft() if waiting else None)
    except BaseException:
        for worker in workers:
            worker.process.terminate()
        raise
    finally:
        end = time.monotonic() + PATIENCE_SECONDS
        with _without_interrupt():
            for worker in workers:
                worker.close(end)
    return ended


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Ignore Ctrl-C: a second one must not cut the exit short."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(worker: _Worker, report: Report) -> str:
    """Report the end of a worker's run, or return why the worker's process ended instead."""
    assert worker.config is not None
    try:
        error = worker.connection.recv()
    except (EOFError, ConnectionError):
        return worker.why_ended()
    if isinstance(error, OSError):  # the disk is full: every other run would fail, too
        raise error
    report(worker.config, error)
    return ""


def _serve(connection: Connection, place: int, threads: int, results: Path) -> None:
    """Do the runs that the parent sends, until it sends None.

    The first run imports what runs need. That stays: later collections of garbage, which each run begins
    with, need not walk through it. They would take a third of a short run's time. At the end it is
    thawed, so that Python frees it: triton prints what is left.
    """
    _start_worker(place, threads)
    is_first = True
    while (config := connection.recv()) is not None:
        _take_gpu(config.device, place)
        connection.send(_outcome(config, results))
        if is_first:
            gc.collect()
            gc.freeze()
            is_first = False
    gc.unfreeze()


def _outcome(config: RunConfig, results: Path) -> str | OSError | None:
    """Do a run; return its error as text, or as it is for a full disk."""
    try:
        _work(config, results)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        return str(error) if isinstance(error, InputError | RunFailed) else f"{type(error).__name__}: {error}"
    return None


def _start_worker(place: int, threads: int) -> None:
    """Prepare a worker: its output, its signals, its threads."""
    import torch

    configure_output()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _take_gpu(device: str, place: int) -> None:
    """Make one of the GPUs the current one, for a run that leaves the choice; a CPU run opens none."""
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(place % torch.cuda.device_count())


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
