"""Do a screening's passes: each encoder and each pair with a source leaves a file, and is found again."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ...analysis.records.schema import is_done
from ...analysis.records.screens import FORMAT, folder_of, read_screen
from ...methods.base import Problem, classed_source
from ...methods.networks.encoders import build_encoder
from ...methods.networks.network import Network
from ...methods.recipe import Interpolation
from ..training.pretraining import SourceModel, shared_pretraining
from ..training.problem import build_problem
from ..training.record import environment, now, write_json
from ..training.run import shared_source_model
from .candidates import Candidate
from .features import Timed, check_folds, feature_scores, features_of
from .sources import closeness, drawn

SHOWN = (  # of a configuration, for the reader of a file and to find the runs of a bench
    *("backbone", "backbone_options", "pretrained", "checkpoint", "shots", "labels", "holdout_shots", "draw"),
    *("seed", "score"),
)


def waits(candidate: Candidate, results: Path) -> bool:
    """Return whether an encoder's pre-training on the source is not done: a screening trains nothing."""
    base = shared_pretraining(candidate.config) if candidate.learns_source else None
    return base is not None and not is_done(base.folder(results))


def encoder_scored(candidate: Candidate, results: Path) -> dict[str, Any]:
    """Return the scores of an encoder: read them, or compute and write them.

    Raises:
        InputError: the network cannot be built, or a class has too few images.
    """
    problem = build_problem(candidate.config).problem
    path = _path(candidate, problem, results, "encoder")
    if (found := read_screen(path)) is not None:
        return found
    check_folds(problem)
    net, shared = _network(candidate, results)
    begin = time.perf_counter()
    features, seconds = features_of(net, problem)
    scores = feature_scores(problem, features, _classifier(candidate, net))
    scores.seconds["features"] = seconds
    own = {
        "num_features": features.shape[1],
        "num_parameters": sum(p.numel() for p in net.encoder.parameters()),
        "pretraining": [shared.reference] if shared else [],
    }
    return _written(path, candidate, problem, scores, time.perf_counter() - begin, own)


def pair_scored(candidate: Candidate, results: Path, most: int) -> dict[str, Any]:
    """Return how close a source is to the target by an encoder: read it, or compute and write it.

    Args:
        candidate: the backbone and the source.
        results: the results folder.
        most: source images that are compared; 0: all.

    Raises:
        InputError: the network cannot be built, or source images have several labels.
    """
    problem = build_problem(candidate.config).problem
    problem = replace(problem, source=drawn(classed_source(problem), most))
    path = _path(candidate, problem, results, "source")
    if (found := read_screen(path)) is not None:
        return found
    net, _ = _network(candidate, results)
    begin = time.perf_counter()
    of_target, _ = features_of(net, problem)
    of_source, seconds = features_of(net, problem, of_source=True)
    scores = closeness(problem, of_source, of_target)
    scores.seconds["features"] = seconds
    own = {"num_source_images": len(of_source)}
    return _written(path, candidate, problem, scores, time.perf_counter() - begin, own)


def _network(candidate: Candidate, results: Path) -> tuple[Network, SourceModel | None]:
    """Return the network, and the pre-training that it starts from: one that `bench` has done."""
    shared = shared_source_model(candidate.config, results) if candidate.learns_source else None
    net = build_problem(candidate.config, shared).problem.network()
    return net.requires_grad_(False).eval(), shared


def _classifier(candidate: Candidate, net: Network) -> nn.Module | None:
    """Return what tells source classes from features: the head that its weights come with."""
    config = candidate.config
    if candidate.learns_source:
        return net.source_head
    if not (config.pretrained or config.checkpoint):
        return None
    options = config.backbone_options
    _, classifier = build_encoder(config.backbone, config.pretrained, config.checkpoint, options)
    return classifier if classifier is None else classifier.to(next(net.parameters()).device).eval()


def _path(candidate: Candidate, problem: Problem, results: Path, kind: str) -> Path:
    """Return the file of a candidate; its name holds a hash of all that determines the scores."""
    config, split = candidate.config, problem.target
    words: list[Any] = [FORMAT, kind, split.images, split.fingerprint(), str(split.augment), problem.score]
    words += [config.backbone, sorted(config.backbone_options.items()), config.pretrained, config.seed]
    words += [config.data.get("checkpoint"), str(problem.recipe.precision), split.device.type]
    words += [str(problem.recipe.interpolation)] * (problem.recipe.interpolation != Interpolation.bicubic)
    words += [config.data["backbone"]] if "backbone" in config.data else []
    if problem.source is not None:
        words += [problem.source.images, problem.source.fingerprint()]
    if candidate.learns_source and (base := shared_pretraining(config)):
        words.append(base.digest)
    digest = hashlib.sha256(repr(words).encode()).hexdigest()[:10]
    name = config.backbone.replace("/", "_").replace(":", "_")
    pair = config.folder(folder_of(results)).parents[1]
    return pair / f"{kind}-{name}-{digest}.json"


def _written(
    path: Path, candidate: Candidate, problem: Problem, scores: Timed, seconds: float, own: dict[str, Any]
) -> dict[str, Any]:
    """Write the scores of a candidate, and return what is written."""
    config = candidate.config
    resolved = config.resolved()
    content = {
        "format": FORMAT,
        "kind": path.name.partition("-")[0],
        "label": candidate.label,
        "source": config.source_name,
        "target": config.target_name,
        "learns_source": candidate.learns_source,
        "metric": problem.score,
        "config": {name: resolved[name] for name in SHOWN if name in resolved},
        "image_size": problem.recipe.image_size,
        "num_images": len(problem.target),
        "num_classes": problem.target.num_classes,
        "scores": scores.values,
        "seconds": {**scores.seconds, "whole": seconds},
        "fingerprints": config.data,
        "environment": environment(problem.device),
        "ended": now(),
        **own,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return content
