"""Kill -9 at any moment: no record is lost, half-written, made twice, or another one."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from deaths import killed_after, killed_at, num_changes, odd_models, records, start, torn
from processes import figures
from rich.console import Console
from transferbench.analysis.records.load import load
from transferbench.benchmarks.commands.bench import before_runs, bench
from transferbench.benchmarks.config.schema import RunConfig
from transferbench.benchmarks.launch.start import run_missing
from transferbench.benchmarks.model.keep import keep_models, ordered
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog
from trees import tree

SMALL = (
    "tune=off",
    *("device=cpu", "recipe.steps=8", "recipe.batch_size=4", "recipe.image_size=16", "recipe.evaluations=4"),
    *("source_recipe.steps=4", "source_recipe.batch_size=4"),
)
TUNED = "bench with tune=auto"
KEEPING = "bench with keep=best"
BY_CLOCK, BY_WRITE = "kill -9 at a random moment", "kill -9 at a rename, flush or write of a run"


@pytest.fixture(scope="module")
def small(tmp_path_factory, config_of) -> Callable[[str], RunConfig]:
    """Give a run of a method that takes about half a second."""
    place = tmp_path_factory.mktemp("place")
    tree(place / "pets", train=8, val=4, test=4)
    tree(place / "photos", ("a", "b", "c"), train=8, val=4)
    pair = (f"target={place / 'pets'}", f"source={place / 'photos'}")

    def config(name: str) -> RunConfig:
        if name == "pretrain":
            return generalist(config_of("finetune", *SMALL, *pair))
        return config_of(name, *SMALL, *pair)

    return config


def read_all(results: Path) -> dict[str, Any]:
    return {name: figures(json.loads((results / name).read_text())) for name in records(results)}


def look(seen: Counter[str], results: Path, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Count what a kill did to the records; give those that there are now."""
    now = records(results)
    seen["lost"] += len(before.keys() - now.keys())
    seen["doubled"] += sum(now[name] != stamp for name, stamp in before.items() if name in now)
    seen["wrong"] += len(torn(results)) + len(odd_models(results))
    return now


def killed_until_done(
    work: Callable[[Path], None], results: Path, moments: Callable[[], float], seen: Counter[str]
) -> int:
    """Kill a bench after some seconds each, and repeat it until it ends by itself; return the kills."""
    before: dict[str, tuple[int, int]] = {}
    kills, goes_on = 0, True
    while goes_on:
        goes_on = killed_after(moments(), partial(work, results))
        kills += goes_on
        before = look(seen, results, before)
    return kills


class Case:
    """A run, its unbroken records, and what was seen of broken ones."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        run_one(config, folder / "whole")  # what is imported on the way is there for all children
        begin = time.perf_counter()
        process = start(partial(run_one, config, folder / "again"))
        process.join()
        self.seconds = time.perf_counter() - begin
        self.whole = read_all(folder / "whole")
        assert read_all(folder / "again") == self.whole
        self.seen: Counter[str] = Counter()
        self.num_folders = 0

    def fresh(self) -> Path:
        self.num_folders += 1
        return self.folder / str(self.num_folders)

    def look(self, results: Path, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Compare the records after a kill with those before it."""
        return look(self.seen, results, before)

    def finish(self, results: Path, before: dict[str, tuple[int, int]]) -> None:
        """Let the run end, and compare all that there is with the unbroken run."""
        process = start(partial(run_one, self.config, results))
        process.join()
        self.look(results, before)
        found = read_all(results)
        self.seen["lost"] += len(self.whole.keys() - found.keys())
        self.seen["wrong"] += sum(record != self.whole.get(name) for name, record in found.items())
        folder = self.config.folder(results)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        curve = self.whole[str(folder.relative_to(results) / "record.json")]["curve"]
        self.seen["wrong"] += [json.loads(line)["step"] for line in lines] != [p["step"] for p in curve]
        allowed = {
            "config.json",
            "metrics.jsonl",
            "record.json",
            "kept.pt",
            "model.json",
            "model.safetensors",
        }
        self.seen["wrong"] += not {p.name for p in folder.iterdir()} <= allowed


@pytest.mark.parametrize("name", catalog.names())
def test_killed_at_random_moments(small, tmp_path, tally, not_yet, name):
    not_yet(BY_CLOCK, name)
    case = Case(small(name), tmp_path)
    draw, kills = random.Random(name), 0
    while kills < tally.times(1, 25):
        results, before, goes_on = case.fresh(), {}, True
        while goes_on:
            moment = draw.uniform(0.02, 0.95) * case.seconds
            goes_on = killed_after(moment, partial(run_one, case.config, results))
            kills += goes_on
            before = case.look(results, before)
        case.finish(results, before)
    tally.note(BY_CLOCK, name, kills, **case.seen)


