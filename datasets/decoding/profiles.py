"""ICC profiles: convert an image to sRGB."""

import io
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms

NUM_KEPT = 64  # transforms in memory; the images of a set have few profiles
SAME = 2  # levels: a profile that changes no color by more is sRGB
SRGB = ImageCms.createProfile("sRGB")


class BadProfile(ValueError):
    """A profile that is damaged, or of another color space than the image."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert an image of mode L, RGB or CMYK to sRGB, as mode RGB; None if it is sRGB already.

    Raises:
        BadProfile: if the profile cannot be used for this image.
    """
    for mode in (image.mode, "RGB") if image.mode == "L" else (image.mode,):
        transform = _transform(profile, mode)
        if isinstance(transform, ImageCms.ImageCmsTransform):
            return transform.apply(image if image.mode == mode else image.convert(mode))
        if transform is None:
            return None
    raise BadProfile(transform)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Convert an image of mode LAB to sRGB, as mode RGB."""
    return _of_lab().apply(image)


@cache
def _of_lab() -> ImageCms.ImageCmsTransform:
    exact = ImageCms.Flags.NOOPTIMIZE  # the optimized transform errs by up to 30 levels
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), SRGB, "LAB", "RGB", flags=exact)


@lru_cache(maxsize=NUM_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None | str:
    """Return the transform from a profile to sRGB; None if it changes nothing, or an error message."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(opened, SRGB, mode, "RGB")
        colors = _colors(mode)
        changed = np.asarray(transform.apply(colors), np.int16) - np.asarray(colors.convert("RGB"), np.int16)
    except Exception as error:  # damaged bytes cause errors of every type
        return str(error) or type(error).__name__
    return transform if np.abs(changed).max() > SAME else None


def _colors(mode: str) -> Image.Image:
    """Return an image with colors from the whole range of a mode."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    bands = [band.ravel()[None] for band in np.meshgrid(*[steps] * len(mode))]
    return Image.merge(mode, [Image.fromarray(band) for band in bands])
