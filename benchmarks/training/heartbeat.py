"""Heartbeats: a file in a run's folder shows that a process works on the run.

If the process is on this machine, the operating system knows whether it lives. Otherwise the age of the
file decides. Ages are differences between two times of the folder's file system, because the clocks of
machines differ.
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
DEAD_AFTER_SECONDS = 120.0  # age of a stale heartbeat of a process on another machine
MOST_SECONDS = 1e9  # longest plausible remaining time
TEXTS, COUNTS = ("token", "process"), ("step", "steps")
WATCHED_PERIODS = 3  # a stale heartbeat is watched for three periods before another process takes over


class Taken(Exception):
    """Another process has taken over the folder, because this one seemed dead."""


class Claim:
    """The claim of a process on a run's folder, while the process lives.

    `beat` is called at every step and is cheap; a thread writes the file every `PERIOD_SECONDS`.
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
        """Claim the folder; return whether that worked. It fails while a living process has the folder."""
        with locked(self.path), self._draft() as draft:
            try:
                os.link(draft, self.path)
            except FileExistsError:
                if living(self.path) or _changes(self.path):
                    return False
                draft.replace(self.path)
        self._thread.start()
        return True

    def beat(self, step: int, point: dict[str, Any] | None) -> None:
        """Note the progress of the run.

        Args:
            step: number of steps done.
            point: a new point of the curve, or None.

        Raises:
            Taken: another process has taken over.
        """
        if self._lost:
            raise Taken(f"{self.path.parent}: taken over by another process")
        if self.state["first"] is None:
            self.state["first"], self.started = step - 1, time.monotonic()
        self.state["step"] = step
        if point is not None:
            self.state["holdout"] = point["holdout"]

    def check(self) -> None:
        """Check that this process still has the folder. Raises Taken if not."""
        if not self._is_ours():
            raise Taken(f"{self.path.parent}: taken over by another process")

    def release(self) -> None:
        """Stop the heartbeat and remove it."""
        self._stop.set()
        self._thread.join()
        if self._is_ours():
            with contextlib.suppress(OSError):  # if it stays, another process finds it stale
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
            except OSError:  # the run reports a full disk; a new time stamp needs no space
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
                draft.write_text(json.dumps(content), encoding="utf-8")
            yield draft
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()


def read(path: Path) -> dict[str, Any] | None:
    """Read a heartbeat; return None if there is none. A field with an invalid value counts as missing."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(state, dict):
        return None
    found = {name: state.get(name) for name in (*TEXTS, *COUNTS)}
    scores = state["holdout"] if isinstance(state.get("holdout"), dict) else {}
    left = state.get("seconds_left")
    return {
        **{name: found[name] if isinstance(found[name], str) else "" for name in TEXTS},
        **{name: found[name] if type(found[name]) is int else 0 for name in COUNTS},
        "seconds_left": left if _is_number(left) and left >= 0 else None,
        "holdout": {name: score for name, score in scores.items() if _is_number(score)},
    }


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and abs(value) < MOST_SECONDS


def living(path: Path) -> bool:
    """Return whether the process of a heartbeat lives: by its id on this machine, else by the file's age."""
    state = read(path)
    if state is None:
        return False
    lives = is_alive(state["process"])
    if lives is not None:
        return lives
    try:
        return abs(_now(path.parent) - path.stat().st_mtime) < DEAD_AFTER_SECONDS
    except FileNotFoundError:  # removed meanwhile
        return False


def _now(folder: Path) -> float:
    """Return the time of the file system, which also dates the heartbeats."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"now")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # read-only: nothing can be taken over here
        return time.time()


def _changes(path: Path) -> bool:
    """Watch the heartbeat of a process on another machine; return whether it changes."""
    state = read(path)
    if state is None or is_alive(state["process"]) is not None:
        return False
    before = path.stat().st_mtime_ns
    time.sleep(WATCHED_PERIODS * PERIOD_SECONDS)
    return path.exists() and path.stat().st_mtime_ns != before
