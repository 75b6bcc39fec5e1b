"""The overrides that reproduce a run: all settings that differ from the defaults of its data and method."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from .compose import request_for
from .labels import usual_holdout_shots, usual_protocol
from .length import num_training_images, sized
from .resolve import preprocessed, score_of, tune_of
from .schema import RunConfig, load_target

SAME = ("shots", "labels", "draw", "backbone", "pretrained", "tune_budget", "bn", "on_nan", "source_recipe")


def overrides(config: RunConfig) -> list[str]:
    """List a run's overrides, without target, source, method and seed; a file by name, without its folder."""
    groups = [f"groups={config.groups}"] if config.groups else []  # a tree of groups is not read without
    given = (f"target={config.target}", f"source={config.source}", *groups)
    usual, settings = request_for(config.method, given)
    target = load_target(config)
    recipe = sized(usual.recipe, num_training_images(target, config.shots))
    recipe = preprocessed(recipe, config.backbone, target.side, config.backbone_options)
    found = groups + [
        word for name in SAME for word in _changes(name, getattr(config, name), getattr(usual, name))
    ]
    found += _changes("tune", config.tune, tune_of(usual))
    follows = {"holdout_shots": usual_holdout_shots, "protocol": usual_protocol}
    for name, of in follows.items():
        expected = getattr(usual, name) or of(config.labels, config.shots)
        found += _changes(name, getattr(config, name), expected)
    found += _changes("recipe", config.recipe, recipe)
    found += _changes("method", config.settings, settings)
    found += _changes("score", str(config.score), score_of(usual, target))
    found += [f"checkpoint={Path(config.checkpoint).name}"] if config.checkpoint else []
    found += [f"backbone_options.{name}={_written(v)}" for name, v in config.backbone_options.items()]
    return found + (["drop_overlap=true"] if config.drop_overlap else [])


def _changes(name: str, own: Any, usual: Any) -> Iterator[str]:
    """Yield an override for a setting, or each setting of a group, that differs from the default."""
    if is_dataclass(own):
        for f in fields(own):
            yield from _changes(f"{name}.{f.name}", getattr(own, f.name), getattr(usual, f.name))
    elif own != usual:
        yield f"{name}={_written(own)}"


def _written(value: Any) -> str:
    """Return a value in the syntax of an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(_written, value))}]" if isinstance(value, list) else str(value)
