"""Small pictures of test images, which `bench` leaves in the results folder for the report."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JPEG = re.compile(r"/9j/[A-Za-z0-9+/]+={0,2}")  # in base64


def pictures_path(results: Path, record: Mapping[str, Any]) -> Path:
    """Return the file with pictures of the test images that a run has answered."""
    prints = record["fingerprints"]
    names = (prints["target"], str((prints.get("splits") or {}).get("test", "")))
    return results / "pictures" / (re.sub(r"[^A-Za-z0-9]+", "-", "-".join(names)) + ".json")


def read_pictures(path: Path) -> dict[int, str]:
    """Return JPEGs in base64, by the number of the test image; none where the file is missing or broken."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))["images"]
        return {int(number): text for number, text in written.items() if JPEG.fullmatch(text)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
