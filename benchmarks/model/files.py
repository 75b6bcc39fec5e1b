"""The two files of a kept model: its tensors, and all that is needed to build it without data.

`model.json` names the hash of `model.safetensors`, and so does the run's record: the three agree.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ... import InputError, __version__
from ...analysis.records.schema import is_done, read_record, record_path
from ...datasets import catalog as datasets
from ...datasets.base import Split
from ...datasets.files.atomic import atomic_write
from ...methods import catalog as methods
from ...methods.base import Method
from ...methods.networks.encoders import build_encoder
from ...methods.networks.predictor import Predictor
from ...methods.networks.tensor_files import misfits, read_tensors, some
from ...methods.recipe import TestCrops
from ..config.schema import RunConfig
from ..training.record import write_json

FORMAT = 1  # of model.json
TENSORS, ABOUT, CARD = "model.safetensors", "model.json", "README.md"
FILES = (ABOUT, TENSORS, CARD)


def write_model(folder: Path, config: RunConfig, method: Method, target: Split, side: int) -> dict[str, Any]:
    """Write a finished method's model into its run's folder, tensors first; return the record's field.

    Args:
        folder: the run's folder.
        config: the run.
        method: the method after its last step.
        target: a part of the target, for its classes and preprocessing.
        side: pixels per side to which images are decoded, before the crop.
    """
    predictor = method.predictor()
    packed = save(_contiguous(predictor.state_dict()), {"format": "pt"})
    file = {"sha256": hashlib.sha256(packed).hexdigest(), "num_bytes": len(packed)}
    with atomic_write(folder / TENSORS) as draft:
        draft.write_bytes(packed)
    about = {
        "format": FORMAT,
        "transferbench": __version__,
        "tensors": file,
        "backbone": method.net.backbone,
        "backbone_options": dict(method.net.backbone_options),
        "method": config.method,
        "label": type(method).label(config.settings),
        "classes": list(target.classes),
        "multi_label": target.multi_label,
        "preprocessing": preprocessing(config, target, side),
        "predictor": predictor.options(),
        "head": predictor.head_options(),
        "seed": config.seed,
        "digest": config.digest,
        "comparison_id": config.comparison_id,
        "source": config.source_name,
        "target": config.target_name,
        "settings": config.resolved(),
        "fingerprints": config.data,
        "licenses": licenses(config),
    }
    write_json(folder / ABOUT, about)
    return file


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, since the format does not allow tensors that share memory."""
    return {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()}


def preprocessing(config: RunConfig, target: Split, side: int) -> dict[str, Any]:
    """Return how an image becomes the network's input."""
    augment = target.augment
    mean, std = augment.statistics
    return {
        "side": side,
        "interpolation": str(config.recipe.interpolation),
        "image_size": augment.image_size,
        "crop_pct": augment.crop_pct,
        "mean_std": str(config.recipe.mean_std),
        "mean": list(mean),
        "std": list(std),
        "test_crops": str(config.recipe.test_crops),
        "hflip": augment.hflip,
    }


def many_crops(given: Mapping[str, Any]) -> str:
    """Return the crops whose mean logits are scored and predicted, from `preprocessing`; "" for one crop."""
    if given["test_crops"] != TestCrops.ten:
        return ""
    return f"the four corners and the center{', each also mirrored' if given['hflip'] else ''}"


def licenses(config: RunConfig) -> dict[str, str]:
    """Return the license of source and target, where it is known."""
    names = {role: getattr(config, role) for role in ("source", "target")}
    about = {role: datasets.about(name) for role, name in names.items() if name != "none"}
    return {role: found.license for role, found in about.items() if found}


def read_about(folder: Path) -> dict[str, Any]:
    """Return the content of `model.json`, checked against the run's record and its file of tensors.

    Raises:
        InputError: there is no model, it is damaged, or of another version.
    """
    path = folder / ABOUT
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the folder of a run with a model")
    if not path.is_file() or not (folder / TENSORS).is_file():
        raise InputError(_no_model(folder))
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        version = about["format"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); {again(folder)}") from error
    if version != FORMAT:
        raise InputError(
            f"{path}: format {version!r:.20} is of another version; this one reads {FORMAT}: use the "
            f"transferbench that wrote it ({about.get('transferbench')!r:.20})"
        )
    if missing := [name for name in NEEDED if not isinstance(about.get(name), NEEDED[name])]:
        raise InputError(f"{path}: no valid field '{missing[0]}'; {again(folder)}")
    if not all(isinstance(name, str) for name in about["classes"]):
        raise InputError(f"{path}: a class without a name in 'classes'; {again(folder)}")
    if is_done(folder) and (of_record := read_record(record_path(folder)).get("model")) != about["tensors"]:
        raise InputError(f"{path}: not the model of the record ({of_record!r:.60}); {again(folder)}")
    return about


NEEDED: dict[str, type] = {
    **dict.fromkeys(("method", "backbone", "label", "source", "target", "digest"), str),
    **dict.fromkeys(("preprocessing", "predictor", "head", "backbone_options", "tensors"), dict),
    **dict.fromkeys(("licenses", "fingerprints"), dict),
    "classes": list,
    "multi_label": bool,
    "seed": int,
}


def read_predictor(folder: Path, about: Mapping[str, Any]) -> Predictor:
    """Build a model's network without data, and load its tensors.

    Raises:
        InputError: the file of tensors is damaged, or does not fit `model.json`.
    """
    path = folder / TENSORS
    if hashlib.sha256(path.read_bytes()).hexdigest() != about["tensors"].get("sha256"):
        raise InputError(f"{path}: damaged: its hash is not that of {ABOUT}; {again(folder)}")
    try:
        state = read_tensors(path)
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); {again(folder)}") from error
    method = methods.load(about["method"])
    try:
        encoder, _ = build_encoder(about["backbone"], False, None, about["backbone_options"])
        predictor = method.predictor_class.empty(
            encoder, method.head_class(**about["head"]), about["predictor"]
        )
    except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder / ABOUT}: does not describe a {method.title} model ({error})") from error
    out = next((about["head"][name] for name in ("out_features", "num_classes") if name in about["head"]), 0)
    if out != len(about["classes"]):
        raise InputError(f"{folder / ABOUT}: {len(about['classes'])} classes, and its head has {out}")
    if wrong := misfits(predictor.state_dict(), state):
        raise InputError(f"{path}: does not fit {ABOUT}: {some(wrong)}")
    predictor.load_state_dict(state)
    return predictor.eval().requires_grad_(False)


def has_model(folder: Path) -> bool:
    """Return whether a run's folder holds the model of its record, in its full size."""
    try:
        about = read_about(folder)
    except InputError:
        return False
    return (folder / TENSORS).stat().st_size == about["tensors"].get("num_bytes")


def remove_model(folder: Path) -> None:
    """Remove a model, `model.json` first: without it there is none."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _no_model(folder: Path) -> str:
    if not is_done(folder):
        return f"{folder}: no model; expected the folder of a finished run, or `best`"
    return f"{folder}: its model was not kept; {again(folder)}"


def again(folder: Path) -> str:
    """Return which command makes a model again."""
    return f"`{shlex.join(('transferbench', 'reproduce', str(folder)))}` makes it again, elsewhere"
