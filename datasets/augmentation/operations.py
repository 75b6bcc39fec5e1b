"""TrivialAugment, RandAugment, color jitter and random erasing of whole batches on the device.

Operations and ranges are those of torchvision's `TrivialAugmentWide` and `RandAugment` (2 operations,
magnitude 9 of 30); there, one operation is drawn for a whole batch, here each image gets its own. Images of
the same operation pass it together, each with its own strength; the geometric ones are one `grid_sample`. No
operation mirrors an image. Draws come from a generator on the CPU, so they are the same on every device.

Shape letters: B images, S side of the input in pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import distributed
from ..device import moved

BINS = 31  # strengths of an operation, from none to its largest
GEOMETRY = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
LARGEST = {  # strength: of TrivialAugment, of RandAugment
    "identity": (0.0, 0.0),
    "shear_x": (0.99, 0.3),
    "shear_y": (0.99, 0.3),
    "translate_x": (32.0, 150 / 331),  # pixels; a share of the side
    "translate_y": (32.0, 150 / 331),
    "rotate": (135.0, 30.0),  # degrees
    "brightness": (0.99, 0.9),
    "color": (0.99, 0.9),
    "contrast": (0.99, 0.9),
    "sharpness": (0.99, 0.9),
    "posterize": (6.0, 4.0),  # bits that are dropped
    "solarize": (255.0, 255.0),  # distance of the threshold from white
    "autocontrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
}
GRAY = (0.2989, 0.587, 0.114)  # of red, green and blue
RAND_OPERATIONS, RAND_BIN = 2, 9
ERASED_AREA = (0.02, 1 / 3)  # share of the image
ERASED_RATIO = 10 / 3  # largest ratio of the sides; the smallest is its inverse


def uniform(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return random numbers [B,count] for the images of this process, on the CPU."""
    return distributed.shard(torch.rand(distributed.size() * len(x), count, generator=generator))


def by_policy(x: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Change each image [B,3,S,S] from 0 to 255 by the operations of `trivial` or `randaugment`."""
    is_trivial = policy == "trivial"
    for _ in range(1 if is_trivial else RAND_OPERATIONS):
        draw = uniform(x, 3, generator)
        which = (draw[:, 0] * len(LARGEST)).long()
        bins = (draw[:, 1] * BINS).long() if is_trivial else torch.full_like(which, RAND_BIN)
        strength = strengths(which, bins, is_trivial, x.shape[-1])
        x = changed(x, which, torch.where(draw[:, 2] < 0.5, -strength, strength))
    return x


def strengths(which: Tensor, bins: Tensor, is_trivial: bool, side: int) -> Tensor:
    """Return the strength [B] of each image's operation, given its number and its bin [B]."""
    largest = torch.tensor([pair[0 if is_trivial else 1] for pair in LARGEST.values()])
    if not is_trivial:
        for name in ("translate_x", "translate_y"):
            largest[list(LARGEST).index(name)] *= side
    return largest[which] * bins / (BINS - 1)


def changed(x: Tensor, which: Tensor, signed: Tensor) -> Tensor:
    """Apply operation number `which` [B] with a signed strength [B] to each image [B,3,S,S].

    Args:
        x: images from 0 to 255; not changed.
        which: numbers of `LARGEST`, on the CPU.
        signed: strengths, on the CPU; posterize and solarize take their size.
    """
    x = x.clone()
    names = list(LARGEST)
    is_moved = which >= names.index(GEOMETRY[0])
    is_moved &= which <= names.index(GEOMETRY[-1])
    groups: list[tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]] = [
        (which == names.index(name), operation) for name, operation in OPERATIONS.items()
    ]
    for chosen, operation in groups:
        if chosen.any():
            rows = moved(torch.nonzero(chosen)[:, 0], x.device)
            own = moved(signed[chosen], x.device)[:, None, None, None]
            x[rows] = operation(x[rows], own)
    if is_moved.any():
        rows = moved(torch.nonzero(is_moved)[:, 0], x.device)
        theta = moved(affine(which[is_moved], signed[is_moved], x.shape[-1]), x.device)
        grid = F.affine_grid(theta, [len(rows), *x.shape[1:]], align_corners=False)
        x[rows] = F.grid_sample(x[rows], grid, align_corners=False)
    return x


