"""Encoders: small ones for tests, those of L2TL's digits, and any timm model, with published weights.

Shape letters: B images, F features. An encoder returns features [B,F], and has `num_features`,
`forward_intermediates` (the last map and all), and `forward_head` (from the last map to features).
"""

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import InputError, nearest
from ...datasets.augment import MEAN_STD
from ..recipe import MeanStd
from .checkpoint import MOST_CLASSES, classifiers, fill, num_classes
from .tensor_files import read_tensors, some

PAIRS_OF_CONVS = {"tiny": (8, 16, 32), "small": (16, 32, 64, 128)}
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".ckpt")  # usual ends of the names of files
DIGITS_CNNS = {"digits_cnn": ((32, 32), (512, 128)), "digits_cnn_2019": ((32, 64), (256,))}
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
DIGITS_SIDE = 32  # the only image size of `DigitsCNN`, in pixels
OWN = (*PAIRS_OF_CONVS, *DIGITS_CNNS)
FAMILY = {"mobilenetv1_025": "mobilenetv1_100"}  # models added to timm, and the model with their data config


class SmallEncoder(nn.Module):
    """Stages of two 3x3 convolutions, for images of 16 to 64 px."""

    def __init__(self, widths: tuple[int, ...] = PAIRS_OF_CONVS["small"]) -> None:
        super().__init__()
        self.num_features = widths[-1]
        widths = (3, *widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *_conv_norm(widths[i], widths[i + 1], stride=1 if i == 0 else 2),
                *_conv_norm(widths[i + 1], widths[i + 1]),
            )
            for i in range(len(widths) - 1)
        )

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map and the map of every stage."""
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return x, taps

    def forward_head(self, last: Tensor) -> Tensor:
        """Return features [B,F], given the last map [B,F,h,w]."""
        return last.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return features [B,F] of images [B,3,H,W]."""
        return self.forward_head(self.forward_intermediates(x)[0])


