"""The networks and sources of a screening: read from the command line, and resolved as `bench` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ... import InputError
from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ...methods.networks.encoders import OWN
from ...user_text import user_path
from ..config.compose import compose_request
from ..config.resolve import is_multi_label, run_config
from ..config.schema import Request, Role, RunConfig, load_target
from ..training.problem import check_target

RANDOM, NONE = "random", "none"
TAKEN = {  # settings of `bench` that a screening gives each candidate itself, and what gives them
    **dict.fromkeys(("backbone", "pretrained", "checkpoint"), "backbones=NAME,NAME:FILE,NAME:random"),
    "source": "sources=NAME,none",
    **dict.fromkeys(("methods", "method", "seeds", "minutes", "on", "cluster"), "no such setting: it trains nothing"),
}


@dataclass(frozen=True)
class Backbone:
    """A network and its weights: a file, `random`, or empty for published ones."""

    name: str
    weights: str = ""

    @property
    def label(self) -> str:
        """Return how a table names it."""
        return f"{self.name} ({Path(self.weights).name})" if self.weights else self.name

    @property
    def settings(self) -> list[str]:
        """Return the settings by which `bench` takes it."""
        own = [f"backbone={self.name}"]
        if self.weights == RANDOM:
            return own
        return [*own, f"checkpoint={self.weights}" if self.weights else "pretrained=true"]


@dataclass(frozen=True)
class Candidate:
    """A backbone with the source that it is pre-trained on or compared with, resolved."""

    backbone: Backbone
    config: RunConfig

    @property
    def label(self) -> str:
        """Return how a table names it."""
        trained = self.backbone.weights == RANDOM and self.config.source != NONE
        return f"{self.backbone.name} from {self.config.source_name}" if trained else self.backbone.label


def request_of(overrides: Sequence[str]) -> tuple[Request, list[Backbone], list[str], list[str]]:
    """Return the request, the backbones, the sources, and all other settings.

    Raises:
        InputError: a setting is missing or not one of a screening, or the target has no classes.
    """
    given = dict(word.partition("=")[::2] for word in overrides)
    for name in given:
        if right := TAKEN.get(name.partition(".")[0]):
            raise InputError(f"{name}={given[name]}: expected {right}")
    if not given.get("backbones"):
        raise InputError("backbones: not given; expected names, as backbones=resnet18,vit_small_patch16_224")
    backbones = [_backbone(word) for word in dict.fromkeys(given.pop("backbones").split(","))]
    sources = list(dict.fromkeys(user_path(word) for word in given.pop("sources", NONE).split(",")))
    if "" in sources:
        raise InputError("sources: an empty name; expected names, as sources=glyphs,none")
    rest = [word for word in overrides if not word.startswith(("backbones=", "sources="))]
    request = compose_request([*rest, f"source={NONE}"])
    return request, backbones, sources, rest


def _backbone(word: str) -> Backbone:
    """Return the backbone of NAME or NAME:WEIGHTS. Raises InputError if there is no such file."""
    name, _, weights = word.partition(":")
    if not name:
        raise InputError(f"backbones: '{word}' names no network; expected names, as backbones=resnet18")
    if weights in ("", RANDOM):
        return Backbone(name, weights or (RANDOM if name in OWN else ""))
    path = user_path(weights)
    if not Path(path).is_file():
        raise InputError(f"backbones={word}: no file {path}; expected {name}:FILE, {name}:random or {name}")
    return Backbone(name, path)


def check_classes(request: Request) -> None:
    """Check that the target has classes to tell apart. Raises InputError."""
    target = load_target(request)
    check_target(target)
    if is_multi_label(target):
        raise InputError(
            f"target={target.name}: images have several labels; `screen` needs one class for each image"
        )


def encoders(backbones: Sequence[Backbone], sources: Sequence[str], rest: Sequence[str]) -> list[Candidate]:
    """Return the encoders to score: one for each file, and for random weights one for each source."""
    return [
        _candidate(backbone, source, rest)
        for backbone in backbones
        for source in (sources if backbone.weights == RANDOM else [NONE])
    ]


def pairs(backbones: Sequence[Backbone], sources: Sequence[str], rest: Sequence[str]) -> list[Candidate]:
    """Return each backbone with each source, to compare source and target images by its features."""
    return [_candidate(b, source, rest) for b in backbones for source in sources if source != NONE]


def _candidate(backbone: Backbone, source: str, rest: Sequence[str]) -> Candidate:
    """Return a backbone with a source, resolved as for a run of `bench`."""
    request = compose_request([*rest, f"source={source}", *backbone.settings])
    is_random = backbone.weights == RANDOM and source == NONE
    method = "scratch" if is_random else "ncm"
    config = run_config(request, method, methods.load(method).Config(), request.seed)
    return Candidate(backbone, replace(config, role=Role.screen))


def data_of(request: Request, sources: Sequence[str]) -> list[str]:
    """Return the names of all data sets that are read."""
    return [request.target, *(s for s in sources if s != NONE)]


def require(names: Sequence[str]) -> None:
    """Find the data sets, or download them."""
    datasets.require(list(names), True)