@pytest.mark.parametrize("name", catalog.names())
def test_killed_at_changes_to_the_disk(small, tmp_path, tally, not_yet, name):
    """At each one for DATL, which rests on two pre-trainings; at some for the others."""
    not_yet(BY_WRITE, name)
    if not tally.is_long and name != "finetune":
        pytest.skip("in `make torture`")
    case = Case(small(name), tmp_path)
    count = num_changes(partial(run_one, case.config, tmp_path / "counted"), tmp_path / "count")
    every = range(1, count + 1)
    some = tally.times(5, count if name == "datl" else 15)
    kills = 0
    for k in random.Random(name).sample(every, min(some, count)):
        results = case.fresh()
        kills += killed_at(k, partial(run_one, case.config, results))
        case.finish(results, case.look(results, {}))
    tally.note(BY_WRITE, name, kills, **case.seen)


@pytest.mark.usefixtures("forked")
def test_a_tuned_bench_killed_at_random_moments(tmp_path, tally, not_yet):
    """Two rows with two seeds rest on trials that their workers share: nine, and two folds of the best."""
    not_yet(BY_CLOCK, TUNED)
    tree(tmp_path / "pets", train=8, val=4, test=4)
    tree(tmp_path / "photos", ("a", "b", "c"), train=8, val=4)
    given = [f"target={tmp_path / 'pets'}", f"source={tmp_path / 'photos'}", "methods=scratch,l2sp"]
    given += ["seeds=2", "workers=2", *SMALL, "tune=auto", "tune_budget=4", "backbone=tiny"]

    def work(results: Path) -> None:
        with redirect_stdout(StringIO()):
            assert bench([*given, f"results={results}"]) == 0

    whole = tmp_path / "whole"
    begin = time.perf_counter()
    start(partial(work, whole)).join()
    seconds, expected = time.perf_counter() - begin, read_all(whole)
    assert len(expected) == 1 + 2 * (2 + 9 + 6)
    seen: Counter[str] = Counter()
    moments = partial(random.Random(TUNED).uniform, 0.05 * seconds, 0.9 * seconds)
    kills = number = 0
    while kills < tally.times(1, 25):
        number += 1
        results = tmp_path / str(number)
        kills += killed_until_done(work, results, moments, seen)
        seen["wrong"] += read_all(results) != expected
    tally.note(BY_CLOCK, TUNED, kills, **seen)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory, forked) -> tuple[Callable[..., None], Path]:
    """Give a bench of two rows, without its report; and the results of one that kept all models."""
    place = tmp_path_factory.mktemp("keeping")
    tree(place / "pets", train=8, val=4, test=4)
    tree(place / "photos", ("a", "b", "c"), train=8, val=4)
    given = [f"target={place / 'pets'}", f"source={place / 'photos'}", "methods=finetune,ncm"]
    given += ["seeds=2", "workers=2", *SMALL, "backbone=tiny"]

    def work(results: Path, end: Callable[..., None] = keep_models) -> None:
        console = Console(file=StringIO())
        planned = before_runs([*given, f"results={results}"], console)
        assert planned.estimate
        assert not run_missing(planned.configs, results, console, planned.estimate)
        end(planned.configs, results, console)

    work(place / "whole", lambda *_: None)
    return work, place / "whole"


def keeps_what_it_should(results: Path) -> bool:
    """Tell whether fine-tuning's median seed is kept; which row is recommended depends on times."""
    runs = load(results)
    right = [ordered([r for r in runs if r.method == m])[0].path.parent for m in ("finetune", "ncm")]
    kept = {path.parent for path in results.glob("*/*/*/model.*")}
    best = [path.parent / json.loads(path.read_text())["run"] for path in results.glob("*/best.json")]
    return right[0] in kept and kept <= set(right) and set(best) <= kept


def test_the_end_of_a_bench_killed_at_changes_to_the_disk(keeping, tmp_path, tally, not_yet):
    """Model and record agree at every moment; in the end the chosen models are there, and no others."""
    not_yet(BY_WRITE, KEEPING)
    work, whole = keeping
    count = num_changes(partial(work, shutil.copytree(whole, tmp_path / "0")), tmp_path / "count")
    seen: Counter[str] = Counter()
    some = random.Random(KEEPING).sample(range(1, count + 1), min(tally.times(5, 25), count))
    kills = 0
    for k in some:
        results = shutil.copytree(whole, tmp_path / str(k))
        before = records(results)
        kills += killed_at(k, partial(work, results))
        before = look(seen, results, before)
        start(partial(work, results)).join()
        look(seen, results, before)
        seen["wrong"] += not keeps_what_it_should(results)
    tally.note(BY_WRITE, KEEPING, kills, **seen)


def test_a_bench_that_keeps_its_best_model_killed_at_random_moments(keeping, tmp_path, tally, not_yet):
    not_yet(BY_CLOCK, KEEPING)
    if not tally.is_long:
        pytest.skip("in `make torture`")
    work, _ = keeping
    begin = time.perf_counter()
    start(partial(work, tmp_path / "whole")).join()
    seconds = time.perf_counter() - begin
    seen: Counter[str] = Counter()
    moments = partial(random.Random(KEEPING).uniform, 0.3 * seconds, seconds)
    kills = number = 0
    while kills < 25:
        number += 1
        results = tmp_path / str(number)
        kills += killed_until_done(work, results, moments, seen)
        seen["wrong"] += not keeps_what_it_should(results)
    tally.note(BY_CLOCK, KEEPING, kills, **seen)
