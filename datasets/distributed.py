"""Data parallelism: several processes share one run, and each batch is split among them.

All processes hold the same weights and draw the same batches. Each keeps its own slice of a batch; gradients,
batch statistics and losses are averaged over the slices. Slices have equal sizes, so the mean of their means
is the mean of the batch. Only the first process reads and writes a run's files; it broadcasts their content.
With one process, these functions do nothing.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .. import InputError, RunFailed

PATIENCE = timedelta(days=1)  # the first process may evaluate, or wait for another run
T = TypeVar("T")


class ProcessLost(BaseException):
    """Another process of this run has ended; its own error gives the reason."""


def size() -> int:
    """Return the number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process reads and writes the run's files."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group of torchrun's environment variables, if there are several processes.

    Raises:
        SystemExit: if another process has ended, or the run failed and the first process reports it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        with _SyncBatchNorms():
            yield
    except ProcessLost as lost:
        print(lost, file=sys.stderr, flush=True)
        sys.exit(1)
    except RunFailed:
        if is_first():
            raise
        sys.exit(1)
    dist.destroy_process_group()


def shard(batch: Tensor) -> Tensor:
    """Keep this process's slice of a batch [B,...]."""
    return batch if size() == 1 else batch.chunk(size())[dist.get_rank()]


def check_divisible(batch_size: int, number: int) -> None:
    """Check that a batch can be split into equal slices. Raises InputError if not."""
    if batch_size % number:
        raise InputError(
            f"batch_size={batch_size}: cannot be split evenly over {number} processes; "
            f"expected a multiple of {number}"
        )


def mean(x: Tensor) -> Tensor:
    """Average over the processes; gradients flow back to all of them."""
    return x if size() == 1 else _Mean.apply(x)


def gather_batch(x: Tensor) -> Tensor:
    """Concatenate the slices [B/size,...] of all processes, without gradients."""
    if size() == 1:
        return x
    slices = [torch.empty_like(x) for _ in range(size())]
    with _peer_errors():
        dist.all_gather(slices, x.detach().contiguous())
    return torch.cat(slices)


def average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Average the gradients over the processes; call it before the optimizer's step."""
    if size() == 1:
        return
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for gradient, whole in zip(gradients, means(gradients), strict=True):
        gradient.copy_(whole)


@torch.no_grad()
def means(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Average each of some tensors over the processes, all in one exchange; without gradients."""
    if size() == 1:
        return tensors
    flat = mean(torch.cat([tensor.flatten() for tensor in tensors]))
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def added_by_all(before: Sequence[Tensor], after: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return sums to which each process has added its own part: `before`, and what all of them added.

    All processes get the same digits, which they would not by each adding all parts on a GPU of its own.
    """
    if size() == 1:
        return after
    parts = means([own - old for old, own in zip(before, after, strict=True)])
    return [old + size() * part for old, part in zip(before, parts, strict=True)]


def on_first(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in the first process only, and return its result in all processes."""
    if size() == 1:
        return function(*arguments)
    said: list[Any] = [function(*arguments) if is_first() else None]
    with _peer_errors():
        dist.broadcast_object_list(said)
    return said[0]


def all_gather(thing: T) -> list[T]:
    """Return the object of each process, by rank."""
    if size() == 1:
        return [thing]
    things: list[Any] = [None] * size()
    with _peer_errors():
        dist.all_gather_object(things, thing)
    return things


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    if size() == 1:
        return flag
    said = torch.tensor(int(flag))
    with _peer_errors():
        dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said)


@contextmanager
def _peer_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(f"another process of this run has ended ({str(error).splitlines()[0]})") from error


class _Mean(torch.autograd.Function):
    """The mean over the processes. Its gradient is averaged too, since each loss depends on all slices."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        with _peer_errors():
            dist.all_reduce(total)
        return total / size()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _Mean.apply(gradient)


class _SyncBatchNorms(TorchFunctionMode):
    """Make every batch norm use the statistics of the whole batch.

    torch's SyncBatchNorm works only on CUDA, and each network would have to be converted.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        called = batch_norm if function is F.batch_norm else function
        return called(*args, **(kwargs or {}))


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.batch_norm` with mean and variance over the images of all processes [B,C,...]."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    dims, shape = [d for d in range(x.ndim) if d != 1], (1, -1, *(1 for _ in x.shape[2:]))
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_C = mean(wide.mean(dims))
    centered = wide - mean_C.view(shape)
    var_C = mean(centered.square().mean(dims))
    if running_mean is not None and running_var is not None:
        count = size() * x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean_C, momentum)
            running_var.lerp_(var_C * count / (count - 1), momentum)
    scale_C = (var_C + eps).rsqrt() * (1 if weight is None else weight)
    out = centered * scale_C.view(shape)
    return (out if bias is None else out + bias.view(shape)).to(x.dtype)
