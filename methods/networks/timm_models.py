"""Models of timm: their names, their weights, and what images they were trained on."""

import inspect
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ... import InputError, nearest
from .checkpoint import MOST_CLASSES, classifiers, fill, num_classes
from .offline import offline_if_unreachable
from .tensor_files import read_tensors, some

OWN = ("tiny", "small", "digits_cnn", "digits_cnn_2019")  # names that encoders.py builds
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".ckpt")  # usual ends of the names of files
TAKEN = {  # timm arguments that are not options of the architecture; some read files
    *(
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
    ),
    *("model_name", "scriptable", "exportable", "no_jit"),
}
FAMILY = {"mobilenetv1_025": "mobilenetv1_100"}  # models added to timm, and the model with their data config
LOCAL, HUB = "local-dir", "hf-hub"  # sources that a name of timm may begin with


@dataclass(frozen=True)
class Known:
    """A model that timm knows.

    Attributes:
        name: in timm's registry, with the tag of its weights if one was given.
        config: timm's PretrainedCfg: size, crop and statistics of the images, classifier.
        options: arguments that its folder gives.
    """

    name: str
    config: Any
    options: Mapping[str, Any]


@cache
def _timm() -> Any:
    """Import timm, which takes seconds, and register one more model."""
    import timm
    from timm.models.efficientnet import _gen_mobilenet_v1

    @timm.models.register_model
    def mobilenetv1_025(pretrained: bool = False, **options: Any) -> nn.Module:
        """Build MobileNetV1 at a quarter of its width; timm has other widths only."""
        if pretrained:
            raise InputError("backbone=mobilenetv1_025: timm has no weights of it; give checkpoint=PATH")
        return _gen_mobilenet_v1("mobilenetv1_100", 0.25, **options)

    return timm


@cache
def known(backbone: str) -> Known:
    """Return a model that timm knows, by its name, or the folder that holds it; no model is built.

    Raises: InputError with the nearest names, or with what a folder lacks.
    """
    timm = _timm()
    source, colon, place = backbone.partition(":")
    if colon:
        return _from_folder(timm, backbone, source, place)
    if not timm.is_model(backbone):
        near = nearest(backbone, [*OWN, *timm.list_models()], most=5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"backbone={backbone}: neither 'small' nor a timm model{hint}")
    try:
        config = timm.get_pretrained_cfg(FAMILY.get(backbone, backbone))
    except RuntimeError as error:  # a tag, as in resnet50.tv_in1k, that the model does not have
        tags = ", ".join(timm.list_pretrained(f"{backbone.partition('.')[0]}.*"))
        raise InputError(f"backbone={backbone}: no such weights; expected one of {tags}") from error
    return Known(backbone, config, {})


def _from_folder(timm: Any, backbone: str, source: str, place: str) -> Known:
    """Return the model of a folder, on the disk or on Hugging Face, by its config.json."""
    hub = timm.models._hub
    sources = {LOCAL: hub.load_model_config_from_path, HUB: hub.load_model_config_from_hf}
    if source not in sources:
        raise InputError(f"backbone={backbone}: expected a timm model, {HUB}:OWNER/NAME or {LOCAL}:FOLDER")
    try:
        config, name, options = sources[source](place)
        found = timm.models.resolve_pretrained_cfg(name, config)
    except Exception as error:  # of the network, the hub, or a file that is not timm's
        means = "fetch it where there is a network, or give" if source == HUB else "expected"
        raise InputError(
            f"backbone={backbone}: no config.json of a timm model there ({first_line(error)}); {means} "
            f"{LOCAL}:FOLDER, a folder that timm saved"
        ) from error
    if not timm.is_model(name):
        raise InputError(f"backbone={backbone}: its config.json names {name!r:.60}; expected a timm model")
    return Known(name, found, {k: v for k, v in options.items() if k not in TAKEN})


