"""From a request to one run: data found, needs checked, nothing left open."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import InputError
from ..datasets import catalog as datasets
from ..methods import catalog as methods
from .schema import Request, Role, RunConfig


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
