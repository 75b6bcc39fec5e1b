"""ATL-style (our reconstruction): a linear head on chosen layers of a frozen encoder.

Use when: the target has few images per class, and training the encoder is too expensive.
Source: the idea is that of Lee, Kvinge, Howland, New, Buckheit, Phillips, Skomski, Hibler, Corley,
Hodas: Adaptive Transfer Learning: a simple but effective transfer learning (arXiv 2111.10937), whose
abstract says that a set of feature maps, of hidden layers too, is chosen for the student's classifier.
Departs from: everything else is ours, because no code, figure or full text was available. Layers are residual
or other blocks, and the encoder's features. Each is averaged over places and scaled to unit length. Forward
selection finds a set of layers: by the accuracy of nearest class means, or of logistic regression, in
cross-validation on central crops of the target's training images. The recipe trains the head on augmented
images; few-shot practice would fit it to convergence. The head's input has the mean length of the encoder's
features, so the same learning rates fit. Controls: the last features, all layers, a random layer. An upper
bound by a layer chosen on test images is not possible: a method does not see them.

Shape letters: N images, L layers, F features, T target classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, changes, check_ranges, train_step
from .components.class_relationship import logistic_regression, mean_answers
from .linear_probe import new_head
from .networks.predictor import Predictor
from .networks.taps import Taps, unit_vectors
from .recipe import Recipe

NUM_FOLDS = 5
STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # C of the logistic regression

Judge = Callable[[tuple[int, ...]], float]  # the accuracy of a set of layers


class Which(StrEnum):
    """The layers that are input to the head."""

    chosen = auto()  # by cross-validation
    penultimate = auto()  # the encoder's features
    all = auto()
    random = auto()  # one layer


class Classifier(StrEnum):
    """The classifier in cross-validation."""

    centroid = auto()  # nearest class mean
    logistic = auto()  # logistic regression; slow: a fit for each strength, fold and set


@dataclass
class Config:
    """Settings of ATL."""

    taps: Which = Which.chosen  # layers that are input to the head
    classifier: Classifier = Classifier.centroid  # classifier in cross-validation
    max_taps: int = 4  # most layers that are chosen
    least_gain: float = 0.005  # least gain of accuracy for one more layer, 0 to 1

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"max_taps": (1, inf), "least_gain": (0, 1)})
        return self


class OnLayers(Predictor):
    """A head on chosen layers of the encoder."""

    chosen_L: Tensor
    length: Tensor

    def __init__(
        self,
        *parts: Any,
        taps: list[str],
        chosen_L: Tensor | None = None,
        length: Tensor | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(*parts, **rest)
        self.taps = Taps(self, taps)
        self.register_buffer("chosen_L", torch.zeros(len(taps) + 1) if chosen_L is None else chosen_L)
        self.register_buffer("length", torch.ones(()) if length is None else length)

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        return {**super().options(), "taps": self.taps.names}

    def inputs(self, x: Tensor) -> Tensor:
        """Return the input of the head [B,F] for images [B,3,H,W]."""
        return of_length(self.length, self.taps(x), self.chosen_L)


class ATL(Method[Config]):
    """A linear head on layers chosen by cross-validation on the target."""

    title = "ATL-style (our reconstruction)"
    paper = "arXiv 2111.10937"
    data_parallel = True
    trains_in_parts = True
    own_norms = True
    predictor_class = OnLayers

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.seed = config, problem.seed
        self.recipe = problem.recipe
        self.net = problem.network().requires_grad_(False).eval()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        x, _ = next(problem.target.batches(2))
        self.taps = Taps.found(self.net, x)
        widths = self.taps.widths(x)
        self.head = new_head(sum(widths), problem)
        self.optimizer = self.recipe.make_optimizer(self.head)
        self.chosen_L = torch.zeros(len(widths), device=problem.device)
        self.length = torch.ones((), device=problem.device)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a target without classes."""
        several = "it chooses layers by class, and target images have several labels"
        return several if problem.target.multi_label else ""

    def prepare(self) -> None:
        """Choose the layers on central crops of the target's images."""
        split = self.target.split
        by_batch = [self.taps(x) for x, _ in split.batches(self.recipe.batch_size)]
        vectors = [torch.cat(parts) for parts in zip(*by_batch, strict=True)]
        self.length.copy_(vectors[-1].norm(dim=1).mean())
        self.chosen_L[list(self.choice([F.normalize(v) for v in vectors], split.labels))] = 1

    def choice(self, vectors: list[Tensor], y: Tensor) -> tuple[int, ...]:
        """Return the chosen layers, given the unit vectors [N,F] of each and the labels y [N]."""
        config, num_taps = self.config, len(vectors)
        if config.taps is Which.penultimate:
            return (num_taps - 1,)
        if config.taps is Which.all:
            return tuple(range(num_taps))
        if config.taps is Which.random:
            return (derive_seed(self.seed, "tap") % num_taps,)
        judge_of = centroid_judge if config.classifier is Classifier.centroid else logistic_judge
        judge = judge_of(vectors, y, folds(y, self.seed), self.head.out_features)
        return forward_selection(judge, num_taps, config.max_taps, config.least_gain)

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] from the chosen layers."""
        return self.head(of_length(self.length, self.taps(x), self.chosen_L))

    def predictor(self) -> Predictor:
        """Return the encoder with the head on the chosen layers."""
        own = {"taps": self.taps.names, "chosen_L": self.chosen_L, "length": self.length}
        return self.predictor_with(self.head, **own)

    def step(self, t: int) -> Metrics:
        """Train the head on the next target batch."""
        metrics = train_step(self.predict, self.target, self.optimizer, self.recipe.lr_at(t))
        return {**metrics, "num_taps": self.chosen_L.sum()}

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count all images as judged: the encoder is frozen."""
        return 0, recipe.batch_size

    @classmethod
    def label(cls, config: Config) -> str:
        """Return the row's name, with the layers if they are a control."""
        named = {
            Which.penultimate: ", last features",
            Which.all: ", all layers",
            Which.random: ", a random layer",
        }
        return cls.title + named.get(config.taps, "") + changes(config, Config(), named=("taps",))