def local_folder(backbone: str) -> Path | None:
    """Return the folder that a model's name begins with a source for; None for a model of another source."""
    source, _, place = backbone.partition(":")
    return Path(place) if source == LOCAL else None


def architecture(backbone: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and options from which a model can be built without its folder."""
    model = known(backbone)
    return model.name, {**model.options, **options}


def fitting_size(backbone: str, options: Mapping[str, Any], wanted: int) -> int:
    """Return the image size in pixels that a model takes as it is: the wanted one, or else its own."""
    config = known(backbone).config
    if not config.fixed_input_size or _takes(backbone, _packed(options), wanted):
        return wanted
    own = options.get("img_size")
    return own if isinstance(own, int) else int(config.input_size[-1])


def sized_options(backbone: str, options: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Return the options with which a model takes images of a size: with `img_size` if that is needed.

    timm then fits windows and position embeddings to the size, also those of weights.
    """
    sized = {**options, "img_size": side}
    if "img_size" in options or fitting_size(backbone, options, side) == side:
        return dict(options)
    return sized if _takes(backbone, _packed(sized), side) else dict(options)


def patch_misfit(model: Any, side: int) -> str:
    """Return why the patches of a model do not cover an image of a size; empty if they do."""
    embed = getattr(model, "patch_embed", None)
    if not isinstance(embed, _timm().layers.PatchEmbed) or embed.dynamic_img_pad:
        return ""
    patch = max(embed.patch_size)
    return f"its patches of {patch} px leave out {side % patch} px at the edge" if side % patch else ""


def next_size(backbone: str, options: Mapping[str, Any], side: int) -> int:
    """Return the least image size in pixels, from a given one on, that the patches of a model cover."""
    model = _shapes(backbone, _packed(options))
    return next(size for size in range(side, 2 * side + 1000) if not patch_misfit(model, size))


def takes_drop_path(backbone: str, options: Mapping[str, Any]) -> bool:
    """Return whether a model takes a rate of stochastic depth; True if it cannot be built at all."""

    def is_built(options: Mapping[str, Any]) -> bool:
        try:
            _shapes(backbone, _packed(options))
        except Exception:  # a refusal is of no certain kind
            return False
        return True

    return is_built({**options, "drop_path_rate": 0.1}) or not is_built(options)


def has_batch_norms(backbone: str, options: Mapping[str, Any]) -> bool:
    """Return whether a model has batch norms, from its layers alone; True if it cannot be built at all."""
    return _has_batch_norms(backbone, _packed(options))


@cache
def _has_batch_norms(backbone: str, options: str) -> bool:
    try:
        model = _shapes(backbone, options)
    except Exception:  # whatever is wrong is said by `build`
        return True
    return any(isinstance(m, _BatchNorm) for m in model.modules())


def _packed(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options), default=str)


@cache
def _takes(backbone: str, options: str, side: int) -> bool:
    """Return whether a model takes images of a size, from shapes alone; few layers check them."""
    try:
        with torch.device("meta"), torch.no_grad():
            model = _shapes(backbone, options).eval()
            model(torch.zeros(1, 3, side, side))
    except Exception:  # a refusal is of no certain kind; whatever else is wrong is said by `build`
        return False
    return not patch_misfit(model, side)


