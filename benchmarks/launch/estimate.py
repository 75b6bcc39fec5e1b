"""Estimate how long runs take here: from the measured speed of the network, and from earlier records."""

import heapq
import json
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ... import InputError
from ...analysis.records.schema import read_record
from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ...methods.recipe import TestCrops
from ..config.schema import Protocol, Role, RunConfig, load_target
from ..training.pretraining import generalist
from ..training.run import first_stage, num_steps, requirements
from ..training.tuning import last_round, tuned_names
from .plan import later_trials, num_labels, row_of, run_order
from .speed import Speed, measure, speed_key

START_SECONDS = 6.0  # of the workers, until the first step
END_SECONDS = 4.0  # for the report
RUN_SECONDS = 1.0  # of a run, for its network, its record and its files
NUM_CROPS = {TestCrops.central: 1, TestCrops.ten: 10}


@dataclass(frozen=True)
class Estimate:
    """The time that runs take.

    Attributes:
        seconds: of each run without those that it requires, by digest.
        total: until all are done, by several workers.
        todo: the runs, those that others require included.
        later: the trials of the last round, of which the first round chooses the candidates.
        workers: runs at a time.
    """

    seconds: dict[str, float]
    total: float
    todo: list[RunConfig]
    later: list[RunConfig]
    workers: int


class Estimator:
    """Estimates for runs of one results folder; each speed is measured once.

    Args:
        results: the results folder; its records of this machine tell the time of a method's steps.
        workers: runs at a time.
        threads: CPU threads of one run.
    """

    def __init__(self, results: Path, workers: int, threads: int) -> None:
        self.results, self.workers, self.threads = results, workers, threads
        self._speeds: dict[str, Speed] = {}

    @cached_property
    def _recorded(self) -> dict[str, float]:
        """The seconds of a step in earlier records, which are read if there is a run to do."""
        return _recorded_steps(self.results, self.threads)

    def of(self, configs: Sequence[RunConfig]) -> Estimate:
        """Return the estimate for all runs without a record, those that others require included."""
        todo = run_order(configs, self.results)
        later = later_trials(todo, self.results)
        once = set[Any]()  # work that the first of several runs does for all
        every = [*todo, *later]
        images = sum(_images(c)[0] for c in every)
        seconds = {c.digest: self._seconds(c, images, once) for c in every}
        total = _makespan(todo, later, seconds, self.workers)
        total = START_SECONDS + total + END_SECONDS if todo else 0.0
        return Estimate(seconds, total, todo, later, self.workers)

    def _seconds(self, config: RunConfig, images: float, once: set[Any]) -> float:
        """Return the seconds of one run; `images`: those of all runs; `once`: work that is done already."""
        trained, judged = _images(config)
        speed = self._speed(config, images)
        steps = trained * speed.trained + judged * speed.judged
        if recorded := self._recorded.get(_step_key(config.method, config.resolved())):
            steps = recorded * num_steps(config)
        stages = 2 if first_stage(config) else 1
        total = RUN_SECONDS + stages * steps + _evaluated(config) * speed.judged
        if methods.load(config.method).closed_form and (key := _features_key(config)) not in once:
            once.add(key)
            total += _labels(config) * speed.judged
        if methods.load(config.method).pretrains and (key := _pretraining_key(config)) not in once:
            once.add(key)
            source = generalist(config)
            steps = config.settings.specialist_share * source.recipe.steps
            total += RUN_SECONDS + steps * source.recipe.batch_size * self._speed(source, images).trained
        return total

    def _speed(self, config: RunConfig, images: float) -> Speed:
        key = speed_key(config)
        if key not in self._speeds:
            self._speeds[key] = measure(config, self.workers, self.threads, images)
        return self._speeds[key]


def _images(config: RunConfig) -> tuple[float, float]:
    """Return the numbers of images that a run's steps train on, and that they pass forward only."""
    method = methods.load(config.method)
    if method.closed_form:
        return 0, 0
    trained, judged = method.images_per_step(config.settings, config.recipe)
    if config.role is Role.pretraining and config.settings.head_only:
        trained, judged = 0, trained
    return trained * config.recipe.steps, judged * config.recipe.steps


