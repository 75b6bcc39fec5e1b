"""DVRL: joint training on source images that an estimator selects; it learns from rewards.

Use when: single source images, not classes, are mislabeled or useless. Compare it with `reweight`.
Source: Yoon, Arik, Pfister: Data Valuation using Reinforcement Learning (arXiv 1909.11671), section 3,
equations 2 to 6, algorithm 1; constants from its released code (google-research, `dvrl/`).

Departs from: (1) one network trains on the target and on the selected source images, and one step of it
replaces an inner training from the start; (2) the estimator's input is the source head's probabilities and
the label, because no model of the holdout knows source labels; (3) the estimator's learning rate depends on
the number of steps (`estimator_lr`); (4) the estimator has two hidden layers of 100 units, and the difference
of probabilities and label at its input; the released code has layers of 100, 100, 100, and 10 units, joins
the difference after them, and ends in layers of 10 and 1; (5) a selection without images gives no source
loss; the released code then selects each with probability 0.5. The baseline is the paper's moving average;
the released code uses the score of a model trained on all images.

Shape letters: B images of a batch, S source classes.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.base import derive_seed
from ..datasets.device import moved
from .base import Method, Metrics, Problem, check_ranges, classed_source, judging_stream, timed, update
from .metrics import SCORES, classification_loss, of_scored
from .recipe import Recipe

PENALTY, LOW, HIGH = 1e3, 0.1, 0.9  # penalty outside of this range of the mean probability
WINDOW = 20  # number of rewards in the moving average


@dataclass
class Config:
    """Settings of DVRL."""

    estimator_lr: float = 0.0  # Adam's learning rate of the estimator; 0: 2 / steps
    hidden: int = 100  # units of each of the estimator's two hidden layers
    scale: float = 1.0  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"estimator_lr": (0, inf), "hidden": (1, inf), "scale": (0, inf)})
        return self


class DVRL(Method[Config]):
    """Source images sampled by an estimator of their value, which is trained on holdout scores."""

    title = "DVRL"
    paper = "arXiv 1909.11671"
    kind = "source selection"
    needs_source = True
    learns_controls = True

    def __init__(self, problem: Problem, config: Config) -> None:
        source = classed_source(problem)
        self.config, self.recipe, self.seed = config, problem.recipe, problem.seed
        size, device = self.recipe.batch_size, problem.device
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.target = problem.target.stream(size, problem.seed)
        self.source = source.stream(self.recipe.source_size, problem.seed)
        self.estimator = estimator(source.num_classes, config.hidden).to(device)
        self.estimator_optimizer = torch.optim.Adam(
            self.estimator.parameters(), lr=config.estimator_lr or 2 / self.recipe.steps
        )
        self.baseline = torch.zeros((), device=device)
        self.is_rewarded = torch.zeros((), dtype=torch.bool, device=device)  # whether there is a baseline
        self.total_S, self.count_S = torch.zeros(2, source.num_classes, device=device)
        self.score, self.scored = problem.score, problem.target.scored_labels
        self.replays = problem.controls is not None
        if problem.controls is not None:
            self.estimator.load_state_dict(problem.controls)
        else:
            self.holdout = judging_stream(problem, size)

    def step(self, t: int) -> Metrics:
        """Train on target and sampled source images, then update the estimator by the holdout's score."""
        with timed("data"):
            (x_T, y_T), (x_S, y_S) = next(self.target), next(self.source)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x_T), y_T, weight_C=self.target.weight_C)
            target_loss.backward()
        with timed("source"):
            logits = self.net.source(x_S)
            chance_B = self.estimator(seen(logits.detach(), y_S))[:, 0].sigmoid()
            weight_B = chance_B.detach() if self.replays else self.taken(chance_B, t)
            loss_B = classification_loss(logits, y_S, reduction="none")
            source_loss = self.config.scale * (weight_B * loss_B).mean()
            source_loss.backward()
            update(self.optimizer, self.recipe.lr_at(t))
        self.total_S.index_add_(0, y_S, chance_B.detach())
        self.count_S.index_add_(0, y_S, torch.ones_like(weight_B))
        metrics = {"loss": target_loss.detach(), "source_loss": source_loss.detach()}
        if self.replays:
            return metrics
        reward = self.reward()
        with timed("policy"):
            value_loss(chance_B, weight_B, self.advantage(reward)).backward()
            update(self.estimator_optimizer, self.estimator_optimizer.param_groups[0]["lr"])
        return {**metrics, "reward": reward, "chance": chance_B.detach().mean()}

    def taken(self, chance_B: Tensor, t: int) -> Tensor:
        """Sample the selection of images, 0 or 1 [B]; a function of the probabilities, the seed and t."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "taken", t))
        u_B = moved(torch.rand(len(chance_B), generator=generator), chance_B.device)
        return (u_B < chance_B).float()

    def reward(self) -> Tensor:
        """Return the score [] of the updated network on the next holdout batch."""
        with timed("data"):
            x, y = next(self.holdout)
        with timed("reward"), torch.no_grad():
            self.net.eval()
            logits = self.net.target(x)
            self.net.train()
        return SCORES[self.score](*of_scored(logits, y, self.scored))

    def advantage(self, reward: Tensor) -> Tensor:
        """Return the reward minus the moving average of earlier ones, and update it; zero for the first."""
        before = self.baseline.where(self.is_rewarded, reward)
        self.baseline = before + (reward - before) / WINDOW
        self.is_rewarded = torch.ones_like(self.is_rewarded)
        return reward - before

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: source and target are trained on, the holdout gives the reward."""
        return recipe.batch_size + recipe.source_size, recipe.batch_size

    def class_weights(self) -> Tensor | None:
        """Return the mean probability of each class's images so far [S]; zero for a class without images."""
        return self.total_S / self.count_S.clamp(min=1)

    def controls(self) -> dict[str, Tensor]:
        """Return the estimator's weights, which a second stage replays."""
        return {name: value.detach().cpu() for name, value in self.estimator.state_dict().items()}


def estimator(num_source: int, hidden: int) -> nn.Sequential:
    """Build the network from inputs [B,3S] to the logit of the selection probability [B,1]."""
    layers = [nn.Linear(3 * num_source, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def seen(logits: Tensor, y: Tensor) -> Tensor:
    """Return the estimator's input [B,3S]: probabilities, one-hot labels, and their absolute difference."""
    chance, label = logits.softmax(1), F.one_hot(y, logits.shape[1]).to(logits.dtype)
    return torch.cat((chance, label, (label - chance).abs()), dim=1)


def value_loss(chance_B: Tensor, taken_B: Tensor, advantage: Tensor) -> Tensor:
    """Return the estimator's loss []: REINFORCE, and a penalty on mean probabilities near 0 or 1."""
    log_prob = -F.binary_cross_entropy(chance_B, taken_B, reduction="sum")
    mean = chance_B.mean()
    return -advantage * log_prob + PENALTY * ((mean - HIGH).relu() + (LOW - mean).relu())
