"""Reference training loops to compare with: a bare torch loop, and the step of timm's `train.py`.

Both train a copy of a method's encoder and target head with the recipe's optimizer, schedule, precision
and memory format. The timm loop uses timm's optimizer, scheduler and meters in the order of `train.py`
(without gradient scaler, mixup, weight averaging and several processes).
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.base import Batch
from ...methods.networks.network import Network
from ...methods.recipe import Recipe


def plain_model(net: Network) -> nn.Module:
    """Copy encoder and target head of a network into a plain classifier."""
    return copy.deepcopy(nn.Sequential(net.encoder, net.target_head))


def torch_loop(net: Network, recipe: Recipe, batches: Iterator[Batch]) -> Callable[[], Tensor]:
    """Return a training step as in torch's tutorials, with the recipe's settings."""
    model = plain_model(net)
    optimizer = recipe.make_optimizer(model)
    criterion = nn.CrossEntropyLoss()
    steps = iter(range(10**9))

    def step() -> Tensor:
        x, y = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(next(steps) % recipe.steps)
        optimizer.zero_grad()
        with torch.autocast(x.device.type, net.autocast) if net.autocast else nullcontext():
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def timm_loop(net: Network, recipe: Recipe, batches: Iterator[Batch]) -> Callable[[], Tensor]:
    """Return a training step of timm's script with the recipe's settings."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    model = plain_model(net)
    optimizer = create_optimizer_v2(
        model, opt="momentum", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    scheduler: Any = create_scheduler_v2(
        optimizer, num_epochs=1, step_on_epochs=False, updates_per_epoch=recipe.steps
    )[0]
    criterion = nn.CrossEntropyLoss()
    losses = AverageMeter()
    updates = iter(range(1, 10**9))

    def step() -> Tensor:
        x, y = next(batches)
        if recipe.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, net.autocast) if net.autocast else nullcontext():
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(x))
        optimizer.zero_grad()
        scheduler.step_update(num_updates=next(updates), metric=losses.avg)
        return loss.detach()

    return step
