"""The files of `transferbench screen`: the scores of an encoder, or of a source, on one target."""

import json
from pathlib import Path
from typing import Any

FORMAT = 1
KINDS = ("encoder", "source")
READ = {  # fields that tables read
    **dict.fromkeys(("label", "source", "target", "metric", "kind"), str),
    **dict.fromkeys(("scores", "seconds", "config", "fingerprints"), dict),
    **dict.fromkeys(("image_size", "num_images", "num_classes"), int),
    "learns_source": bool,
}


def folder_of(results: Path) -> Path:
    """Return the folder of all screenings below a results folder."""
    return results / "screen"


def read_screen(path: Path) -> dict[str, Any] | None:
    """Return the content of a file; None if it is missing, broken or of another format: it is made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") not in KINDS:
        return None
    whole = all(isinstance(content.get(name), kind) for name, kind in READ.items())
    return content if whole else None
