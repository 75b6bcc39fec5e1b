"""What runs on a failing disk: a process of its own, under the shim. It prints a line of JSON a case.

Called by test_disk.py as `python shimmed.py PLACE '{"full": 2, …}'`: the toy sets, and how often to try what.
"""

import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from deaths import num_changes, records, start, torn, watch
from transferbench.benchmarks.cli import main
from transferbench.datasets.storage import cache

BELOW, LEVER = Path(os.environ["FAULT_BELOW"]), Path(os.environ["FAULT_SWITCH"])
SMALL = (
    *("tune=off", "device=cpu", "threads=1", "recipe.steps=4", "recipe.batch_size=4", "recipe.image_size=16"),
    *("recipe.evaluations=2", "source_recipe.steps=2", "source_recipe.batch_size=4"),
)
TIMES = ("seconds", "started", "ended", "peak_memory_bytes", "environment")
LAG_MS = 1500
Work = tuple[Path, Sequence[str]]


def ask(note: Path, words: Sequence[str]) -> None:
    """Give a command, and write down its exit code and what it said of errors."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(words))
    note.write_text(json.dumps([code, error.getvalue()]))


def outcome(note: Path, words: Sequence[str], k: int = 0, kind: str = "") -> tuple[int, str]:
    """Give a command in a process of its own; the disk fails from its k-th change on."""
    note.unlink(missing_ok=True)

    def work() -> None:
        watch(k, lambda: LEVER.write_text(kind))
        ask(note, words)

    process = start(work)
    process.join()
    LEVER.unlink(missing_ok=True)
    return tuple(json.loads(note.read_text())) if note.exists() else (-1, "the process died")


def figures(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: figures(v) for k, v in content.items() if k not in TIMES}
    return [figures(v) for v in content] if isinstance(content, list) else content


def read_all(results: Path) -> dict[str, Any]:
    return {name: figures(json.loads((results / name).read_text())) for name in records(results)}


def is_one_line(error: str, kind: str) -> bool:
    """Whether an error is one line that names a file on the failing disk, and what is wrong with it."""
    words = {"full": "no space left", "readonly": "Read-only file system", "broken": "Input/output error"}
    return error.count("\n") == 1 and str(BELOW) in error and words[kind] in error


def disk(kind: str, tries: int, command: Sequence[str]) -> dict[str, int]:
    """Let the disk fail at random changes: earlier results stay; once mended the command goes on."""
    note, seen = Path(os.environ["TMPDIR"]) / "note", Counter[str]()
    finished, whole = BELOW / "finished", BELOW / "whole"
    shutil.copytree(finished, BELOW / "counted", dirs_exist_ok=True)
    os.environ["TRANSFERBENCH_CACHE"] = str(BELOW / "cache1")
    words = [*command, "method=finetune", f"results={BELOW / 'counted'}"]
    count = num_changes(partial(ask, note, words), note.with_name("count"))
    for k in random.Random(kind).sample(range(1, count + 1), min(count, tries)):
        results = BELOW / "results"
        shutil.copytree(finished, results)
        before = records(results)
        os.environ["TRANSFERBENCH_CACHE"] = str(BELOW / f"cache-{kind}-{k}")
        words = [*command, "method=finetune", f"results={results}"]
        code, error = outcome(note, words, k, kind)
        fine = code == 0 if kind == "slow" else code == 0 or (code == 2 and is_one_line(error, kind))
        after = records(results)
        again, error_again = outcome(note, words)
        found, expected = read_all(results), read_all(whole)
        problems = {
            "lost": any(name not in after for name in before) or found.keys() < expected.keys(),
            "doubled": any(after.get(name, stamp) != stamp for name, stamp in before.items()),
            "wrong": not fine or again != 0 or bool(torn(results)) or found != expected,
        }
        for name, is_so in problems.items():
            seen[name] += is_so
        if any(problems.values()):
            print(f"{kind} {k}: {code} {error}; {again} {error_again}", file=sys.stderr)
        shutil.rmtree(results)
        shutil.rmtree(os.environ["TRANSFERBENCH_CACHE"])
    return {"tried": min(count, tries), **seen}


def crowd(lag: bool, rounds: int, command: Sequence[str]) -> dict[str, int]:
    """Let 16 processes work at four runs in one results folder, with one cache."""
    note, seen = Path(os.environ["TMPDIR"]) / "log", Counter[str]()
    methods = ("finetune", "scratch", "linear_probe", "l2sp")
    expected = None
    for _ in range(rounds):
        note.write_text("")
        results = BELOW / "crowd"
        os.environ["TRANSFERBENCH_CACHE"] = str(BELOW / "crowd-cache")
        if lag:
            os.environ["FAULT_LAG_MS"] = str(LAG_MS)
        processes = [
            start(partial(_one_of_many, note, [*command, f"method={methods[n % 4]}", f"results={results}"]))
            for n in range(16)
        ]
        for process in processes:
            process.join()
        os.environ.pop("FAULT_LAG_MS", None)
        log = Counter(note.read_text().splitlines())
        found = read_all(results)
        expected = expected or found
        seen["lost"] += 5 - len(found)
        seen["doubled"] += sum(count - 1 for word, count in log.items() if word != "fine")
        seen["wrong"] += 16 - log["fine"] + bool(torn(results)) + (found != expected)
        shutil.rmtree(results)
        shutil.rmtree(BELOW / "crowd-cache")
    return {"tried": 16 * rounds, **seen}


def _one_of_many(note: Path, words: Sequence[str]) -> None:
    """Give a command, and log each record and each part of the cache that this process makes."""
    log = os.open(note, os.O_WRONLY | os.O_APPEND)
    replace, decode = os.replace, cache._decode

    def noted(draft: Any, path: Any) -> None:
        replace(draft, path)
        if Path(path).name == "record.json":
            os.write(log, f"{path}\n".encode())

    def noted_decode(images: Any, side: int, interpolation: str, files: Any, words: str) -> None:
        decode(images, side, interpolation, files, words)
        os.write(log, f"{files[0]}\n".encode())

    os.replace, cache._decode = noted, noted_decode
    with contextlib.redirect_stdout(io.StringIO()):
        if main(list(words)) == 0:
            os.write(log, b"fine\n")


def run(place: Path, times: dict[str, int]) -> None:
    torch.set_num_threads(1)
    command = ["run", f"target={place / 'pets'}", f"source={place / 'photos'}", *SMALL]
    os.environ["TRANSFERBENCH_CACHE"] = str(BELOW / "cache0")
    note = Path(os.environ["TMPDIR"]) / "note"
    ask(
        note, [*command, "method=scratch", f"results={BELOW / 'finished'}"]
    )  # here: children find all imported
    shutil.copytree(BELOW / "finished", BELOW / "whole")
    ask(note, [*command, "method=finetune", f"results={BELOW / 'whole'}"])
    assert json.loads(note.read_text())[0] == 0
    for case, tries in times.items():
        done = crowd("lag" in case, tries, command) if "crowd" in case else disk(case, tries, command)
        print(json.dumps({"case": case, **done}), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), json.loads(sys.argv[2]))
