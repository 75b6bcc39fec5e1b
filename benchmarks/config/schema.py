"""What can be asked for (Request), and what a run is once all is resolved (RunConfig)."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from ... import InputError
from ...analysis.records.schema import RENAMED, renamed_config
from ...datasets import planted
from ...methods.recipe import Recipe

TINY, MOST = 1e-300, 1e300  # not 0, not infinite
LIMITS = (  # least and most: beyond, no machine comes to an end
    ("seeds", 1, 10_000),
    ("shots", 1, 10**9),
    *((name, 0, 2**53) for name in ("seed", "source_recipe.seed")),
    *((name, 0, 4096) for name in ("workers", "threads", "recipe.image_size")),
    *((f"{r}.steps", 1, 10**9) for r in ("recipe", "source_recipe")),
    *((f"{r}.batch_size", 1, 10**6) for r in ("recipe", "source_recipe")),
    *((f"{r}.lr", TINY, MOST) for r in ("recipe", "source_recipe")),
    *((f"{r}.weight_decay", 0, MOST) for r in ("recipe", "source_recipe")),
    ("checkpoint_minutes", TINY, MOST),
    ("recipe.crop_scale", TINY, 1),
    *((f"recipe.{name}", 0, 1) for name in ("crop_pct", "momentum", "warmup_fraction")),
    ("recipe.evaluations", 1, 10**6),
    ("recipe.head_init_std", 0, MOST),
)
SMALL_SIDE = 96  # images of up to so many pixels are met with the preset `small`, and are not enlarged
NO_EFFECT = ("device", "threads", "checkpoint_minutes")  # on a result: not in the digest


class Protocol(StrEnum):
    """What is trained on, and what may be looked at before the end."""

    holdout = "holdout"
    trainval = "trainval"


class Tune(StrEnum):
    """Whether the learning rate and weight decay are searched for, equally for every method."""

    off = "off"
    paper_grid = "paper_grid"


class Norms(StrEnum):
    """Whether source and target share running statistics."""

    split = "split"  # type: ignore[assignment]  # hides str.split, which nothing here needs
    shared = "shared"


class OnNan(StrEnum):
    """What is done at a loss, reward or weight that is not finite."""

    stop = "stop"
    skip = "skip"


class Role(StrEnum):
    """What a run is for."""

    run = "run"
    pretraining = "pretraining"
    trial = "trial"
    first_stage = "first_stage"


class Score(StrEnum):
    """What methods are compared by."""

    top1 = "top1"
    mean_per_class = "mean_per_class"
    auroc = "auroc"


@dataclass
class SourceRecipe:
    """Where source pre-training departs from the recipe."""

    steps: int = 213_000
    batch_size: int = 256
    lr: float = 0.1
    weight_decay: float = 4e-5
    milestones: list[int] = field(default_factory=list)
    seed: int | None = 0  # one source model for all seeds, as the paper has it; null: one for each


@dataclass
class DataPlaces:
    """Where images are looked for before the official addresses."""

    root: str | None = None  # a folder with data sets in it, as $TRANSFERBENCH_DATA
    mirror: str | None = None  # an address with <name>/<archive> below it, as $TRANSFERBENCH_MIRROR


@dataclass
class Request:
    """All that can be overridden, with its defaults."""

    target: str = "digits"
    source: str | None = None
    methods: str | None = None
    method: Any = None
    seed: int = 0
    seeds: int = 5
    shots: int | None = None
    backbone: str = "small"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    checkpoint: str | None = None
    protocol: Protocol = Protocol.holdout
    tune: Tune = Tune.off
    bn: Norms = Norms.split
    score: Score | None = None  # null: what the target is judged by
    on_nan: OnNan = OnNan.stop  # or skip: undo a step whose figures are not finite, and go on
    drop_overlap: bool = False  # leave out source images that are near-identical with target images
    data: DataPlaces = field(default_factory=DataPlaces)
    recipe: Recipe = field(default_factory=Recipe)
    source_recipe: SourceRecipe = field(default_factory=SourceRecipe)
    method_defaults: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0  # of one run; 0: one on a CPU, where others give other last digits
    workers: int = 0  # runs at a time; 0: one a GPU, or one a core
    checkpoint_minutes: float = 10.0  # between two checkpoints, at most
    on: str = "local"  # or slurm
    cluster: str | None = None  # of slurm: a name, or a path that ends in .yaml
    results: str = "results"
    preset: str = "given by the target"


@dataclass(frozen=True)
class RunConfig:
    """One run, resolved: equal configurations give equal results."""

    role: Role
    source: str
    target: str
    method: str
    settings: Any
    seed: int
    shots: int | None
    backbone: str
    backbone_options: dict[str, Any]
    pretrained: bool
    checkpoint: str | None
    protocol: Protocol
    tune: Tune
    bn: Norms
    score: str
    drop_overlap: str  # the target whose images are left out of the source; empty: none are
    recipe: Recipe
    source_recipe: SourceRecipe
    data: dict[str, str]  # fingerprints: other images are another run
    on_nan: OnNan = OnNan.stop
    device: str = "auto"
    threads: int = 0
    checkpoint_minutes: float = 10.0

    def resolved(self) -> dict[str, Any]:
        """Give all that may change a result, as plain JSON; files by name, not by place."""
        plain = {k: v for k, v in asdict(self).items() if k not in NO_EFFECT}
        plain["settings"] = digested(self.settings)
        if self.on_nan is OnNan.stop:  # has no effect on a run that ends
            del plain["on_nan"]
        places = {"source": self.source_name, "target": self.target_name}
        places["drop_overlap"] = planted.short_name(self.drop_overlap) if self.drop_overlap else ""
        if self.checkpoint:
            places["checkpoint"] = Path(self.checkpoint).name
        return {**plain, **places}

    @property
    def source_name(self) -> str:
        """Name of the source data set, `none` without one."""
        return planted.short_name(self.source)

    @property
    def target_name(self) -> str:
        """Name of the target data set, `none` for a pre-training."""
        return planted.short_name(self.target)

    @property
    def digest(self) -> str:
        """Name the run by its content."""
        return _digest(self._first_names())

    @property
    def comparison_id(self) -> str:
        """Name what is equal in all runs that may be compared."""
        own = ("method", "settings", "seed")
        return _digest({k: v for k, v in self._first_names().items() if k not in own})

    def _first_names(self) -> dict[str, Any]:
        """Return the resolved configuration by the settings' first names: a digest outlives a new name."""
        return renamed_config(self.resolved(), {new: old for old, new in RENAMED.items()})

    def folder(self, results: Path) -> Path:
        """Give the run's folder: results/<source>-<target>/<method>/seed<k>-<digest>."""
        pair = self.source_name if self.role is Role.pretraining else f"{self.source_name}-{self.target_name}"
        return results / pair / self.method / f"seed{self.seed}-{self.digest}"

    def words(self) -> str:
        """Say what a reader has to know of the setting."""
        recipe = self.recipe
        words = [f"shots={self.shots}"] if self.shots else []
        words += [f"protocol={self.protocol}", f"tune={self.tune}", f"backbone={self.backbone}"]
        words += [f"recipe.steps={recipe.steps}", f"recipe.batch_size={recipe.batch_size}"]
        words += [f"recipe.lr={recipe.lr:g}", f"recipe.image_size={recipe.image_size}", f"bn={self.bn}"]
        words += ["on_nan=skip"] if self.on_nan is OnNan.skip else []
        words += ["drop_overlap=true"] if self.drop_overlap else []
        words += [f"checkpoint={Path(self.checkpoint).name}"] if self.checkpoint else []
        return ", ".join(words + (["pretrained=true"] if self.pretrained else []))


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def digested(settings: Any) -> dict[str, Any]:
    """Give a method's settings, without those that came later and have the value that was meant before."""
    later = {f.name: f.metadata["undigested"] for f in fields(settings) if "undigested" in f.metadata}
    return {k: v for k, v in asdict(settings).items() if k not in later or v != later[k]}


def check_numbers(request: Request) -> None:
    """Refuse numbers that no run can have. Raises: InputError with the range."""
    for key, low, high in LIMITS:
        holder, _, name = key.rpartition(".")
        value = getattr(getattr(request, holder) if holder else request, name)
        if value is not None and not low <= value <= high:
            what = "a whole number" if isinstance(value, int) else "a number"
            least = {TINY: "above 0", 0: "of 0 or more"}.get(low, f"of {low} or more")
            is_long = isinstance(value, int) and abs(value) >= 10**15
            shown = "a number of many digits" if is_long else f"{value:g}"
            most = "" if high == MOST else f", up to {high:,}"
            raise InputError(f"{key}={shown}: expected {what} {least}{most}")
