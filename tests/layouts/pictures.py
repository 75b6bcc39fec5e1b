"""Made images that tell their class and part, so that a reader can be caught mixing them up."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("train", "holdout", "test")
STEP = 24  # between two values of a colour: JPEG moves a flat colour by a few


def colour(label: int, part: str) -> tuple[int, int, int]:
    """Encode a label of up to 99 and a part in a colour."""
    return 12 + STEP * (label % 10), 12 + STEP * (label // 10), 30 + 80 * PARTS.index(part)


def encoded(label: int, part: str, suffix: str = ".jpg", size: tuple[int, int] = (12, 8)) -> bytes:
    """Encode a flat image of its class and part."""
    buffer = io.BytesIO()
    kind = {".jpg": "JPEG", ".png": "PNG", ".ppm": "PPM"}[suffix.lower().replace("jpeg", "jpg")]
    Image.new("RGB", size, colour(label, part)).save(buffer, kind)
    return buffer.getvalue()


def seen(image: np.ndarray) -> tuple[int, str]:
    """Read label and part off a decoded image uint8 [S,S,3]."""
    red, green, blue = image.reshape(-1, 3).mean(0)
    return round((red - 12) / STEP) + 10 * round((green - 12) / STEP), PARTS[round((blue - 30) / 80)]


def archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a tar, by its suffix packed or not, or a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as out:
            for name, content in files.items():
                out.writestr(name, content)
        return
    mode = "w:" + {".tgz": "gz", ".gz": "gz", ".bz2": "bz2"}.get(path.suffix, "")
    with tarfile.open(path, mode) as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
