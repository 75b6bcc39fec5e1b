"""Estimate the memory of a training step: the bytes of tensors that live at its worst moment."""

import time
import weakref
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...analysis import wording
from ...methods import catalog as methods
from ...methods.networks.encoders import has_batch_norms
from ...methods.recipe import Precision, num_parts
from ..config.schema import Norms, Role, RunConfig, Tune
from ..training.misfit import batch_setting
from ..training.problem import build_problem, device_of

FEW, MORE = 2, 4  # images of the batches that are measured; norms need two
SECONDS = 20.0  # after which no further row is measured: a large network is slow on a CPU
GIB = 1 << 30


SHARE = 0.9  # of the free memory that a step in parts may take: kernels have workspaces


class Growth(NamedTuple):
    """The memory of a step, as it grows with the target's images in a pass.

    Each moment of a step needs bytes that are always there, and more for each image. Which moment needs most
    depends on the images: with few it is the optimizer's, with many that between the passes.
    """

    moments: tuple[tuple[float, float], ...]  # bytes, bytes of an image
    images: int  # of a pass

    def size(self, images: int) -> int:
        """Return the bytes of a step whose passes have so many images."""
        return round(max(fixed + images * each for fixed, each in self.moments))

    def most_images(self, free: float) -> int:
        """Return the most images of a pass whose step fits into free bytes; 0: not even one does."""
        return bisect_right(range(1, self.images + 1), SHARE * free, key=self.size)


class Need(NamedTuple):
    """What a step of a row takes."""

    size: int | None  # bytes; 0: not measured, None: cannot be
    batch: str  # the setting that it grows with: "recipe.batch_size=64"
    split: Growth | None = None  # of a row that can train on parts of a batch
    ways: tuple[str, ...] = ()  # settings with which it may need less


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, until they are gone.

    Attributes:
        now: bytes that live.
        course: bytes that lived after each operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.course: list[int] = []
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                self._add(size := storage.nbytes())
                weakref.finalize(storage, self._add, -size).atexit = False
        self.course.append(self.now)
        return out

    def _add(self, size: int) -> None:
        self.now += size


def step_bytes(config: RunConfig) -> int | None:
    """Estimate the peak memory of a run's training step, in bytes; see `growth`."""
    found = growth(config)
    return found and found.size(found.images)


def growth(config: RunConfig) -> Growth | None:
    """Estimate the peak memory of a run's training step, and how it grows.

    Steps of the real method and network with batches of few images, at their size, give for each operation
    what an image takes and what is always there: weights, gradients, the state of the optimizer. Images that
    the device holds, and workspaces of its kernels, are not counted.

    Returns:
        The growth; None for a method in closed form, or one whose step needs more than these images.
    """
    if methods.load(config.method).closed_form:
        return None
    recipe = config.recipe
    try:
        few, more = (_course(config, size, FEW) for size in (FEW, MORE))
        own_source = methods.load(config.method).needs_source and recipe.source_batch_size
        more_of_source = _course(config, FEW, MORE) if own_source else few
    except Exception:  # its step needs what `prepare` makes, or more images
        return None
    if not len(few) == len(more) == len(more_of_source):  # other operations: the peaks alone grow
        few, more, more_of_source = (course.max(keepdims=True) for course in (few, more, more_of_source))
    each = (more - few) / (MORE - FEW)
    of_source = (more_of_source - few) / (MORE - FEW) * (recipe.source_size - FEW)
    images = -(-recipe.batch_size // num_parts(recipe.batch_size, recipe.micro_batch))
    return Growth(_upper(few - each * FEW + of_source, each, images), images)


def _upper(fixed: np.ndarray, each: np.ndarray, images: int) -> tuple[tuple[float, float], ...]:
    """Return the moments that need most with some number of images up to `images`."""
    sizes = np.unique(np.geomspace(1, images, 64).round())
    most = np.unique((fixed + sizes[:, None] * each).argmax(axis=1))
    return tuple(zip(fixed[most].tolist(), each[most].tolist(), strict=True))


def _course(config: RunConfig, batch_size: int, source_batch_size: int) -> np.ndarray:
    """Return the bytes after each operation of the second step: the first makes the optimizer's state.

    The source batch has its size only if it has a setting of its own.
    """
    source = source_batch_size if config.recipe.source_batch_size else 0
    recipe = replace(config.recipe, batch_size=batch_size, source_batch_size=source)
    recipe = replace(recipe.not_compiled(), micro_batch=0)
    role = Role.pretraining if config.role is Role.pretraining else Role.run
    own = replace(config, recipe=recipe, role=role, tune=Tune.off)
    device = device_of(config.device)
    gpus = list(range(torch.cuda.device_count())) if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), LiveBytes() as live:
        method = methods.load(config.method)(build_problem(own).problem, own.settings)
        late = max(0, recipe.steps - 3)  # of two stages the second takes more; the last step may end a run
        method.step(late)
        live.course.clear()
        method.step(late + 1)
    if gpus:
        torch.cuda.empty_cache()
    return np.array(live.course, dtype=float)


