"""Faults at random moments over one bench: `python tests/slurm/storm.py FOLDER [SEED [FAULTS]]`.

Runs a bench of 12 runs through SLURM, does to its jobs what clusters do, and compares every record with that
of an unbroken bench in FOLDER/whole. Prints what was done, and ends with 1 where anything differs.
"""

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import faults
from transferbench.benchmarks.cli import main
from transferbench.slurm import queue, submit

BENCH = [
    "methods=finetune,l2sp,l2tl,scratch",
    "seeds=3",
    "recipe.steps=600",
    "recipe.evaluations=4",
    "recipe.batch_size=4",
    "recipe.image_size=16",
    "source_recipe.steps=100",
    "source_recipe.batch_size=4",
    "source_recipe.seed=0",
    "checkpoint_minutes=0.02",
    "threads=1",
]
TIMES = ("seconds", "started", "ended", "peak_memory_bytes", "environment")


def figures(record):
    if isinstance(record, dict):
        return {k: figures(v) for k, v in record.items() if k not in TIMES}
    return [figures(v) for v in record] if isinstance(record, list) else record


def records(results: Path) -> dict[str, object]:
    found = results.glob("*/*/*/record.json")
    return {str(p.parent.relative_to(results)): figures(json.loads(p.read_text())) for p in found}


def storm(folder: Path, seed: int, count: int) -> int:
    cluster = folder / "low.yaml"
    cluster.write_text(
        "partition: low\nmemory_gb: 1.5\nminutes: 20\nsignal_seconds: 20\nrestarts: 20\n"
        "array_parallelism: 4\n"
    )
    results = folder / "broken"
    command = ["bench", *BENCH, "on=slurm", f"cluster={cluster}", f"results={results}"]
    assert main(command) == 0
    assert main(command) == 0  # nothing is queued twice
    lines = list(submit.latest(results).values())
    assert len(lines) == len(submit.read_jobs(results)) == 13, len(submit.read_jobs(results))
    draw = random.Random(seed)
    begin, done, retries = time.time(), 0, 0
    while open_lines := [x for x in submit.latest(results).values() if not record_of(results, x).exists()]:
        time.sleep(draw.uniform(1, 6))
        running = [
            x
            for x in open_lines
            if faults.beat_of(results / x.folder).get("step") and faults.lives(results / x.folder)
        ]
        if done < count and running:
            line, fault = draw.choice(running), draw.choice(faults.ALL)
            step = faults.beat_of(results / line.folder).get("step")
            done += 1
            print(
                f"{time.time() - begin:6.0f} s  {done:2} {fault.__name__:15} {line.folder} at {step}",
                flush=True,
            )
            try:
                fault(results / line.folder, line.job)
            except (OSError, KeyError) as error:  # it ended this very moment
                print(f"          it had ended: {error}", flush=True)
        waiting = queue.queued() or {}
        if not any(x.job in waiting for x in open_lines):
            retries += 1
            print(f"{time.time() - begin:6.0f} s  retry: {[x.folder for x in open_lines]}", flush=True)
            assert main(["retry", f"results={results}"]) == 0
        assert time.time() - begin < 3000, "too long"
    assert done == count, f"the bench ended after {done} faults of {count}"
    print(f"{time.time() - begin:6.0f} s  all ended; {done} faults, {retries} retries", flush=True)
    assert main(["bench", *BENCH, f"results={results}"]) == 0
    whole, broken = records(folder / "whole"), records(results)
    assert len(broken) == 13, sorted(broken)
    differ = [name for name in whole if whole[name] != broken.get(name)]
    print(f"records: {len(broken)}; different from the unbroken bench: {differ or 'none'}")
    states = [main(["status", f"results={results}"])]
    return int(bool(differ) or any(states))


def record_of(results: Path, line: submit.Submitted) -> Path:
    return results / line.folder / "record.json"


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    seed, count = (*map(int, numbers), *(0, 20)[len(numbers) :])
    Path(place).mkdir(parents=True, exist_ok=True)
    if not (Path(place) / "whole").exists():
        assert main(["bench", *BENCH, "workers=1", f"results={place}/whole"]) == 0
    sys.exit(storm(Path(place), seed, count))