def _evaluated(config: RunConfig) -> float:
    """Return the number of images that a run is evaluated on: at the points of its curve, and in the test."""
    recipe = config.recipe
    if config.role is Role.pretraining:
        source = datasets.load(config.source, True, config.draw)
        held = len(source.part("holdout").labels) if "holdout" in source.parts else 0
        return min(recipe.steps, recipe.evaluations) * held
    held = num_labels(config, "holdout")
    if config.role is Role.trial:
        share = 1 / int(config.fold.rpartition("/")[2]) if config.fold else 0.5
        return share * (_labels(config) if config.fold else held)
    points = min(num_steps(config), recipe.evaluations)
    is_judged = config.protocol is Protocol.holdout or first_stage(config)
    test = load_target(config).part("test")
    return points * held * bool(is_judged) + len(test.labels) * NUM_CROPS[recipe.test_crops]


def _labels(config: RunConfig) -> int:
    return sum(num_labels(config, part) for part in ("train", "holdout"))


def _features_key(config: RunConfig) -> Any:
    """Return a key that is equal for runs that share the features of their labeled images."""
    return "features", config.seed if config.shots else 0, row_of(config).split()[0]


def _pretraining_key(config: RunConfig) -> Any:
    """Return a key that is equal for runs that share a method's own source pre-training."""
    is_published = config.pretrained or config.checkpoint is not None
    images = (config.fold, config.role is Role.trial, config.seed if config.shots else 0)
    return "pretraining", config.method, str(config.settings), images, config.recipe.lr if is_published else 0


def _makespan(
    todo: Sequence[RunConfig], later: Sequence[RunConfig], seconds: Mapping[str, float], workers: int
) -> float:
    """Return the seconds until workers have done all runs, each taking the next one when it is free.

    A run waits for those that it requires. The last round of a row's trials comes before the row's first run.
    """
    free = [0.0] * workers
    end: dict[str, float] = {}
    of_row: dict[str, set[str]] = {}

    def do(config: RunConfig, after: Iterable[str]) -> None:
        ready = max((end.get(digest, 0.0) for digest in after), default=0.0)
        end[config.digest] = max(heapq.heappop(free), ready) + seconds[config.digest]
        heapq.heappush(free, end[config.digest])

    for config in todo:
        first = [r.digest for r in requirements(config)]
        row = row_of(config)
        if config.role is Role.run and row not in of_row:
            of_row[row] = {trial.digest for own in last_round(config) for trial in own}
            for trial in later:
                if trial.digest in of_row[row]:
                    do(trial, first)
        do(config, [*first, *of_row.get(row, ())])
    return max(end.values(), default=0.0)


def _step_key(method: str, config: Mapping[str, Any]) -> str:
    """Return the settings that determine the time of a method's step, from a run's resolved settings."""
    recipe, searched = config["recipe"], tuned_names(method)
    of = [recipe[name] for name in ("batch_size", "image_size", "precision", "channels_last")]
    of.append(recipe.get("source_batch_size", 0))
    own = {name: value for name, value in config["settings"].items() if name not in searched}
    return json.dumps([method, config["backbone"], config["target"], *of, own], default=str, sort_keys=True)


def _recorded_steps(results: Path, threads: int) -> dict[str, float]:
    """Return the median seconds of a step of each method in the records that this machine wrote."""
    found = defaultdict[str, list[float]](list)
    for path in results.glob("*/*/*/record.json"):
        with suppress(InputError, KeyError):  # the report names an unreadable record
            done = read_record(path)
            here = done["environment"]["host"] == socket.gethostname()
            if here and done["environment"].get("threads") == threads:
                found[_step_key(done["method"], done["config"])].append(done["seconds"]["per_step_median"])
    return {key: median(seconds) for key, seconds in found.items()}