def by_row(configs: Sequence[RunConfig]) -> dict[str, Need]:
    """Return what a step of each row takes by estimate, by its label; after `SECONDS` none is measured."""
    end = time.monotonic() + SECONDS
    found: dict[str, Need] = {}
    for config in configs:
        method = methods.load(config.method)
        label = method.label(config.settings)
        if label not in found and not method.closed_form:
            grown = growth(config) if (in_time := time.monotonic() < end) else None
            size = grown.size(grown.images) if grown else None if in_time else 0
            split = grown if method.trains_in_parts else None
            found[label] = Need(size, batch_setting(config), split, _ways(config))
    return found


def _ways(config: RunConfig) -> tuple[str, ...]:
    """Return the settings with which a run may need less memory, and which it does not have yet."""
    ways = [] if config.recipe.precision is Precision.bf16 else ["recipe.precision=bf16"]
    if not config.recipe.grad_checkpointing and not norms_learn(config):  # they would count a batch twice
        ways.append("recipe.grad_checkpointing=true")
    return tuple(ways)


def norms_learn(config: RunConfig) -> bool:
    """Return whether the network has batch norms that take the statistics of training batches."""
    return config.bn is not Norms.frozen and has_batch_norms(config.backbone, config.backbone_options)


def memory_line(found: Mapping[str, Need]) -> str:
    """Return a line on the memory of a step of each row."""
    known = [f"{label} {shown(need.size)}" for label, need in found.items() if need.size]
    late = [label for label, need in found.items() if need.size == 0]
    other = [label for label, need in found.items() if need.size is None]
    parts = [f"{', '.join(known)}; images that the device holds come on top"] if known else []
    parts += [f"not measured after {SECONDS:.0f} s: {', '.join(late)}"] if late else []
    parts += [f"cannot be measured beforehand: {', '.join(other)}"] if other else []
    return f"memory of a step{', estimated' if known else ''}: {'; '.join(parts)}"


def too_large(found: Mapping[str, Need], free: int, runs: int) -> str:
    """Return a line on the rows that need more than a GPU has free; empty if there are none.

    Args:
        found: what a step of each row takes, by its label.
        free: free bytes of the GPU.
        runs: runs that share it.
    """
    by_batch: dict[str, list[str]] = {}
    large = {label: need for label, need in found.items() if need.size and runs * need.size > free}
    for label, need in large.items():
        by_batch.setdefault(need.batch, []).append(f"{label} needs about {shown(need.size or 0)}")
    if not by_batch:
        return ""
    parts = [need.split.most_images(free / runs) for need in large.values() if need.split]
    those = "" if len(parts) == len(large) else " (which leaves out rows that need whole batches)"
    in_parts = [f"recipe.micro_batch={min(parts)}{those}"] if parts and min(parts) > 1 else []
    others = dict.fromkeys(way for need in large.values() for way in need.ways)
    ways = wording.listing(["fewer images", *in_parts, *others], "or")
    rows = "; ".join(f"{batch}: {', '.join(rows)} for a step" for batch, rows in by_batch.items())
    each = f", for {runs} runs each" if runs > 1 else ""
    return f"{rows}, and the GPU has {shown(free)} free{each}; expected {ways}"


def free_gpu(name: str) -> tuple[int, int]:
    """Return the free bytes of a GPU, and the number of GPUs among which runs on a device are shared."""
    device = device_of(name)
    gpus = 1 if device.index is not None else torch.cuda.device_count()
    return torch.cuda.mem_get_info(device)[0], gpus


def shown(size: float) -> str:
    """Return bytes as people read them."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"
