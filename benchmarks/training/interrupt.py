"""A request to stop: the loop saves a checkpoint after its next step and exits; the run can resume."""

import signal
import threading

_requested = threading.Event()


class Interrupted(BaseException):
    """A run has stopped on request: its checkpoint is saved, and it has no record yet."""


def requested() -> bool:
    """Return whether this process is asked to stop."""
    return _requested.is_set()


def request() -> None:
    """Ask this process to stop at its next step."""
    _requested.set()


def on_signal(number: signal.Signals) -> None:
    """Make a signal request the stop."""
    signal.signal(number, lambda *_: request())
