"""Resolve a request into the settings of one run: find the data, check needs, fill in defaults."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ... import InputError, install_command
from ...datasets import catalog as datasets
from ...datasets import planted
from ...datasets.base import Dataset
from ...datasets.loading.draw import FOLDS, is_tiny, parts_of
from ...methods import catalog as methods
from ...methods.metrics import check_score
from ...methods.networks.encoders import data_config, fitting_size, interpolation
from ...methods.networks.tensor_files import files_of
from ...methods.networks.timm_models import local_folder
from ...methods.recipe import SOFTENING, ClassWeights, Interpolation, MeanStd, Recipe
from .labels import holdout_shots, usual_protocol
from .length import num_training_images, sized
from .schema import SMALL_SIDE, Log, Request, Role, RunConfig, Score, Tune


def run_config(request: Request, method: str, settings: Any, seed: int) -> RunConfig:
    """Resolve a request into the settings of one run.

    Args:
        request: the request.
        method: name of the method.
        settings: its settings.
        seed: seed of the run.

    Raises:
        InputError: the method needs source images or weights that the request does not give, or a
            setting does not fit the data.
    """
    drawn = drawn_of(request)
    target = datasets.load(request.target, draw=drawn, groups=request.groups)
    source = source_of(request, method)
    _check(request, method, source)
    recipe = sized(request.recipe, num_training_images(target, request.shots))
    recipe = preprocessed(recipe, request.backbone, target.side, request.backbone_options)
    score = score_of(request, target)
    check_score("score", score, is_multi_label(target))
    _check_labels(recipe, is_multi_label(target))
    _check_graphs(recipe)
    data = {"target": target.fingerprint}
    if source != "none":
        data["source"] = datasets.load(source, as_source=True, draw=drawn, groups=request.groups).fingerprint
    if request.drop_overlap:
        data["drop_overlap"] = datasets.load(request.target, groups=request.groups).fingerprint
        if data.get("source") == data["drop_overlap"]:
            raise InputError("drop_overlap=true: source and target have the same images; expected two sets")
    if request.checkpoint and Path(request.checkpoint).is_file():
        data["checkpoint"] = _digest_of(Path(request.checkpoint))
    if folder := local_folder(request.backbone):
        data["backbone"] = _hashed(_stamps(sorted(p for p in folder.glob("*") if p.is_file())))
    same = (
        *("shots", "labels", "backbone", "backbone_options", "pretrained", "checkpoint"),
        *("tune_budget", "bn", "on_nan", "keep"),
    )
    return RunConfig(
        role=Role.run,
        source=source,
        target=request.target,
        method=method,
        settings=settings,
        seed=seed,
        score=score,
        drop_overlap=request.target if request.drop_overlap else "",
        recipe=recipe,
        source_recipe=request.source_recipe,
        data=data,
        device=request.device,
        threads=request.threads,
        deterministic=request.deterministic,
        checkpoint_minutes=request.checkpoint_minutes,
        log=_checked_log(request.log),
        draw=drawn,
        groups=request.groups,
        tune=tune_of(request),
        holdout_shots=holdout_shots(request),
        protocol=request.protocol or usual_protocol(request.labels, request.shots),
        **{name: getattr(request, name) for name in same},
    )


def _check_labels(recipe: Recipe, multi_label: bool) -> None:
    """Check that the recipe's changes of labels fit. Raises InputError if images have several labels."""
    given = ["class_weights=balanced"] if recipe.class_weights is ClassWeights.balanced else []
    given += [f"{name}={value}" for name in SOFTENING if (value := getattr(recipe, name))]
    if given and multi_label:
        default = "none" if recipe.class_weights is ClassWeights.balanced else "0"
        raise InputError(f"recipe.{given[0]}: the target's images have several labels; expected {default}")


def _check_graphs(recipe: Recipe) -> None:
    """Check that CUDA graphs are asked for with what they need. Raises InputError."""
    if recipe.cuda_graphs and not recipe.compile:
        raise InputError(
            "recipe.cuda_graphs=true: captures compiled kernels; expected recipe.compile=true with it"
        )
    if recipe.cuda_graphs and recipe.micro_batch:
        raise InputError(f"recipe.micro_batch={recipe.micro_batch}: expected 0 with recipe.cuda_graphs=true")


