"""Show the progress of runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...analysis.wording import duration
from ...methods import catalog as methods
from ..config.schema import Norms, Role, RunConfig, Tune
from ..training import heartbeat, record
from ..training.tuning import last_round

QUIET_SECONDS = 30.0  # time between two plain lines about active runs


class Progress:
    """The display of runs, from their heartbeats; independent of how they are executed."""

    def __init__(self, configs: Sequence[RunConfig], results: Path, console: Console) -> None:
        self.configs = {c.digest: c for c in configs}
        self.watched = {t.digest: t for c in configs for own in last_round(c) for t in own} | self.configs
        self.results, self.console = results, console
        self.begin = time.time()
        self.num_done, self.failed = 0, dict[str, str]()
        self._spoke = self.begin
        self._live = (
            Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        )

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def report(self, config: RunConfig, error: str | None) -> None:
        """Print that a run ended, with its score or its error."""
        self.num_done += 1
        count = f"[{self.num_done}/{len(self.configs)}]"
        if error is not None:
            self.failed[config.digest] = error
            self.console.print(f"{count} {name_of(config)}: failed: {error}", style="red", markup=False)
            return
        done = record.read(config.folder(self.results)) or {}
        scores = done.get("test") or done.get("holdout") or {}
        seconds = done.get("seconds", {})
        took = seconds.get("prepare", 0) + seconds.get("step", 0)
        score = f"{100 * scores[config.score]:.1f} %" if config.score in scores else "done"
        self.console.print(f"{count} {name_of(config)}: {score}, {took:.0f} s{self._left()}", markup=False)

    def tick(self) -> None:
        """Refresh the display of the active runs."""
        if self._live:
            self._live.update(self._table())
        elif time.time() - self._spoke > QUIET_SECONDS:
            self._spoke = time.time()
            for cells in self._running():
                self.console.print("  running: " + ", ".join(filter(None, cells)), markup=False)

    def _left(self) -> str:
        rest = len(self.configs) - self.num_done
        if not rest:
            return ""
        left = (time.time() - self.begin) / self.num_done * rest
        return f"; about {duration(left)} left for {rest} runs"

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

    def _table(self) -> Table:
        table = Table(
            title=f"{self.num_done} of {len(self.configs)} runs done", box=None, title_justify="left"
        )
        for heading in ("run", "step", "time", "so far"):
            table.add_column(heading, min_width=8)
        for row in self._running():
            table.add_row(*map(Text, row))  # without markup
        return table


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
