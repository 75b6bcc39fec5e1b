"""The settings: of a request (`Request`), and of one resolved run (`RunConfig`)."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum, auto
from functools import cached_property
from pathlib import Path
from typing import Any

from ... import InputError
from ...analysis.records.migrations import RENAMED, renamed_config
from ...datasets import catalog, planted
from ...datasets.base import Dataset
from ...datasets.loading.draw import FOLDS
from ...methods.networks.encoders import has_batch_norms
from ...methods.networks.timm_models import local_folder
from ...methods.recipe import OptimizerName, Recipe
from .corrections import corrected, of_method, of_setting

TINY, MOST = 1e-300, 1e300  # bounds that exclude 0 and infinity
LIMITS = (  # minimum and maximum of each number
    ("seeds", 1, 10_000),
    *((name, 1, 10**9) for name in ("shots", "holdout_shots")),
    *((name, 0, 2**53) for name in ("seed", "source_recipe.seed")),
    *((name, 0, 4096) for name in ("workers", "threads", "recipe.image_size")),
    *((f"{r}.steps", least, 10**9) for r, least in (("recipe", 0), ("source_recipe", 1))),
    *((f"{r}.batch_size", least, 10**6) for r, least in (("recipe", 0), ("source_recipe", 1))),
    *((f"{r}.lr", TINY, MOST) for r in ("recipe", "source_recipe")),
    *((f"{r}.weight_decay", 0, MOST) for r in ("recipe", "source_recipe")),
    *((name, TINY, MOST) for name in ("checkpoint_minutes", "minutes")),
    ("tune_budget", 0.5, 100),
    ("recipe.source_batch_size", 0, 10**6),
    ("recipe.head_lr_factor", TINY, MOST),
    ("recipe.crop_scale", TINY, 1),
    *((f"recipe.{name}", 0, 1) for name in ("crop_pct", "momentum", "warmup_fraction")),
    ("recipe.drop_path", 0, 0.99),
    ("recipe.layer_decay", TINY, 1),
    *((f"recipe.{name}", 0, 1) for name in ("color_jitter", "random_erasing", "ema")),
    ("recipe.label_smoothing", 0, 0.99),  # at 1 labels say nothing
    *((f"recipe.{name}", 0, 1000) for name in ("mixup", "cutmix")),
    ("recipe.evaluations", 1, 10**6),
    *((f"recipe.{name}", 0, MOST) for name in ("head_init_std", "clip_grad")),
    ("recipe.micro_batch", 0, 10**6),
)
LISTS = (  # minimum and maximum of each number of a list; the first have one number or more
    ("recipe.lr_grid", TINY, MOST, 1),
    ("recipe.weight_decay_grid", 0, MOST, 1),
    ("recipe.milestones", 0, 10**9, 0),
)
TUNING_SEED = 10_000  # trials have seeds from here on, which no reported run has
SMALL_SIDE = 96  # pixels; images up to this side are not enlarged
MOST_NAME_BYTES = 100  # of a data set's name in the name of a folder, which may have 255
# Do not change a result or digest
NO_EFFECT = ("device", "threads", "deterministic", "checkpoint_minutes", "keep", "log")


class Protocol(StrEnum):
    """Images that a final model is trained on."""

    holdout = auto()  # train on the training images; the holdout gives rewards and curves
    trainval = auto()  # the final run trains on training and holdout images, as for the paper's final scores


class Labels(StrEnum):
    """Target images that `shots` counts."""

    all = auto()  # training and holdout images together: every method has the same labels
    train = auto()  # training images; the holdout keeps all its labels, which only rewards and choices use


class Tune(StrEnum):
    """Search for rates and strengths, at the same cost for every method."""

    off = auto()  # use `recipe.lr` and `recipe.weight_decay`
    # Try every pair of `recipe.lr_grid` and `recipe.weight_decay_grid`; keep the best holdout score
    paper_grid = auto()
    # Try nine candidates, and the best three longer or on more folds: learning rates of encoder and head on
    # log scales, frozen norms or not, and the method's own strengths; keep the best score
    auto = "auto"


class Norms(StrEnum):
    """Running statistics of batch norms."""

    # One set of running statistics for the source, another for the target
    split = auto()  # type: ignore[assignment]  # hides str.split, which nothing here needs
    shared = auto()  # one set for both
    frozen = auto()  # the running statistics of the pre-training; scale and shift are trained


class OnNan(StrEnum):
    """Reaction to a loss, reward or weight that is not finite."""

    stop = auto()  # end the run with an error
    skip = auto()  # undo the step and continue with the next images


class Keep(StrEnum):
    """Models that stay on the disk."""

    best = auto()  # that of the recommended row and of fine-tuning, of the seed with the median holdout score
    all = auto()  # that of every run
    none = auto()


class Log(StrEnum):
    """Further files of a run's curve; its record has it anyway."""

    none = auto()
    tensorboard = auto()  # event files in the folder of each run, while it runs; not of trials


