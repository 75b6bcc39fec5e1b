"""A request to stop: the loop saves a checkpoint after its next step and exits; the run can resume."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_requested = threading.Event()


class Interrupted(BaseException):
    """A run has stopped on request: its checkpoint is saved, and it has no record yet."""


def requested() -> bool:
    """Return whether this process is asked to stop."""
    return _requested.is_set()


def request() -> None:
    """Ask this process to stop at its next step."""
    _requested.set()


@contextmanager
def stopping() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM request the stop in this block; a second one ends the process as usual.

    Raises:
        KeyboardInterrupt: the run has saved a checkpoint and stopped.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():  # it alone gets signals
        yield
        return
    handlers = {number: signal.getsignal(number) for number in signals}
    before = {
        n: own for n, own in handlers.items() if own not in (None, signal.SIG_IGN)
    }  # as nohup and & ignore

    def stop(number: int, frame: FrameType | None) -> None:
        request()
        restore()
        with suppress(OSError):  # print would fail within another print
            os.write(2, b"\nstopping after this step; once more: at once\n")

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
    finally:
        restore()
        _requested.clear()


def on_signal(number: signal.Signals) -> None:
    """Make a signal request the stop."""
    signal.signal(number, lambda *_: request())