def _shapes(backbone: str, options: str) -> Any:
    """Build a model without values."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _timm().create_model(backbone, num_classes=0, **json.loads(options))


def build(
    backbone: str, pretrained: bool, checkpoint: str | None, options: Mapping[str, Any]
) -> tuple[nn.Module, nn.Linear | None]:
    """Build an encoder; return it and the classifier of its weights, if any.

    Raises: InputError for an unknown model, a missing file, or weights that do not fit.
    """
    known(backbone)
    if taken := sorted(set(options) & TAKEN):
        raise InputError(f"backbone_options.{taken[0]}: not an option of {backbone}'s architecture")
    timm = _timm()
    if checkpoint:
        return _from_file(timm, backbone, checkpoint, options)
    if not pretrained:
        return _made(timm, backbone, options, num_classes=0), None
    return _published(timm, backbone, options)


def _published(timm: Any, backbone: str, options: Mapping[str, Any]) -> tuple[nn.Module, nn.Linear | None]:
    """Build an encoder with timm's weights."""
    try:
        with offline_if_unreachable(), warnings.catch_warnings(action="ignore"):  # of timm's own code
            model: Any = _made(timm, backbone, options, pretrained=True)
    except OSError as error:
        raise InputError(
            f"pretrained=true: no weights of {backbone} in timm's cache and none could be fetched; "
            "fetch them where there is a network, or give checkpoint=PATH"
        ) from error
    except RuntimeError as error:  # timm has none
        raise InputError(
            f"pretrained=true: no weights for {backbone} ({first_line(error)}); give checkpoint=PATH"
        ) from error
    head = model.get_classifier()
    if isinstance(head, timm.layers.ClassifierHead):
        head = head.fc
    kept = head if isinstance(head, nn.Linear) else None
    model.reset_classifier(0)
    return model, kept


def _from_file(
    timm: Any, backbone: str, checkpoint: str, options: Mapping[str, Any]
) -> tuple[nn.Module, nn.Linear | None]:
    """Build an encoder with the weights of a file; its `notes` say what was read and what was not."""
    content = _read(checkpoint)
    classes = num_classes(content, classifiers(known(backbone).config.classifier))
    model = _made(timm, backbone, options, num_classes=classes if classes <= MOST_CLASSES else 0)
    try:
        head, model.notes = fill(model, content, _converter(timm, backbone, model))
    except ValueError as error:
        raise InputError(f"checkpoint={checkpoint}: does not fit {backbone}: {error}") from error
    return model, head


def _converter(timm: Any, backbone: str, model: nn.Module) -> Callable[[Mapping[str, Any]], Any] | None:
    """Return timm's function that converts published files of a model: their names, and their image size."""
    module = sys.modules[timm.models.model_entrypoint(known(backbone).name.partition(".")[0]).__module__]
    names = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
    convert = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if convert is None:
        return None
    arguments = inspect.signature(convert).parameters
    given: dict[str, Any] = {"model": model} if "model" in arguments else {}
    given |= {"adapt_layer_scale": True} if "adapt_layer_scale" in arguments else {}  # of DeiT-3
    return partial(convert, **given)


def _made(timm: Any, backbone: str, options: Mapping[str, Any], **own: Any) -> Any:
    """Build a timm model with a user's options and our own arguments."""
    try:
        return timm.create_model(backbone, **own, **options)
    except OSError:
        raise
    except Exception as error:  # a constructor refuses options in any way
        if not options:
            raise
        refused = next((o for o in options if f"'{o}'" in str(error)), "")
        named = {refused: options[refused]} if refused else options
        shown = ", ".join(f"backbone_options.{name}={value}" for name, value in named.items())
        raise InputError(
            f"{shown}: {backbone} does not take {'it' if len(named) == 1 else 'them'} ({first_line(error)})"
        ) from error


def first_line(error: Exception) -> str:
    """Return an error's first line, or else its type."""
    return next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__


def _read(checkpoint: str) -> Any:
    path = Path(checkpoint)
    if path.is_dir():
        inside = sorted(
            p.name for p in path.iterdir() if p.suffix in WEIGHTS or p.name.endswith(".index.json")
        )
        hint = f"; expected one of its files: {some(inside)}" if inside else "; expected a file"
        raise InputError(f"checkpoint={checkpoint}: is a folder{hint}")
    if not path.is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; expected a state dict saved by torch.save")
    try:
        return read_tensors(path)
    except (ValueError, OSError) as error:
        raise InputError(
            f"checkpoint={checkpoint}: not a state dict saved by torch.save, nor .safetensors ({error})"
        ) from error
