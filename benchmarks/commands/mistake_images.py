"""Small pictures of the test images that rows were most confidently wrong about, for the report."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...analysis.mistakes import confident_mistakes, rows_of
from ...analysis.records.comparison import Comparison
from ...analysis.records.pictures import pictures_path, read_pictures
from ...datasets.base import Part
from ..config.schema import RunConfig, load_target
from ..training.record import write_json

SIDE = 96  # pixels of the longer side
QUALITY = 80


def write_mistake_images(config: RunConfig, comparison: Comparison, results: Path) -> None:
    """Write the pictures of a comparison's mistakes that are not there yet, as JPEG in base64.

    Args:
        config: a run of the comparison.
        comparison: its runs.
        results: the results folder.
    """
    rows = rows_of(comparison)
    wanted = sorted({mistake.image for row in rows for mistake in confident_mistakes(row)})
    path = pictures_path(results, comparison.runs[0].record)
    known = read_pictures(path)
    missing = [image for image in wanted if image not in known]
    if not missing:
        return
    part = load_target(replace(config, seed=rows[0].seeds[0])).part("test")
    if not np.array_equal(part.labels, rows[0].labels):
        return  # the images are others now
    known |= {image: _jpeg(part, image) for image in missing}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"images": {str(image): text for image, text in known.items()}})


def _jpeg(part: Part, i: int) -> str:
    """Return image i as JPEG in base64, with its original aspect ratio."""
    pixels, aspect = part.images.decode(i, SIDE)
    size = (SIDE, round(SIDE / aspect)) if aspect > 1 else (round(SIDE * aspect), SIDE)
    packed = io.BytesIO()
    Image.fromarray(pixels).resize(tuple(max(1, side) for side in size)).save(packed, "JPEG", quality=QUALITY)
    return base64.b64encode(packed.getvalue()).decode()
