"""Selective joint fine-tuning: joint training with source images of similar low-level features.

Use when: single source images resemble target images in color and texture.
Source: Ge, Yu: Borrowing Treasures from the Wealthy: Deep Transfer Learning through Selective Joint
Fine-Tuning (arXiv 1702.08690), sections 3.1 to 3.3.

Departs from: (1) an image is described by the mean and deviation of each channel of the encoder's first two
stages, compared by the cosine, where the paper has histograms of AlexNet's or Gabor filters' responses and a
divergence; (2) rounds divide the recipe's steps evenly, and a target image that is still misclassified gets
as many neighbors again, where the paper also uses the network's confidence.

Shape letters: T target images, K neighbors, F numbers that describe an image, B images of a batch.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.base import Split
from .base import Method, Metrics, Problem, check_ranges, classed_source
from .components.joint import Chosen, joint_step
from .networks.network import Network
from .recipe import Recipe


@dataclass
class Config:
    """Settings of selective joint fine-tuning."""

    num_neighbors: int = 10  # source images of each target image; hard images get as many more a round
    num_rounds: int = 3  # rounds of the selection, evenly over the steps
    scale: float = 1.0  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"num_neighbors": (1, inf), "num_rounds": (1, inf), "scale": (0, inf)})
        return self


class SelectiveJoint(Method[Config]):
    """Source images nearest to the target's, more of them for hard target images."""

    title = "Selective joint fine-tuning"
    paper = "arXiv 1702.08690"
    data_parallel = True
    kind = "source selection"
    needs_source = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        source = classed_source(problem)
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        size, num_target = self.recipe.batch_size, len(problem.target)
        self.target = problem.target.stream(size, problem.seed)
        self.source = Chosen(source, self.recipe.source_size, problem.seed)
        most = min(config.num_neighbors * config.num_rounds, len(source))
        self.neighbors_TK = torch.zeros(num_target, most, dtype=torch.long)
        self.taken_T = torch.full((num_target,), config.num_neighbors)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a target without classes."""
        return "it needs classes, and target images have several labels" if problem.target.multi_label else ""

    def prepare(self) -> None:
        """Find the neighbors of each target image, and select the nearest."""
        most = self.neighbors_TK.shape[1]
        found = nearest(self.net, self.target.split, self.source.whole, most, self.recipe.batch_size)
        self.neighbors_TK.copy_(found)
        self.take()

    def take(self) -> None:
        """Select the union of the target images' neighbors."""
        is_taken_TK = torch.arange(self.neighbors_TK.shape[1]) < self.taken_T[:, None]
        self.source.choose(self.neighbors_TK[is_taken_TK].unique())

    def step(self, t: int) -> Metrics:
        """Train on the next batches; at the start of a round add neighbors of hard images."""
        starts = {r * self.recipe.steps // self.config.num_rounds for r in range(1, self.config.num_rounds)}
        if t in starts:
            self.taken_T += self.config.num_neighbors * self.misclassified()
            self.take()
        weigh = lambda loss_B, y: self.config.scale * loss_B.mean()  # noqa: E731
        rate = self.recipe.lr_at(t)
        metrics = joint_step(self.net, self.target, self.source, self.optimizer, rate, weigh)
        return {**metrics, "num_chosen": torch.full_like(metrics["loss"], len(self.source.rows))}

    def misclassified(self) -> Tensor:
        """Return which target images are misclassified [T]."""
        self.net.eval()
        with torch.no_grad():
            batches = self.target.split.batches(self.recipe.batch_size)
            wrong = [(self.net.target(x).argmax(1) != y).cpu() for x, y in batches]
        self.net.train()
        return torch.cat(wrong)

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: both batches are trained on."""
        return recipe.batch_size + recipe.source_size, 0

    def class_weights(self) -> Tensor | None:
        """Return the share of each source class's images that is selected [S]."""
        labels, num_classes = self.source.whole.labels.cpu(), self.source.whole.num_classes
        taken, there = (torch.bincount(y, minlength=num_classes) for y in (labels[self.source.rows], labels))
        return taken / there.clamp(min=1)


def nearest(net: Network, target: Split, source: Split, num: int, batch_size: int) -> Tensor:
    """Return the rows of the source images nearest to each target image, in order [T,K]."""
    was_training = net.training
    net.eval()
    with torch.no_grad():
        look_TF = torch.cat([described(net, x) for x, _ in target.batches(batch_size)])
        mean_F, deviation_F = look_TF.mean(0), look_TF.std(0, correction=0).clamp(min=1e-6)
        look_TF = F.normalize((look_TF - mean_F) / deviation_F)
        best_TK = look_TF.new_zeros(len(target), 0)
        rows_TK = torch.zeros(len(target), 0, dtype=torch.long, device=look_TF.device)
        start = 0
        for x, _ in source.batches(batch_size):
            look_BF = F.normalize((described(net, x) - mean_F) / deviation_F)
            rows = torch.arange(start, start + len(x), device=look_TF.device).expand(len(target), -1)
            scores, all_rows = torch.cat((best_TK, look_TF @ look_BF.T), 1), torch.cat((rows_TK, rows), 1)
            best_TK, order = scores.topk(min(num, scores.shape[1]), dim=1)
            rows_TK = all_rows.gather(1, order)
            start += len(x)
    net.train(was_training)
    return rows_TK.cpu()


def described(net: Network, x: Tensor) -> Tensor:
    """Return mean and standard deviation of each channel of the first two stages [B,F]."""
    maps = [m.float() for m in net.stages(x)[:2]]
    return torch.cat([part for m in maps for part in (m.mean((2, 3)), m.std((2, 3), correction=0))], dim=1)
