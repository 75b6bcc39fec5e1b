"""From overrides to run configurations: Hydra composes, once a row, and then leaves the room."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import InputError
from ..datasets import catalog as datasets
from ..methods import catalog as methods
from ..methods.base import Recipe
from ..methods.metrics import SCORES

HERE = Path(__file__).parent
SMALL_SIDE = 96  # images up to this side are met with the preset `small`
QUOTED = ("target", "source", "results", "checkpoint", "methods")  # may hold what Hydra's grammar does not
NO_EFFECT = ("device", "threads")  # on a result: not in the digest


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

    split = "split"
    shared = "shared"


class Role(StrEnum):
    """What a run is for."""

    run = "run"
    pretraining = "pretraining"
    trial = "trial"
    first_stage = "first_stage"


Score = StrEnum("Score", {name: name for name in SCORES if name != "top5"})  # type: ignore[misc]


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
    score: Score = Score.top1  # type: ignore[valid-type]
    recipe: Recipe = field(default_factory=Recipe)
    source_recipe: SourceRecipe = field(default_factory=SourceRecipe)
    method_defaults: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 0  # of one run on a CPU; 0: one for a bench's workers, all for a single run
    workers: int = 0  # runs at a time; 0: one a GPU, or one a core
    on: str = "local"
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
    recipe: Recipe
    source_recipe: SourceRecipe
    data: dict[str, str]  # fingerprints: other images are another run
    device: str = "auto"
    threads: int = 0

    def resolved(self) -> dict[str, Any]:
        """Give all that may change a result, as plain JSON; data sets by name, not by place."""
        plain = {k: v for k, v in asdict(self).items() if k not in NO_EFFECT}
        return {**plain, "source": self.source_name, "target": self.target_name}

    @property
    def source_name(self) -> str:
        """Name of the source data set, `none` without one."""
        return Path(self.source).name.removesuffix(".tar")

    @property
    def target_name(self) -> str:
        """Name of the target data set, `none` for a pre-training."""
        return Path(self.target).name.removesuffix(".tar")

    @property
    def digest(self) -> str:
        """Name the run by its content."""
        return _digest(self.resolved())

    @property
    def bench(self) -> str:
        """Name what is equal in all runs that may be compared."""
        own = ("method", "settings", "seed")
        return _digest({k: v for k, v in self.resolved().items() if k not in own})

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
        words += [f"checkpoint={Path(self.checkpoint).name}"] if self.checkpoint else []
        return ", ".join(words + (["pretrained=true"] if self.pretrained else []))


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:10]


@lru_cache(maxsize=1)
def _store() -> None:
    """Tell Hydra the schema and every method's settings."""
    store = ConfigStore.instance()
    store.store(name="request", node=Request)
    for name in methods.names():
        store.store(group="method", name=name, node=methods.load(name).Config)


def presets() -> list[str]:
    """List the presets."""
    return sorted(p.stem for p in (HERE / "presets").glob("*.yaml"))


def compose_request(overrides: Iterable[str], method: str | None = None) -> Request:
    """Compose a request; the preset follows from the target unless it is given.

    Raises: InputError in one line for a wrong name, type or value.
    """
    words = [_quoted(o) for o in overrides]
    given = {o.split("=", 1)[0].lstrip("+~"): o.split("=", 1)[1] for o in overrides if "=" in o}
    preset = given.get("preset") or _preset_of(given.get("target", Request.target))
    if preset not in presets():
        raise InputError(f"preset={preset}: not known; known: {', '.join(presets())}")
    words = [w for w in words if not w.startswith(("preset=", "method="))]
    _store()
    try:
        with initialize_config_dir(str(HERE), version_base="1.3", job_name="transferbench"):
            chosen = [f"+method={method}"] if method else []
            config = compose("request", [f"+presets={preset}", f"preset={preset}", *chosen, *words])
        request = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error, words)) from error
    assert isinstance(request, Request)
    return request


def _quoted(override: str) -> str:
    """Quote a value that may hold commas or blanks, which Hydra's grammar gives a meaning."""
    key, equals, value = override.partition("=")
    if not equals:
        raise InputError(f"'{override}': expected name=value, as recipe.steps=500")
    if key in QUOTED and value not in ("null", ""):
        value = "'" + value.strip("'\"").replace("'", "\\'") + "'"
    return f"{key}={value}"


def _preset_of(target: str) -> str:
    """Choose by the target: the embedded pair, small images, or the paper's recipe."""
    dataset = datasets.load(target.strip("'\""))
    if dataset.name == Request.target:
        return "embedded"
    return "small" if dataset.side <= SMALL_SIDE else "paper"


