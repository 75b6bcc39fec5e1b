"""The network: an encoder, a source head and a target head, with norm statistics by domain.

Shape letters: B images, F features, C_S source classes, C_T target classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ... import InputError
from .tensor_files import misfits, some


class Network(nn.Module):
    """An encoder with a head for each domain.

    Args:
        encoder: returns features [B,F]; has `num_features`, or `head_hidden_size` if F differs from it, and
            `forward_intermediates`.
        num_source: C_S; 0 for no source head.
        num_target: C_T; 0 for no target head.
        split_norms: separate running statistics for the source, so the target is evaluated with statistics of
            target images only (allowed by footnote 2 of the L2TL paper).
        frozen_norms: keep the running statistics that the encoder starts with: norms stay in evaluation mode,
            and their scale and shift are trained.
        autocast: dtype of forward passes; None: float32.
        head_init_std: see `init_head`.
    """

    encoder: Any
    backbone: str = ""  # name by which `build_encoder` builds the encoder
    backbone_options: Mapping[str, Any] = {}  # its further arguments
    notes: tuple[str, ...] = ()  # what people should know of the weights that it starts from
    _run: Callable[[Tensor], Tensor]

    def __init__(
        self,
        encoder: Any,
        num_source: int,
        num_target: int,
        *,
        split_norms: bool = True,
        frozen_norms: bool = False,
        autocast: torch.dtype | None = None,
        head_init_std: float | None = 0.01,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.__dict__["_run"] = encoder  # not a second submodule; `compile_encoder` replaces it
        self.autocast = autocast
        features: int = getattr(encoder, "head_hidden_size", None) or encoder.num_features
        self.source_head = _head(features, num_source, head_init_std)
        self.target_head = _head(features, num_target, head_init_std)
        self.norms = [m for m in encoder.modules() if isinstance(m, _BatchNorm)]
        self.source_statistics = nn.ModuleList(_Statistics(m) for m in self.norms if split_norms)
        self.frozen_norms = frozen_norms
        for norm in self.norms if frozen_norms else ():
            norm.eval()

    def train(self, mode: bool = True) -> "Network":
        """Set training mode, except for frozen norms."""
        super().train(mode)
        for norm in self.norms if self.frozen_norms else ():
            norm.eval()
        return self

    def source(self, x: Tensor) -> Tensor:
        """Return source logits [B,C_S] of images [B,3,H,W] in float32."""
        return self.source_head(self.source_features(x)).float()

    def source_features(self, x: Tensor) -> Tensor:
        """Return features [B,F] of source images [B,3,H,W] in float32, with the source's norm statistics."""
        with self._source_norms():
            return self.features(x)

    def target(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] of images [B,3,H,W] in float32."""
        return self.target_head(self.features(x)).float()

    def features(self, x: Tensor) -> Tensor:
        """Return features [B,F] of images [B,3,H,W] in float32."""
        with torch.autocast(x.device.type, self.autocast) if self.autocast else nullcontext():
            return self._run(x).float()

    def stages(self, x: Tensor) -> list[Tensor]:
        """Return the map [B,C,h,w] of every stage, from the first to the last."""
        return self.encoder.forward_intermediates(x)[1]

    def tapped(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return features [B,F] and the map [B,C,h,w] of every stage, from one pass, in float32."""
        with torch.autocast(x.device.type, self.autocast) if self.autocast else nullcontext():
            last, maps = self.encoder.forward_intermediates(x)
            feature_BF = self.encoder.forward_head(last)
        return feature_BF.float(), [m.float() for m in maps]

    def adopt(self, pretrained: Mapping[str, Tensor]) -> None:
        """Load encoder, source head and norms of both domains from a pre-trained network's state.

        Raises: ValueError with the name of a layer that does not fit.
        """
        own, given = (
            {k: v for k, v in state.items() if not k.startswith("target_head")}
            for state in (self.state_dict(), pretrained)
        )
        if wrong := misfits(own, given):
            raise ValueError(f"pre-trained weights do not fit: {some(wrong)}")
        self.load_state_dict(given, strict=False)
        for norm, statistics in zip(self.norms, self.source_statistics, strict=False):
            norm.load_state_dict(statistics.state_dict(), strict=False)

    def compile_encoder(self, cuda_graphs: bool = False) -> None:
        """Run the encoder through torch.compile.

        Its function, not the module: a compiled module warns where any hook of torch is active. So hooks of
        the encoder itself do not run, and a copy of this network would run the encoder of the original.

        Args:
            cuda_graphs: capture its kernels in CUDA graphs. The next pass then writes over the features of
                this one, so they are copied.
        """
        if not cuda_graphs:
            self.__dict__["_run"] = torch.compile(self.encoder.forward)
            return
        captured = torch.compile(self.encoder.forward, mode="reduce-overhead")
        self.__dict__["_run"] = lambda x: captured(x).clone()

    def checkpoint_activations(self) -> None:
        """Keep few activations of the encoder, and compute the others again for gradients.

        Raises:
            InputError: the encoder cannot, or has batch norms, which would count each batch twice.
        """
        setting = "recipe.grad_checkpointing=true"
        if self.norms and not self.frozen_norms:
            raise InputError(
                f"{setting}: batch norms of {self.backbone} would count each batch twice; expected bn=frozen "
                "with pre-trained weights, or false"
            )
        try:
            self.encoder.set_grad_checkpointing(True)
        except (AttributeError, AssertionError):  # of timm
            raise InputError(f"{setting}: {self.backbone} does not support it; expected false") from None

    @contextmanager
    def _source_norms(self) -> Iterator[None]:
        """Use the source's running statistics inside."""
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
    """A second set of running statistics of a norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        for name, value in norm._buffers.items():
            self.register_buffer(name, None if value is None else value.clone())


def _head(features: int, num_classes: int, std: float | None) -> nn.Module:
    return init_head(nn.Linear(features, num_classes), std) if num_classes else nn.Identity()


def init_head(head: Any, std: float | None) -> Any:
    """Return a linear head with new random weights and a bias of zero.

    Args:
        head: the linear layer, which is changed.
        std: standard deviation of normal weights; None: Glorot's uniform distribution.
    """
    if std is None:
        nn.init.xavier_uniform_(head.weight)
    else:
        nn.init.normal_(head.weight, std=std)
    nn.init.zeros_(head.bias)
    return head


@contextmanager
def frozen_statistics(net: Network) -> Iterator[None]:
    """Normalize by batch statistics inside, without an update of the running ones."""
    for norm in net.norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in net.norms:
            norm.track_running_stats = True


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode; restore the mode of each at the end."""
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
