"""The files of `transferbench screen`: the scores of an encoder, or of a source, on one target."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from .load import Run

FORMAT = 1
KINDS = ("encoder", "source")
READ = {  # fields that tables read
    **dict.fromkeys(("label", "source", "target", "metric", "kind"), str),
    **dict.fromkeys(("scores", "seconds", "config", "fingerprints"), dict),
    **dict.fromkeys(("image_size", "num_images", "num_classes"), int),
    "learns_source": bool,
}
SAME = ("backbone", "backbone_options", "pretrained", "shots", "labels", "draw")  # settings of a screening
Screen = dict[str, Any]


def folder_of(results: Path) -> Path:
    """Return the folder of all screenings below a results folder."""
    return results / "screen"


def read_screen(path: Path) -> Screen | None:
    """Return the content of a file; None if it is missing, broken or of another format: it is made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("kind") not in KINDS:
        return None
    whole = all(isinstance(content.get(name), kind) for name, kind in READ.items())
    return content if whole and _has_scores(content) else None


def _has_scores(content: Screen) -> bool:
    """Return whether an encoder has classes, images, and finite shares of logistic regression."""
    if content["kind"] != "encoder":
        return True
    folds = content["scores"].get("logistic")
    return (
        content["num_classes"] > 1
        and content["num_images"] > 0
        and isinstance(folds, list)
        and bool(folds)
        and all(isinstance(share, float | int) and 0 <= share <= 1 for share in folds)
    )


def accuracy_of(screen: Screen) -> float:
    """Return the cross-validated accuracy of logistic regression on an encoder's features, as a share."""
    return fmean(screen["scores"]["logistic"])


def encoders_of(results: Path) -> Iterator[Screen]:
    """Yield the screened encoders of a results folder."""
    for path in sorted(folder_of(results).glob("*/encoder-*.json")):
        if (found := read_screen(path)) is not None:
            yield found


def told_apart(screens: Sequence[Screen]) -> list[Screen]:
    """Return screenings, with the path of the weights in a label that several files of weights share."""
    files: dict[str, set[str | None]] = defaultdict(set)
    for screen in screens:
        files[screen["label"]].add(screen["config"].get("checkpoint"))
    return [
        {**screen, "label": f"{screen['config']['backbone']} ({screen['config']['checkpoint']})"}
        if len(files[screen["label"]]) > 1
        else screen
        for screen in screens
    ]


def is_random(screen: Screen) -> bool:
    """Return whether an encoder has random weights that no source has trained."""
    return not (has_weights(screen) or screen["learns_source"])


def has_weights(screen: Screen) -> bool:
    """Return whether a network comes with weights."""
    return bool(screen["config"].get("pretrained") or screen["config"].get("checkpoint"))


def is_alike(screen: Screen, run: Run) -> bool:
    """Return whether a run has the images, labels, network and weights of a screening.

    A source has to be that of the candidate, unless an encoder comes with weights.
    """
    own, other = screen["config"], run.record["config"]
    needs_source = screen["kind"] == "source" or not has_weights(screen)
    return all(own.get(name) == other.get(name) for name in SAME) and (
        _images(screen, needs_source) == _images(run.record, needs_source)
    )


def _images(of: Mapping[str, Any], needs_source: bool) -> tuple[Any, ...]:
    """Return what tells images and weights of a record apart."""
    names = ("target", "checkpoint", *(["source"] if needs_source else []))
    return tuple((of.get("fingerprints") or {}).get(name) for name in names)
