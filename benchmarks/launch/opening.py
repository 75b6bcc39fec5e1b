"""The first lines of a bench: what it compares, where the page will be, and how long it takes."""

from collections.abc import Sequence
from pathlib import Path

from ...analysis.page_path import page_of
from ...analysis.wording import counted
from ..config.length import num_training_images
from ..config.schema import Request, RunConfig, load_target
from .hint import command_hint
from .plan import row_of


def compared_line(request: Request, configs: Sequence[RunConfig]) -> str:
    """Return what a bench compares: methods, target, start and seeds; `configs`: its runs."""
    first = configs[0]
    target = load_target(first)
    images = num_training_images(target, first.shots)
    cut = "" if request.minutes is None else f", or what fits into {request.minutes:g} minutes"
    methods, seeds = counted(len({row_of(c) for c in configs}), "method"), counted(request.seeds, "seed")
    of = f"{len(target.classes)} classes, {images:,} training images"
    return f"{methods}, {seeds}: {_start(first)} → {first.target_name} ({of}){cut}"


def page_line(results: Path) -> str:
    """Return where the page of the results will be, and the command that shows it."""
    return f"page: {page_of(results)}, shown by {command_hint('open', results)}"


def queue_line(configs: Sequence[RunConfig], results: Path) -> str:
    """Return how long runs on SLURM take: the queue decides."""
    return (
        f"{counted(len(configs), 'run')}, as soon as the queue permits: see {command_hint('status', results)}"
    )


def _start(config: RunConfig) -> str:
    """Return what the training of a run starts from."""
    if config.source != "none":
        return config.source_name
    if config.checkpoint:
        return f"the weights {Path(config.checkpoint).name}"
    return f"published weights of {config.backbone}" if config.pretrained else "random weights"
