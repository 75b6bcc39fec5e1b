"""L2TL: joint training on source and target, where a policy learns which source classes count.

Source: Zhu, Arik, Yang, Pfister: Learning to Transfer Learn (arXiv 1908.11406), section 4,
algorithm 1 and appendix A; the released code (google-research, `l2tl/`) by two presets.

Departs from: (1) the sums of equation 1 are divided by their batch sizes, so that a learning
rate means the same as in fine-tuning; (2) the policy's rate follows the number of steps
(`policy_lr`); (3) ties among candidates are broken at random (`ties`); (4) a batch whose weights
are all zero has a source loss of zero (the released code divides by zero).
Not here: of the first, not runnable version of the code, the background class, the
average over replicas, and the restarted-cosine and convex controls of the scale.

Shape letters: M candidates (`multiplier` x B), B a batch, S source classes.
"""

from typing import Any

import torch
from torch import Tensor

from .. import InputError
from ..datasets import distributed
from ..datasets.base import Pending, derive_seed
from ..datasets.device import moved
from .base import Method, Metrics, Problem, changes, classed_source, judging_stream, timed, update
from .l2tl_policy.gradient_credit import GradientCredit
from .l2tl_policy.reinforce import Actions, Policy
from .l2tl_policy.settings import (
    TITLES,
    Action,
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
from .networks.network import frozen_statistics


class L2TL(Method):
    """Learns a weight for each source class, and the scale of the source loss."""

    title = "L2TL"
    paper = "arXiv 1908.11406"
    kind = "source selection"
    needs_source = True
    data_parallel = True
    learns_controls = True

    Config = Settings

    def __init__(self, problem: Problem, config: Any) -> None:
        source = classed_source(problem)
        self.config = config
        self.recipe = problem.recipe
        self.seed = problem.seed
        self.replays = problem.controls is not None
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net, config.decay_biases)
        size = self.recipe.batch_size
        self.source = source.stream(size * config.multiplier, problem.seed)
        self.target = problem.target.stream(size, problem.seed)
        self.policy = Policy(
            source.num_classes, policy_config(config, self.recipe.steps), problem.seed, problem.device
        )
        if config.credit is Credit.first_order:
            self.gradients = GradientCredit(problem, self.net, config)
        self.walked = torch.ones((), device=problem.device)
        self.truth_S = torch.tensor(source.truth, device=problem.device)
        if config.weights is Weights.oracle and not source.truth:
            raise InputError(
                f"method.weights=oracle: what the classes of {source.name} are worth is not known; "
                "expected source=planted:KIND:SHARE:SOURCE:TARGET"
            )
        if problem.controls is not None:
            self.policy.freeze(problem.controls)
        else:
            self.holdout = judging_stream(problem, size * config.reward_multiplier, config.reward_augmented)
        self.scored = problem.target.scored_labels
        self.score = problem.score if config.reward is Reward.score else str(config.reward)
        if config.reward not in (Reward.score, Reward.negative_loss):
            check_score("method.reward", self.score, problem.target.multi_label)

    def step(self, t: int) -> Metrics:
        """Algorithm 1: one joint update, then one reward and one update of the policy."""
        with timed("policy"):
            weight_S, scale, actions = self.sample()
            rows, y = self.source.draw()  # labels alone
            kept = select(weight_S[y], self.recipe.batch_size, self._tie_seed(t))
            images = self.source.fetch(rows, kept)  # decoding starts now
            others = self._explored(rows, y, kept)
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x), y)
            target_loss.backward()
        with timed("data"):
            x, y = images.result()
        with timed("source"):
            weight = torch.ones_like(weight_S) if self._code_uniform else weight_S
            feature_BF = self.net.source_features(x)
            loss_B = classification_loss(self.net.source_head(feature_BF).float(), y, reduction="none")
            source_loss = self.source_loss(loss_B, weight[y])
            (self._scale_at(t, scale) * source_loss).backward()
        metrics = {"loss": target_loss.detach(), "source_loss": source_loss.detach(), "alpha": scale}
        learns = not self.replays and t >= self.config.first_policy_step
        if self.replays:
            self._update(t)
        elif self.config.credit is Credit.first_order:
            metrics |= self.learn_by_gradients(t, (x, y, feature_BF.detach()), others, learns)
        else:
            metrics |= self.learn_by_reward(t, y, actions, learns)
        return metrics

    def learn_by_reward(self, t: int, y_S: Tensor, actions: Actions, learns: bool) -> Metrics:
        """Update the network, then the policy by the reward of all its actions together."""
        before: Tensor | float = 0.0
        if self.config.credit is Credit.gain:
            with timed("data"):
                x, y = next(self.holdout)
            with timed("reward"):
                before = self.reward(x, y)
        self._update(t)
        if self.config.credit is not Credit.gain:
            with timed("data"):
                x, y = next(self.holdout)
        with timed("reward"):
            reward = self.reward(x, y) - before
        with timed("policy"):
            advantage = torch.zeros_like(reward)
            if learns:
                judged_S = None if self.config.credit is Credit.reward else self._present(y_S)
                advantage = self.policy.reinforce(self.policy.log_prob(actions, judged_S), reward)
        return {"reward": reward, "advantage": advantage}

    def learn_by_gradients(
        self, t: int, trained: tuple[Tensor, Tensor, Tensor], others: Pending | None, learns: bool
    ) -> Metrics:
        """Update the policy by what each image's gradient does to the holdout's loss, and the network.

        Args:
            t: the step.
            trained: the source images that are trained on, their labels [B] and features [B,F].
            others: candidates that are only judged, if any.
            learns: whether the policy moves.
        """
        with timed("data"):
            x, y = next(self.holdout)
        with timed("reward"):
            along, loss = self.gradients.follow(self.net, x, y)
            self.gradients.judge(self.net, along, *trained)
            if others is not None:
                self.gradients.judge(self.net, along, *others.result())
        self._update(t)
        with timed("policy"):
            slope_S, slope, worth = self.gradients.slopes(self._mean_weight())
            if learns:
                self.policy.tilt(slope_S, slope)
        return {"reward": -loss, "worth": worth}

    def _explored(self, rows: Tensor, y_M: Tensor, kept: Tensor) -> Pending | None:
        """Fetch the candidates that are only judged, if any."""
        if self.config.credit is not Credit.first_order or self.replays or not self.config.explored:
            return None
        num_explored = self.config.explored * self.recipe.batch_size
        return self.source.fetch(rows, self.gradients.judged_least(y_M, kept, num_explored))

    def sample(self) -> tuple[Tensor, Tensor, Actions]:
        """Draw this step's class weights [S] and scale [], and give the actions behind them."""
        weight_S, scale, actions = self.policy.sample()
        if self.replays and self.config.replay is Replay.expected:
            weight_S, scale = self.policy.expected()
        elif self.config.action is Action.expected:
            weight_S, _ = self.policy.expected()
        if self.config.weights is Weights.uniform:
            weight_S = torch.ones_like(weight_S)
        elif self.config.weights is Weights.oracle:
            weight_S = self.truth_S
        if self.config.alpha is Alpha.walk:
            self.walked = (self.walked + scale).clamp(0, 1)
            scale = self.walked
        return weight_S, scale, actions

    def _update(self, t: int) -> None:
        with timed("source"):
            update(self.optimizer, self.recipe.lr_at(t))

    def _present(self, y: Tensor) -> Tensor:
        """Tell which classes [S] have an image in a batch of labels y [B]."""
        present_S = torch.zeros(len(self.policy.weight_logits), dtype=torch.bool, device=y.device)
        return present_S.index_fill(0, distributed.gather_batch(y), True)

    def _mean_weight(self) -> Tensor:
        """Give the weights [S] that are expected at this step."""
        if self.config.weights is Weights.uniform:
            return torch.ones(len(self.policy.weight_logits), device=self.policy.device)
        return self.truth_S if self.config.weights is Weights.oracle else self.policy.expected()[0]

    def source_loss(self, loss_B: Tensor, weight_B: Tensor) -> Tensor:
        """Weigh the losses of the images that were kept; zero when all weights are zero."""
        num_weighted = distributed.mean((weight_B != 0).float().sum()).clamp(min=1e-8)
        if self.config.normalizer is Normalizer.softmax:
            weight_B = weight_B.exp()
        if self.config.normalizer is not Normalizer.none:
            weight_B = len(weight_B) * weight_B / distributed.mean(weight_B.sum()).clamp(min=1e-8)
        divisor = num_weighted if self.config.reduction is Reduction.nonzero else len(weight_B)
        return (weight_B * loss_B).sum() / divisor

    def reward(self, x: Tensor, y: Tensor) -> Tensor:
        """Judge the updated network on holdout images; no statistic moves."""
        with torch.no_grad():
            if self.config.reward_train_mode:
                with frozen_statistics(self.net):
                    logits = self.net.target(x)
            else:
                self.net.eval()
                # A CPU's caches hold the maps of a batch, but not those of the whole.
                size = self.recipe.batch_size if x.device.type == "cpu" else len(x)
                logits = torch.cat([self.net.target(x_B) for x_B in x.split(size)])
                self.net.train()
        logits, y = distributed.gather_batch(logits), distributed.gather_batch(y)
        if self.config.reward is Reward.negative_loss:
            return -classification_loss(logits, y)
        return SCORES[self.score](*of_scored(logits, y, self.scored))

    @property
    def _code_uniform(self) -> bool:
        return self.config.weights is Weights.uniform_code

    def _scale_at(self, t: int, scale: Tensor) -> Tensor | float:
        return scale if t >= self.config.first_policy_step else 0.0

    def _tie_seed(self, t: int) -> int | None:
        return derive_seed(self.seed, "ties", t) if self.config.ties is Ties.random else None

    @classmethod
    def can_be_data_parallel(cls, config: Any) -> bool:
        """Tell whether several processes may share a run: not where single images are judged."""
        return config.credit is not Credit.first_order

    @classmethod
    def images_per_step(cls, config: Any, batch_size: int) -> tuple[int, int]:
        """Count both halves, and the rewards; a gradient of the holdout costs what training does."""
        held = config.reward_multiplier * batch_size
        if config.credit is Credit.first_order:
            return 2 * batch_size + held, (1 + 2 * config.explored) * batch_size
        return 2 * batch_size, held * (2 if config.credit is Credit.gain else 1)

    @classmethod
    def label(cls, config: Any) -> str:
        """Name the ablation, and what differs from the preset."""
        default = Settings(preset=config.preset).resolved()
        preset = "" if config.preset is Preset.paper else f", {config.preset}"
        return TITLES[config.weights] + preset + changes(config, default, named=("weights",))

    def class_weights(self) -> Tensor | None:
        """Average 10,000 samples of the policy [S] (section 5.1); None for uniform weights."""
        if self.config.weights is Weights.oracle:
            return self.truth_S
        return None if self.config.weights is Weights.uniform else self.policy.mean_weights()

    def controls(self) -> dict[str, Tensor]:
        """Give the logits."""
        return {
            "weight_logits": self.policy.weight_logits.detach().cpu(),
            "scale_logits": self.policy.scale_logits.detach().cpu(),
        }


def select(weight_M: Tensor, num_kept: int, tie_seed: int | None) -> Tensor:
    """Keep the candidates with the largest weights [num_kept]; equal ones by a seed, or in order."""
    order = torch.arange(len(weight_M))
    if tie_seed is not None:
        order = torch.randperm(len(weight_M), generator=torch.Generator().manual_seed(tie_seed))
    order = moved(order, weight_M.device)
    return order[torch.argsort(weight_M[order], descending=True, stable=True)[:num_kept]]
