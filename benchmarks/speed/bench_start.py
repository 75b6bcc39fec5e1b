"""Start-up time of commands: help, a report, a finished bench, a run of one step."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .interleaved import Rounds, race, show

NUM_RECORDS = 100
TINY = ("recipe.steps=1", "recipe.evaluations=1", "source_recipe.steps=1", "threads=1")
BENCH = ("bench", "methods=finetune,scratch", "seeds=2", *TINY)


def _transferbench(*words: str) -> None:
    """Run a command as after an installation, with cached bytecode."""
    code = "from transferbench.benchmarks.cli import main; import sys; sys.exit(main())"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-c", code, *words]
    subprocess.run(command, check=True, capture_output=True, env=environment)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a tiny bench."""
    place = tmp_path_factory.mktemp("done")
    _transferbench(*BENCH, f"results={place}")
    return place


@pytest.fixture(scope="module")
def records(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy its records until there are a hundred, each with another seed."""
    place = tmp_path_factory.mktemp("records")
    found = [
        json.loads(p.read_text(encoding="utf-8"))
        for p in sorted(results.glob("glyphs-digits/*/*/record.json"))
    ]
    for i in range(NUM_RECORDS):
        record = found[i % len(found)] | {"seed": i, "digest": f"{i:010}"}
        path = place / "glyphs-digits" / record["method"] / f"seed{i}-{i:010}" / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record), encoding="utf-8")
    return place


def bench_start_up(benchmark: Any, results: Path, records: Path) -> None:
    """Time each command in a new process."""
    seeds = iter(range(100, 200))

    def first_step() -> None:
        words = ("run", "method=finetune", f"seed={next(seeds)}", *TINY)
        _transferbench(*words, f"results={results}")

    commands = {
        "`transferbench --help`": (lambda: _transferbench("--help"), 0.5),
        f"`report` of {NUM_RECORDS} records": (lambda: _transferbench("report", f"results={records}"), 3.0),
        "`bench` with all done": (lambda: _transferbench(*BENCH, f"results={results}"), 3.0),
        "`run` of one step, to its record": (first_step, 5.0),
    }
    times = race(benchmark, Rounds({name: run for name, (run, _) in commands.items()}), count=3, warmup=1)
    for name, (_, most) in commands.items():
        show(benchmark, name, times.seconds[name], "s", most=most)
