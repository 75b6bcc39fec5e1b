"""SpotTune: a policy selects, for each image and block, the pre-trained or the fine-tuned block.

Use when: images of the target need different amounts of fine-tuning, and memory for a second encoder is
available.
Source: Guo, Shi, Kumar, Grauman, Rosing, Feris: SpotTune: Transfer Learning through Adaptive Fine-tuning
(arXiv 1811.08737); constants and layers outside of blocks as in the released code (`gyhui14/spottune`).
Departs from: (1) any encoder: a block is a module of several layers that images pass one after another
(`blocks.py`), where the paper has the residual blocks of a ResNet; (2) the policy sees images at 64 px at
most, through four pairs of convolutions, where the paper has a ResNet of three blocks; (3) the recipe's
optimizer and schedule serve both, with a learning rate and weight decay for the policy. Not followed, of the
released code: the norms of frozen blocks are trained; noise is added in the test too, where here the likelier
block is used; an error in the schedule leaves one of its three drops of the learning rate.

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
from .networks.predictor import Predictor
from .recipe import Recipe

POLICY_SIDE = 64  # px; the paper's images have 64 to 72


@dataclass
class Config:
    """Settings of SpotTune."""

    temperature: float = 5.0  # temperature of the Gumbel softmax in the gradient
    policy_rate: float = 0.1  # learning rate of the policy, as a share of recipe.lr
    policy_weight_decay: float = 1e-3  # weight decay of the policy

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        rates = {"policy_rate": (0, inf), "policy_weight_decay": (0, inf)}
        check_ranges(self, {"temperature": (1e-3, inf), **rates})
        return self


class Router(nn.Module):
    """Frozen copies of blocks, and the policy that selects between them and the trained blocks."""

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
        """Return the selection for images [B,3,H,W]: 1 for the fine-tuned block, 0 for the frozen one [B,N].

        In training it is sampled, with the gradient of the Gumbel softmax; else the likelier one is selected.
        """
        logits = self.policy(F.adaptive_avg_pool2d(x, min(POLICY_SIDE, x.shape[-1]))).unflatten(1, (-1, 2))
        if self.training:
            return F.gumbel_softmax(logits, self.temperature, hard=True)[..., 1]
        return logits.argmax(2).float()

    @contextmanager
    def taking(self, tuned_BN: Tensor) -> Iterator[None]:
        """Apply a selection [B,N] to the forward passes inside."""
        self.tuned_BN = tuned_BN
        try:
            yield
        finally:
            self.tuned_BN = None

    def _mixed(self, place: int, tuned: Callable[..., Tensor], *given: Any, **named: Any) -> Tensor:
        """Run both copies of a block, and return the selected output of each image."""
        assert self.tuned_BN is not None
        of_tuned, of_frozen = tuned(*given, **named), self.frozen[place](*given, **named)
        share = self.tuned_BN[:, place].to(of_tuned.dtype).view(-1, *[1] * (of_tuned.ndim - 1))
        return (1 - share) * of_frozen + share * of_tuned


class Routed(Predictor):
    """The likelier copy of each block, for each image."""

    def __init__(self, *parts: Any, router: Router, blocks: list[str], **rest: Any) -> None:
        super().__init__(*parts, **rest)
        self.router, self.blocks = router, blocks

    @classmethod
    def empty(cls, encoder: nn.Module, head: nn.Module, options: dict[str, Any]) -> Predictor:
        """Return one whose state is still to be loaded."""
        router = Router([encoder.get_submodule(name) for name in options["blocks"]], temperature=1.0)
        return cls(encoder, head, router=router, **options)

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        return {**super().options(), "blocks": self.blocks}

    def inputs(self, x: Tensor) -> Tensor:
        """Return the features [B,F] of images [B,3,H,W], through the likelier copies."""
        with self.router.taking(self.router.choose(x)):
            return self.features(x)


class SpotTune(Method[Config]):
    """Fine-tuning that is decided for each image and block."""

    title = "SpotTune"
    paper = "arXiv 1811.08737"
    kind = "regularizer"
    predictor_class = Routed

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)
        found = {id(block) for block in blocks_of(self.net, problem)}
        self.blocks = [name for name, m in self.net.encoder.named_modules() if id(m) in found]
        router = Router([self.net.encoder.get_submodule(name) for name in self.blocks], config.temperature)
        self.net.router = router.to(problem.device)  # evaluated, saved and counted with the network
        policy_recipe = replace(self.recipe, weight_decay=config.policy_weight_decay)
        self.policy_optimizer = policy_recipe.make_optimizer(router)

    @property
    def router(self) -> "Router":
        """The router, a module of the network."""
        router: Any = self.net.router
        return router

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a backbone without blocks."""
        found = blocks_of(problem.network(pretrained=False), problem)
        return "" if found else "it needs blocks that images pass in turn, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train the selected blocks and the policy on the next target batch."""
        with timed("data"):
            x, y = next(self.target)
        with timed("policy"):
            tuned_BN = self.router.choose(x)
        with timed("target"):
            loss = classification_loss(self.routed(x, tuned_BN), y, weight_C=self.target.weight_C)
            loss.backward()
            rate = self.recipe.lr_at(t)
            update(self.optimizer, rate)
            update(self.policy_optimizer, self.config.policy_rate * rate)
        return {"loss": loss.detach(), "tuned_share": tuned_BN.detach().mean()}

    def predictor(self) -> Predictor:
        """Return both copies of the blocks, the policy, and the head."""
        return self.predictor_with(self.net.target_head, router=self.router, blocks=self.blocks)

    def routed(self, x: Tensor, tuned_BN: Tensor) -> Tensor:
        """Return target logits [B,C_T] with the selected blocks."""
        with self.router.taking(tuned_BN):
            return self.net.target(x)

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] with the likelier copy of each block."""
        return self.routed(x, self.router.choose(x))

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the frozen copies twice as judged: forward pass, and gradient through them."""
        return recipe.batch_size, 2 * recipe.batch_size


def blocks_of(net: Network, problem: Problem) -> list[nn.Module]:
    """Return the blocks of a network's encoder, found with two images; sets training mode."""
    x, _ = next(problem.target.batches(2))
    found = find_blocks(net.eval().encoder, x)
    net.train()
    return found
