"""Head2Toe: a linear head on selected features of all layers of a frozen encoder.

Use when: the encoder has to stay frozen, and the target differs from the source.
Source: Evci, Dumoulin, Larochelle, Mozer: Head2Toe: Utilizing Intermediate Representations for Better
Transfer Learning (arXiv 2201.03529); `kept_share` and `penalty` are the released code's defaults
(`google-research/head2toe`), and as there the vectors are of unit length over the features in use.
Departs from: (1) both heads share the steps of one run (`selection_share`), on augmented images, where the
paper caches the features of plain ones; its Adam (`optimizer`) takes rate and schedule from the recipe, once
for each head; (2) `kept_share`, `penalty` and `target_size` are settings, where the paper chooses them on
validation images of each data set; (3) layers are the inputs of convolutions and linear layers and the
outputs of blocks, for any backbone; (4) the first head starts as any new head of
the suite (`recipe.head_init_std`), the second from zero; (5) Adam is torch's; the released code's is
`optimizer=adam_keras`, whose epsilon is 1e-7 and added earlier. No weight decay. Not followed: in
the code's grouping by layers the penalty lacks its coefficient, and its batches come in the same order in
each epoch.

Shape letters: B images, F features of all layers.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from .base import Method, Metrics, Problem, check_ranges, timed, train_step, training_restarts
from .linear_probe import new_head
from .networks.predictor import Predictor
from .networks.taps import Taps, unit_vectors
from .recipe import OptimizerName, Recipe


@dataclass
class Config:
    """Settings of Head2Toe."""

    kept_share: float = 0.1  # share of the features that is kept, 0 to 1
    penalty: float = 1e-4  # weight of the group lasso
    target_size: int = 512  # features of a layer after pooling, about; 0: one a channel
    selection_share: float = 0.5  # share of the steps for the selection, 0 to 1; 0: random features
    optimizer: OptimizerName = OptimizerName.adam  # optimizer of both heads, with the recipe's learning rate

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        shares = {"kept_share": (0, 1), "selection_share": (0, 1)}
        check_ranges(self, {**shares, "penalty": (0, inf), "target_size": (0, inf)})
        return self


class OnFeatures(Predictor):
    """A head on selected features of all layers, and on the source logits where there are some."""

    kept_F: Tensor

    def __init__(
        self,
        *parts: Any,
        taps: list[str],
        target_size: int,
        widths: list[int],
        source_head: nn.Module | None = None,
        kept_F: Tensor | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(*parts, **rest)
        self.taps, self.widths = Taps(self, taps, target_size), widths
        if source_head is None:  # to be loaded; the encoder's features come before the source logits
            has_source = len(widths) == len(taps) + 2
            source_head = nn.Linear(widths[-2], widths[-1]) if has_source else nn.Identity()
        self.source_head = source_head
        self.register_buffer("kept_F", torch.ones(sum(widths)) if kept_F is None else kept_F)

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        own = {"taps": self.taps.names, "target_size": self.taps.target_size, "widths": self.widths}
        return {**super().options(), **own}

    def inputs(self, x: Tensor) -> Tensor:
        """Return the input of the head [B,F] for images [B,3,H,W]."""
        vectors = with_logits(self.taps(x), self.source_head)
        return unit_vectors(vectors, self.kept_F.split(self.widths))


class Head2Toe(Method[Config]):
    """Features selected by a group lasso, and a new linear head on them."""

    title = "Head2Toe"
    paper = "arXiv 2201.03529"
    data_parallel = True
    trains_in_parts = True
    own_norms = True
    predictor_class = OnFeatures

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        recipe = replace(problem.recipe, optimizer=config.optimizer, weight_decay=0.0)
        self.num_selection_steps = round(config.selection_share * recipe.steps)
        self.selection_recipe = recipe.shortened(self.num_selection_steps)
        self.recipe = recipe.shortened(recipe.steps - self.num_selection_steps)
        self.net = problem.network().requires_grad_(False).eval()
        self.target = problem.target.stream(recipe.batch_size, problem.seed)
        x, _ = next(problem.target.batches(2))
        self.taps = Taps.found(self.net, x, all_layers=True, target_size=config.target_size)
        self.widths = [vector.shape[1] for vector in self.vectors(x)]
        self.kept_F = torch.ones(sum(self.widths), device=problem.device)
        self.head = new_head(len(self.kept_F), problem)
        self.selection_optimizer = self.selection_recipe.make_optimizer(self.head)
        self.optimizer = self.recipe.make_optimizer(self.head)

    def vectors(self, x: Tensor) -> list[Tensor]:
        """Return the vectors [B,F] of all layers for images [B,3,H,W], and the source logits."""
        return with_logits(self.taps(x), self.net.source_head)

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] from all features, or from the selected ones after the selection."""
        return self.head(unit_vectors(self.vectors(x), self.kept_F.split(self.widths)))

    def predictor(self) -> Predictor:
        """Return the encoder with the head on the selected features."""
        own = {"taps": self.taps.names, "target_size": self.taps.target_size, "widths": self.widths}
        return self.predictor_with(self.head, **own, source_head=self.net.source_head, kept_F=self.kept_F)

    def step(self, t: int) -> Metrics:
        """Train the head on the next target batch; before the selection with the group lasso."""
        if t < self.num_selection_steps:
            with timed("target"):
                penalty = self.config.penalty * group_norms(self.head.weight).sum()
                penalty.backward()
            rate = self.selection_recipe.lr_at(t)
            return train_step(self.predict, self.target, self.selection_optimizer, rate)
        if t == self.num_selection_steps:
            self.select()
        rate = self.recipe.lr_at(t - self.num_selection_steps)
        return train_step(self.predict, self.target, self.optimizer, rate)

    @torch.no_grad()
    def select(self) -> None:
        """Keep the features whose weights have the largest norms, and reset the head to zero."""
        num_kept = max(1, int(self.config.kept_share * len(self.kept_F)))
        best = group_norms(self.head.weight).square().topk(num_kept).indices
        self.kept_F.zero_()[best] = 1
        self.head.weight.zero_()
        self.head.bias.zero_()
        training_restarts()

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count all images as judged: the encoder is frozen."""
        return 0, recipe.batch_size


@torch.no_grad()
def with_logits(vectors: list[Tensor], source_head: nn.Module) -> list[Tensor]:
    """Return the vectors [B,F] of all layers, and the source logits of the last one if there is a head."""
    return [*vectors, *[source_head(vectors[-1]).float()] * isinstance(source_head, nn.Linear)]


def group_norms(weight_CF: Tensor) -> Tensor:
    """Return the norm of each feature's weights [F] over the classes."""
    return torch.linalg.vector_norm(weight_CF, dim=0)
