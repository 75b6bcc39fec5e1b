"""The state of each row of a comparison while it runs: of its seeds and trials, and what it does now."""

import json
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from statistics import fmean
from typing import Any

from ... import InputError
from ...analysis.records.schema import is_done
from ...analysis.wording import counted, duration
from ...methods import catalog as methods
from ..config.schema import Protocol, Role, RunConfig
from ..training import heartbeat, record
from ..training.tuning import last_round, trials
from .estimate import Estimate
from .plan import row_of


class State(StrEnum):
    """The state of a run."""

    waits = auto()
    runs = auto()
    done = auto()
    failed = auto()


@dataclass(frozen=True)
class Row:
    """A row at one time.

    Attributes:
        label: its name.
        states: of its runs, by seed; a source pre-training that all seeds share stands at the first one.
        trials: numbers of those done and of all; (0, 0) without tuning.
        mean: of the scores so far, in percent; None before the first.
        now: what it does.
    """

    label: str
    states: dict[int, State]
    trials: tuple[int, int]
    mean: float | None
    now: str

    @property
    def runs(self) -> bool:
        """Return whether one of its runs or trials is active."""
        return bool(self.now)

    @property
    def is_over(self) -> bool:
        """Return whether no run of it is left."""
        return all(state in (State.done, State.failed) for state in self.states.values())


class RowStates:
    """The rows of a comparison, source pre-trainings first, read from the folders of their runs.

    Args:
        configs: all runs, those that are done too.
        results: the results folder.
        estimate: names the pre-trainings and the trials that are left.
    """

    def __init__(self, configs: Sequence[RunConfig], results: Path, estimate: Estimate) -> None:
        self.results = results
        self._done = set[str]()
        self._scores = dict[str, float]()
        shared = [c for c in estimate.todo if c.role is Role.pretraining]
        self._rows: dict[str, list[RunConfig]] = {}
        for config in [*shared, *(c for c in configs if c.role is not Role.trial)]:
            self._rows.setdefault(row_of(config), []).append(config)
        targets = {(c.source_name, c.target_name) for c in configs}
        self._labels = {key: _label(own[0], len(targets) > 1) for key, own in self._rows.items()}
        self._trials = {key: _trials(own) for key, own in self._rows.items()}
        waiting = {c.digest for c in [*estimate.todo, *estimate.later]}
        self._num_trials = {
            key: sum(t.digest in waiting or self._is_done(t) for t in own.values())
            for key, own in self._trials.items()
        }

    def now(self, failed: Container[str]) -> list[Row]:
        """Return the rows; `failed`: digests of runs that ended with an error."""
        return [self._row(key, own, failed) for key, own in self._rows.items()]

    def _row(self, key: str, own: Sequence[RunConfig], failed: Container[str]) -> Row:
        states, active = dict[int, State](), list[str]()
        tried = self._trials[key].values()
        num_tried = sum(map(self._is_done, tried))
        if num_tried < self._num_trials[key]:
            active += [f"trial: {_progress(beat)}" for t in tried if (beat := self._beat(t))]
        for number, config in enumerate(own):
            place = config.seed if config.role is Role.run else number
            beat = self._beat(config)
            if self._is_done(config):
                states[place] = State.done
            elif config.digest in failed:
                states[place] = State.failed
            elif beat:
                states[place] = State.runs
                active += self._active(config, beat)
            else:
                states[place] = State.waits
        scores = [score for c in own if c.role is Role.run and (score := self._score(c)) is not None]
        return Row(
            self._labels[key],
            states,
            (min(num_tried, self._num_trials[key]), self._num_trials[key]),
            fmean(scores) if scores else None,
            _listed(active),
        )

    def _active(self, config: RunConfig, beat: dict[str, Any]) -> list[str]:
        """Return what a run does; nothing while it waits for its trials, which are shown themselves."""
        name = "" if config.role is Role.pretraining else f"seed {config.seed}: "
        if beat["step"]:
            return [f"{name}{_progress(beat)}"]
        if stage := self._first_stage(config):
            return [f"{name}first stage {_progress(stage)}"]
        return [f"{name}prepares"]

    def _first_stage(self, config: RunConfig) -> dict[str, Any] | None:
        """Return the heartbeat of a run's first stage, whose settings are known only after the tuning."""
        if config.protocol is not Protocol.trainval:
            return None
        for path in config.folder(self.results).parent.glob(f"seed{config.seed}-*/heartbeat"):
            with suppress(OSError, ValueError):
                about = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
                if about.get("role") == Role.first_stage and heartbeat.living(path):
                    return heartbeat.read(path)
        return None

    def _beat(self, config: RunConfig) -> dict[str, Any] | None:
        """Return the heartbeat of an active run; None for others."""
        path = config.folder(self.results) / "heartbeat"
        if self._is_done(config) or not path.exists() or not heartbeat.living(path):
            return None
        return heartbeat.read(path)

    def _is_done(self, config: RunConfig) -> bool:
        if config.digest not in self._done and is_done(config.folder(self.results)):
            self._done.add(config.digest)
        return config.digest in self._done

    def _score(self, config: RunConfig) -> float | None:
        """Return the score of a run in percent; None before its end, or if its record is damaged."""
        if not self._is_done(config):
            return None
        if config.digest not in self._scores:
            with suppress(InputError):
                done = record.read(config.folder(self.results)) or {}
                if (score := (done.get("test") or {}).get(config.score)) is not None:
                    self._scores[config.digest] = 100 * score
        return self._scores.get(config.digest)


def _label(config: RunConfig, names_target: bool) -> str:
    label = methods.load(config.method).label(config.settings)
    return f"{label}, {config.target_name}" if names_target and config.role is Role.run else label


def _trials(runs: Sequence[RunConfig]) -> dict[str, RunConfig]:
    """Return all trials of a row's runs that may take place, by digest."""
    if runs[0].role is not Role.run:
        return {}
    return {t.digest: t for c in runs for t in [*trials(c), *(t for each in last_round(c) for t in each)]}


def _progress(beat: dict[str, Any]) -> str:
    left = beat["seconds_left"]
    return f"{beat['step']}/{beat['steps']}" + ("" if left is None else f", {duration(left, digits=2)} left")


def _listed(active: Sequence[str]) -> str:
    """Return the first of some activities, and how many more there are."""
    more = f" and {counted(len(active) - 1, 'more', 'more')}" if len(active) > 1 else ""
    return f"{active[0]}{more}" if active else ""
