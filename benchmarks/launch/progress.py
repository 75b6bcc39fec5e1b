"""Show the progress of runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from rich.console import Console

from ...analysis.records.schema import is_done
from ...analysis.wording import counted, duration
from ...methods import catalog as methods
from ..config.schema import Norms, Role, RunConfig, Tune
from ..training import heartbeat, record
from ..training.tuning import last_round
from .estimate import Estimate
from .live_table import LiveTable
from .plan import missing, row_of
from .row_states import RowStates

TICK_SECONDS = 0.5  # between two looks at the heartbeats
QUIET_SECONDS = 30.0  # time between two plain lines about active runs
TRUST = 0.1  # share of the estimate after which the pace so far counts as much as the estimate


class Progress:
    """The display of runs, from their heartbeats; independent of how they are executed.

    Trials of the last round count, too: they are done within a run, one after the other.

    Args:
        configs: all runs of the comparison, those that are done too.
        results: the results folder.
        console: where to print.
        estimate: names the runs that are left.
    """

    def __init__(
        self, configs: Sequence[RunConfig], results: Path, console: Console, estimate: Estimate
    ) -> None:
        self.configs = {c.digest: c for c in estimate.todo}
        self.results, self.console, self.estimate = results, console, estimate
        todo = {row_of(c): c for c in estimate.todo}.values()
        last = [t for c in todo for own in last_round(c) for t in own]
        self.later = {t.digest: t for t in missing(last, results) if t.digest not in self.configs}
        self.watched = self.later | self.configs
        self.begin = time.time()
        self.failed = dict[str, str]()
        self._ended: set[str] = set()
        self._spoke = self.begin
        is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = (RowStates(configs, results, estimate), LiveTable(console)) if is_live else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._live[1].start()
            self.tick()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self.tick()
            self._live[1].stop()

    def report(self, config: RunConfig, error: str | None) -> None:
        """Print that a run ended, with its score or its error; the table of a terminal shows scores."""
        self._ended.add(config.digest)
        num_done = len(self._done())
        count = f"[{num_done}/{self.total}]"
        if error is not None:
            self.failed[config.digest] = error
            self.console.print(f"{count} {name_of(config)}: failed: {error}", style="red", markup=False)
            return
        if self._live:
            return
        rest = self.total - num_done
        left = f"; about {duration(self._left())} left for {counted(rest, 'run')}" if rest else ""
        self.console.print(f"{count} {end_line(config, self.results)}{left}", markup=False)

    def look(self) -> None:
        """Count the runs that ended and that nobody reports: those that this process does itself."""
        self._ended |= {d for d, c in self.configs.items() if is_done(c.folder(self.results))}
        self.tick()

    def tick(self) -> None:
        """Refresh the display of the active runs."""
        if self._live:
            rows, table = self._live
            table.update(self._title(), rows.now(self.failed))
        elif time.time() - self._spoke > QUIET_SECONDS:
            self._spoke = time.time()
            for cells in self._running():
                self.console.print("  running: " + ", ".join(filter(None, cells)), markup=False)

    @property
    def total(self) -> int:
        """Return the number of runs, with the trials of the last round."""
        return len(self.configs) + len(self.estimate.later)

    def _done(self) -> set[str]:
        """Return the digests of what is done: runs that ended, and trials of the last round."""
        return self._ended | {d for d, t in self.later.items() if is_done(t.folder(self.results))}

    def _left(self) -> float:
        """Return the seconds that are left: those of the estimate, by the pace once a run has ended."""
        whole = sum(self.estimate.seconds.values())
        ended = self._done()
        done = sum(self._seconds(digest) for digest in ended)
        for digest, config in self.watched.items():
            if beat := heartbeat.read(config.folder(self.results) / "heartbeat"):
                done += self._seconds(digest) * beat["step"] / max(1, beat["steps"])
        share = min(1.0, done / whole) if whole else 1.0
        expected = self.estimate.total
        if not ended:
            return (1 - share) * expected
        pace = (time.time() - self.begin + TRUST * expected) / (share * expected + TRUST * expected)
        return pace * (1 - share) * expected

    def _seconds(self, digest: str) -> float:
        """Return the estimated seconds of a run; those of a row's other candidates are alike."""
        if digest in self.estimate.seconds:
            return self.estimate.seconds[digest]
        row = self.later[digest]
        alike = [t for t in self.estimate.later if t.method == row.method]
        return self.estimate.seconds[alike[0].digest] if alike else 0.0

    def _running(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for config in self.watched.values():
            beat = heartbeat.read(config.folder(self.results) / "heartbeat")
            if beat:
                left = beat["seconds_left"]
                score = beat["holdout"].get(config.score)
                at_start = beat["step"] == 0 and config.tune is not Tune.off
                step = "waits for its trials" if at_start else f"step {beat['step']}/{beat['steps']}"
                rows.append(
                    (
                        name_of(config),
                        step,
                        "" if left is None else f"{duration(left)} left",
                        "" if score is None else f"holdout {100 * score:.1f} %",
                    )
                )
        return rows

    def _title(self) -> str:
        """Return how many runs are done, and how long the others take, in two digits."""
        num_done = len(self._done())
        failed = f", {len(self.failed)} failed" if self.failed else ""
        left = f", about {duration(self._left(), digits=2)} left" if num_done < self.total else ""
        return f"{num_done - len(self.failed)} of {counted(self.total, 'run')} done{failed}{left}"


@contextmanager
def refreshed(progress: Progress) -> Iterator[None]:
    """Show and refresh the display of runs that this process does itself."""
    done = Event()

    def tick() -> None:
        while not done.wait(TICK_SECONDS):
            progress.look()

    thread = Thread(target=tick, daemon=True)
    with progress:
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            progress.look()


def end_line(config: RunConfig, results: Path) -> str:
    """Return a line on a finished run: its name, score and seconds."""
    done = record.read(config.folder(results)) or {}
    scores = done.get("test") or done.get("holdout") or {}
    seconds = done.get("seconds", {})
    took = seconds.get("prepare", 0) + seconds.get("step", 0)
    score = f"{100 * scores[config.score]:.1f} %" if config.score in scores else "done"
    return f"{name_of(config)}: {score}, {took:.0f} s"


def name_of(config: RunConfig) -> str:
    """Return a readable name of a run: method, seed and role."""
    if config.role is Role.trial:
        return _name_of_trial(config)
    label = methods.load(config.method).label(config.settings)
    role = "" if config.role in ("run", "pretraining") else f" ({str(config.role).replace('_', ' ')})"
    return f"{label}, seed {config.seed}{role}"


def _name_of_trial(config: RunConfig) -> str:
    """Return what a trial tries: method, rates, strengths, norms and fold."""
    recipe = config.recipe
    tried = {"lr": recipe.lr}
    tried |= {"head": recipe.lr * recipe.head_lr_factor} if recipe.head_lr_factor != 1 else {}
    searched = [f.name for f in fields(config.settings) if "tuned" in f.metadata]
    tried |= {name: getattr(config.settings, name) for name in searched}
    words = [f"{name} {value:.3g}" for name, value in tried.items()]
    words += ["bn frozen"] if config.bn is Norms.frozen else []
    words += [f"fold {config.fold}"] if config.fold else []
    return f"{methods.load(config.method).title}, trial: {', '.join(words)}"
