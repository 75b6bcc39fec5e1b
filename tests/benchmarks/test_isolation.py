"""No method, tuner or choice reads a test image before the end, nor of the holdout what its protocol keeps.

Every split of a run is instrumented: it logs which rows and labels are read, and by whom. A new file in
methods/ is tested without a change here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from transferbench.benchmarks.config.schema import Protocol, Role, RunConfig
from transferbench.benchmarks.training import loop, problem, run
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels, Raw
from transferbench.methods import catalog
from trees import tree

TINY = (
    "tune=off",
    *("recipe.steps=2", "recipe.batch_size=4", "recipe.image_size=16", "recipe.evaluations=1", "device=cpu"),
    *("source_recipe.steps=2", "source_recipe.batch_size=4"),
)
TUNED = ("tune=paper_grid", "recipe.lr_grid=[0.01]", "recipe.weight_decay_grid=[0.0]")


@dataclass(frozen=True)
class Read:
    """Something that was read of a part, in which run, and by whom: method, curve, final or record."""

    role: Role
    protocol: Protocol
    who: str
    part: str
    what: str  # pixels, labels or index
    rows: frozenset[int] = frozenset()


@dataclass
class Log:
    """Who is at work, and what has been read."""

    reads: list[Read] = field(default_factory=list)
    config: Any = None
    who: str = "build"

    def note(self, part: str, what: str, rows: Any = ()) -> None:
        if self.config is not None and self.who != "build":
            config = self.config
            self.reads.append(Read(config.role, config.protocol, self.who, part, what, frozenset(rows)))

    @contextmanager
    def by(self, who: str, config: Any = None) -> Iterator[None]:
        before = self.config, self.who
        self.config, self.who = config or self.config, who
        try:
            yield
        finally:
            self.config, self.who = before

    def of(self, part: str, who: str, role: Role, what: str = "pixels") -> set[int]:
        """Return the rows that were read."""
        mine = [r for r in self.reads if (r.part, r.who, r.role, r.what) == (part, who, role, what)]
        return set().union(*(r.rows for r in mine))


class WatchedPixels(MemoryPixels):
    """Pixels that tell which of them are taken."""

    def take(self, index: torch.Tensor) -> Callable[[], Raw]:
        self.log.note(self.part, "pixels", index.tolist())
        return super().take(index)


class WatchedSplit(Split):
    """A split, and whatever is cut from it, that tells when it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("labels", "index"):
            LOGS[-1].note(super().__getattribute__("name"), name)
        return super().__getattribute__(name)


LOGS: list[Log] = []


@pytest.fixture
def log(monkeypatch) -> Iterator[Log]:
    """Instrument the splits of every run that is made in the test."""
    log = Log()
    LOGS.append(log)
    split, built, whole = problem._split, run.build_problem, run._run

    def watched(*given: Any) -> Split:
        found = split(*given)
        pixels = WatchedPixels(found.pixels.pixels, found.pixels.aspect)
        object.__setattr__(pixels, "log", log)
        object.__setattr__(pixels, "part", found.name)
        return WatchedSplit(**{f.name: getattr(found, f.name) for f in fields(Split)} | {"pixels": pixels})

    def build_then_method(*given: Any, **named: Any) -> Any:
        found = built(*given, **named)
        log.who = "method"
        return found

    def in_run(config: RunConfig, *rest: Any) -> None:
        with log.by("build", config):
            whole(config, *rest)

    def told(work: Any, who: str) -> Any:
        def at_work(*given: Any, **named: Any) -> Any:
            with log.by(who):
                return work(*given, **named)

        return at_work

    monkeypatch.setattr(problem, "_split", watched)
    monkeypatch.setattr(run, "build_problem", build_then_method)
    monkeypatch.setattr(run, "_run", in_run)
    monkeypatch.setattr(run, "_record", told(run._record, "record"))
    monkeypatch.setattr(run, "label_fields", told(run.label_fields, "record"))
    monkeypatch.setattr(loop, "evaluate", told(loop.evaluate, "curve"))
    monkeypatch.setattr(run, "evaluate", told(run.evaluate, "final"))
    yield log
    LOGS.remove(log)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("isolation")
    tree(place / "pets", train=6, val=6, test=5)
    tree(place / "photos", ("a", "b", "c"), train=8, val=2)
    return place


