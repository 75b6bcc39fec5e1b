"""SpotTune: for each image, a policy takes every block of the encoder as it was, or as it is fine-tuned.

Source: Guo, Shi, Kumar, Grauman, Rosing, Feris: SpotTune: Transfer Learning through Adaptive Fine-tuning
(arXiv 1811.08737); constants and what lies outside of blocks as in the released code (`gyhui14/spottune`).
Departs from: (1) any encoder: a block is a module of several layers that images pass one after another
(`blocks.py`), where the paper has the residual blocks of a ResNet; (2) the policy sees images at 64 px at
most, through four pairs of convolutions, where the paper has a ResNet of three blocks; (3) the recipe says
optimizer and schedule for both, with the policy's rate and weight decay beside it. Not followed, of the
released code: the norms of frozen blocks go on training; noise is drawn in the test too, where here the
likelier copy is taken; an error in the schedule leaves one of its three drops of the rate.

Shape letters: B images, N blocks.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss
from .networks.blocks import find_blocks
from .networks.encoders import SmallEncoder
from .networks.network import Network

POLICY_SIDE = 64  # px; the paper's images have 64 to 72


@dataclass
class Config:
    """How choices are made, and how the policy is trained."""

    temperature: float = 5.0  # of the relaxed choice that gradients see
    policy_rate: float = 0.1  # of the recipe's learning rate: .01 to .1
    policy_weight_decay: float = 1e-3

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        rates = {"policy_rate": (0, inf), "policy_weight_decay": (0, inf)}
        check_ranges(self, {"temperature": (1e-3, inf), **rates})
        return self


class SpotTune(Method[Config]):
    """Fine-tuning that is decided anew for each image and block."""

    title = "SpotTune"
    paper = "arXiv 1811.08737"
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)
        router = Router(blocks_of(self.net, problem), config.temperature)
        self.net.router = router.to(problem.device)  # evaluated, saved and counted with the network
        policy_recipe = replace(self.recipe, weight_decay=config.policy_weight_decay)
        self.policy_optimizer = policy_recipe.make_optimizer(router)

    @property
    def router(self) -> "Router":
        """Return what chooses: a part of the network."""
        router: Any = self.net.router
        return router

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a backbone without blocks."""
        found = blocks_of(problem.network(pretrained=False), problem)
        return "" if found else "it needs blocks that images pass in turn, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Choose for the next target batch; train what was chosen, and the choice."""
        with timed("data"):
            x, y = next(self.target)
        with timed("policy"):
            tuned_BN = self.router.choose(x)
        with timed("target"):
            loss = classification_loss(self.routed(x, tuned_BN), y)
            loss.backward()
            rate = self.recipe.lr_at(t)
            update(self.optimizer, rate)
            update(self.policy_optimizer, self.config.policy_rate * rate)
        return {"loss": loss.detach(), "tuned_share": tuned_BN.detach().mean()}

    def routed(self, x: Tensor, tuned_BN: Tensor) -> Tensor:
        """Return target logits [B,C_T] by the blocks that were chosen."""
        with self.router.taking(tuned_BN):
            return self.net.target(x)

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] by the likelier copy of each block."""
        return self.routed(x, self.router.choose(x))

    @classmethod
    def images_per_step(cls, config: Config, batch_size: int) -> tuple[int, int]:
        """Count the frozen copies twice: forward, and the gradients that pass back through them."""
        return batch_size, 2 * batch_size


class Router(nn.Module):
    """Frozen copies of blocks, and the policy that chooses between them and the blocks themselves."""

    def __init__(self, blocks: list[nn.Module], temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.frozen = nn.ModuleList(copy.deepcopy(block) for block in blocks).requires_grad_(False).eval()
        looks = SmallEncoder()
        self.policy = nn.Sequential(looks, nn.Linear(looks.num_features, 2 * len(blocks)))
        self.tuned_BN: Tensor | None = None
        for place, block in enumerate(blocks):
            block.forward = partial(self._mixed, place, block.forward)

    def choose(self, x: Tensor) -> Tensor:
        """Choose for images [B,3,H,W] which blocks are the tuned ones: 0 or 1 [B,N].

        In training the choice is drawn, with the gradient of its relaxed form; else it is the likelier one.
        """
        logits = self.policy(F.adaptive_avg_pool2d(x, min(POLICY_SIDE, x.shape[-1]))).unflatten(1, (-1, 2))
        if self.training:
            return F.gumbel_softmax(logits, self.temperature, hard=True)[..., 1]
        return logits.argmax(2).float()

    @contextmanager
    def taking(self, tuned_BN: Tensor) -> Iterator[None]:
        """Let the blocks follow a choice [B,N] for the time of a pass."""
        self.tuned_BN = tuned_BN
        try:
            yield
        finally:
            self.tuned_BN = None

    def _mixed(self, place: int, tuned: Callable[..., Tensor], *given: Any, **named: Any) -> Tensor:
        """Stand in for a block: run both copies, and give each image the one that was chosen."""
        assert self.tuned_BN is not None
        of_tuned, of_frozen = tuned(*given, **named), self.frozen[place](*given, **named)
        share = self.tuned_BN[:, place].to(of_tuned.dtype).view(-1, *[1] * (of_tuned.ndim - 1))
        return (1 - share) * of_frozen + share * of_tuned


def blocks_of(net: Network, problem: Problem) -> list[nn.Module]:
    """Find the blocks of a network's encoder by the way of two images; it is back in training mode then."""
    x, _ = next(problem.target.batches(2))
    found = find_blocks(net.eval().encoder, x)
    net.train()
    return found
