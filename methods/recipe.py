"""The recipe: training settings that all methods of a comparison share."""

import math
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum, auto
from typing import Any

import torch
from torch import nn

from .components.early_epsilon import add_epsilon_early
from .networks.parameter_groups import decayed, in_heads, layer_scales


class Schedule(StrEnum):
    """Learning rate schedules."""

    warmup_cosine = auto()  # linear warm-up, then cosine decay to zero
    milestones = auto()  # drops to a tenth at `recipe.milestones`
    constant = auto()  # no change


class OptimizerName(StrEnum):
    """Optimizers."""

    sgd = auto()
    adam = auto()  # Adam; its weight decay is an L2 penalty
    adam_tf = auto()  # Adam as in TensorFlow 1: epsilon is added before the second moment is corrected
    adam_keras = auto()  # as `adam_tf`, with Keras' epsilon of 1e-7 in place of 1e-8
    adamw = auto()  # Adam with decoupled weight decay: each step multiplies weights by 1 - rate x decay


EARLY_EPSILON = {OptimizerName.adam_tf: 1e-8, OptimizerName.adam_keras: 1e-7}


class Precision(StrEnum):
    """Number formats of forward passes; weights are float32."""

    fp32 = auto()
    bf16 = auto()


class MeanStd(StrEnum):
    """Mean and standard deviation of the normalization of pixels."""

    imagenet = auto()  # mean and deviation of ImageNet
    half = auto()  # 0.5 and 0.5, for pixels from -1 to 1
    none = auto()  # pixels from 0 to 1, unchanged
    backbone = auto()  # timm's values for the backbone, any; half for backbones that are not timm's


class Interpolation(StrEnum):
    """How whole images are resized, before the crop."""

    bicubic = auto()
    bilinear = auto()
    backbone = auto()  # as timm's config of the backbone says; bicubic where it names another, or none


class TestCrops(StrEnum):
    """Crops of an image over which test logits are averaged."""

    central = auto()  # the central crop
    ten = auto()  # corners and center, and their mirror images; five crops if flips change a label


class ClassWeights(StrEnum):
    """Weights of the target's classes in the training loss."""

    none = auto()  # every image counts the same
    balanced = auto()  # every class counts the same: the weight of a class is n / (C n_c)


class AugmentPolicy(StrEnum):
    """Random changes of each training image of the target, after crop and flip."""

    none = auto()  # crops and flips only
    trivial = auto()  # TrivialAugment: one operation of random strength (arXiv 2103.10158)
    randaugment = auto()  # RandAugment: two operations of strength 9 of 30 (arXiv 1909.13719)


def _off(value: object = 0.0) -> dict[str, object]:
    """Return the metadata of a setting that was added later: digests lack it at this value."""
    return {"undigested": value}


SOFTENING = ("mixup", "cutmix", "label_smoothing")  # settings that make labels class probabilities


