"""DELTA: fine-tuning with a penalty on changes of feature maps, weighted by channel.

Use when: a convolutional network is fine-tuned on few images.
Source: Li, Xiong, Wang, Rao, Liu, Chen, Huan: DELTA: DEep Learning Transfer using Feature Map with
Attention for Convolutional Networks (arXiv 1901.09229), section 3; constants as in the released code
(`lixingjian/DELTA`).
Departs from: (1) the released code sums over the images of a batch, of 64; here the mean over a batch is
multiplied by 64, so `alpha` means the same at any batch size; (2) the filters are those of the last
convolution of each of the last `num_stages` stages, for any backbone; if branches end a stage, the channels
of its map. Not followed: the authors' script and a library (`thuml/Transfer-Learning-Library`) train the
encoder together with the head that measures attention; here the encoder is frozen, in evaluation mode. The
penalty replaces weight decay.

Shape letters: B images, F features, C channels of a layer, Z channels of all layers.
"""

import copy
from dataclasses import dataclass, field, replace
from math import ceil, inf

import torch
from torch import Tensor

from .. import InputError
from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, check_ranges, may_save, timed, train_step, update
from .metrics import classification_loss
from .networks.channel_attention import attention_of, features_and_maps, layers_of_stages, losses_without
from .networks.network import Network
from .recipe import Recipe

SUMMED_IMAGES = 64  # the released code's batch
HEAD_LR, HEAD_EPOCHS, EPOCHS_TO_A_TENTH = 0.01, 10, 6  # training of the head that measures attention
NO_MAPS = "it needs maps of convolutions by stage, and the backbone has none"


@dataclass
class Config:
    """Settings of DELTA."""

    # Weight of the penalty on feature maps
    alpha: float = field(default=0.01, metadata={"tuned": (1e-4, 1.0)})
    beta: float = 0.01  # weight of the L2 penalty on the new head
    attention: bool = True  # weigh channels by how much the target needs them; False: equally
    attention_batches: int = 4  # batches that measure the loss without a filter
    num_stages: int = 4  # number of last stages with a penalty

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        ranges = {
            "alpha": (0, inf),
            "beta": (0, inf),
            "attention_batches": (1, inf),
            "num_stages": (1, inf),
        }
        check_ranges(self, ranges)
        return self


class DELTA(Method[Config]):
    """A penalty on changes of feature maps; larger for channels that the target needs."""

    title = "DELTA"
    paper = "arXiv 1901.09229"
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.seed = config, problem.seed
        self.old = problem.network().requires_grad_(False).eval()
        self.net = problem.network()
        self.recipe = problem.recipe
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = replace(self.recipe, weight_decay=0.0).make_optimizer(self.net)
        for net in (self.old, self.net):
            net.__dict__["_run"] = net.encoder  # not compiled: hooks read the maps
        self.layers, self.widths = tapped(self.old, problem, config.num_stages)
        if not self.layers:
            raise InputError(f"method=delta: {NO_MAPS}; expected a convolutional backbone, as resnet18")
        self.judge = copy.deepcopy(self.old.target_head).requires_grad_()  # measures attention
        self.num_weighed = torch.zeros((), dtype=torch.long)  # layers
        self.attention_Z = torch.cat([torch.full((w,), 1 / w, device=problem.device) for w in self.widths])

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a backbone without stages of convolutions."""
        net = problem.network(pretrained=False).eval()
        layers, _ = tapped(net, problem, 1)
        return "" if layers else NO_MAPS

    def prepare(self) -> None:
        """Compute the weights of the filters: how much the loss of a separate head grows without each.

        Resumes at the layer of a saved state.
        """
        if not self.config.attention:
            return
        if self.num_weighed == 0:
            self.fit_judge()
        seed = derive_seed(self.seed, "attention")
        stream = self.target.split.stream(self.recipe.batch_size, seed, mixed=False)
        batches = [next(stream) for _ in range(self.config.attention_batches)]
        parts_C = self.attention_Z.split(self.widths)
        for layer, part_C in list(zip(self.layers, parts_C, strict=True))[int(self.num_weighed) :]:
            losses = [losses_without(self.old, self.judge, layer, x, y) for x, y in batches]
            part_C.copy_(attention_of(torch.stack(losses).mean(0)))
            self.num_weighed += 1
            may_save()

    def fit_judge(self) -> None:
        """Train a target head on the frozen encoder."""
        optimizer = self.recipe.make_optimizer(self.judge)
        size, num_images = self.recipe.batch_size, len(self.target.split)
        stream = self.target.split.stream(size, derive_seed(self.seed, "attention head"), mixed=False)
        for t in range(ceil(HEAD_EPOCHS * num_images / size)):
            epoch = t * size // num_images
            rate = HEAD_LR * 0.1 ** (epoch / EPOCHS_TO_A_TENTH)
            train_step(lambda x: self.judge(self.old.features(x)).float(), stream, optimizer, rate)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch, with the penalty on changes of its maps."""
        with timed("data"):
            x, y = next(self.target)
        with timed("source"), torch.no_grad():
            _, old_maps = features_and_maps(self.old, self.layers, x)
        with timed("target"):
            feature_BF, maps = features_and_maps(self.net, self.layers, x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            change = map_change(maps, old_maps, self.attention_Z.split(self.widths))
            size = torch.stack([p.square().sum() for p in self.net.target_head.parameters()]).sum()
            penalty = self.config.alpha * change + self.config.beta * size / 2
            (loss + penalty).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach(), "penalty": penalty.detach()}

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the pre-trained network's pass too."""
        return recipe.batch_size, recipe.batch_size


def tapped(net: Network, problem: Problem, num_stages: int) -> tuple[list[str], list[int]]:
    """Return the names and numbers of channels of the layers with a penalty, found with one image."""
    x, _ = next(problem.target.batches(1))
    layers = layers_of_stages(net, x, num_stages)
    with torch.no_grad():
        _, maps = features_and_maps(net, layers, x)
    return layers, [m.shape[1] for m in maps]


def map_change(maps: list[Tensor], old_maps: list[Tensor], attention: tuple[Tensor, ...]) -> Tensor:
    """Return half the weighted squared change [] of maps [B,C,h,w], summed over layers and 64 images."""
    changes = []
    for new, old, weight_C in zip(maps, old_maps, attention, strict=True):
        of_layer_BC = (new - old).square().mean((2, 3))  # the sum over places, divided by their number
        changes.append(len(weight_C) * of_layer_BC @ weight_C)
    return SUMMED_IMAGES * torch.stack(changes).sum(0).mean() / 2
