"""Bi-Tuning: fine-tuning with two contrastive losses, of a projection and of the classifier's weights.

Use when: the target has enough images per class for contrastive learning; a step costs a third more passes
than fine-tuning.
Source: Zhong, Wang, Kou, Wang, Long: Bi-tuning of Pre-trained Representations (arXiv 2011.06182), the two
contrastive losses; constants as in the Transfer-Learning-Library (`thuml`).
Departs from: (1) both losses see the queue as it was before the batch, where the library's loss of the
classifier already meets the batch's own keys in it; (2) encoder, projector and head share one learning rate;
(3) the queue starts random as in the library, and is not filled by a pass over the images.

Shape letters: B images, T target classes, K keys a class, F features, D dimensions of a key, W = F + 1.
"""

from dataclasses import dataclass, field
from math import inf, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss
from .networks.network import Network
from .recipe import Recipe


@dataclass
class Config:
    """Settings of Bi-Tuning."""

    # Weight of both contrastive losses
    weight: float = field(default=1.0, metadata={"tuned": (0.05, 5.0)})
    num_keys: int = 40  # K, stored keys of each class
    temperature: float = 0.07  # temperature of the contrastive softmax
    momentum: float = 0.999  # momentum of the key network's moving average, 0 to 1
    width: int = 128  # D, dimensions of the projection

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        ranges = {"weight": (0, inf), "num_keys": (1, inf), "temperature": (1e-3, inf)}
        check_ranges(self, {**ranges, "momentum": (0, 1), "width": (1, inf)})
        return self


class BiTuning(Method[Config]):
    """Contrastive losses between images of a class, on projected features and on the classifier's weights."""

    title = "Bi-Tuning"
    paper = "arXiv 2011.06182"
    kind = "regularizer"
    takes_soft_labels = False

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        self.recipe = problem.recipe
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.second = problem.target.stream(self.recipe.batch_size, derive_seed(problem.seed, "second view"))
        self.net, self.key_net = problem.network(), problem.network()
        head: Any = self.net.target_head
        num_classes, num_features = head.weight.shape
        self.projector = nn.Linear(num_features, config.width).to(problem.device)
        self.key_projector = nn.Linear(num_features, config.width).to(problem.device)
        self.key_projector.load_state_dict(self.projector.state_dict())
        self.optimizer = self.recipe.make_optimizer(nn.ModuleList((self.net, self.projector)))
        self.queue_z = _random_keys(num_classes, config.num_keys, config.width, problem.device)
        self.queue_h = _random_keys(num_classes, config.num_keys, num_features + 1, problem.device)
        self.place_T = torch.zeros(num_classes, dtype=torch.long, device=problem.device)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a target without classes."""
        return "it needs classes, and target images have several labels" if problem.target.multi_label else ""

    def step(self, t: int) -> Metrics:
        """Train on one view of the next target batch; the other view gives the keys."""
        with timed("data"):
            rows, y = self.target.draw()
            self.second.draw()  # keeps the two streams at the same step
            views = [stream.fetch(rows) for stream in (self.target, self.second)]
            query, second = (view.result()[0] for view in views)
        with timed("target"):
            self.follow()
            feature_BF, z_BD, h_BW = embed(self.net, self.projector, query)
            with torch.no_grad():
                _, key_z_BD, key_h_BW = embed(self.key_net, self.key_projector, second)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            contrast = self.contrast(z_BD, h_BW, key_z_BD, y)
            (loss + self.config.weight * contrast).backward()
            update(self.optimizer, self.recipe.lr_at(t))
            self.remember(key_z_BD, key_h_BW, y)
        return {"loss": loss.detach(), "contrast": contrast.detach()}

    def contrast(self, z_BD: Tensor, h_BW: Tensor, key_z_BD: Tensor, y: Tensor) -> Tensor:
        """Return the sum [] of both contrastive losses; the classifier's weights are constants."""
        head: Any = self.net.target_head
        temperature = self.config.temperature
        own_BW = F.normalize(torch.cat((head.weight, head.bias[:, None]), 1).detach())[y]
        others_BTK = torch.einsum("bd,tkd->btk", z_BD, self.queue_z)
        of_z = divergence((z_BD * key_z_BD).sum(1), others_BTK, y, temperature)
        others_BTK = torch.einsum("bw,tkw->btk", own_BW, self.queue_h)
        return of_z + divergence((h_BW * own_BW).sum(1), others_BTK, y, temperature)

    def follow(self) -> None:
        """Update the key network, a moving average of the trained one."""
        pairs = ((self.key_net, self.net), (self.key_projector, self.projector))
        with torch.no_grad():
            for keys, trained in pairs:
                for key, weight in zip(keys.parameters(), trained.parameters(), strict=True):
                    key.lerp_(weight, 1 - self.config.momentum)

    def remember(self, key_z_BD: Tensor, key_h_BW: Tensor, y: Tensor) -> None:
        """Replace the oldest keys of each class by those of a batch, at most by the last K."""
        num_classes, num_keys = self.queue_z.shape[:2]
        is_BT = F.one_hot(y, num_classes)
        earlier_B = (is_BT.cumsum(0) - 1).gather(1, y[:, None])[:, 0]  # images of its class before it
        slot_B = (self.place_T[y] + earlier_B) % num_keys
        number_B = torch.arange(len(y), device=y.device)
        last = torch.full(
            (num_classes * num_keys,), -1, device=y.device
        )  # image of each slot, of several the last
        last_TK = last.scatter_reduce(0, y * num_keys + slot_B, number_B, "amax").view(num_classes, num_keys)
        is_new_TK1 = (last_TK >= 0)[:, :, None]
        for queue, key in ((self.queue_z, key_z_BD), (self.queue_h, key_h_BW)):
            queue.copy_(torch.where(is_new_TK1, key[last_TK.clamp(min=0)], queue))
        self.place_T.copy_((self.place_T + is_BT.sum(0)) % num_keys)

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the second view as judged."""
        return recipe.batch_size, recipe.batch_size


def embed(net: Network, projector: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [B,F], their projection [B,D], and features with a constant one [B,W], of length 1."""
    feature_BF = net.features(x)
    return feature_BF, F.normalize(projector(feature_BF)), F.normalize(F.pad(feature_BF, (0, 1), value=1.0))


def divergence(own_B: Tensor, others_BTK: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Return the mean divergence of the softmax over similarities from a uniform one over the same class.

    Args:
        own_B: similarity of each image and its positive pair, which counts as a key of its class.
        others_BTK: similarities with the stored keys.
        y: labels [B].
        temperature: temperature of the softmax.
    """
    logits = torch.cat((own_B[:, None], others_BTK.flatten(1)), 1) / temperature
    log_share = logits.log_softmax(1)
    same_BK = log_share[:, 1:].unflatten(1, others_BTK.shape[1:])[torch.arange(len(y), device=y.device), y]
    num_same = 1 + same_BK.shape[1]
    return -((log_share[:, 0] + same_BK.sum(1)) / num_same).mean() - log(num_same)


def _random_keys(num_classes: int, num_keys: int, width: int, device: torch.device) -> Tensor:
    return F.normalize(torch.randn(num_classes, num_keys, width), dim=2).to(device)
