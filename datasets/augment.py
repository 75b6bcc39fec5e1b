"""Crop, flip and normalize whole batches on the device.

The cache holds each image resized to a square, with its original aspect ratio. Crops are drawn in the
geometry of the original image. torchvision's v2 transforms draw one crop for a whole batch; here each image
gets its own crop. Small images use one `roi_align`. Images larger than `pixels.SMALL` use `grid_sample`, on
a CPU one image at a time, to fit its caches.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from . import distributed
from .augmentation import operations
from .device import moved
from .pixels import SMALL, Squares, as_tensor

MEAN_STD = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
CORNERS_AND_CENTER = (
    (0.0, 0.0),
    (1.0, 0.0),
    (0.0, 1.0),
    (1.0, 1.0),
    (0.5, 0.5),
)  # offsets right and down, as fractions
RATIO = (3 / 4, 4 / 3)  # aspect ratio of a random crop, as in Inception's preprocessing


@dataclass(frozen=True)
class Augment:
    """The preprocessing of the network's input; the same for all methods of a comparison."""

    image_size: int
    crop_scale: float = 0.08  # smallest area fraction of a random crop; 1: no crop
    hflip: bool = True
    crop_pct: float = 0.875  # the fraction of the shorter side in the central crop
    mean_std: str = "imagenet"
    policy: str = "none"  # or trivial, randaugment
    color_jitter: float = 0.0  # largest change of brightness, contrast and saturation
    random_erasing: float = 0.0  # probability

    def train(self, x: Squares, aspect: Tensor, seed: int) -> Tensor:
        """Crop, flip, change and normalize each image at random [B,3,S,S] uint8 -> [B,3,size,size]."""
        generator = torch.Generator().manual_seed(seed)
        draw = moved(
            distributed.shard(torch.rand(distributed.size() * len(x), 5, generator=generator)), aspect.device
        )
        area = self.crop_scale + (1 - self.crop_scale) * draw[:, 0]
        low, high = (math.log(r) for r in RATIO)
        ratio = torch.exp(low + (high - low) * draw[:, 1]) if self.crop_scale < 1 else aspect
        width = (area * ratio / aspect).sqrt().clamp(max=1)
        height = (area * aspect / ratio).sqrt().clamp(max=1)
        width = width.maximum(self.crop_scale / height).clamp(max=1)  # a crop limited in one direction
        height = height.maximum(self.crop_scale / width)  # grows in the other
        mirrored = draw[:, 4] < 0.5 if self.hflip else None
        crops = self._crop(x, (1 - width) * draw[:, 2], (1 - height) * draw[:, 3], width, height, mirrored)
        return self._changed(crops, generator)

    def _changed(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Apply policy, color jitter and random erasing to normalized images [B,3,size,size]."""
        if self.policy != "none" or self.color_jitter:
            mean, std = self._mean_std(x.device)
            x = (x * std + mean).clamp(0, 255)
            if self.policy != "none":
                x = operations.by_policy(x, self.policy, generator)
            if self.color_jitter:
                x = operations.jittered(x, self.color_jitter, generator)
            x = (x - mean) / std
        return operations.erased(x, self.random_erasing, generator) if self.random_erasing else x

    def central(self, x: Squares, aspect: Tensor) -> Tensor:
        """Crop the center of each image [B,3,S,S] uint8 -> [B,3,size,size]."""
        width, height = self._central_size(aspect)
        return self._crop(x, (1 - width) / 2, (1 - height) / 2, width, height)

    def ten(self, x: Squares, aspect: Tensor) -> Tensor:
        """Crop the four corners and the center, all of the central crop's size, and flip each crop.

        [B,3,S,S] uint8 -> [10 B,3,size,size], the crops of an image one after another. Without `hflip`
        there are five crops.
        """
        width, height = self._central_size(aspect)
        crops = [
            self._crop(x, (1 - width) * right, (1 - height) * down, width, height)
            for right, down in CORNERS_AND_CENTER
        ]
        if self.hflip:
            crops += [crop.flip(-1) for crop in crops]
        return torch.stack(crops, dim=1).flatten(0, 1)

    def _central_size(self, aspect: Tensor) -> tuple[Tensor, Tensor]:
        """Return width and height [B] of a square in the original, as fractions of each image."""
        return self.crop_pct * (1 / aspect).clamp(max=1), self.crop_pct * aspect.clamp(max=1)

    def _crop(
        self,
        x: Squares,
        left: Tensor,
        top: Tensor,
        width: Tensor,
        height: Tensor,
        mirrored: Tensor | None = None,
    ) -> Tensor:
        """Resize a box of each image (fractions [B]) to the input size; flip and normalize."""
        if self.image_size <= SMALL:
            return self._crop_small(as_tensor(x), left, top, width, height, mirrored)
        device, size = left.device, self.image_size
        step = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        across = width if mirrored is None else torch.where(mirrored, -width, width)
        column = across[:, None] * step + (2 * left + width - 1)[:, None]  # [B,size], from -1 to 1
        row = height[:, None] * step + (2 * top + height - 1)[:, None]
        axes = column[:, None, :].expand(-1, size, size), row[:, :, None].expand(-1, size, size)
        mean, std = self._mean_std(device)
        crops = torch.empty(len(x), 3, size, size, device=device)
        pieces = [image[None] for image in x] if device.type == "cpu" else [as_tensor(x)]
        begin = 0
        for own in pieces:
            part = slice(begin, begin + len(own))
            grid = torch.stack([axis[part] for axis in axes], dim=3)
            sampled = grid_sample(own.float(), grid, padding_mode="border", align_corners=False)
            torch.sub(sampled, mean, out=crops[part]).div_(std)
            begin = part.stop
        return crops

    def _crop_small(
        self, x: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor, mirrored: Tensor | None
    ) -> Tensor:
        from torchvision.ops import roi_align  # a slow import, not needed for planning

        side = x.shape[-1]
        box = torch.stack((left, top, left + width, top + height), dim=1) * side
        which = torch.arange(len(x), device=x.device, dtype=box.dtype)[:, None]
        crops = roi_align(x.float(), torch.cat((which, box), dim=1), self.image_size, aligned=True)
        if mirrored is not None:
            crops = torch.where(mirrored[:, None, None, None], crops.flip(-1), crops)
        mean, std = self._mean_std(x.device)
        return (crops - mean) / std

    def _mean_std(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation on the uint8 scale, each [3,1,1]."""
        mean, std = (moved(torch.tensor(v), device)[:, None, None] * 255 for v in MEAN_STD[self.mean_std])
        return mean, std