def check(log: Log, num_holdout: int, num_test: int) -> None:
    """Compare the reads with those that each role and protocol allows."""
    for read in log.reads:
        if read.part == "pets/test":
            assert read.who in ("final", "record"), f"{read.who} reads {read.what} of the test images"
            assert read.role is Role.run if read.who == "final" else read.what != "pixels"
        if read.part.startswith("pets/") and read.role is Role.pretraining:
            raise AssertionError(f"the pre-training reads {read.what} of {read.part}")
        if read.who == "final":
            assert read.part == "pets/test"
        if read.who == "curve" and read.role is Role.run:
            assert read.protocol is Protocol.holdout, "no choice is left once the holdout is trained on"
    assert log.of("pets/test", "final", Role.run) == set(range(num_test))
    choice = log.of("pets/holdout", "curve", Role.trial)
    if choice:
        assert len(choice) == num_holdout / 2
        assert not choice & log.of("pets/holdout", "method", Role.trial), "rewards come from what chooses"


def check_count(log: Log, labels: dict[str, int], protocol: str, has_trials: bool) -> None:
    """Compare a record's counts of labels with the reads: the set has 12 training and 12 holdout images."""
    roles = (Role.first_stage, *([Role.run] if protocol == "holdout" else []))
    judged = any(log.of("pets/holdout", "method", role) for role in roles)
    assert labels["training"] == (24 if protocol == "trainval" else 12)
    assert labels["rewards"] == (12 if judged else 0)
    rewards_of_trials = 6 if log.of("pets/holdout", "method", Role.trial) else 0
    assert labels["choosing"] == (12 + 6 + rewards_of_trials if has_trials else 0)
    assert labels["all"] == (24 if protocol == "trainval" or judged else 12)


EVERY = [name for name in catalog.names() if name != "pretrain"]


@pytest.mark.parametrize(
    ("name", "protocol"),
    [*((name, "trainval") for name in EVERY), ("finetune", "holdout"), ("l2tl", "holdout")],
)
def test_the_test_images_are_read_once_at_the_end(config_of, place, log, name, protocol):
    """With trials, a first stage where there is one, and the run itself: all that a method goes through."""
    images = (f"target={place / 'pets'}", f"source={place / 'photos'}")
    tuned = TUNED if protocol == "trainval" else ()
    config = config_of(name, *TINY, *images, f"protocol={protocol}", *tuned)
    done = run_one(config, place / "results")
    assert done["test"]["num_images"] == 10
    check(log, num_holdout=12, num_test=10)
    has_trials = protocol == "trainval" and not catalog.load(name).closed_form
    assert bool(log.of("pets/holdout", "curve", Role.trial)) == has_trials
    assert bool(log.of("pets/holdout", "curve", Role.run)) == (protocol == "holdout")
    labels = done["labels"]
    if (name, protocol) == ("reweight", "trainval"):  # other batches of its training images judge
        assert labels["rewards"] == labels["training"] == 24
    else:
        check_count(log, labels, protocol, has_trials)


def test_the_pretraining_reads_the_source_alone(config_of, place, log, tmp_path):
    images = (f"target={place / 'pets'}", f"source={place / 'photos'}")
    run_one(generalist(config_of("finetune", *TINY, *images)), tmp_path)
    assert {read.part for read in log.reads} == {"photos/train", "photos/holdout"}


@pytest.mark.parametrize("what", ["pixels", "labels", "choice"])
def test_a_method_that_cheats_is_seen(config_of, place, log, monkeypatch, tmp_path, what):
    """The instruments would notice."""
    cls, kept = catalog.load("scratch"), []
    by_protocol, step = problem.by_protocol, cls.step

    def leaky(config: RunConfig, parts: Any) -> Any:
        kept[:] = [parts["test"], parts["holdout"]]
        return by_protocol(config, parts)

    def cheats(self: Any, t: int) -> Any:
        test, holdout = kept
        if what == "pixels":
            test.pixels.take(test.index[:1])
        elif what == "labels":
            test.labels.sum()
        else:
            next(holdout.stream(12, seed=0))
        return step(self, t)

    monkeypatch.setattr(problem, "by_protocol", leaky)
    monkeypatch.setattr(cls, "step", cheats)
    images = (f"target={place / 'pets'}", f"source={place / 'photos'}")
    run_one(config_of("scratch", *TINY, *images, "protocol=trainval", *TUNED), tmp_path)
    with pytest.raises(AssertionError, match="rewards come from" if what == "choice" else "method reads"):
        check(log, num_holdout=12, num_test=10)
