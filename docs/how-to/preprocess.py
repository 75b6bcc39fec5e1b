"""The input of an exported model, from an image file, with Pillow and numpy alone."""

import numpy as np
from PIL import Image, ImageOps


def preprocess(path: str, given: dict) -> np.ndarray:
    """Return the input [3,S,S] of an image; `given`: `preprocessing` in the JSON file of an export."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")  # upright, as its EXIF tag says
    aspect, side, size = image.width / image.height, given["side"], given["image_size"]
    square = image.resize((side, side), Image.Resampling[given["interpolation"].upper()])  # the whole image
    width = given["crop_pct"] * side * min(1.0, 1 / aspect)  # of the central crop, a square in the original
    height = given["crop_pct"] * side * min(1.0, aspect)
    box = ((side - width) / 2, (side - height) / 2, (side + width) / 2, (side + height) / 2)
    channels = np.moveaxis(np.asarray(square, np.float32), 2, 0)  # not rounded again by the crop
    bilinear = Image.Resampling.BILINEAR
    crop = np.stack([Image.fromarray(c).resize((size, size), bilinear, box=box) for c in channels])
    mean, std = (np.reshape(given[name], (3, 1, 1)) for name in ("mean", "std"))
    return ((crop / 255 - mean) / std).astype(np.float32)
