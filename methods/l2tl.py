"""L2TL: joint training on source and target, with a policy that learns a weight for each source class.

Use when: you reproduce the paper, or the source has few classes. See docs/explanation/learned-weights.md.
Source: Zhu, Arik, Yang, Pfister: Learning to Transfer Learn (arXiv 1908.11406), section 4, algorithm 1 and
appendix A; the released code (google-research, `l2tl/`) as the presets `code_svhn` and `code_svhn_2019`.

Departs from: (1) the sums of equation 1 are divided by their batch sizes, so a learning rate means the same
as in fine-tuning; (2) the policy's learning rate depends on the number of steps (`policy_lr`); (3) ties
between candidates are broken at random (`ties`); (4) if all weights of a batch are zero, its source loss is
zero (the released code divides by zero); (5) the moving average of rewards is divided by the sum of its
weights (`baseline_debiased`), which is not in the paper, and whether it is updated before or after it is
subtracted is a reading of it. In the presets of the code, the policy's Adam is TensorFlow's (`tf_adam`); that
of svhn10 trains the network by `own_recipe`. Not implemented, from the first version of the released code,
which does not run: the background class, the average over replicas, and the restarted-cosine and convex
controls of the scale.

Shape letters: M candidates (`multiplier` x B_S), B a batch, B_S images of a source batch, S source classes.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import InputError
from ..datasets import distributed
from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, changes, classed_source, judging_stream, timed, update
from .l2tl_policy.candidates import select
from .l2tl_policy.reinforce import Actions, Policy
from .l2tl_policy.settings import (
    TITLES,
    Alpha,
    Credit,
    Normalizer,
    Preset,
    Reduction,
    Replay,
    Reward,
    Settings,
    Ties,
    Weights,
    policy_config,
)
from .metrics import SCORES, check_score, classification_loss, of_scored
from .networks.network import frozen_statistics, init_head
from .recipe import Recipe, Schedule


class L2TL(Method[Settings]):
    """Learns a weight for each source class, and the scale of the source loss."""

    title = "L2TL"
    paper = "arXiv 1908.11406"
    kind = "source selection"
    needs_source = True
    data_parallel = True
    learns_controls = True

    def __init__(self, problem: Problem, config: Settings) -> None:
        source = classed_source(problem)
        self.config = config
        self.recipe = recipe_of_2019(problem.recipe) if config.own_recipe else problem.recipe
        self.seed = problem.seed
        self.replays = problem.controls is not None
        self.net = problem.network()
        if config.own_recipe:
            head: Any = self.net.target_head
            init_head(head, self.recipe.head_init_std)
        self.optimizer = self.recipe.make_optimizer(self.net, config.decay_biases)
        batch_size = self.recipe.batch_size
        assert config.multiplier  # `resolved` has filled it
        self.source = source.stream(self.recipe.source_size * config.multiplier, problem.seed)
        self.target = problem.target.stream(batch_size, problem.seed)
        self.policy = Policy(
            source.num_classes, policy_config(config, self.recipe.steps), problem.seed, problem.device
        )
        self.walked = torch.ones((), device=problem.device)  # the scale of `alpha=walk`
        self.truth_S = torch.tensor(source.truth, device=problem.device)
        if config.weights is Weights.oracle and not source.truth:
            raise InputError(
                f"method.weights=oracle: what the classes of {source.name} are worth is not known; "
                "expected source=planted:KIND:SHARE:SOURCE:TARGET"
            )
        if problem.controls is not None:
            self.policy.freeze(problem.controls)
        else:
            assert config.reward_multiplier
            num_holdout = batch_size * config.reward_multiplier
            self.holdout = judging_stream(problem, num_holdout, config.reward_augmented)
        self.scored = problem.target.scored_labels
        self.score = problem.score if config.reward is Reward.score else str(config.reward)
        if config.reward not in (Reward.score, Reward.negative_loss):
            check_score("method.reward", self.score, problem.target.multi_label)

    def step(self, t: int) -> Metrics:
        """Take one iteration of algorithm 1."""
        # Sample class weights and the scale. Of M source images keep the B_S with the largest weights.
        with timed("policy"):
            weight_S, scale, actions = self.sample()
            rows, y_M = self.source.draw()  # labels only
            kept = select(weight_S[y_M], self.recipe.source_size, self._tie_seed(t))
            source_batch = self.source.fetch(rows, kept)  # starts decoding
        # Update the network by the gradient of target loss + scale x weighted source loss.
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x), y, weight_C=self.target.weight_C)
            target_loss.backward()
        with timed("data"):
            x, y_B = source_batch.result()
        with timed("source"):
            loss_B = classification_loss(self.net.source(x), y_B, reduction="none")
            source_loss = self.source_loss(loss_B, self.loss_weights(weight_S)[y_B])
            (self._scale_at(t, scale) * source_loss).backward()
        metrics = {"loss": target_loss.detach(), "source_loss": source_loss.detach(), "alpha": scale}
        if self.replays:
            self._update_network(t)
            return metrics
        # Update the policy by the reward of the updated network on the holdout.
        with timed("data"):
            x, y = next(self.holdout)
        before: Tensor | float = 0.0
        if self.config.credit is Credit.gain:
            with timed("reward"):
                before = self.reward(x, y)
        self._update_network(t)
        with timed("reward"):
            reward = self.reward(x, y) - before
        with timed("policy"):
            advantage = torch.zeros_like(reward)
            if t >= self.config.first_policy_step:
                log_prob = self.policy.log_prob(actions, self.judged_classes(y_B))
                advantage = self.policy.reinforce(log_prob, reward)
        return metrics | {"reward": reward, "advantage": advantage}

    def sample(self) -> tuple[Tensor, Tensor, Actions]:
        """Sample the class weights [S] and the scale [] of a step, and return the policy's actions too."""
        weight_S, scale, actions = self.policy.sample()
        if self.replays and self.config.replay is Replay.expected:
            weight_S, scale = self.policy.expected()
        if self.config.weights is Weights.uniform:
            weight_S = torch.ones_like(weight_S)
        elif self.config.weights is Weights.oracle:
            weight_S = self.truth_S
        if self.config.alpha is Alpha.walk:
            self.walked = (self.walked + scale).clamp(0, 1)
            scale = self.walked
        return weight_S, scale, actions

    def loss_weights(self, weight_S: Tensor) -> Tensor:
        """Return the class weights [S] of the loss, given those of the selection [S]."""
        return torch.ones_like(weight_S) if self.config.weights is Weights.uniform_code else weight_S

    def source_loss(self, loss_B: Tensor, weight_B: Tensor) -> Tensor:
        """Return the weighted loss [] of the selected images; zero if all weights are zero."""
        if self.config.normalizer is Normalizer.softmax:
            weight_B = weight_B.exp()
        num_weighted = distributed.mean((weight_B != 0).float().sum()).clamp(min=1e-8)
        if self.config.normalizer is not Normalizer.none:
            weight_B = len(weight_B) * weight_B / distributed.mean(weight_B.sum()).clamp(min=1e-8)
        divisor = num_weighted if self.config.reduction is Reduction.nonzero else len(weight_B)
        return (weight_B * loss_B).sum() / divisor

    def reward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the reward [] of the network on holdout images; running statistics do not change."""
        with torch.no_grad():
            if self.config.reward_train_mode:
                with frozen_statistics(self.net):
                    logits = self.net.target(x)
            else:
                self.net.eval()
                # On a CPU, batches of the training size fit the caches.
                size = self.recipe.batch_size if x.device.type == "cpu" else len(x)
                logits = torch.cat([self.net.target(x_B) for x_B in x.split(size)])
                self.net.train()
        logits, y = distributed.gather_batch(logits), distributed.gather_batch(y)
        if self.config.reward is Reward.negative_loss:
            return -classification_loss(logits, y)
        return SCORES[self.score](*of_scored(logits, y, self.scored))

    def judged_classes(self, y_B: Tensor) -> Tensor | None:
        """Return which classes [S] the reward is credited to (`credit`); None: all."""
        if self.config.credit is Credit.reward:
            return None
        present_S = torch.zeros(len(self.policy.weight_logits), dtype=torch.bool, device=y_B.device)
        return present_S.index_fill(0, distributed.gather_batch(y_B), True)

    def _update_network(self, t: int) -> None:
        with timed("source"):
            update(self.optimizer, self.recipe.lr_at(t))

    def _scale_at(self, t: int, scale: Tensor) -> Tensor | float:
        return scale if t >= self.config.first_policy_step else 0.0

    def _tie_seed(self, t: int) -> int | None:
        return derive_seed(self.seed, "ties", t) if self.config.ties is Ties.random else None

    @classmethod
    def images_per_step(cls, config: Settings, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: source and target are trained on, the holdout gives the reward."""
        assert config.reward_multiplier
        num_rewards = 2 if config.credit is Credit.gain else 1
        num_judged = num_rewards * config.reward_multiplier * recipe.batch_size
        return recipe.batch_size + recipe.source_size, num_judged

    @classmethod
    def label(cls, config: Settings) -> str:
        """Return the row's name: the ablation, the preset, and the settings that differ from the preset."""
        default = Settings(preset=config.preset).resolved()
        preset = "" if config.preset is Preset.paper else f", {config.preset}"
        return TITLES[config.weights] + preset + changes(config, default, named=("weights",))

    def class_weights(self) -> Tensor | None:
        """Return the mean of 10,000 samples of the policy [S] (section 5.1); None for uniform weights."""
        if self.config.weights is Weights.oracle:
            return self.truth_S
        return None if self.config.weights is Weights.uniform else self.policy.mean_weights()

    def controls(self) -> dict[str, Tensor]:
        """Return the policy's logits, which a second stage replays."""
        return self.policy.controls()


def recipe_of_2019(recipe: Recipe) -> Recipe:
    """Return a recipe with the rate, decay and head of L2TL in the code of 2019.

    Its fine-tuning, training from scratch and pre-training have others.
    """
    return replace(recipe, schedule=Schedule.constant, weight_decay=0.0, head_init_std=0.01)
