"""The network under test: an encoder, a source head and a target head, with norms by domain.

Shape letters: B images, F features, C_S source classes, C_T target classes.
"""

import difflib
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import ClassifierHead
from timm.models import register_model
from timm.models.efficientnet import _gen_mobilenet_v1
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import InputError

SMALL_WIDTHS = (16, 32, 64, 128)
DIGITS_CNNS = {"digits_cnn": ((32, 32), (512, 128)), "digits_cnn_2019": ((32, 64), (256,))}


@register_model
def mobilenetv1_025(pretrained: bool = False, **options: Any) -> nn.Module:
    """Build MobileNetV1 at a quarter of its width: timm has the family, but no name for it."""
    return _gen_mobilenet_v1("mobilenetv1_100", 0.25, pretrained=pretrained, **options)


class SmallEncoder(nn.Module):
    """Pairs of 3x3 convolutions at four widths, for images of 16 to 64 px."""

    num_features = SMALL_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *SMALL_WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *_conv_norm(widths[i], widths[i + 1], stride=1 if i == 0 else 2),
                *_conv_norm(widths[i + 1], widths[i + 1]),
            )
            for i in range(len(SMALL_WIDTHS))
        )

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give the last map and the map of every stage."""
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return x, taps

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,3,H,W] to features [B,F]."""
        return self.forward_intermediates(x)[0].mean((2, 3))