def affine(which: Tensor, signed: Tensor, side: int) -> Tensor:
    """Return the matrices [B,2,3] from a pixel's place to that of its origin, from -1 to 1.

    Shear is about the upper left corner, rotation about the center; pixels from outside are black.
    """
    theta = torch.eye(2, 3).repeat(len(which), 1, 1)
    of = {name: which == list(LARGEST).index(name) for name in GEOMETRY}
    radians = torch.where(of["rotate"], signed.deg2rad(), 0.0)
    theta[:, 0, 0] = theta[:, 1, 1] = radians.cos()
    shift = -2 * signed.trunc() / side
    for row, other, axis, sign in ((0, 1, "x", -1), (1, 0, "y", 1)):
        shear = torch.where(of[f"shear_{axis}"], signed, 0.0)
        theta[:, row, other] = shear + sign * radians.sin()
        theta[:, row, 2] = shear + torch.where(of[f"translate_{axis}"], shift, 0.0)
    return theta


def blend(x: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    """Return factor x + (1 - factor) other, from 0 to 255."""
    return (factor * x + (1 - factor) * other).clamp(0, 255)


def gray(x: Tensor) -> Tensor:
    """Return the luminance [B,1,S,S]."""
    return (x * moved(torch.tensor(GRAY), x.device)[:, None, None]).sum(1, keepdim=True)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return blend(x, 0.0, factor)


def color(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image."""
    return blend(x, gray(x), factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luminance of the image."""
    return blend(x, gray(x).mean((1, 2, 3), keepdim=True), factor)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the smoothed image; the border stays."""
    kernel = x.new_ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel / 13, groups=3)
    return blend(x, smooth, factor)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Drop the lowest bits of each value."""
    step = 2 ** bits.abs().round()
    return (x.round() / step).floor() * step


def solarize(x: Tensor, distance: Tensor) -> Tensor:
    """Invert values from a threshold on."""
    return torch.where(x >= 255 - distance.abs(), 255 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255; a channel of one value stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) * (255 / (high - low).clamp(min=1e-6)), x).clamp(0, 255)


def equalize(x: Tensor) -> Tensor:
    """Equalize the histogram of each channel."""
    from torchvision.transforms.v2.functional import equalize  # a slow import, not needed for planning

    return equalize(x.round().to(torch.uint8)).to(x.dtype)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda x, strength: brightness(x, 1 + strength),
    "color": lambda x, strength: color(x, 1 + strength),
    "contrast": lambda x, strength: contrast(x, 1 + strength),
    "sharpness": lambda x, strength: sharpness(x, 1 + strength),
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": lambda x, _: autocontrast(x),
    "equalize": lambda x, _: equalize(x),
}


def jittered(x: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of each image [B,3,S,S], in this order.

    Args:
        x: images from 0 to 255.
        most: each factor is from 1 - `most`, at least 0, to 1 + `most`.
        generator: of the draws.
    """
    low = max(0.0, 1 - most)
    factors = moved(low + (1 + most - low) * uniform(x, 3, generator), x.device)
    for operation, factor in zip((brightness, contrast, color), factors.T, strict=True):
        x = operation(x, factor[:, None, None, None])
    return x


def erased(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Erase a box of normalized images [B,3,S,S], with a probability: its pixels become 0, the mean color."""
    side = x.shape[-1]
    draw = uniform(x, 5, generator)
    low, high = ERASED_AREA
    area = (low + (high - low) * draw[:, 1]) * side**2
    ratio = ERASED_RATIO ** (2 * draw[:, 2] - 1)
    sizes = [(area * r).sqrt().round().clamp(1, side) for r in (ratio, 1 / ratio)]
    place = torch.arange(side)
    inside = []
    for size, u in zip(sizes, (draw[:, 3], draw[:, 4]), strict=True):
        begin = (u * (side - size + 1)).floor()[:, None]
        inside.append((place >= begin) & (place < begin + size[:, None]))
    is_erased = (draw[:, 0] < probability)[:, None, None] & inside[0][:, :, None] & inside[1][:, None, :]
    return x.masked_fill(moved(is_erased, x.device)[:, None], 0.0)
