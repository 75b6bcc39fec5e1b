"""Keep a bench within a time: fit it to `minutes`, or refuse it before it starts."""

import hashlib
import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ... import InputError
from ...analysis.wording import duration
from ...datasets import catalog as datasets
from ..config.schema import Request, RunConfig, Tune
from ..training.record import write_json
from .plan import row_of

OWN_MINUTES = 60.0  # limit for images of the user, unless `minutes` or `yes` is given
SPARE = 1.3  # a bench is fitted to less than its minutes: an estimate is no promise
FEWEST_STEPS, FEWEST_SOURCE_STEPS, FEWEST_SEEDS, FEWEST_ROWS = 50, 300, 3, 2
LEAST_TUNING = 3.0  # cost of all trials, in runs
SHRINK = 0.9  # of the steps, from one try to the next
NO_EFFECT = (
    "minutes",
    "yes",
    "results",
    "workers",
    "threads",
    "deterministic",
    "device",
    "keep",
    "log",
    "checkpoint_minutes",
)  # a fitted bench stays the same
CUT = (
    *("recipe.steps", "recipe.milestones", "source_recipe.steps", "source_recipe.milestones"),
    *("seeds", "tune_budget", "methods"),
)  # what fitting may set
Total = Callable[[Sequence[RunConfig]], float]  # estimated seconds of runs


@dataclass(frozen=True)
class Cut:
    """How much of a bench is left: a share of the steps, the first seeds, some rows, and less tuning."""

    share: float
    seeds: int
    rows: tuple[int, ...]
    tuning: float = math.inf  # the most that all trials may cost, in runs


def check_time(request: Request, overrides: Sequence[str], seconds: float) -> None:
    """Check that a bench takes no longer than it may; `seconds`: its estimate.

    Raises:
        InputError: it takes longer, and neither `minutes` nor `yes` allows that.
    """
    if request.yes or request.minutes is not None or not datasets.is_own(request.target):
        return
    if seconds > 60 * OWN_MINUTES:
        words = shlex.join(["transferbench", "bench", *overrides])
        raise InputError(
            f"about {duration(seconds)}: longer than {OWN_MINUTES:g} minutes, so nothing is started; "
            f"`{words} minutes={OWN_MINUTES:g}` fits steps, seeds and rows to that time, "
            f"`{words} yes=true` runs it all"
        )


def fit(
    minutes: float, overrides: Sequence[str], names: Sequence[str], configs: Sequence[RunConfig], total: Total
) -> list[str]:
    """Return the settings that fit a bench to some minutes: fewer steps, then seeds, then trials, then rows.

    Args:
        minutes: the time.
        overrides: the settings of the bench.
        names: its rows.
        configs: its runs, seed by seed.
        total: estimates the seconds of runs.

    Raises:
        InputError: not even the smallest bench takes so little time.
    """
    wanted = 60 * minutes / SPARE
    if total(configs) <= wanted:
        return []
    smallest = 0.0
    for cut in _cuts(overrides, len(names), configs, total):
        if (smallest := total(_cut(configs, cut))) <= wanted:
            longer = _most_steps(configs, cut, lambda one: total(_cut(configs, one)) <= wanted)
            return _settings(configs, longer, names)
    least = math.ceil(smallest * SPARE / 60)
    raise InputError(
        f"minutes={minutes:g}: with the fewest steps, seeds and rows that mean something it takes "
        f"about {duration(smallest)} here and now; expected minutes={least} or more (with {SPARE - 1:.0%} in "
        "reserve), fewer rows in methods=NAME,NAME, or a smaller recipe.image_size, recipe.batch_size or "
        "tune_budget"
    )


def _cuts(
    overrides: Sequence[str], num_rows: int, configs: Sequence[RunConfig], total: Total
) -> Iterator[Cut]:
    """Yield what may be left of a bench with the fewest steps, from all seeds and rows to the fewest.

    Rows that `methods` names are kept, and those with a `method.NAME` that is given; of the other default
    rows the most expensive one goes first.
    """
    rows = tuple(range(num_rows))
    seeds = len(configs) // num_rows
    fewest = min(seeds, FEWEST_SEEDS)
    yield from (Cut(0.0, number, rows) for number in range(seeds, fewest - 1, -1))
    given = {o.partition("=")[0] for o in overrides}
    is_cut = configs[0].tune is Tune.auto and "tune_budget" not in given
    tuning = LEAST_TUNING if is_cut and configs[0].tune_budget > LEAST_TUNING else math.inf
    if tuning < math.inf:
        yield Cut(0.0, fewest, rows, tuning)
    if "methods" in given:
        return
    named = [name.removeprefix("method.") for name in given if name.startswith("method.")]
    others = [
        row
        for row in rows
        if configs[row].method != "finetune" and not any(hasattr(configs[row].settings, n) for n in named)
    ]
    cost = {row: total(_cut(configs, Cut(0.0, 1, (row,), tuning))) for row in others}
    while len(rows) > FEWEST_ROWS and cost:
        dearest = max(cost, key=lambda row: cost[row])
        del cost[dearest]
        rows = tuple(row for row in rows if row != dearest)
        yield Cut(0.0, fewest, rows, tuning)


