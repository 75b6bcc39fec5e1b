"""The recipe: what all methods of a comparison share, so that only the method differs."""

import math
from dataclasses import dataclass, field
from enum import StrEnum, auto

import torch
from torch import nn


class Schedule(StrEnum):
    """How the learning rate goes."""

    warmup_cosine = auto()
    milestones = auto()
    constant = auto()


class OptimizerName(StrEnum):
    """Optimizers that a recipe may name."""

    sgd = auto()
    adam = auto()


class Precision(StrEnum):
    """Number format of forward passes; weights stay in float32."""

    fp32 = auto()
    bf16 = auto()


class MeanStd(StrEnum):
    """Mean and deviation that pixels are normalized by."""

    imagenet = auto()
    half = auto()
    none = auto()
    backbone = auto()  # what timm has for the backbone; `half` for one that is not timm's


class TestCrops(StrEnum):
    """The crops of an image that its test logits are averaged over."""

    central = auto()
    ten = auto()  # corners, center and their mirror images; five where a mirror image loses its label


@dataclass
class Recipe:
    """What all methods of a comparison share, so that only the method differs.

    Defaults: the L2TL paper, appendix A (Inception-V3).
    """

    steps: int = 20_000
    batch_size: int = 256
    optimizer: OptimizerName = OptimizerName.sgd
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 4e-5
    decay_biases: bool = False  # False: kernels only; norms are never decayed
    schedule: Schedule = Schedule.warmup_cosine
    warmup_fraction: float = 0.1  # 2,000 of 20,000 steps
    milestones: list[int] = field(default_factory=list)  # steps at which the rate falls to a tenth
    head_init_std: float = 0.01
    image_size: int = 299  # 0: as the backbone has it in timm; else 64 or 32, by the target's images
    crop_scale: float = 0.08
    hflip: bool = True  # where the data sets allow it
    crop_pct: float = 0.875  # 0: as the backbone has it in timm; else 1
    mean_std: MeanStd = MeanStd.half
    test_crops: TestCrops = TestCrops.central  # of the test alone; rewards and curves take the central one
    precision: Precision = Precision.fp32
    channels_last: bool = False
    compile: bool = False
    evaluations: int = 10  # points of the curve, and checkpoints
    lr_grid: list[float] = field(default_factory=lambda: [0.001, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.4])
    weight_decay_grid: list[float] = field(default_factory=lambda: [0.0, 4e-5])  # both: `tune=paper_grid`

    def lr_at(self, t: int) -> float:
        """Return the learning rate of step t."""
        if self.schedule is Schedule.constant:
            return self.lr
        if self.schedule is Schedule.milestones:
            return self.lr * 0.1 ** sum(t >= m for m in self.milestones)
        warmup = round(self.warmup_fraction * self.steps)
        if t < warmup:
            return self.lr * (t + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (t - warmup) / max(1, self.steps - warmup)))

    def make_optimizer(self, net: nn.Module, decay_biases: bool | None = None) -> torch.optim.Optimizer:
        """Make the optimizer of a network's trainable parameters."""
        biases = self.decay_biases if decay_biases is None else decay_biases
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        norms = {id(p) for m in net.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
        for parameter in net.parameters():
            if parameter.requires_grad:
                is_kernel = parameter.ndim > 1
                wanted = id(parameter) not in norms and (is_kernel or biases)
                (decayed if wanted else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        if self.optimizer is OptimizerName.adam:
            return torch.optim.Adam(groups, lr=self.lr)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
