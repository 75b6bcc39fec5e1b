"""MixUp, CutMix and label smoothing of training batches: labels become class probabilities.

Each image is mixed with its neighbor in the batch, 2i with 2i+1: so processes that share a batch, with an
even number of images each, mix the same pairs as one process. Of an odd batch the last image stays. timm has
the image at the mirrored place instead; the rest is its arithmetic: one share for a batch, and one box.

Shape letters: B images, S side of the input, C classes.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

SWITCH = 0.5  # probability of CutMix in a batch, if MixUp is on, too


@dataclass(frozen=True)
class Mixing:
    """How training batches of single-label images are mixed and their labels softened."""

    mixup: float = 0.0  # alpha of the Beta distribution of the share; 0: off
    cutmix: float = 0.0
    smoothing: float = 0.0  # share of the label that all classes get equally

    def __call__(self, x: Tensor, y: Tensor, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return mixed images [B,3,S,S] and class probabilities [B,C] of images and class numbers [B]."""
        y_BC = one_hot(y, num_classes).to(x.dtype)
        y_BC = y_BC * (1 - self.smoothing) + self.smoothing / num_classes
        if not (self.mixup or self.cutmix):
            return x, y_BC
        draw = random.Random(seed)
        cuts = bool(self.cutmix) and (not self.mixup or draw.random() < SWITCH)
        alpha = self.cutmix if cuts else self.mixup
        share = draw.betavariate(alpha, alpha)
        other = torch.arange(len(x), device=x.device).bitwise_xor(1).clamp(max=len(x) - 1)
        if cuts:
            rows, columns, share = _box(share, x.shape[-1], draw)
            own, x = x, x.clone()
            x[:, :, rows, columns] = own[other][:, :, rows, columns]
        else:
            x = share * x + (1 - share) * x[other]
        return x, share * y_BC + (1 - share) * y_BC[other]


def _box(share: float, side: int, draw: random.Random) -> tuple[slice, slice, float]:
    """Return rows and columns of a box that leaves about `share` of an image, and what it leaves."""
    half = int(side * (1 - share) ** 0.5) // 2
    rows, columns = (
        slice(max(0, center - half), min(side, center + half))
        for center in (draw.randrange(side), draw.randrange(side))
    )
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return rows, columns, 1 - area / side**2