def _conv_norm(wide: int, out: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(wide, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class DigitsCNN(nn.Module):
    """The network of L2TL's released digits experiment, for 32 px; no norms, no dropout in effect."""

    def __init__(self, widths: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features = hidden[-1]
        convs: list[nn.Module] = []
        for wide, out in zip((3, *widths), widths, strict=False):
            convs += [nn.Conv2d(wide, out, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        self.convs = nn.Sequential(*convs)
        sizes = (widths[-1] * 64, *hidden)
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in zip(sizes, hidden, strict=False)]
        self.hidden = nn.Sequential(*(m for pair in layers for m in pair))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give the last map and the map after every pooling."""
        taps = []
        for module in self.convs:
            x = module(x)
            if isinstance(module, nn.MaxPool2d):
                taps.append(x)
        return x, taps

    def forward(self, x: Tensor) -> Tensor:
        """Images [B,3,32,32] to features [B,F]."""
        return self.hidden(self.convs(x).flatten(1))


class Network(nn.Module):
    """An encoder with a head for each domain.

    Args:
        encoder: gives features [B,F] and has `num_features`, or `head_hidden_size` where F differs
            from it, and `forward_intermediates`.
        num_source: C_S; 0 for no source head.
        num_target: C_T; 0 for no target head.
        split_norms: the source keeps running statistics of its own, so that the target is
            judged with statistics of target images alone (the paper's footnote 2 allows it).
        autocast: dtype that forward passes run in, or None.
        head_std: spread of a new head's weights; its bias is zero.
    """

    encoder: Any
    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        encoder: Any,
        num_source: int,
        num_target: int,
        *,
        split_norms: bool = True,
        autocast: torch.dtype | None = None,
        head_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.__dict__["_run"] = encoder  # what is called; not a second submodule: `compile` replaces it
        self.autocast = autocast
        features: int = getattr(encoder, "head_hidden_size", None) or encoder.num_features
        self.source_head = _head(features, num_source, head_std)
        self.target_head = _head(features, num_target, head_std)
        self.norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
        self.source_statistics = nn.ModuleList(_Statistics(m) for m in self.norms if split_norms)

    def source(self, x: Tensor) -> Tensor:
        """Images [B,3,H,W] to source logits [B,C_S] in float32."""
        with self._source_norms():
            return self.source_head(self.features(x)).float()

    def target(self, x: Tensor) -> Tensor:
        """Images [B,3,H,W] to target logits [B,C_T] in float32."""
        return self.target_head(self.features(x)).float()

    def features(self, x: Tensor) -> Tensor:
        """Images [B,3,H,W] to features [B,F] in float32."""
        with torch.autocast(x.device.type, self.autocast) if self.autocast else nullcontext():
            return self._run(x).float()

    def stages(self, x: Tensor) -> list[Tensor]:
        """Tap the encoder after every stage: maps [B,C,h,w], from the first to the last."""
        return self.encoder.forward_intermediates(x)[1]

    def adopt(self, pretrained: Mapping[str, Tensor]) -> None:
        """Start from a source-pre-trained network's state: encoder, source head, norms of both domains."""
        own = {k: v for k, v in pretrained.items() if not k.startswith("target_head")}
        missing, unexpected = self.load_state_dict(own, strict=False)
        lost = [*unexpected, *(k for k in missing if not k.startswith("target_head"))]
        if lost:
            raise ValueError(f"pre-trained weights do not fit: {', '.join(lost[:3])}")
        for norm, statistics in zip(self.norms, self.source_statistics, strict=False):
            norm.load_state_dict(statistics.state_dict(), strict=False)

    def compile_encoder(self) -> None:
        """Run the encoder through torch.compile."""
        self.__dict__["_run"] = torch.compile(self.encoder)

    @contextmanager
    def _source_norms(self) -> Iterator[None]:
        """Swap in the source's running statistics for the time of a pass."""
        pairs = list(zip(self.norms, self.source_statistics, strict=False))
        self._swap(pairs)
        try:
            yield
        finally:
            self._swap(pairs)

    @staticmethod
    def _swap(pairs: list[tuple[Any, Any]]) -> None:
        for norm, own in pairs:
            norm._buffers, own._buffers = own._buffers, norm._buffers


class _Statistics(nn.Module):
    """A second set of running statistics beside a norm's own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        for name, value in norm._buffers.items():
            self.register_buffer(name, None if value is None else value.clone())


def _head(features: int, num_classes: int, std: float) -> nn.Module:
    if num_classes == 0:
        return nn.Identity()
    head = nn.Linear(features, num_classes)
    nn.init.normal_(head.weight, std=std)
    nn.init.zeros_(head.bias)
    return head


@contextmanager
def frozen_statistics(net: Network) -> Iterator[None]:
    """Normalise by batch statistics without moving the running ones."""
    for norm in net.norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in net.norms:
            norm.track_running_stats = True


def build_encoder(
    backbone: str, pretrained: bool, checkpoint: str | None, options: Mapping[str, Any]
) -> tuple[nn.Module, nn.Linear | None]:
    """Make an encoder, and the classifier that its weights came with, if any.

    Args:
        backbone: `small`, `digits_cnn`, or any model that timm knows.
        pretrained: take timm's weights.
        checkpoint: take a state dict of the whole model from this file instead.
        options: further arguments of timm's model, as `pad_type=same`.

    Raises: InputError for an unknown model, a missing file, or weights that do not fit.
    """
    if backbone in ("small", *DIGITS_CNNS):
        if pretrained or checkpoint:
            raise InputError(f"backbone={backbone} has no published weights; take a timm model, as resnet18")
        return (SmallEncoder() if backbone == "small" else DigitsCNN(*DIGITS_CNNS[backbone])), None
    if not timm.is_model(backbone):
        near = difflib.get_close_matches(backbone, ["small", *DIGITS_CNNS, *timm.list_models()], n=5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"backbone={backbone}: neither 'small' nor a timm model{hint}")
    if not pretrained and not checkpoint:
        return timm.create_model(backbone, num_classes=0, **options), None
    state = _read(checkpoint) if checkpoint else None
    classes: dict[str, Any] = {} if state is None else {"num_classes": _num_classes(state)}
    try:
        model: Any = timm.create_model(backbone, pretrained=state is None, **classes, **options)
    except OSError as error:
        raise InputError(
            f"pretrained=true: no weights of {backbone} in timm's cache and none could be fetched; "
            "fetch them where there is a network, or give checkpoint=PATH"
        ) from error
    if state is not None:
        missing, unexpected = _fit(model, state)
        if missing or unexpected:
            raise InputError(
                f"checkpoint={checkpoint}: does not fit {backbone}: {len(missing)} weights are missing "
                f"{_some(missing)}, {len(unexpected)} are not its own {_some(unexpected)}"
            )
    head = model.get_classifier()
    if isinstance(head, ClassifierHead):
        head = head.fc
    kept = head if isinstance(head, nn.Linear) else None
    model.reset_classifier(0)
    return model, kept


def _read(checkpoint: str) -> dict[str, Tensor]:
    if not Path(checkpoint).is_file():
        raise InputError(f"checkpoint={checkpoint}: no such file; expected a state dict saved by torch.save")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, struct.error) as error:
        raise InputError(f"checkpoint={checkpoint}: not a state dict saved by torch.save") from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"checkpoint={checkpoint}: holds no plain state dict; save `model.state_dict()`")
    return state


def _fit(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Load a state dict if it fits; gives the keys that are missing and those that are not the model's."""
    own = model.state_dict()
    missing = [k for k in own if k not in state or state[k].shape != own[k].shape]
    unexpected = [k for k in state if k not in own]
    if not missing and not unexpected:
        model.load_state_dict(state)
    return missing, unexpected


def _some(keys: list[str]) -> str:
    return f"({', '.join(keys[:2])}{', …' if len(keys) > 2 else ''})" if keys else ""


def _num_classes(state: Mapping[str, Tensor]) -> int:
    """Read the classes off the last tensor, which is the classifier's in timm's models; 0 for none."""
    last = list(state.values())[-1]
    return len(last) if last.ndim else 0
