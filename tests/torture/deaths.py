"""Processes that die by SIGKILL: at a moment of the clock, or at their k-th change to the disk."""

import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transferbench.datasets import catalog as datasets

FORK = multiprocessing.get_context("fork")  # torch is loaded already: a child starts at once
CHANGES = ("replace", "rename", "link", "fsync", "unlink", "mkdir", "utime")


def start(work: Callable[[], Any], **env: str) -> Any:
    """Let a process do some work."""

    def main() -> None:
        os.setsid()  # what it starts is in its group, and dies with it
        gc.freeze()  # else each collection walks through all of torch
        os.environ.update(env)
        if env:
            datasets.load.cache_clear()
        work()

    process = FORK.Process(target=main)
    process.start()
    return process


def killed_after(seconds: float, work: Callable[[], Any], **env: str) -> bool:
    """Kill a process and all that it started after so long; tells whether it still worked."""
    process = start(work, **env)
    process.join(timeout=seconds)
    was_alive = process.is_alive()
    process.kill()
    process.join()
    with suppress(ProcessLookupError):  # forked workers hold the pipes of their siblings, and would wait
        os.killpg(process.pid, signal.SIGKILL)
    assert process.exitcode in (0, -signal.SIGKILL)
    return was_alive


def killed_at(k: int, work: Callable[[], Any], **env: str) -> bool:
    """Kill a process at its k-th change to the disk: before it where k is odd, else after it."""
    process = start(lambda: (watch(k), work()), **env)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def num_changes(work: Callable[[], Any], note: Path, **env: str) -> int:
    """Count the changes to the disk of an unbroken piece of work."""

    def counted() -> None:
        count = watch(0)
        work()
        note.write_text(str(next(count) - 1))

    process = start(counted, **env)
    process.join()
    assert process.exitcode == 0
    return int(note.read_text())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(k: int, act: Callable[[], Any] = die) -> Any:
    """Count every change to the disk, and act at the k-th; a write is half done by then."""
    count = itertools.count(1)
    for name in CHANGES:
        setattr(os, name, _watched(getattr(os, name), count, k, act))
    for name in ("write_bytes", "write_text"):
        setattr(Path, name, _halved(getattr(Path, name), count, k, act))
    return count


def _watched(real: Callable[..., Any], count: Any, k: int, act: Callable[[], Any]) -> Callable[..., Any]:
    def change(*args: Any, **options: Any) -> Any:
        is_last = next(count) == k
        if is_last and k % 2:
            act()
        result = real(*args, **options)
        if is_last and not k % 2:
            act()
        return result

    return change


def _halved(real: Callable[..., Any], count: Any, k: int, act: Callable[[], Any]) -> Callable[..., Any]:
    def write(path: Path, content: Any, *args: Any, **options: Any) -> Any:
        if next(count) == k:
            real(path, content[: len(content) // 2], *args, **options)
            act()
        return real(path, content, *args, **options)

    return write


def torn(results: Path) -> list[str]:
    """List the files of a results folder that cannot be read whole, drafts and the log left out."""
    wrong = []
    for path in results.rglob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".pt":
                torch.load(path, weights_only=True)
        except (ValueError, RuntimeError, EOFError):
            wrong.append(str(path))
    return wrong


def odd_models(results: Path) -> list[str]:
    """List the finished runs whose model is not that of their record; one may have lost its own to `keep`."""
    wrong = []
    for path in results.glob("*/*/*/record.json"):
        folder, model = path.parent, json.loads(path.read_text()).get("model")
        if not (folder / "model.json").exists():
            continue
        tensors = (folder / "model.safetensors").read_bytes()
        about = json.loads((folder / "model.json").read_text())
        is_right = hashlib.sha256(tensors).hexdigest() == about["tensors"]["sha256"]
        if not is_right or model != about["tensors"]:
            wrong.append(str(folder))
    return wrong


def records(results: Path) -> dict[str, tuple[int, int]]:
    """Tell every record from one that took its place later: by its inode and time."""
    found = {}
    for path in results.glob("*/*/*/record.json"):
        found[str(path.relative_to(results))] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found