def _conv_norm(wide: int, out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(wide, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class GrayConv(nn.Conv2d):
    """A convolution of the brightness [B,1,H,W] of color images [B,3,H,W] (ITU-R BT.601)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of images [B,3,H,W]."""
        red, green, blue = x.split(1, dim=1)
        return super().forward(0.299 * red + 0.587 * green + 0.114 * blue)


class DigitsCNN(nn.Module):
    """The network of L2TL's released digits experiment, for 32 px; gray, no norms, no active dropout."""

    def __init__(self, widths: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features = hidden[-1]
        convs: list[nn.Module] = []
        for wide, out in zip((1, *widths), widths, strict=False):
            conv = GrayConv if wide == 1 else nn.Conv2d
            convs += [conv(wide, out, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        self.convs = nn.Sequential(*convs)
        sizes = (widths[-1] * 64, *hidden)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, hidden, strict=False)]
        self.hidden = nn.Sequential(*(m for pair in layers for m in pair))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map and the map after every pooling."""
        taps = []
        for module in self.convs:
            x = module(x)
            if isinstance(module, nn.MaxPool2d):
                taps.append(x)
        return x, taps

    def forward_head(self, last: Tensor) -> Tensor:
        """Return features [B,F], given the last map."""
        return self.hidden(last.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return features [B,F] of images [B,3,32,32]."""
        return self.forward_head(self.convs(x))


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


def _timm_with(backbone: str) -> Any:
    """Return timm, checked to know a backbone. Raises InputError with the nearest names."""
    timm = _timm()
    if not timm.is_model(backbone):
        near = nearest(backbone, [*OWN, *timm.list_models()], most=5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"backbone={backbone}: neither 'small' nor a timm model{hint}")
    try:
        timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:  # a tag, as in resnet50.tv_in1k, that the model does not have
        tags = ", ".join(timm.list_pretrained(f"{backbone.partition('.')[0]}.*"))
        raise InputError(f"backbone={backbone}: no such weights; expected one of {tags}") from error
    return timm


def data_config(backbone: str) -> tuple[int, float, MeanStd | None] | None:
    """Return timm's preprocessing of a backbone; no model is built.

    Returns: image size, share of the central crop, and normalization, None for one without a name in
    `MeanStd`; or None for a backbone that is not in timm.

    Raises: InputError for an unknown model, or one with images that are not square.
    """
    if backbone in OWN:
        return None
    config = _timm_with(backbone).get_pretrained_cfg(FAMILY.get(backbone, backbone))
    _, height, width = config.input_size
    if height != width:
        raise InputError(f"backbone={backbone}: takes images of {width} x {height} px; expected square ones")
    statistics = (tuple(config.mean), tuple(config.std))
    names = [name for name, known in MEAN_STD.items() if known == statistics]
    return height, config.crop_pct, MeanStd(names[0]) if names else None


def fitting_size(backbone: str, options: Mapping[str, Any], wanted: int) -> int:
    """Return the image size in pixels that a backbone takes: the wanted one, or else its only one.

    Raises: InputError for an unknown model.
    """
    if backbone in OWN:
        return DIGITS_SIDE if backbone in DIGITS_CNNS else wanted
    config = _timm_with(backbone).get_pretrained_cfg(FAMILY.get(backbone, backbone))
    if not config.fixed_input_size or _takes(backbone, json.dumps(options, default=str), wanted):
        return wanted
    own = options.get("img_size")
    return own if isinstance(own, int) else int(config.input_size[-1])


@cache
def _takes(backbone: str, options: str, side: int) -> bool:
    """Return whether a timm model takes images of a size, from shapes alone; few layers check them."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            model = _timm().create_model(backbone, num_classes=0, **json.loads(options)).eval()
            model(torch.zeros(1, 3, side, side))
    except Exception:  # a refusal is of no certain kind; whatever else is wrong is said by `build_encoder`
        return False
    return True


def build_encoder(
    backbone: str, pretrained: bool, checkpoint: str | None, options: Mapping[str, Any]
) -> tuple[nn.Module, nn.Linear | None]:
    """Build an encoder; return it and the classifier of its published weights, if any.

    Args:
        backbone: `small`, `tiny`, `digits_cnn`, or any model that timm knows.
        pretrained: load timm's weights.
        checkpoint: load a state dict of the whole model from this file instead.
        options: further arguments of the timm model, as `pad_type=same`.

    Raises: InputError for an unknown model, a missing file, or weights that do not fit.
    """
    if backbone in OWN:
        if options:
            raise InputError(f"backbone_options.{next(iter(options))}: backbone={backbone} takes no options")
        if checkpoint:
            raise InputError(
                f"checkpoint={checkpoint}: backbone={backbone} takes no weights; expected backbone=NAME, the "
                "timm model of the file"
            )
        if pretrained:
            raise InputError(f"backbone={backbone} has no published weights; take a timm model, as resnet18")
        if backbone in PAIRS_OF_CONVS:
            return SmallEncoder(PAIRS_OF_CONVS[backbone]), None
        return DigitsCNN(*DIGITS_CNNS[backbone]), None
    timm = _timm_with(backbone)
    if taken := sorted(set(options) & TAKEN):
        raise InputError(f"backbone_options.{taken[0]}: not an option of {backbone}'s architecture")
    if checkpoint:
        return _from_file(timm, backbone, checkpoint, options)
    if not pretrained:
        return _made(timm, backbone, options, num_classes=0), None
    return _published(timm, backbone, options)


def _published(timm: Any, backbone: str, options: Mapping[str, Any]) -> tuple[nn.Module, nn.Linear | None]:
    """Build an encoder with timm's weights."""
    try:
        model: Any = _made(timm, backbone, options, pretrained=True)
    except OSError as error:
        raise InputError(
            f"pretrained=true: no weights of {backbone} in timm's cache and none could be fetched; "
            "fetch them where there is a network, or give checkpoint=PATH"
        ) from error
    except RuntimeError as error:  # timm has none
        raise InputError(
            f"pretrained=true: no weights for {backbone} ({_first_line(error)}); give checkpoint=PATH"
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
    config = timm.get_pretrained_cfg(FAMILY.get(backbone, backbone))
    classes = num_classes(content, classifiers(config.classifier))
    model = _made(timm, backbone, options, num_classes=classes if classes <= MOST_CLASSES else 0)
    try:
        head, model.notes = fill(model, content, _converter(timm, backbone, model))
    except ValueError as error:
        words = f"does not fit {backbone}: {error}; backbone=NAME takes another"
        raise InputError(f"checkpoint={checkpoint}: {words}") from error
    return model, head


def _converter(timm: Any, backbone: str, model: nn.Module) -> Callable[[Mapping[str, Any]], Any] | None:
    """Return timm's function that converts published files of a model: their names, and their image size."""
    module = sys.modules[timm.models.model_entrypoint(backbone.partition(".")[0]).__module__]
    names = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
    convert = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if convert is None:
        return None
    known = inspect.signature(convert).parameters
    given: dict[str, Any] = {"model": model} if "model" in known else {}
    given |= {"adapt_layer_scale": True} if "adapt_layer_scale" in known else {}  # of DeiT-3
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
            f"{shown}: {backbone} does not take {'it' if len(named) == 1 else 'them'} ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
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
