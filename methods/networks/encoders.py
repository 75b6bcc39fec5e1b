"""Encoders by their names: small ones for tests, those of L2TL's digits, and any model that timm knows.

Shape letters: B images, F features. An encoder returns features [B,F], and has `num_features`,
`forward_intermediates` (the last map and all), `forward_head` (from the last map to features), and
`group_matcher` (timm's way to name layers, from the input to the features).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ... import InputError
from ...datasets.augment import MEAN_STD, Statistics, statistics
from ..recipe import Interpolation, MeanStd
from . import timm_models
from .timm_models import OWN

PAIRS_OF_CONVS = {"tiny": (8, 16, 32), "small": (16, 32, 64, 128)}
DIGITS_CNNS = {"digits_cnn": ((32, 32), (512, 128)), "digits_cnn_2019": ((32, 64), (256,))}
DIGITS_SIDE = 32  # the only image size of `DigitsCNN`, in pixels


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

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of the layers' names, for `recipe.layer_decay`: every stage is one."""
        return {"blocks": r"^stages\.(\d+)"}

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

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of the layers' names, for `recipe.layer_decay`."""
        return {"convs": r"^convs\.(\d+)", "hidden": r"^hidden\.(\d+)"}

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


def data_config(backbone: str) -> tuple[int, float, MeanStd] | None:
    """Return timm's preprocessing of a backbone; no model is built.

    Returns: image size, share of the central crop, and normalization, `MeanStd.backbone` for one without a
    name; or None for a backbone that is not in timm.

    Raises: InputError for an unknown model, or one with images that are not square.
    """
    if backbone in OWN:
        return None
    config = timm_models.known(backbone).config
    _, height, width = config.input_size
    if height != width:
        raise InputError(f"backbone={backbone}: takes images of {width} x {height} px; expected square ones")
    own = statistics(config.mean, config.std)
    names = [name for name, known in MEAN_STD.items() if known == own]
    return height, config.crop_pct, MeanStd(names[0]) if names else MeanStd.backbone


def backbone_statistics(backbone: str) -> Statistics:
    """Return mean and standard deviation of the channels in timm's config, for pixels from 0 to 1."""
    config = timm_models.known(backbone).config
    return statistics(config.mean, config.std)


def interpolation(backbone: str) -> Interpolation:
    """Return how timm resizes whole images for a backbone; bicubic without a word of it that we know."""
    own = None if backbone in OWN else timm_models.known(backbone).config.interpolation
    return Interpolation.bilinear if own == Interpolation.bilinear else Interpolation.bicubic


def fitting_size(backbone: str, options: Mapping[str, Any], wanted: int) -> int:
    """Return the image size in pixels that a backbone takes as it is: the wanted one, or else its own.

    Raises: InputError for an unknown model.
    """
    if backbone in OWN:
        return DIGITS_SIDE if backbone in DIGITS_CNNS else wanted
    return timm_models.fitting_size(backbone, options, wanted)


def sized_options(backbone: str, options: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Return the options with which a backbone takes images of a size: with `img_size` if that is needed."""
    return dict(options) if backbone in OWN else timm_models.sized_options(backbone, options, side)


def other_sizes(backbone: str, options: Mapping[str, Any], side: int) -> list[int]:
    """Return image sizes in pixels that a backbone may take instead of one, the nearest first."""
    found = [fitting_size(backbone, options, side)]
    if backbone not in OWN:
        found = [timm_models.next_size(backbone, options, side), *found]
    return [size for size in dict.fromkeys(found) if size != side]


def patch_misfit(encoder: nn.Module, side: int) -> str:
    """Return why the patches of an encoder do not cover an image of a size; empty if they do."""
    return "" if isinstance(encoder, SmallEncoder | DigitsCNN) else timm_models.patch_misfit(encoder, side)


def has_batch_norms(backbone: str, options: Mapping[str, Any]) -> bool:
    """Return whether a backbone has batch norms; True if it cannot be built at all."""
    return backbone in PAIRS_OF_CONVS or (
        backbone not in OWN and timm_models.has_batch_norms(backbone, options)
    )


def with_drop_path(backbone: str, options: Mapping[str, Any], rate: float) -> dict[str, Any]:
    """Return the options with a rate of stochastic depth; 0 for none.

    Raises: InputError if the backbone does not take it.
    """
    if not rate:
        return dict(options)
    if backbone in OWN or not timm_models.takes_drop_path(backbone, options):
        raise InputError(f"recipe.drop_path={rate:g}: {backbone} has no stochastic depth; expected 0")
    if options.get("drop_path_rate", rate) != rate:
        given = options["drop_path_rate"]
        raise InputError(f"recipe.drop_path={rate:g}: backbone_options.drop_path_rate={given}; expected one")
    return {**options, "drop_path_rate": rate}


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
    if backbone not in OWN:
        return timm_models.build(backbone, pretrained, checkpoint, options)
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


def architecture(backbone: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and options from which a backbone can be built without its folder or the network."""
    return (backbone, dict(options)) if backbone in OWN else timm_models.architecture(backbone, options)
