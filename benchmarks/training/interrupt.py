"""A request to stop: the loop saves at its next step and leaves, so that the run goes on elsewhere."""

import signal
import threading

_requested = threading.Event()


class Interrupted(BaseException):
    """A run was asked to stop, has saved where it is, and has no record yet."""


def requested() -> bool:
    """Tell whether this process was asked to stop."""
    return _requested.is_set()


def request() -> None:
    """Ask this process to stop at its next step."""
    _requested.set()


def withdraw() -> None:
    """Take the request back."""
    _requested.clear()


def on_signal(number: signal.Signals) -> None:
    """Let a signal ask this process to stop."""
    signal.signal(number, lambda *_: request())
