"""Deterministic algorithms of the GPU: a run that is repeated or resumed has the same digits."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use only deterministic algorithms inside, if wanted; an operation that has none raises.

    cuBLAS reads its workspace from the environment when the GPU is first used.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)  # cuDNN's too
    torch.backends.cudnn.benchmark = False  # it would choose algorithms by their speed
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
