"""The networks and sources of a screening: read from the command line, and resolved as `bench` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ... import InputError
from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ...methods.networks.encoders import OWN
from ...user_text import split_paths, user_path
from ..config.compose import compose_request, split_override
from ..config.resolve import is_multi_label, run_config
from ..config.schema import Request, Role, RunConfig, load_target
from ..training.problem import check_target

RANDOM, NONE = "random", "none"
FROM = ("hf-hub:", "local-dir:")  # begin a name of timm
OWN_SETTINGS = ("backbones", "sources", "source_images")
MOST_SOURCE = 5000  # source images that are compared, drawn evenly over the classes
TAKEN = {  # settings of `bench` that have another name here, or no meaning
    **dict.fromkeys(("backbone", "pretrained", "checkpoint"), "backbones=NAME,NAME:FILE,NAME:random"),
    "source": "sources=NAME,none",
    **dict.fromkeys(("methods", "method", "seeds", "minutes", "on", "cluster"), "none: nothing is trained"),
}


@dataclass(frozen=True)
class Backbone:
    """A network and its weights: a file, `random`, or empty for published ones."""

    name: str
    weights: str = ""

    @property
    def label(self) -> str:
        """Return how a table names it."""
        return f"{self.name} ({Path(self.weights).name.partition('.')[0]})" if self.weights else self.name

    @property
    def settings(self) -> list[str]:
        """Return the settings by which `bench` takes it."""
        own = [f"backbone={self.name}"]
        if self.weights == RANDOM:
            return own
        return [*own, f"checkpoint={self.weights}" if self.weights else "pretrained=true"]


@dataclass(frozen=True)
class Candidate:
    """A backbone, and the source that it is pre-trained on or compared with, resolved as for `bench`."""

    backbone: Backbone
    config: RunConfig

    @property
    def learns_source(self) -> bool:
        """Return whether the encoder is pre-trained on the source, for want of weights."""
        return self.backbone.weights == RANDOM and self.config.source != NONE

    @property
    def bench_settings(self) -> list[str]:
        """Return the settings by which a bench starts from the encoder."""
        own = self.backbone.settings
        if self.learns_source:
            return [*own, f"source={self.config.source}"]
        if self.backbone.weights == RANDOM:
            return [*own, "pretrained=false", "source=none", "methods=scratch"]
        return own

    @property
    def label(self) -> str:
        """Return how a table names the encoder."""
        if self.learns_source:
            return f"{self.backbone.name} (from {self.config.source_name})"
        return self.backbone.label


@dataclass(frozen=True)
class Screening:
    """What is asked for."""

    request: Request
    backbones: list[Backbone]
    sources: list[str]
    source_images: int  # images of a source that are compared; 0: all
    rest: list[str]  # settings that every candidate has

    @property
    def has_weights(self) -> bool:
        """Return whether a backbone has weights: its features compare sources with the target."""
        return any(backbone.weights != RANDOM for backbone in self.backbones)

    @property
    def data(self) -> list[str]:
        """Return the names of all data sets that are read."""
        return [self.request.target, *(source for source in self.sources if source != NONE)]

    def encoders(self) -> list[Candidate]:
        """Return the encoders to score: each backbone, and one with random weights also from each source."""
        return [
            self._candidate(backbone, source)
            for backbone in self.backbones
            for source in dict.fromkeys((NONE, *(self.sources if backbone.weights == RANDOM else ())))
        ]

    def pairs(self) -> list[Candidate]:
        """Return each backbone that has weights with each source: its features compare source and target."""
        return [
            self._candidate(backbone, source)
            for backbone in self.backbones
            for source in self.sources
            if backbone.weights != RANDOM and source != NONE
        ]

    def _candidate(self, backbone: Backbone, source: str) -> Candidate:
        request = compose_request([*self.rest, f"source={source}", *backbone.settings])
        method = "scratch" if backbone.weights == RANDOM and source == NONE else "ncm"
        config = run_config(request, method, methods.load(method).Config(), request.seed)
        return Candidate(backbone, replace(config, role=Role.screen))


def screening_of(overrides: Sequence[str]) -> Screening:
    """Return what the settings `name=value` ask for.

    Raises:
        InputError: a setting is missing, wrong or not one of a screening.
    """
    given = dict(map(split_override, overrides))
    for name, value in given.items():
        if right := TAKEN.get(name.partition(".")[0]):
            raise InputError(f"{name}={value}: expected {right}")
    if not given.get("backbones"):
        raise InputError("backbones: not given; expected names, as backbones=resnet18,vit_small_patch16_224")
    words = given["backbones"].split(",")
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise InputError(f"backbones={given['backbones']}: {twice} twice; expected each once")
    backbones = [_backbone(word) for word in words]
    sources = list(dict.fromkeys(split_paths(given.get("sources", NONE))))
    if "" in sources:
        raise InputError(f"sources={given['sources']}: an empty name; expected names, as sources=glyphs,none")
    rest = [word for word in overrides if split_override(word)[0] not in OWN_SETTINGS]
    most = _whole("source_images", given.get("source_images", str(MOST_SOURCE)))
    return Screening(compose_request([*rest, f"source={NONE}"]), backbones, sources, most, rest)


def _whole(name: str, text: str) -> int:
    """Return a number of images. Raises InputError."""
    if not text.isdecimal():
        raise InputError(f"{name}={text}: expected a whole number of 0 or more; 0: all")
    return int(text)


def _backbone(word: str) -> Backbone:
    """Return the backbone of NAME or NAME:WEIGHTS. Raises InputError if there is no such file."""
    prefix = next((own for own in FROM if word.startswith(own)), "")
    name, colon, weights = word.removeprefix(prefix).partition(":")
    name = prefix + name
    if colon and not weights:
        raise InputError(f"backbones={word}: expected {name}:FILE, {name}:random or {name}")
    if not name:
        raise InputError(f"backbones: '{word}' names no network; expected names, as backbones=resnet18")
    if weights in ("", RANDOM):
        return Backbone(name, RANDOM if name in OWN else weights)
    path = user_path(weights)
    if not Path(path).is_file():
        raise InputError(f"backbones={word}: no file {path}; expected {name}:FILE, {name}:random or {name}")
    return Backbone(name, path)


def check_classes(asked: Screening) -> None:
    """Check that the target, and sources that are compared, have classes to tell apart. Raises InputError."""
    target = load_target(asked.request)
    check_target(target)
    compared = [source for source in asked.sources if source != NONE and asked.has_weights]
    sets = [("target", target.name, target), *(("sources", name, datasets.load(name)) for name in compared)]
    for setting, name, dataset in sets:
        if is_multi_label(dataset):
            raise InputError(
                f"{setting}={name}: images have several labels; `screen` needs one class for each image"
            )
