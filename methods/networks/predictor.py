"""What is left of a method for prediction: a network without data, optimizer or source.

Shape letters: B images, F features, C target classes.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Predictor(nn.Module):
    """An encoder, and a head on its features. Its state is all that prediction needs.

    A method that predicts otherwise has a subclass, or another head. `options` and `head_options` are plain
    values, from which `empty` builds it again without data.

    Args:
        encoder: returns features [B,F].
        head: from features to target logits [B,C].
        autocast: dtype of the encoder's passes, as torch names it; empty: float32.
    """

    def __init__(self, encoder: Any, head: nn.Module, autocast: str = "") -> None:
        super().__init__()
        self.encoder, self.head, self.autocast = encoder, head, autocast

    @classmethod
    def empty(cls, encoder: nn.Module, head: nn.Module, options: dict[str, Any]) -> "Predictor":
        """Return one whose state is still to be loaded."""
        return cls(encoder, head, **options)

    def options(self) -> dict[str, Any]:
        """Return what `empty` needs besides encoder and head."""
        return {"autocast": self.autocast}

    def head_options(self) -> dict[str, Any]:
        """Return the arguments of the head."""
        if isinstance(self.head, nn.Linear):
            return {"in_features": self.head.in_features, "out_features": self.head.out_features}
        own: Any = self.head
        return dict(own.options)

    def features(self, x: Tensor) -> Tensor:
        """Return the encoder's features [B,F] of images [B,3,H,W] in float32."""
        with torch.autocast(x.device.type, getattr(torch, self.autocast)) if self.autocast else nullcontext():
            return self.encoder(x).float()

    def inputs(self, x: Tensor) -> Tensor:
        """Return the input of the head [B,F] for images [B,3,H,W]."""
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return target logits [B,C] of normalized images [B,3,H,W]."""
        return self.head(self.inputs(x)).float()


def name_of(autocast: torch.dtype | None) -> str:
    """Return a dtype by its name in torch; empty without one."""
    return "" if autocast is None else str(autocast).removeprefix("torch.")
