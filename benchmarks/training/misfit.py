"""Explain errors of a training step that a setting causes: the setting, its value, what would be right."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ... import InputError, RunFailed
from ...methods import catalog as methods
from ..config.schema import Role, RunConfig

OF_BATCH = "Expected more than 1 value per channel|Expected more than 1 spatial element"
OF_SIZE = (
    "doesn't match model|Kernel size can't be greater|must be divisible by window"
    "|Output size is too small|output size is too small"
)
NO_SUCH_ALGORITHM = r"(\S+) does not have a deterministic implementation"  # torch's error
OF_MEMORY = "out of memory|allocate memory|DefaultCPUAllocator|Storage size calculation overflowed"


@contextmanager
def explained(config: RunConfig) -> Iterator[None]:
    """Raise errors of a run's steps as ones that name the setting, if one is known to cause them."""
    try:
        yield
    except Exception as error:
        if found := misfit(config, error):
            raise found from error
        raise


def misfit(config: RunConfig, error: BaseException) -> InputError | None:
    """Return the error of a step as one that names the setting; None if no setting is known to cause it."""
    if isinstance(error, InputError | RunFailed):
        return None
    if is_out_of_memory(error):
        return InputError(
            f"{batch_setting(config)}: out of memory in a training step of {config.backbone} at "
            f"{config.recipe.image_size} px; expected {_needs_less(config)}"
        )
    if found := re.match(NO_SUCH_ALGORITHM, str(error)):
        return InputError(
            f"deterministic=true: {found[1]} has no deterministic algorithm on this device; "
            "expected false, or another network"
        )
    if re.search(OF_BATCH, str(error)):
        return InputError(
            f"{batch_setting(config)}: {config.backbone} at recipe.image_size={config.recipe.image_size} has "
            "norms that need more values than this; expected 2 images or more for each process"
        )
    if re.search(OF_SIZE, str(error)):
        return InputError(
            f"recipe.image_size={config.recipe.image_size}: {config.backbone} does not take it "
            f"({reason(error)}); expected another size"
        )
    return None


def _needs_less(config: RunConfig) -> str:
    """Return the settings with which a step takes less memory."""
    size = config.recipe.micro_batch or config.recipe.batch_size
    can_split = methods.load(config.method).trains_in_parts and size > 1
    parts = f"recipe.micro_batch={size // 2}, " if can_split else ""
    return f"fewer images, a smaller recipe.image_size, {parts}or recipe.precision=bf16"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was short."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(re.search(OF_MEMORY, str(error)))


def batch_setting(config: RunConfig) -> str:
    """Return the setting of a run's batch, with its value."""
    name = "source_recipe" if config.role is Role.pretraining else "recipe"
    return f"{name}.batch_size={config.recipe.batch_size}"


def reason(error: BaseException) -> str:
    """Return an error's first line, or else its type."""
    return next(iter(str(error).strip().splitlines()), "")[:200].rstrip(". ") or type(error).__name__