def _checked_log(log: Log) -> Log:
    """Return where curves are logged. Raises InputError if its package is missing."""
    if log is not Log.none and find_spec(log) is None:
        raise InputError(f"log={log}: needs {log}: {install_command(log)}")
    return log


def drawn_of(request: Request) -> str | None:
    """Return what is drawn in the target, in one form: `folds` without a request if the set is tiny."""
    if request.draw:
        return ",".join(parts_of(request.draw)) or FOLDS
    is_planted = planted.parse(request.source or "") is not None  # it holds training images of one split
    if request.groups or is_planted or not datasets.is_own(request.target):
        return None
    return FOLDS if is_tiny(datasets.load(request.target)) else None


def _digest_of(checkpoint: Path) -> str:
    """Return the hash of a weights file with all its parts."""
    try:
        files = files_of(checkpoint)
    except (ValueError, OSError):  # the error is named where the file is read
        files = [checkpoint]
    return _hashed(_stamps([path for path in files if path.is_file()]))


def _stamps(files: Iterable[Path]) -> tuple[tuple[Path, int, int], ...]:
    """Return files with their size and time."""
    return tuple((path, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files)


@cache
def _hashed(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """Return the hash of files, once for each size and time of theirs: every run of a comparison asks."""
    digest = hashlib.sha256()
    for path, _, _ in stamps:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def preprocessed(
    recipe: Recipe, backbone: str, side: int, options: Mapping[str, Any] | None = None
) -> Recipe:
    """Fill in the preprocessing that the recipe leaves to the backbone.

    Args:
        recipe: the recipe.
        backbone: name of the backbone.
        side: typical side of the target's images in pixels; small images are enlarged only for a backbone
            that takes no other size.
        options: options of the backbone.
    """
    if recipe.interpolation is Interpolation.backbone:
        recipe = replace(recipe, interpolation=interpolation(backbone))
    if recipe.image_size and recipe.crop_pct and recipe.mean_std is not MeanStd.backbone:
        return recipe
    own = 64 if side > 40 else 32
    image_size, crop_pct, mean_std = data_config(backbone) or (own, 1.0, MeanStd.half)
    if side <= SMALL_SIDE:
        image_size = own
    image_size = recipe.image_size or fitting_size(backbone, options or {}, image_size)
    if recipe.mean_std is not MeanStd.backbone:
        mean_std = recipe.mean_std
    return replace(
        recipe,
        image_size=image_size,
        crop_pct=recipe.crop_pct or crop_pct,
        mean_std=mean_std,
    )


def score_of(request: Request, target: Dataset) -> str:
    """Return the score of the request, or else that of the target."""
    about = datasets.about(request.target)
    own = Score.auroc if is_multi_label(target) else Score.top1
    return str(request.score or (about.score if about else own))


def is_multi_label(dataset: Dataset) -> bool:
    """Return whether images have several labels instead of one class."""
    return any(part.labels.ndim == 2 for part in dataset.parts.values())


def tune_of(request: Request) -> Tune:
    """Return the search of the request, or else `auto` for pre-trained weights and for images of the user."""
    if request.tune is not None:
        return request.tune
    needed = request.pretrained or request.checkpoint is not None or datasets.is_own(request.target)
    return Tune.auto if needed else Tune.off


def source_of(request: Request, method: str) -> str:
    """Return the source of the request, or else the usual source of a known target.

    Raises:
        InputError: neither is given.
    """
    if request.source is not None:
        return request.source
    if about := datasets.about(request.target):
        return about.source
    needs = f"method={method} needs source images; " if methods.load(method).needs_source else ""
    raise InputError(
        f"source: not given; {needs}give source=PATH, a folder with train/<class>/<image> "
        f"or a known data set{'' if needs else ', or source=none for none'}"
    )


def _check(request: Request, method: str, source: str) -> None:
    """Check that the method has source images or pre-trained weights if it needs them."""
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
