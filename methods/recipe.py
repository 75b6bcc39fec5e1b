"""The recipe: training settings that all methods of a comparison share."""

import math
from dataclasses import dataclass, field
from enum import StrEnum, auto

import torch
from torch import nn


class Schedule(StrEnum):
    """Learning rate schedules."""

    warmup_cosine = auto()  # linear warm-up, then a half cosine to zero
    milestones = auto()  # a tenth of the rate after each milestone
    constant = auto()


class OptimizerName(StrEnum):
    """Optimizers."""

    sgd = auto()
    adam = auto()


class Precision(StrEnum):
    """Number formats of forward passes; weights are float32."""

    fp32 = auto()
    bf16 = auto()


class MeanStd(StrEnum):
    """Mean and standard deviation of the normalization of pixels."""

    imagenet = auto()
    half = auto()
    none = auto()
    backbone = auto()  # timm's values for the backbone; `half` for one that is not in timm


class TestCrops(StrEnum):
    """Crops of an image over which test logits are averaged."""

    central = auto()
    ten = auto()  # corners, center and their flips; five if a flip would change the label


@dataclass
class Recipe:
    """Training settings that all methods of a comparison share.

    Defaults: the L2TL paper, appendix A (Inception-V3).
    """

    steps: int = 20_000  # training steps
    batch_size: int = 256  # target images of a step, over all processes
    optimizer: OptimizerName = OptimizerName.sgd  # optimizer of the network
    lr: float = 0.05  # learning rate at its highest
    momentum: float = 0.9  # momentum of SGD, 0 to 1
    nesterov: bool = False  # Nesterov's momentum
    weight_decay: float = 4e-5  # weight decay of kernels
    decay_biases: bool = False  # weight decay on biases too; never on norms
    schedule: Schedule = Schedule.warmup_cosine  # schedule of the learning rate
    warmup_fraction: float = 0.1  # share of the steps for the warm-up, 0 to 1
    milestones: list[int] = field(default_factory=list)  # steps at which the rate falls to a tenth
    head_init_std: float = 0.01  # standard deviation of the initial weights of a new head
    image_size: int = 299  # side of the input, px; 0: timm's for the backbone, else 64 or 32 by the target
    crop_scale: float = 0.08  # least area of a random crop, as a share of the image
    hflip: bool = True  # random horizontal flips, if the data sets allow them
    crop_pct: float = 0.875  # side of the central crop, as a share of the image; 0: timm's, else 1
    mean_std: MeanStd = MeanStd.half  # mean and standard deviation of the normalization of pixels
    test_crops: TestCrops = TestCrops.central  # crops of the test; rewards and curves use the central one
    precision: Precision = Precision.fp32  # number format of forward passes
    channels_last: bool = False  # channels-last memory format
    compile: bool = False  # run the encoder through torch.compile
    evaluations: int = 10  # evaluations on the holdout during the run, and checkpoints
    # Learning rates that tune=paper_grid tries
    lr_grid: list[float] = field(default_factory=lambda: [0.001, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.4])
    # Weight decays that tune=paper_grid tries
    weight_decay_grid: list[float] = field(default_factory=lambda: [0.0, 4e-5])

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
        """Build the optimizer of a network's trainable parameters; `decay_biases` overrides the recipe's."""
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