def of_length(length: Tensor, vectors: list[Tensor], chosen_L: Tensor) -> Tensor:
    """Return the vectors [B,·] of the chosen layers, each of unit length, concatenated and of one length."""
    return length * F.normalize(unit_vectors(vectors, chosen_L.split(1)))


def folds(y: Tensor, seed: int) -> Tensor:
    """Return a fold for each image [N]: five, balanced by class; one an image if no class has five images."""
    if torch.bincount(y).max() < NUM_FOLDS:
        return torch.arange(len(y), device=y.device)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive_seed(seed, "folds")))
    order = order.to(y.device)
    order = order[torch.argsort(y[order], stable=True)]
    fold_N = torch.empty_like(order)
    fold_N[order] = torch.arange(len(y), device=y.device) % NUM_FOLDS
    return fold_N


def centroid_judge(vectors: list[Tensor], y: Tensor, fold_N: Tensor, num_classes: int) -> Judge:
    """Return a function from a set of layers to the accuracy of the nearest class mean of the other folds.

    The squared distance of concatenated vectors is the sum of theirs, so it is computed once a layer.
    """
    distance_LNT = torch.stack([held_out_distances(v, y, fold_N, num_classes) for v in vectors])
    return lambda taps: accuracy(-distance_LNT[list(taps)].sum(0), y)


def held_out_distances(vector_NF: Tensor, y: Tensor, fold_N: Tensor, num_classes: int) -> Tensor:
    """Return squared distances [N,T] from the class means of the other folds; infinite without images."""
    distance_NT = vector_NF.new_full((len(y), num_classes), torch.inf, dtype=torch.double)
    for fold in fold_N.unique().tolist():
        held = fold_N == fold
        rest = y[~held]
        mean_TF = mean_answers(vector_NF[~held].double(), rest, num_classes)
        distance = torch.cdist(vector_NF[held].double(), mean_TF).square()
        absent = torch.bincount(rest, minlength=num_classes) == 0
        distance_NT[held] = distance.masked_fill(absent, torch.inf)
    return distance_NT


def logistic_judge(vectors: list[Tensor], y: Tensor, fold_N: Tensor, num_classes: int) -> Judge:
    """Return a function from a set of layers to the accuracy of logistic regression at its best strength."""

    def judge(taps: tuple[int, ...]) -> float:
        vector_NF = torch.cat([vectors[tap] for tap in taps], dim=1).double()
        logits_CNT = vector_NF.new_zeros(len(STRENGTHS), len(y), num_classes)
        for fold in fold_N.unique().tolist():
            held = fold_N == fold
            weight_TF = vector_NF.new_zeros(num_classes, vector_NF.shape[1])
            for c, strength in enumerate(STRENGTHS):
                weight_TF = logistic_regression(vector_NF[~held], y[~held], strength, weight_TF)
                logits_CNT[c, held] = vector_NF[held] @ weight_TF.T
        return max(accuracy(logits_NT, y) for logits_NT in logits_CNT)

    return judge


def accuracy(score_NT: Tensor, y: Tensor) -> float:
    """Return the share of images whose highest score [N,T] is that of their label."""
    return (score_NT.argmax(1) == y).double().mean().item()


def forward_selection(judge: Judge, num_taps: int, max_taps: int, least_gain: float) -> tuple[int, ...]:
    """Return layers: the best one, then the one with the largest gain, until the gain is too small.

    Of equal layers the deeper one is taken.
    """
    chosen: tuple[int, ...] = ()
    best = -torch.inf
    while len(chosen) < min(max_taps, num_taps):
        scores = {tap: judge((*chosen, tap)) for tap in range(num_taps) if tap not in chosen}
        tap = max(scores, key=lambda tap: (scores[tap], tap))
        if scores[tap] <= best or scores[tap] - best < least_gain:
            break
        chosen, best = (*chosen, tap), scores[tap]
    return chosen