class Role(StrEnum):
    """Purpose of a run."""

    run = auto()
    pretraining = auto()  # on the source, shared by runs
    trial = auto()  # of the hyper-parameter search
    first_stage = auto()  # learns on `train` what `protocol=trainval` then replays
    screen = auto()  # scores frozen features on all labeled images; test images are not read


class Score(StrEnum):
    """Score that methods are compared by."""

    top1 = auto()  # accuracy
    mean_per_class = auto()  # mean of the accuracies of the classes
    auroc = auto()  # mean area under the ROC curve over labels


@dataclass
class SourceRecipe:
    """Settings of source pre-training that differ from the recipe."""

    steps: int = 213_000  # training steps of source pre-training
    batch_size: int = 256  # images per step
    lr: float = 0.1  # peak learning rate
    weight_decay: float = 4e-5  # L2 penalty on convolution and linear kernels
    # With `recipe.schedule=milestones`: last steps before the learning rate drops to a tenth
    milestones: list[int] = field(default_factory=list)
    # Seed of the one source model that all seeds share, as in the paper; null: one source model per seed
    seed: int | None = 0


@dataclass
class DataPlaces:
    """Places where images are looked for before the official addresses."""

    root: str | None = None  # folder that holds data sets; read only; the same as $TRANSFERBENCH_DATA
    # URL with <name>/<archive> below it, tried before the official URLs; the same as $TRANSFERBENCH_MIRROR
    mirror: str | None = None