def _one_line(error: Exception, overrides: list[str]) -> str:
    """Turn Hydra's answer into one line with the choices."""
    text = str(error.__cause__ or error) if isinstance(error, ConfigCompositionException) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    key = re.search(r"[Kk]ey '([^']+)'|full_key: (\S+)", text)
    if "not in" in message or "Could not override" in str(error):
        name = _named(str(error), overrides)
        near = difflib.get_close_matches(name, _names(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"no setting '{name}'{hint} Settings: {', '.join(_names())}"
    where = next((g for g in (key.groups() if key else ()) if g), _named(str(error), overrides))
    return f"{where}: {message}"


def _named(text: str, overrides: list[str]) -> str:
    """Find which override an error speaks of."""
    found = re.search(r"override '?([\w.]+)", text) or re.search(r"[Kk]ey '([\w.]+)'", text)
    name = found.group(1).rstrip(".") if found else ""
    return next((o.split("=")[0] for o in overrides if o.split("=")[0].endswith(name)), name)


def _names() -> list[str]:
    """List every name that can be overridden, except methods' own settings."""
    names = []
    for f in fields(Request):
        kind = {"recipe": Recipe, "source_recipe": SourceRecipe}.get(f.name)
        names += [f"{f.name}.{g.name}" for g in fields(kind)] if kind else [f.name]
    return names + ["method.<setting>"]


def run_config(request: Request, method: str, settings: Any, seed: int) -> RunConfig:
    """Resolve a request into one run.

    Raises: InputError when the method needs what the request does not give.
    """
    target = datasets.load(request.target)
    source = source_of(request)
    _check(request, method, source)
    recipe = request.recipe
    if recipe.image_size == 0:
        recipe = replace(recipe, image_size=64 if target.side > 40 else 32)
    data = {"target": target.fingerprint}
    if source != "none":
        data["source"] = datasets.load(source, as_source=True).fingerprint
    if request.checkpoint and Path(request.checkpoint).is_file():
        data["checkpoint"] = hashlib.sha256(Path(request.checkpoint).read_bytes()).hexdigest()[:16]
    same = ("shots", "backbone", "backbone_options", "pretrained", "checkpoint", "protocol", "tune", "bn")
    return RunConfig(
        role=Role.run,
        source=source,
        target=request.target,
        method=method,
        settings=settings,
        seed=seed,
        score=str(request.score),
        recipe=recipe,
        source_recipe=request.source_recipe,
        data=data,
        device=request.device,
        threads=request.threads,
        **{name: getattr(request, name) for name in same},
    )


def source_of(request: Request) -> str:
    """Give the source: what was asked for, or the embedded one for the embedded target."""
    if request.source is not None:
        return request.source
    if request.target == Request.target:
        return "glyphs"
    raise InputError(
        "source: not given; name a data set or a folder of images (source=PATH), "
        "or source=none for none"
    )


def _check(request: Request, method: str, source: str) -> None:
    cls = methods.load(method)
    has_weights = request.pretrained or request.checkpoint is not None
    if source == "none" and cls.needs_source:
        raise InputError(
            f"method={method} needs source images and source=none; give source=PATH, "
            "a folder with train/<class>/<image> or a known data set"
        )
    if source == "none" and cls.uses_pretraining and not has_weights:
        raise InputError(
            f"method={method} starts from pre-trained weights and source=none; give source=PATH, "
            "or weights by pretrained=true or checkpoint=PATH"
        )
    checks = {"seeds": request.seeds, "recipe.steps": request.recipe.steps}
    checks |= {"recipe.batch_size": request.recipe.batch_size, "recipe.evaluations": request.recipe.evaluations}
    checks |= {"source_recipe.steps": request.source_recipe.steps, "shots": request.shots or 1}
    checks["recipe.lr"] = request.recipe.lr  # type: ignore[assignment]
    for name, value in checks.items():
        if value <= 0 and not (name == "shots" and request.shots is None):
            raise InputError(f"{name}={value}: expected a positive number")


def suite_rows() -> dict[str, dict[str, Any]]:
    """Read the rows of the default comparison."""
    suite: Any = OmegaConf.to_container(OmegaConf.load(HERE / "suites" / "compare.yaml"))
    return suite["rows"]


def rows(request: Request, overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """List the rows of a comparison: methods with their settings.

    A `method.<setting>` goes to every row whose method has it.

    Raises: InputError for an unknown row, or a setting that no row has.
    """
    known = suite_rows()
    wanted = request.methods.split(",") if request.methods else list(known)
    own = [o for o in overrides if o.startswith("method.")]
    others = [o for o in overrides if not o.startswith("method.")]
    used: set[str] = set()
    result = []
    for name in wanted:
        row = dict(known.get(name) or {"method": name})
        method = row.pop("method")
        if name not in known and method not in methods.names():
            choices = sorted({*known, *methods.names()} - {"pretrain"})
            near = difflib.get_close_matches(name, choices, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise InputError(f"methods: no row '{name}'{hint} Known: {', '.join(choices)}")
        has = {f.name for f in fields(methods.load(method).Config)}
        mine = [o for o in own if o.split("=")[0].removeprefix("method.") in has]
        used.update(mine)
        result.append((method, settings_of(method, [*others, *(f"method.{k}={v}" for k, v in row.items()), *mine])))
    if lost := [o for o in own if o not in used]:
        raise InputError(f"{lost[0].split('=')[0]}: none of {', '.join(wanted)} has this setting")
    return result


def settings_of(method: str, overrides: Iterable[str]) -> Any:
    """Compose a method's settings: its defaults, the preset's, then the given ones."""
    methods.load(method)
    given = list(overrides)
    base = compose_request([o for o in given if not o.startswith("method.")], method)
    defaults = base.method_defaults.get(method, {})
    own = {o.split("=")[0] for o in given}
    extra = [f"method.{k}={v}" for k, v in defaults.items() if f"method.{k}" not in own]
    settings = compose_request([*given, *extra], method).method if extra or own else base.method
    assert is_dataclass(settings)
    return settings.resolved() if hasattr(settings, "resolved") else settings
