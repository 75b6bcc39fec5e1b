"""Samples of more than 8 bits become 8 bits.

Integers of a known depth (PNG, PGM, JPEG 2000, TIFF of up to 16 bits) use the whole range of that depth: all
images of a set are scaled alike. Samples of a PNG fill 16 bits, whatever its `sBIT` says, and Pillow has
already scaled a PGM from its maximum to 16 bits.

For 32-bit integers and floats, which have no such range, the values decide. If none is negative, the range
starts at 0 and ends at the first of 1 (floats only), 255 and 65535 that is not exceeded. All other images
are scaled by their own minimum and maximum.
"""

import numpy as np
from PIL import Image

from .remarks import Remark

WIDE = ("I", "F")
UNSIGNED = "I;32N"  # Pillow keeps these 32 bits as signed integers
RANGES = ((1, Remark.UNIT), (255, Remark.AS_8_BITS), (65535, Remark.AS_16_BITS))


def is_high(image: Image.Image) -> bool:
    """Return whether an opened image has one channel of more than 8 bits."""
    return image.mode in WIDE or image.mode.startswith("I;16")


def to_8_bits(image: Image.Image, raw: str) -> tuple[Image.Image, list[Remark]]:
    """Return an image of mode I;16, I or F as mode L, with remarks.

    Args:
        image: a loaded image.
        raw: Pillow's raw mode of the file's samples, such as `I;12`.
    """
    if image.mode not in WIDE or (image.mode == "I" and image.format != "TIFF"):
        top = 4095 if raw == "I;12" else 65535
        levels = ((np.arange(65536) * 255 + top // 2) // top).clip(0, 255).astype(np.uint8)
        return Image.fromarray(levels[np.asarray(image).clip(0, 65535)]), [Remark.HIGH_BITS]
    values = np.asarray(image)
    if raw == UNSIGNED:
        values = values.view(np.uint32)
    return _by_values(values)


def _by_values(values: np.ndarray) -> tuple[Image.Image, list[Remark]]:
    """Scale numbers without a known range [H,W] to 8 bits."""
    is_float, remarks = values.dtype.kind == "f", []
    values = values.astype(np.float64)  # and no further copies: an image may have 150 million pixels
    usable = np.isfinite(values)
    if not usable.all():
        remarks.append(Remark.NOT_FINITE)
    low = float(values.min(initial=np.inf, where=usable))
    high = float(values.max(initial=-np.inf, where=usable))
    known = [(top, remark) for top, remark in RANGES[0 if is_float else 1 :] if low >= 0 and high <= top]
    top, remark = known[0] if known else (high, Remark.OWN_RANGE)
    start = 0.0 if known else low
    values -= start
    values *= 255 / (top - start or 1)
    values[~usable] = 0
    return Image.fromarray(np.rint(values, out=values).clip(0, 255).astype(np.uint8)), [*remarks, remark]