@dataclass
class Request:
    """All settings that an override can change, with their defaults."""

    # Target data set: a known name, hf:OWNER/NAME, or the path of a folder, an archive or a list
    target: str = "digits"
    # Source data set: as target, or none for no source images; null: the source that the target names
    source: str | None = None
    # Rows to compare, separated by commas: rows of suites/compare.yaml or names of methods; null: the default
    # rows
    methods: str | None = None
    method: Any = None  # method of `run`; its own settings are `method.<name>`
    seed: int = 0  # seed of `run`; `bench` takes seeds 0 to seeds-1
    seeds: int = 5  # number of seeds that `bench` and `suite` run
    # Labeled target images per class, drawn at random by the seed; null: all. What counts: `labels`
    shots: int | None = None
    labels: Labels = Labels.all  # images that `shots` counts
    # Holdout images per class, drawn like `shots`; null: with shots and `labels=all` a fifth of the shots, at
    # least one, else all
    holdout_shots: int | None = None
    # Parts that the target lacks, drawn from its training images (20 % of each class, fixed seed): holdout,
    # test, or holdout,test; folds: each seed tests on another fifth of a set without parts; null: folds for
    # such a set with about five images a class, else none
    draw: str | None = None
    # Images that stay together where parts are drawn: those of a folder (class/group/image), near-identical
    # ones (near), or those with one value in a column of a list; then the parts that are missing are drawn
    groups: str | None = None
    # Network: tiny, small, digits_cnn, digits_cnn_2019, or any timm model: its name, hf-hub:OWNER/NAME, or
    # local-dir:FOLDER, a folder that timm saved
    backbone: str = "small"
    # Keyword arguments for the backbone's constructor in timm, as `backbone_options.drop_path_rate=0.1`
    backbone_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False  # start from timm's published weights of the backbone
    # File with weights of the backbone to start from: by torch.save or .safetensors, wrapped or not, with or
    # without classifier
    checkpoint: str | None = None
    # Target images that are trained on; null: trainval with shots and `labels=all`, else holdout
    protocol: Protocol | None = None
    # Search for rates and strengths; null: auto if weights are pre-trained or the target is given by a path,
    # else off
    tune: Tune | None = None
    # Largest cost of all trials of a row with `tune=auto`, in runs: half for each round. Where a class has
    # few labels, the last round is cross-validated in half as many folds
    tune_budget: float = 6.0
    bn: Norms = Norms.split  # batch-norm statistics of source and target images
    score: Score | None = None  # metric that methods are compared by; null: the target's usual metric
    on_nan: OnNan = OnNan.stop  # what to do if a loss, reward or weight is NaN or infinite
    drop_overlap: bool = False  # leave out source images that are near-duplicates of target images
    data: DataPlaces = field(default_factory=DataPlaces)
    recipe: Recipe = field(default_factory=Recipe)
    source_recipe: SourceRecipe = field(default_factory=SourceRecipe)
    # Defaults of methods' own settings, as `method_defaults.l2tl.num_actions=21`; used by presets
    method_defaults: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"  # device: auto, cpu, cuda or cuda:<number>; auto takes a GPU if there is one
    # CPU threads per run; 0: one on a CPU; another number changes the last digits of results
    threads: int = 0
    # Use only deterministic algorithms on a GPU: a run that is resumed or repeated has the same digits, as it
    # has on a CPU anyway
    deterministic: bool = False
    workers: int = 0  # runs at a time; 0: one per GPU, or one per CPU core
    checkpoint_minutes: float = 10.0  # longest time between two checkpoints of a run, in minutes
    keep: Keep = Keep.best  # models that stay on the disk after a comparison, for `predict` and `export`
    log: Log = Log.none  # further files of each run's curve, while it runs: none or tensorboard
    on: str = "local"  # where runs are executed: local or slurm
    cluster: str | None = None  # with `on=slurm`: a name in slurm/clusters/, or a path that ends in .yaml
    # Fit `bench` to this time on this machine, in minutes: fewer steps, then fewer seeds, then fewer rows;
    # null: all of it, but with a target by path no bench of more than 60 minutes is started
    minutes: float | None = None
    yes: bool = False  # start a bench of any length
    results: str = "results"  # folder for runs and the report
    # File of benchmarks/presets/ that sets recipe, backbone and shots; default: the target's, or `own` for
    # a path
    preset: str = "given by the target"


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
    deterministic: bool = False
    checkpoint_minutes: float = 10.0
    keep: Keep = Keep.none
    log: Log = Log.none
    draw: str | None = None  # parts that are drawn from the target's training images; None: none
    groups: str | None = None  # images that stay together in what is drawn; None: each by itself
    tune_budget: float = 6.0  # largest cost of all trials, in runs
    fold: str = ""  # of a trial: the fold that it is judged on, as "1/3"; empty: half of the holdout
    labels: Labels = Labels.train
    holdout_shots: int | None = None  # of each class; None: all

    def resolved(self) -> dict[str, Any]:
        """Return everything that can change a result, as plain JSON; files by name, without their folder."""
        plain = {k: v for k, v in asdict(self).items() if k not in NO_EFFECT}
        plain |= {"settings": digested(self.settings), "recipe": digested(self.recipe)}
        if self.on_nan is OnNan.stop:  # no effect on a run that finishes
            del plain["on_nan"]
        if not self.draw:
            del plain["draw"]
        if not self.groups:
            del plain["groups"]
        if self.tune is not Tune.auto:
            del plain["tune_budget"]
        if not self.fold:
            del plain["fold"]
        if not self.shots or self.labels is Labels.train:
            del plain["labels"]
        if not self.holdout_shots:
            del plain["holdout_shots"]
        places = {"source": self.source_name, "target": self.target_name}
        places["drop_overlap"] = planted.short_name(self.drop_overlap) if self.drop_overlap else ""
        if self.checkpoint:
            places["checkpoint"] = Path(self.checkpoint).name
        if folder := local_folder(self.backbone):
            places["backbone"] = f"local-dir:{folder.name}"
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
    def drawn(self) -> dict[str, int | None]:
        """Return how many images of each class are drawn from train and from holdout; None: all are taken."""
        held = self.holdout_shots if self.labels is Labels.all else None
        return {
            "train": self.shots - (held or 0) if self.shots else None,
            "holdout": self.holdout_shots,
        }

    @property
    def data_sets(self) -> dict[str, dict[str, str]]:
        """Return what a record tells of the places of source and target."""
        return {role: catalog.recorded_name(getattr(self, role)) for role in ("source", "target")}

    @cached_property
    def digest(self) -> str:
        """Return the hash that identifies the run."""
        own = of_method(self.method, self.settings, self.recipe, self.backbone)
        return _digest(self._first_names() | corrected([*of_setting(self.backbone, self.recipe), *own]))

    @cached_property
    def comparison_id(self) -> str:
        """Return the hash of what is equal in a comparison: all but method, its settings and seed."""
        own = ("method", "settings", "seed")
        shared = {k: v for k, v in self._first_names().items() if k not in own}
        return _digest(shared | corrected(of_setting(self.backbone, self.recipe)))

    def _first_names(self) -> dict[str, Any]:
        """Return the resolved settings by their first names: renaming a setting keeps every digest."""
        return renamed_config(self.resolved(), {new: old for old, new in RENAMED.items()})

    def folder(self, results: Path) -> Path:
        """Return the run's folder: results/<source>-<target>/<method>/seed<k>-<digest>.

        The name of the user's own images is followed by their fingerprint: other images may have that name.
        """
        roles = ("source",) if self.role is Role.pretraining else ("source", "target")
        pair = "-".join(map(self._folder_name, roles))
        return results / pair / self.method / f"seed{self.seed}-{self.digest}"

    def _folder_name(self, role: str) -> str:
        place = getattr(self, role)
        name = planted.short_name(place).encode()[:MOST_NAME_BYTES].decode(errors="ignore")
        return f"{name}-{self.data[role][:6]}" if catalog.is_own(place) else name

    def describe(self) -> str:
        """Return the settings that a reader of a table needs, in one line."""
        recipe = self.recipe
        shown = [f"shots={self.shots}", f"labels={self.labels}"] if self.shots else []
        shown += [f"holdout_shots={self.holdout_shots}"] if self.holdout_shots else []
        shown += [f"protocol={self.protocol}", f"tune={self.tune}", f"backbone={self.backbone}"]
        shown += [f"recipe.steps={recipe.steps}", f"recipe.batch_size={recipe.batch_size}"]
        shown += [f"recipe.lr={recipe.lr:g}"] if self.tune is Tune.off else []
        shown += [f"recipe.image_size={recipe.image_size}"]
        if self.source != "none" and not (self.pretrained or self.checkpoint):
            shown += [f"source_recipe.steps={self.source_recipe.steps}"]
            seed = self.source_recipe.seed
            shown += [] if seed == 0 else [f"source_recipe.seed={'null' if seed is None else seed}"]
        is_used = self.tune is Tune.off and has_batch_norms(self.backbone, self.backbone_options)
        shown += [f"bn={self.bn}"] if is_used or self.bn is not Norms.split else []
        later = {f.name: f.metadata["undigested"] for f in fields(recipe) if "undigested" in f.metadata}
        later["optimizer"] = OptimizerName.sgd
        own = {name: getattr(recipe, name) for name in later}
        shown += [f"recipe.{name}={value}" for name, value in own.items() if value != later[name]]
        shown += [f"backbone_options.{name}={value}" for name, value in self.backbone_options.items()]
        shown += ["on_nan=skip"] if self.on_nan is OnNan.skip else []
        shown += [f"draw={self.draw}"] if self.draw else []
        shown += [f"groups={self.groups}"] if self.groups else []
        shown += ["drop_overlap=true"] if self.drop_overlap else []
        shown += [f"checkpoint={Path(self.checkpoint).name}"] if self.checkpoint else []
        return ", ".join(shown + (["pretrained=true"] if self.pretrained else []))