@dataclass
class Recipe:
    """Training settings that all methods of a comparison share.

    Defaults: the L2TL paper, appendix A (Inception-V3).
    """

    steps: int = 20_000  # training steps on the target; 0: by the number of training images
    batch_size: int = 256  # target images per step; 0: by the number of training images
    # Source images per step of joint training; 0: as many as target images. The paper has 1,024 for JFT-300M
    source_batch_size: int = field(default=0, metadata={"undigested": 0})
    optimizer: OptimizerName = OptimizerName.sgd  # optimizer of the network
    lr: float = 0.05  # peak learning rate
    # Peak learning rate of a target head, relative to `lr`
    head_lr_factor: float = field(default=1.0, metadata={"undigested": 1.0})
    # Factor of the learning rate from each of the encoder's layers to the one below it; 1: all have the same
    layer_decay: float = field(default=1.0, metadata={"undigested": 1.0})
    momentum: float = 0.9  # momentum of SGD
    nesterov: bool = False  # use Nesterov momentum
    # L2 penalty on kernels; norm layers and what timm exempts, as position embeddings, have none
    weight_decay: float = 4e-5
    # Rate of stochastic depth: the share of images that skip the last block in a step; those below have less
    drop_path: float = field(default=0.0, metadata={"undigested": 0.0})
    decay_biases: bool = False  # apply weight decay to biases as well
    # Largest norm of the gradients of all parameters of an optimizer in a step; 0: no limit
    clip_grad: float = field(default=0.0, metadata={"undigested": 0.0})
    # Most images of a pass in training: a step adds up gradients of the parts of its batch, in less memory.
    # 0: the whole batch. Equal but for batch norms, which see a part, and for random masks of the network
    micro_batch: int = field(default=0, metadata=_off(0))
    # Weights of the target's classes in the training loss; balanced: all classes count the same
    class_weights: ClassWeights = field(default=ClassWeights.none, metadata={"undigested": ClassWeights.none})
    schedule: Schedule = Schedule.warmup_cosine  # schedule of the learning rate
    warmup_fraction: float = 0.1  # fraction of the steps with linear warm-up, with `schedule=warmup_cosine`
    # Last steps before the learning rate drops to a tenth, with `schedule=milestones`
    milestones: list[int] = field(default_factory=list)
    # Standard deviation of the normal initialization of new heads; null: Glorot's uniform distribution
    head_init_std: float | None = 0.01
    # Side of the network's input in pixels; 0: timm's value for the backbone, else 64 or 32 by the images'
    # size
    image_size: int = 299
    # Smallest fraction of the image area that a random training crop keeps; 1: no random crop
    crop_scale: float = 0.08
    hflip: bool = True  # random horizontal flips in training, if the data sets allow them
    # Random changes of the target's training images; sources, holdout and frozen features have none
    augment: AugmentPolicy = field(default=AugmentPolicy.none, metadata=_off(AugmentPolicy.none))
    # Largest change of brightness, contrast and saturation of the target's training images; 0: none
    color_jitter: float = field(default=0.0, metadata=_off())
    # Probability that a box of a training image of the target becomes the mean color; 0: none
    random_erasing: float = field(default=0.0, metadata=_off())
    # Alpha of MixUp's share, one for each batch of the target; 0: no MixUp
    mixup: float = field(default=0.0, metadata=_off())
    # Alpha of CutMix's share; with MixUp, half of the batches have each; 0: no CutMix
    cutmix: float = field(default=0.0, metadata=_off())
    # Share of the target's training labels that all classes get equally; 0: none
    label_smoothing: float = field(default=0.0, metadata=_off())
    # Largest decay of the moving average of weights and statistics that evaluation uses; 0: no average
    ema: float = field(default=0.0, metadata=_off())
    # Fraction of the shorter side that the central test crop keeps; 0: timm's value for the backbone, else 1
    crop_pct: float = 0.875
    mean_std: MeanStd = MeanStd.half  # mean and standard deviation that normalize pixels
    # How whole images are resized, before the crop
    interpolation: Interpolation = field(
        default=Interpolation.bicubic, metadata={"undigested": Interpolation.bicubic}
    )
    # Crops whose logits are averaged in the final test; rewards and curves use the central crop
    test_crops: TestCrops = TestCrops.central
    precision: Precision = Precision.fp32  # number format of forward passes; weights stay in float32
    channels_last: bool = False  # use the channels_last memory format
    compile: bool = False  # run the encoder through torch.compile
    # Capture the compiled encoder's kernels in CUDA graphs: a step of few images starts them all at once
    cuda_graphs: bool = field(default=False, metadata=_off(False))
    # Keep few activations of the encoder and compute the others again for gradients: less memory, more time
    grad_checkpointing: bool = field(default=False, metadata=_off(False))
    evaluations: int = 10  # number of holdout evaluations, and of checkpoints, in a run
    # Learning rates that `tune=paper_grid` tries
    lr_grid: list[float] = field(default_factory=lambda: [0.001, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.4])
    # Weight decays that `tune=paper_grid` tries
    weight_decay_grid: list[float] = field(default_factory=lambda: [0.0, 4e-5])

    @property
    def source_size(self) -> int:
        """Return the number of source images per step of joint training."""
        return self.source_batch_size or self.batch_size

    @property
    def softens_labels(self) -> bool:
        """Return whether training labels of the target are class probabilities."""
        return any(getattr(self, name) for name in SOFTENING)

    def lr_at(self, t: int) -> float:
        """Return the learning rate of step t."""
        if self.schedule is Schedule.constant:
            return self.lr
        if self.schedule is Schedule.milestones:
            return self.lr * 0.1 ** sum(t > m for m in self.milestones)
        warmup = round(self.warmup_fraction * self.steps)
        if t < warmup:
            return self.lr * (t + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * (t - warmup) / max(1, self.steps - warmup)))

    def shortened(self, steps: int) -> "Recipe":
        """Return the recipe with its whole schedule in fewer steps."""
        milestones = [round(m * steps / self.steps) for m in self.milestones]
        return replace(self, steps=steps, milestones=milestones)

    def not_compiled(self) -> "Recipe":
        """Return the recipe without `compile`, which takes minutes, and what needs it."""
        return replace(self, compile=False, cuda_graphs=False)

    def make_optimizer(self, net: nn.Module, decay_biases: bool | None = None) -> torch.optim.Optimizer:
        """Build the optimizer of a network's trainable parameters; `decay_biases` overrides the recipe's.

        Every group has `lr_scale`, by which `update` multiplies its rate: that of a target head, or of a
        module that is itself a linear head, is `head_lr_factor`; `layer_decay` sets those of the encoder.
        """
        with_decay = decayed(net, self.decay_biases if decay_biases is None else decay_biases)
        heads = in_heads(net) if self.head_lr_factor != 1 else set()
        scales = layer_scales(net, self.layer_decay)
        groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
        for parameter in net.parameters():
            if parameter.requires_grad:
                key = id(parameter)
                scale = self.head_lr_factor if key in heads else scales.get(key, 1.0)
                groups.setdefault((key in heads, scale, key not in with_decay), []).append(parameter)
        given = [
            {
                "params": parameters,
                "weight_decay": 0.0 if is_spared else self.weight_decay,
                "lr_scale": scale,
                "clip_grad": self.clip_grad,
                "micro_batch": self.micro_batch,
            }
            for (_, scale, is_spared), parameters in sorted(groups.items(), key=lambda item: item[0])
        ]
        if self.optimizer is OptimizerName.sgd:
            return torch.optim.SGD(given, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)
        kind = torch.optim.AdamW if self.optimizer is OptimizerName.adamw else torch.optim.Adam
        optimizer = kind(given, lr=self.lr)
        if epsilon := EARLY_EPSILON.get(self.optimizer):
            add_epsilon_early(optimizer, epsilon)
        return optimizer


def num_parts(batch: int, micro_batch: int) -> int:
    """Return the number of parts, of equal sizes but for one image, that a batch is trained in."""
    return -(-batch // micro_batch) if micro_batch else 1


# Settings that only training on the target has, with the values of a source pre-training
TARGET_ONLY: dict[str, Any] = {
    f.name: f.default
    for f in fields(Recipe)
    if f.name in ("class_weights", "ema", "augment", "color_jitter", "random_erasing", *SOFTENING)
}