def _most_steps(configs: Sequence[RunConfig], cut: Cut, fits: Callable[[Cut], bool]) -> Cut:
    """Return a cut with as many steps as fit."""
    shares = [SHRINK**i for i in range(200) if SHRINK**i > 1e-3]
    low, high = 0, len(shares)  # fits(high) is known: there the steps are the fewest
    while low < high:
        middle = (low + high) // 2
        if fits(replace(cut, share=shares[middle])):
            high = middle
        else:
            low = middle + 1
    return replace(cut, share=shares[high] if high < len(shares) else 0.0)


def _cut(configs: Sequence[RunConfig], cut: Cut) -> list[RunConfig]:
    """Return what is left of a bench."""
    num_rows = len({row_of(c) for c in configs if c.seed == configs[0].seed})
    return [
        _shortened(config, cut)
        for i, config in enumerate(configs)
        if config.seed < cut.seeds and i % num_rows in cut.rows
    ]


def _shortened(config: RunConfig, cut: Cut) -> RunConfig:
    """Return a run with a share of its steps, and of those of the source pre-training, and less tuning."""
    recipe, source = config.recipe, config.source_recipe
    steps = _share_of(recipe.steps, cut.share, FEWEST_STEPS)
    source_steps = _share_of(source.steps, cut.share, FEWEST_SOURCE_STEPS)
    config = replace(config, tune_budget=min(config.tune_budget, cut.tuning))
    milestones = [round(m * source_steps / source.steps) for m in source.milestones]
    source = replace(source, steps=source_steps, milestones=milestones)
    return replace(config, recipe=recipe.shortened(steps), source_recipe=source)


def _share_of(steps: int, share: float, fewest: int) -> int:
    """Return a share of some steps in two digits, but not fewer than `fewest` or all."""
    return max(int(float(f"{share * steps:.1e}")), min(steps, fewest))


def _settings(configs: Sequence[RunConfig], cut: Cut, names: Sequence[str]) -> list[str]:
    """Return the settings of a cut, as `name=value`, that differ from those of the bench."""
    before, after = configs[0], _shortened(configs[0], cut)
    found = []
    for holder in ("recipe", "source_recipe"):
        old, new = getattr(before, holder), getattr(after, holder)
        if new.steps != old.steps and (holder == "recipe" or before.source != "none"):
            found.append(f"{holder}.steps={new.steps}")
            found += [f"{holder}.milestones={new.milestones}"] if new.milestones else []
    if cut.seeds < len(configs) // len(names):
        found.append(f"seeds={cut.seeds}")
    if after.tune_budget < before.tune_budget:
        found.append(f"tune_budget={after.tune_budget:g}")
    if len(cut.rows) < len(names):
        found.append(f"methods={','.join(names[row] for row in cut.rows)}")
    return found


def plan_path(overrides: Sequence[str], request: Request, configs: Sequence[RunConfig]) -> Path:
    """Return the file that keeps what a bench was fitted to, so that the same command finds its runs."""
    own = sorted(o for o in overrides if o.partition("=")[0] not in NO_EFFECT)
    words = json.dumps([request.minutes, own, sorted({c.comparison_id for c in configs})])
    return Path(request.results) / "fitted" / f"{hashlib.sha256(words.encode()).hexdigest()[:10]}.json"


def read_plan(path: Path) -> list[str] | None:
    """Return the settings that a bench was fitted to before, or None. Raises InputError if unreadable."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
        if not (isinstance(found, list) and all(isinstance(o, str) for o in found)):
            raise ValueError("no settings in it")
        if foreign := [o for o in found if o.partition("=")[0] not in CUT]:
            raise ValueError(f"{foreign[0]!r:.40} is none of {', '.join(CUT)}")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path}: not readable ({error!s:.100}); remove it, and the bench is fitted anew"
        ) from error
    return found


def write_plan(path: Path, overrides: Sequence[str], settings: Sequence[str]) -> None:
    """Keep the settings that a bench was fitted to."""
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"command": ["transferbench", "bench", *overrides], "settings": list(settings)})
