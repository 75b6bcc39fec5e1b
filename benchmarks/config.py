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
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import InputError
from ..datasets import catalog as datasets
from ..methods import catalog as methods
from ..methods.base import Recipe

HERE = Path(__file__).parent
SMALL_SIDE = 96  # images up to this side are met with the preset `small`
OPEN = ("backbone_options", "method_defaults")  # hold names that no schema knows
QUOTED = ("target", "source", "results", "checkpoint", "methods")  # may hold what Hydra's grammar does not
TINY, MOST = 1e-300, 1e300  # not 0, not infinite
LIMITS = (  # least and most
    *((name, 1, MOST) for name in ("seeds", "shots")),
    *((name, 0, MOST) for name in ("seed", "workers", "threads", "source_recipe.seed", "recipe.image_size")),
    *((f"{r}.{name}", 1, MOST) for name in ("steps", "batch_size") for r in ("recipe", "source_recipe")),
    *((f"{r}.lr", TINY, MOST) for r in ("recipe", "source_recipe")),
    *((f"{r}.weight_decay", 0, MOST) for r in ("recipe", "source_recipe")),
    *((f"recipe.{name}", TINY, 1) for name in ("crop_scale", "central_share")),
    *((f"recipe.{name}", 0, 1) for name in ("momentum", "warmup_share")),
    ("recipe.evaluations", 1, MOST),
    ("recipe.head_std", 0, MOST),
)
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

    split = "split"  # type: ignore[assignment]  # hides str.split, which nothing here needs
    shared = "shared"


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
    score: Score = Score.top1
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
        raise InputError(
            f"preset={preset}: not known{_near(preset, presets())} Known: {', '.join(presets())}"
        )
    words = [w for w in words if not w.startswith(("preset=", "method="))]
    _store()
    try:
        with initialize_config_dir(str(HERE), version_base="1.3", job_name="transferbench"):
            chosen = [f"+method={method}"] if method else []
            config = compose("request", [f"+presets={preset}", f"preset={preset}", *chosen, *words])
        request = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error, words, _names(method))) from error
    assert isinstance(request, Request)
    _check_numbers(request)
    return request


def _quoted(override: str) -> str:
    """Quote a value that may hold commas or blanks, which Hydra's grammar gives a meaning."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise InputError(f"'{override}': expected name=value, as recipe.steps=500")
    if key in QUOTED and value not in ("null", ""):
        value = "'" + value.strip("'\"").replace("'", "\\'") + "'"
    return f"{'++' if key.split('.')[0] in OPEN else ''}{key}={value}"


def _preset_of(target: str) -> str:
    """Choose by the target: the embedded pair, small images, or the paper's recipe."""
    dataset = datasets.load(target.strip("'\""))
    if dataset.name == Request.target:
        return "embedded"
    return "small" if dataset.side <= SMALL_SIDE else "paper"


def _one_line(error: Exception, overrides: Iterable[str], names: list[str]) -> str:
    """Turn Hydra's answer into one line: the setting, its value, and what would be right."""
    text = f"{error.__cause__ or ''}\n{error}".strip()
    given = dict(o.lstrip("+").partition("=")[::2] for o in overrides)
    found = re.search(r"full_key: ([\w.]+)|argument '([\w.]+)|override '?\+*([\w.]+)", text)
    where = next(filter(None, found.groups())) if found else ""
    name = next((n for n in given if n == where or n.startswith(f"{where}.") and where), where)
    if "Could not override" in text:
        return _unknown(name, names)
    if not name or "mbiguous value" in text:  # Hydra's grammar does not say which override it means
        wrong = next((f"{n}={v}" for n, v in given.items() if n == name or not _readable(f"{n}={v}")), "")
        return f"{wrong}: not readable; expected one value, in quotes if it holds any of {{}}[],'"
    return f"{name}={given.get(name, '')}: expected {_expected(text)}"


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _expected(text: str) -> str:
    """Say what type or choice OmegaConf missed."""
    if choices := re.search(r"expected one of \[(.*?)\]", text):
        return f"one of {choices.group(1)}"
    words = {
        "converted to Integer": "a whole number",
        "converted to Float": "a number",
        "not a valid bool": "true or false",
        "not a ListConfig": "a list, as [100,200]",
        "to Dict[": "names and values, as {name: value}",
        "is not a subclass of": "its settings one by one, as recipe.steps=500",
    }
    return next(
        (right for part, right in words.items() if part in text), f"another value ({text.split(chr(10))[0]})"
    )


def _unknown(name: str, names: list[str]) -> str:
    """Say that there is no such setting, with the nearest one, or else all of its kind."""
    prefix, _, last = name.rpartition(".")
    family = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == prefix}
    elsewhere = [n for n in names if n.rpartition(".")[2] == last]
    near = difflib.get_close_matches(last, family, n=1)
    if near or elsewhere:
        return f"no setting '{name}'; did you mean '{elsewhere[0] if elsewhere else family[near[0]]}'?"
    return f"no setting '{name}'. Known: {', '.join(family.values() or names)}"


def _near(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest name, as the end of a sentence."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else "."


def _names(method: str | None) -> list[str]:
    """List every name that can be overridden, with the method's own settings."""
    kinds: dict[str, type] = {"recipe": Recipe, "source_recipe": SourceRecipe}
    if method:
        kinds["method"] = methods.load(method).Config
    names = []
    for f in fields(Request):
        kind = kinds.get(f.name)
        names += [f"{f.name}.{g.name}" for g in fields(kind)] if kind else [f.name]
    return names


def run_config(request: Request, method: str, settings: Any, seed: int) -> RunConfig:
    """Resolve a request into one run.

    Raises: InputError when the method needs what the request does not give.
    """
    target = datasets.load(request.target)
    source = source_of(request, method)
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


def source_of(request: Request, method: str) -> str:
    """Give the source: what was asked for, or the embedded one for the embedded target."""
    if request.source is not None:
        return request.source
    if request.target == Request.target:
        return "glyphs"
    needs = f"method={method} needs source images; " if methods.load(method).needs_source else ""
    raise InputError(
        f"source: not given; {needs}give source=PATH, a folder with train/<class>/<image> "
        f"or a known data set{'' if needs else ', or source=none for none'}"
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


def _check_numbers(request: Request) -> None:
    """Refuse numbers that no run can have. Raises: InputError with the range."""
    for key, low, high in LIMITS:
        holder, _, name = key.rpartition(".")
        value = getattr(getattr(request, holder) if holder else request, name)
        if value is not None and not low <= value <= high:
            what = "a whole number" if isinstance(value, int) else "a number"
            least = {TINY: "above 0", 0: "of 0 or more"}.get(low, f"of {low} or more")
            raise InputError(
                f"{key}={value:g}: expected {what} {least}{'' if high == MOST else f', up to {high}'}"
            )


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
        choices = sorted({*known, *methods.names()} - {"pretrain"})
        if name not in choices:
            raise InputError(f"methods: no row '{name}'{_near(name, choices)} Known: {', '.join(choices)}")
        has = {f.name for f in fields(methods.load(method).Config)}
        mine = [o for o in own if o.split("=")[0].removeprefix("method.") in has]
        used.update(mine)
        result.append(
            (method, settings_of(method, [*others, *(f"method.{k}={v}" for k, v in row.items()), *mine]))
        )
    if lost := [o.split("=")[0] for o in own if o not in used]:
        names = sorted({n for method, _ in result for n in _names(method) if n.startswith("method.")})
        raise InputError(f"{_unknown(lost[0], names)} (methods: {', '.join(wanted)})")
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
