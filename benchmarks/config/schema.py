"""The settings: of a request (`Request`), and of one resolved run (`RunConfig`)."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from ... import InputError
from ...analysis.records.schema import RENAMED, renamed_config
from ...datasets import planted
from ...methods.recipe import Recipe

TINY, MOST = 1e-300, 1e300  # bounds that exclude 0 and infinity
LIMITS = (  # minimum and maximum of each number
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
SMALL_SIDE = 96  # pixels; smaller images get the preset `small` and are not enlarged
NO_EFFECT = ("device", "threads", "checkpoint_minutes")  # do not change a result: not in the digest


class Protocol(StrEnum):
    """Images that a final model is trained on."""

    holdout = auto()  # train on `train`; choices and rewards use `holdout`
    trainval = auto()  # then train on `train` and `holdout`, with all choices fixed


class Tune(StrEnum):
    """Search for the learning rate and weight decay, with the same number of trials for every method."""

    off = auto()
    paper_grid = auto()  # the grids `recipe.lr_grid` and `recipe.weight_decay_grid`


class Norms(StrEnum):
    """Running statistics of batch norms for source and target."""

    split = auto()  # type: ignore[assignment]  # hides str.split, which is not used here
    shared = auto()


class OnNan(StrEnum):
    """Reaction to a loss, reward or weight that is not finite."""

    stop = auto()
    skip = auto()  # undo the step and continue


class Role(StrEnum):
    """Purpose of a run."""

    run = auto()
    pretraining = auto()  # on the source, shared by runs
    trial = auto()  # of the hyper-parameter search
    first_stage = auto()  # learns on `train` what `protocol=trainval` then replays


class Score(StrEnum):
    """Score that methods are compared by."""

    top1 = auto()
    mean_per_class = auto()
    auroc = auto()


@dataclass
class SourceRecipe:
    """Settings of source pre-training that differ from the recipe."""

    steps: int = 213_000  # training steps
    batch_size: int = 256  # images per step
    lr: float = 0.1  # learning rate at its peak
    weight_decay: float = 4e-5  # L2 penalty on kernels
    milestones: list[int] = field(default_factory=list)  # steps at which the rate is divided by 10
    seed: int | None = 0  # seed of the source model, shared by all runs; null: the seed of the run


@dataclass
class DataPlaces:
    """Places where images are looked for before the official addresses."""

    root: str | None = None  # folder with one folder or archive per data set; null: $TRANSFERBENCH_DATA
    mirror: str | None = None  # URL with <name>/<archive> below it; null: $TRANSFERBENCH_MIRROR


@dataclass
class Request:
    """All settings that an override can change, with their defaults."""

    target: str = "digits"  # target data set: a known name, a folder or a tar
    source: str | None = None  # source data set, or none; null: the usual source of the target
    methods: str | None = None  # names of methods or rows, with commas; null: the rows of compare.yaml
    method: Any = None  # the method of `run`; method.<setting> changes its settings
    seed: int = 0  # seed of `run`
    seeds: int = 5  # number of seeds of `bench`: 0, 1, ...
    shots: int | None = None  # training images per class; null: all
    backbone: str = "small"  # small, tiny, digits_cnn, or any model name of timm
    backbone_options: dict[str, Any] = field(default_factory=dict)  # arguments of its constructor
    pretrained: bool = False  # start from published weights of timm
    checkpoint: str | None = None  # file with a state dict to start from; null: none
    protocol: Protocol = Protocol.holdout  # images that the final model is trained on
    tune: Tune = Tune.off  # search for learning rate and weight decay
    bn: Norms = Norms.split  # separate or shared norm statistics of source and target
    score: Score | None = None  # score that is compared; null: the score of the target
    on_nan: OnNan = OnNan.stop  # at a NaN or Inf: stop the run, or undo the step
    drop_overlap: bool = False  # leave out source images that are near-identical to target images
    data: DataPlaces = field(default_factory=DataPlaces)  # places of the images
    recipe: Recipe = field(default_factory=Recipe)  # training settings that all methods share
    source_recipe: SourceRecipe = field(default_factory=SourceRecipe)  # source pre-training
    method_defaults: dict[str, Any] = field(default_factory=dict)  # method -> its settings, of a preset
    device: str = "auto"  # auto, cpu, cuda or cuda:<index>
    threads: int = 0  # CPU threads of one run; 0: one on a CPU, a share of the cores on a GPU
    workers: int = 0  # runs at a time; 0: one per GPU, or one per core
    checkpoint_minutes: float = 10.0  # longest time between two checkpoints, in minutes
    on: str = "local"  # where runs go: local or slurm
    cluster: str | None = None  # cluster of on=slurm: a name, or a path that ends in .yaml
    results: str = "results"  # folder of the records
    preset: str = "given by the target"  # name of a file in benchmarks/presets


@dataclass(frozen=True)
class RunConfig:
    """The resolved settings of one run: equal settings give equal results."""

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
    drop_overlap: str  # target whose images are left out of the source; empty: none
    recipe: Recipe
    source_recipe: SourceRecipe
    data: dict[str, str]  # fingerprint of each data set: other images make another run
    on_nan: OnNan = OnNan.stop
    device: str = "auto"
    threads: int = 0
    checkpoint_minutes: float = 10.0

    def resolved(self) -> dict[str, Any]:
        """Return everything that can change a result, as plain JSON; files by name, without their folder."""
        plain = {k: v for k, v in asdict(self).items() if k not in NO_EFFECT}
        plain["settings"] = digested(self.settings)
        if self.on_nan is OnNan.stop:  # no effect on a run that finishes
            del plain["on_nan"]
        places = {"source": self.source_name, "target": self.target_name}
        places["drop_overlap"] = planted.short_name(self.drop_overlap) if self.drop_overlap else ""
        if self.checkpoint:
            places["checkpoint"] = Path(self.checkpoint).name
        return {**plain, **places}

    @property
    def source_name(self) -> str:
        """Return the name of the source data set, `none` without one."""
        return planted.short_name(self.source)

    @property
    def target_name(self) -> str:
        """Return the name of the target data set, `none` for a pre-training."""
        return planted.short_name(self.target)

    @property
    def digest(self) -> str:
        """Return the hash that identifies the run."""
        return _digest(self._first_names())

    @property
    def comparison_id(self) -> str:
        """Return the hash of what is equal in a comparison: all but method, its settings and seed."""
        own = ("method", "settings", "seed")
        return _digest({k: v for k, v in self._first_names().items() if k not in own})

    def _first_names(self) -> dict[str, Any]:
        """Return the resolved settings by their first names: renaming a setting keeps every digest."""
        return renamed_config(self.resolved(), {new: old for old, new in RENAMED.items()})

    def folder(self, results: Path) -> Path:
        """Return the run's folder: results/<source>-<target>/<method>/seed<k>-<digest>."""
        pair = self.source_name if self.role is Role.pretraining else f"{self.source_name}-{self.target_name}"
        return results / pair / self.method / f"seed{self.seed}-{self.digest}"

    def describe(self) -> str:
        """Return the settings that a reader of a table needs, in one line."""
        recipe = self.recipe
        shown = [f"shots={self.shots}"] if self.shots else []
        shown += [f"protocol={self.protocol}", f"tune={self.tune}", f"backbone={self.backbone}"]
        shown += [f"recipe.steps={recipe.steps}", f"recipe.batch_size={recipe.batch_size}"]
        shown += [f"recipe.lr={recipe.lr:g}", f"recipe.image_size={recipe.image_size}", f"bn={self.bn}"]
        shown += ["on_nan=skip"] if self.on_nan is OnNan.skip else []
        shown += ["drop_overlap=true"] if self.drop_overlap else []
        shown += [f"checkpoint={Path(self.checkpoint).name}"] if self.checkpoint else []
        return ", ".join(shown + (["pretrained=true"] if self.pretrained else []))


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def digested(settings: Any) -> dict[str, Any]:
    """Return a method's settings for the digest.

    A setting that was added later is left out while it has the value that means the earlier behavior.
    """
    later = {f.name: f.metadata["undigested"] for f in fields(settings) if "undigested" in f.metadata}
    return {k: v for k, v in asdict(settings).items() if k not in later or v != later[k]}


def check_numbers(request: Request) -> None:
    """Check that every number of a request is within `LIMITS`. Raises InputError with the range."""
    for key, low, high in LIMITS:
        holder, _, name = key.rpartition(".")
        value = getattr(getattr(request, holder) if holder else request, name)
        if value is not None and not low <= value <= high:
            kind = "a whole number" if isinstance(value, int) else "a number"
            least = {TINY: "above 0", 0: "of 0 or more"}.get(low, f"of {low} or more")
            is_long = isinstance(value, int) and abs(value) >= 10**15
            shown = "a number of many digits" if is_long else f"{value:g}"
            most = "" if high == MOST else f", up to {high:,}"
            raise InputError(f"{key}={shown}: expected {kind} {least}{most}")
