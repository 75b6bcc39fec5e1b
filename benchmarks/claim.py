"""A heartbeat says that a process works in a run's folder; a dead one is taken over."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

PERIOD_SECONDS = 2.0
DEAD_AFTER_SECONDS = 120.0  # without a beat, where the process cannot be asked


class Claim:
    """Holds a run's folder while its process lives.

    `beat` is called at every step and costs nothing; a thread writes the file.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.path = folder / "heartbeat"
        self.token = uuid.uuid4().hex
        self.started = time.time()
        self.state: dict[str, Any] = {"step": 0, "steps": steps, "first": None, "holdout": None}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def take(self) -> bool:
        """Take the folder, unless a living process has it."""
        draft = self._draft()
        try:
            os.link(draft, self.path)
        except FileExistsError:
            if living(self.path):
                return False
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        if json.loads(self.path.read_text())["token"] != self.token:  # another was quicker
            return False
        self._thread.start()
        return True

    def beat(self, step: int, point: dict[str, Any] | None) -> None:
        """Tell where the run is; `point` is a new point of the curve."""
        if self.state["first"] is None:
            self.state["first"], self.started = step - 1, time.time()
        self.state["step"] = step
        if point is not None:
            self.state["holdout"] = point["holdout"]

    def release(self) -> None:
        """Stop beating and leave the folder."""
        self._stop.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            with contextlib.suppress(OSError):  # a full disk is the run's to report
                self._draft().replace(self.path)

    def _draft(self) -> Path:
        step, steps, first = self.state["step"], self.state["steps"], self.state["first"]
        done = step - (first or 0)
        seconds_left = (time.time() - self.started) / done * (steps - step) if done else None
        content = {
            **self.state,
            "token": self.token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "time": time.time(),
            "seconds_left": seconds_left,
        }
        draft = self.path.with_name(f"heartbeat.{self.token}")
        draft.write_text(json.dumps(content))
        return draft


def read(path: Path) -> dict[str, Any] | None:
    """Read a heartbeat; None where there is none."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def living(path: Path) -> bool:
    """Tell whether the process behind a heartbeat lives: by asking it here, by its age elsewhere."""
    state = read(path)
    if state is None:
        return False
    if state["host"] != socket.gethostname():
        return time.time() - state["time"] < DEAD_AFTER_SECONDS
    try:
        os.kill(state["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return time.time() - state["time"] < DEAD_AFTER_SECONDS
