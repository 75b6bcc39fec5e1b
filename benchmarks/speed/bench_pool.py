"""A whole bench: use of the cores by its workers; and small runs that share a GPU."""

import json
import resource
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from ..launch.pool import num_cores
from .interleaved import Rounds, race, show

SEEDS = 3
PER_GPU = 3
ROWS = "methods=scratch,finetune,linear_probe,datl,uniform,random,l2tl"  # those that train
SIZE = ("backbone=small", "recipe.batch_size=32", "recipe.lr=0.01", "recipe.evaluations=10")
SOURCE = ("source_recipe.steps=1000", "source_recipe.seed=0")


def _bench(*words: str) -> tuple[float, float]:
    """Run a bench in new processes; return their wall and CPU seconds."""
    code = "from transferbench.benchmarks.cli import main; import sys; sys.exit(main())"
    before, begin = _children_seconds(), time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code, "bench", *words], check=True, capture_output=True)
    return time.perf_counter() - begin, _children_seconds() - before


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _times(results: Path, pattern: str) -> list[tuple[float, float]]:
    """Return start and end of the runs of some records, in seconds, in order of the start."""
    records = [json.loads(p.read_text(encoding="utf-8")) for p in results.glob(f"{pattern}/record.json")]
    moments = [[datetime.fromisoformat(r[k]).timestamp() for k in ("started", "ended")] for r in records]
    return sorted((began, ended) for began, ended in moments)


def bench_whole(benchmark: Any, tmp_path: Path) -> None:
    """Time the seven rows that train at three seeds, one worker per core."""
    workers = num_cores()
    found = []

    def whole() -> None:
        words = (f"seeds={SEEDS}", f"workers={workers}", "device=cpu", f"results={tmp_path}")
        found.append(_bench(ROWS, *SIZE, *SOURCE, *words))

    benchmark.pedantic(whole, rounds=1)
    wall, cpu = found[0]
    show(benchmark, f"`bench` of 7 methods at {SEEDS} seeds", wall, "s")
    what = f"wall time of that / (CPU seconds of all its processes / {workers})"
    show(benchmark, what, wall / (cpu / workers), most=1.15)
    pretraining = _times(tmp_path, "glyphs/pretrain/*")[0]  # the others are specialists of single rows
    without_source = _times(tmp_path, "*/scratch/*")
    alone = max(0.0, pretraining[1] - max(ended for _, ended in without_source))
    show(
        benchmark,
        "part of the wall time in which all rows left wait for the pre-training",
        100 * alone / wall,
        "%",
    )
    busy = wall - alone * (workers - 1) / workers
    show(benchmark, f"wall time without that wait / (CPU seconds / {workers})", busy / (cpu / workers))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def bench_runs_that_share_a_gpu(benchmark: Any, tmp_path: Path) -> None:
    """Time a low-shot grid on one GPU: one run at a time, and several at a time."""
    places = iter(range(100))

    def grid(workers: int) -> None:
        place = tmp_path / str(next(places))
        _bench(f"seeds={2 * PER_GPU}", f"workers={workers}", "methods=finetune,l2tl", f"results={place}")

    rivals = {"one": lambda: grid(1), "some": lambda: grid(PER_GPU)}
    times = race(benchmark, Rounds(rivals), count=1, warmup=0)
    what = f"throughput of {PER_GPU} low-shot runs a GPU / one at a time"
    show(benchmark, what, times.ratios("one", "some"), least=1.5)