def load_target(of: Request | RunConfig) -> Dataset:
    """Load the target of a request or run, with the parts that are drawn: of its seed, with `draw=folds`."""
    seed = of.seed % TUNING_SEED if of.draw == FOLDS else None
    return catalog.load(of.target, draw=of.draw, groups=of.groups, seed=seed)


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


def digested(settings: Any) -> dict[str, Any]:
    """Return the settings of a method, or a recipe, for the digest.

    A setting that was added later is left out while it has the value that means the earlier behavior.
    """
    later = {f.name: f.metadata["undigested"] for f in fields(settings) if "undigested" in f.metadata}
    return {k: v for k, v in asdict(settings).items() if k not in later or v != later[k]}


def check_numbers(request: Request) -> None:
    """Check that every number of a request is within `LIMITS`. Raises InputError with the range."""
    for key, low, high in LIMITS:
        _check_range(key, _value(request, key), low, high)
    for key, low, high, least in LISTS:
        values = _value(request, key)
        if len(values) < least:
            raise InputError(f"{key}=[]: expected one number or more, as {key}=[0.01,0.1]")
        for value in values:
            _check_range(key, value, low, high)


def _value(request: Request, key: str) -> Any:
    holder, _, name = key.rpartition(".")
    return getattr(getattr(request, holder) if holder else request, name)


def _check_range(key: str, value: Any, low: float, high: float) -> None:
    if value is None or low <= value <= high:
        return
    kind = "a whole number" if isinstance(value, int) else "a number"
    least = {TINY: "above 0", 0: "of 0 or more"}.get(low, f"of {low} or more")
    is_whole = isinstance(value, int)
    shown = str(value) if is_whole else f"{value:g}"
    if is_whole and abs(value) >= 10**15:
        shown = "a number of many digits"
    most = "" if high == MOST else f", up to {high:,}"
    raise InputError(f"{key}={shown}: expected {kind} {least}{most}")
