"""A heartbeat says that a process works in a run's folder; a dead one is taken over.

Whether the process lives is asked of the system where it runs on this machine, and told by the age of the
beat elsewhere. Ages are differences of two times that the folder's file system gave: no machine's own
clock counts.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from ...datasets.files.atomic import draft_of, path_in_errors
from ...datasets.files.lock import locked
from ...datasets.files.processes import is_alive, process_name

PERIOD_SECONDS = 2.0
DEAD_AFTER_SECONDS = 120.0  # without a beat, where the process cannot be asked
MOST_SECONDS = 1e9  # of a run
TEXTS, COUNTS = ("token", "process"), ("step", "steps")
WATCHED_PERIODS = 3  # so long such a beat is then looked at, for the file system's clock may have been set


class Taken(Exception):
    """Another process has taken the folder over, for this one seemed dead: the run is the other's now."""


class Claim:
    """Holds a run's folder while its process lives.

    `beat` is called at every step and costs nothing; a thread writes the file.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.path = folder / "heartbeat"
        self.token = uuid.uuid4().hex
        self.started = time.monotonic()
        self.state: dict[str, Any] = {"step": 0, "steps": steps, "first": None, "holdout": None}
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self) -> bool:
        """Take the folder, unless a living process has it."""
        with locked(self.path), self._draft() as draft:
            try:
                os.link(draft, self.path)
            except FileExistsError:
                if living(self.path) or _beats(self.path):
                    return False
                draft.replace(self.path)
        self._thread.start()
        return True

    def beat(self, step: int, point: dict[str, Any] | None) -> None:
        """Tell where the run is; `point` is a new point of the curve. Raises: Taken."""
        if self._lost:
            raise Taken(f"{self.path.parent}: taken over by another process")
        if self.state["first"] is None:
            self.state["first"], self.started = step - 1, time.monotonic()
        self.state["step"] = step
        if point is not None:
            self.state["holdout"] = point["holdout"]

    def check(self) -> None:
        """See that the folder is still this process's. Raises: Taken."""
        if not self._is_ours():
            raise Taken(f"{self.path.parent}: taken over by another process")

    def release(self) -> None:
        """Stop beating and leave the folder."""
        self._stop.set()
        self._thread.join()
        if self._is_ours():
            with contextlib.suppress(OSError):  # a dead heartbeat is taken over
                self.path.unlink()

    def _is_ours(self) -> bool:
        state = read(self.path)
        return state is None or state["token"] == self.token

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            if not self._is_ours():
                self._lost = True
                return
            try:
                with self._draft() as draft:
                    draft.replace(self.path)
            except OSError:  # a full disk is the run's to report; that it lives needs no space
                with contextlib.suppress(OSError):
                    os.utime(self.path)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        step, steps, first = self.state["step"], self.state["steps"], self.state["first"]
        done = step - (first or 0)
        seconds_left = (time.monotonic() - self.started) / done * (steps - step) if done else None
        content = {
            **self.state,
            "token": self.token,
            "process": process_name(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
            "seconds_left": seconds_left,
        }
        draft = draft_of(self.path)
        try:
            with path_in_errors(self.path, draft):
                draft.write_text(json.dumps(content))
            yield draft
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()


def read(path: Path) -> dict[str, Any] | None:
    """Read a heartbeat; None where there is none. What is not as it should be in it counts as not told."""
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(state, dict):
        return None
    told = {name: state.get(name) for name in (*TEXTS, *COUNTS)}
    scores = state["holdout"] if isinstance(state.get("holdout"), dict) else {}
    left = state.get("seconds_left")
    return {
        **{name: told[name] if isinstance(told[name], str) else "" for name in TEXTS},
        **{name: told[name] if type(told[name]) is int else 0 for name in COUNTS},
        "seconds_left": left if _is_number(left) and left >= 0 else None,
        "holdout": {name: score for name, score in scores.items() if _is_number(score)},
    }


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and abs(value) < MOST_SECONDS


def living(path: Path) -> bool:
    """Tell whether the process behind a heartbeat lives: by asking it here, by its age elsewhere."""
    state = read(path)
    if state is None:
        return False
    lives = is_alive(state["process"])
    if lives is not None:
        return lives
    try:
        return abs(_now(path.parent) - path.stat().st_mtime) < DEAD_AFTER_SECONDS
    except FileNotFoundError:  # left meanwhile
        return False


def _now(folder: Path) -> float:
    """Ask the file system for the time; its own clock gives it to the beats, too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"now")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # read-only: nothing is taken over here
        return time.time()


def _beats(path: Path) -> bool:
    """Tell whether a heartbeat changes while one looks, where its process cannot be asked."""
    state = read(path)
    if state is None or is_alive(state["process"]) is not None:
        return False
    before = path.stat().st_mtime_ns
    time.sleep(WATCHED_PERIODS * PERIOD_SECONDS)
    return path.exists() and path.stat().st_mtime_ns != before
