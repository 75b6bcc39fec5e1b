"""Co-Tuning: fine-tuning that also trains the source head, on target labels translated to source classes.

Use when: the source head is available, and source and target classes are related.
Source: You, Kou, Long, Wang: Co-Tuning for Transfer Learning (NeurIPS 2020), both ways to learn the
category relationship; constants as in the released code (`thuml/CoTuning`).
Departs from: (1) the reverse relationship is chosen and calibrated on the holdout, or on half of the target's
images if the holdout is trained on; (2) the relationship is learned from central crops, and its logistic
regressions by our own L-BFGS, for two classes too; (3) the temperature of the source classifier is a setting;
(4) encoder and heads share one learning rate.

Shape letters: N images, B images of a batch, F features, S source classes, T target classes.
"""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.base import Stream
from .base import Method, Metrics, Problem, check_ranges, classed_source, timed, update
from .components.class_relationship import mean_answers, reverse_relation
from .lwf import no_source_classes
from .metrics import classification_loss


class Relation(StrEnum):
    """The way to learn p(source class | target class)."""

    reverse = auto()  # by Bayes' rule from a calibrated p(target class | source class)
    direct = auto()  # the mean probabilities of the source classifier


@dataclass
class Config:
    """Settings of Co-Tuning."""

    # Weight of the source head's loss
    weight: float = field(default=2.3, metadata={"tuned": (0.1, 10.0)})
    relation: Relation = Relation.reverse  # way to learn the relationship of classes
    source_scale: float = 1.0  # factor of the source logits, calibration; torchvision's ResNet-50: 0.884

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"weight": (0, inf), "source_scale": (1e-3, inf)})
        return self


class CoTuning(Method[Config]):
    """Supervision of both heads: by target labels, and by their translation to source classes."""

    title = "Co-Tuning"
    paper = "NeurIPS 2020"
    data_parallel = True
    kind = "regularizer"
    takes_soft_labels = False

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        self.net = problem.network()
        self.seed, size = problem.seed, self.recipe.batch_size
        self.target = problem.target.stream(size, self.seed)
        self.holdout = problem.holdout.stream(size, self.seed) if problem.holdout else None
        self.optimizer = self.recipe.make_optimizer(self.net)
        shape = (problem.target.num_classes, classed_source(problem).num_classes)
        self.relation_TS = torch.zeros(shape, device=problem.device)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a source or a target without classes."""
        several = "it needs classes, and target images have several labels"
        return no_source_classes(problem) or (several if problem.target.multi_label else "")

    def prepare(self) -> None:
        """Learn the relationship of target and source classes from the pre-trained network."""
        num_target = len(self.relation_TS)
        if self.config.relation is Relation.direct:
            split = self.target.split
            relation_TS = mean_answers(self._answers(self.target), split.labels, num_target)
        else:
            (p_NS, y), (judged_NS, judged_y) = [
                (self._answers(stream), stream.split.labels) for stream in self._fitted_and_judged()
            ]
            relation_TS = reverse_relation(p_NS, y, judged_NS, judged_y, num_target)
        self.relation_TS.copy_(relation_TS)

    def _fitted_and_judged(self) -> tuple[Stream, Stream]:
        """Return training and holdout images, or two halves of the training images."""
        if self.holdout is not None:
            return self.target, self.holdout
        first, second = self.target.split.halves(self.seed)
        size = self.recipe.batch_size
        return first.stream(size, self.seed), second.stream(size, self.seed)

    def _answers(self, stream: Stream) -> Tensor:
        """Return the source classifier's probabilities [N,S] for all images of a stream, in float64."""
        self.net.eval()
        with torch.no_grad():
            batches = stream.whole(self.recipe.batch_size)
            logits_NS = torch.cat([self.net.source(x) for x, _ in batches]).double()
        self.net.train()
        return (self.config.source_scale * logits_NS).softmax(1)

    def step(self, t: int) -> Metrics:
        """Train the target head on the labels of the next batch, and the source head on their translation."""
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            feature_BF = self.net.features(x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            source_BS = self.net.source_head(feature_BF).float()
            source_loss = F.cross_entropy(source_BS, self.relation_TS[y])
            (loss + self.config.weight * source_loss).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach(), "source_loss": source_loss.detach()}
