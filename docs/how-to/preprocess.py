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
    crop = square.resize((size, size), Image.Resampling.BILINEAR, box=box)
    x = (np.asarray(crop, np.float32) / 255 - given["mean"]) / given["std"]
    return x.transpose(2, 0, 1).astype(np.float32)
