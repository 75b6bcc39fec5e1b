"""VPT: trained tokens, the prompts, stand beside those of the image in a frozen vision transformer.

Use when: the backbone is a vision transformer and its weights must not change.
Source: Jia, Tang, Chen, Cardie, Belongie, Hariharan, Lim: Visual Prompt Tuning (arXiv 2203.12119), section
3.2; first values and number of prompts as in the released code (`KMnP/vpt`). The paper chooses the number
among 1, 5, 10, 50, 100 and 200 by validation.
Departs from: the paper's variants for Swin and ConvNets are left out; a plain vision transformer is needed.

Shape letters: B images, T tokens, N prompts, D width of a token.
"""

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import train_only
from .networks.predictor import Predictor


@dataclass
class Config:
    """Settings of VPT."""

    deep: bool = True  # new prompts for every block (VPT-deep); false: for the first one alone (VPT-shallow)
    num_prompts: int = 5  # number of prompts of a block, up to 1000

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"num_prompts": (1, 1000)})
        return self


class WithPrompts(Predictor):
    """A vision transformer with prompts."""

    def __init__(self, *parts: Any, deep: bool, num_prompts: int, **rest: Any) -> None:
        super().__init__(*parts, **rest)
        self.deep, self.num_prompts = deep, num_prompts

    @classmethod
    def empty(cls, encoder: nn.Module, head: nn.Module, options: dict[str, Any]) -> Predictor:
        """Return one whose state is still to be loaded."""
        add_prompts(encoder, options["deep"], options["num_prompts"])
        return cls(encoder, head, **options)

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        return {**super().options(), "deep": self.deep, "num_prompts": self.num_prompts}


class VPT(Method[Config]):
    """Prompts for a frozen vision transformer."""

    title = "VPT"
    paper = "arXiv 2203.12119"
    data_parallel = True
    trains_in_parts = True
    predictor_class = WithPrompts
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe, self.config = problem.recipe, config
        self.net = problem.network()
        train_only(self.net, ())
        add_prompts(self.net.encoder, config.deep, config.num_prompts)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network that is no plain vision transformer."""
        classes = {c.__name__ for c in type(problem.network().encoder).__mro__}
        return (
            "" if "VisionTransformer" in classes else "it needs a plain vision transformer, as vit_* of timm"
        )

    def step(self, t: int) -> Metrics:
        """Train prompts and head on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def predictor(self) -> Predictor:
        """Return the encoder with its prompts, and the head."""
        config = self.config
        return self.predictor_with(self.net.target_head, deep=config.deep, num_prompts=config.num_prompts)


class Prompted(nn.Module):
    """A block of a vision transformer that sees prompts behind the prefix tokens.

    Args:
        part: the block.
        prompts: first prompts [N,D].
        num_prefix: number of tokens before those of the image.
        keeps: whether its output has the tokens of the prompts.
    """

    def __init__(self, part: nn.Module, prompts: Tensor, num_prefix: int, keeps: bool = False) -> None:
        super().__init__()
        self.part, self.num_prefix, self.keeps = part, num_prefix, keeps
        self.prompts = nn.Parameter(prompts)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens after the block: [B,T,D], or [B,T+N,D] with the prompts."""
        prefix, prompts = self.num_prefix, self.prompts.to(x.dtype).expand(x.shape[0], -1, -1)
        x = self.part(torch.cat([x[:, :prefix], prompts, x[:, prefix:]], dim=1))
        return x if self.keeps else without_tokens(x, prefix, len(self.prompts))


class Unprompted(nn.Module):
    """A block whose output has no prompts any more."""

    def __init__(self, part: nn.Module, num_prefix: int, num_prompts: int) -> None:
        super().__init__()
        self.part, self.num_prefix, self.num_prompts = part, num_prefix, num_prompts

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens [B,T,D] after the block, which sees [B,T+N,D]."""
        return without_tokens(self.part(x), self.num_prefix, self.num_prompts)


def without_tokens(x: Tensor, first: int, number: int) -> Tensor:
    """Return tokens [B,T,D] without some of them that follow each other."""
    return torch.cat([x[:, :first], x[:, first + number :]], dim=1)


def add_prompts(encoder: Any, deep: bool, num_prompts: int) -> None:
    """Put prompts before every block of a vision transformer of timm, or once before the first one.

    The blocks keep their places, by which `recipe.layer_decay` knows their layer.
    """
    width, like, num_prefix = encoder.embed_dim, next(encoder.parameters()), encoder.num_prefix_tokens
    largest = sqrt(6 / (3 * prod(encoder.patch_embed.patch_size) + width))

    def prompted(block: nn.Module, keeps: bool) -> Prompted:
        prompts = nn.init.uniform_(torch.empty(num_prompts, width), -largest, largest).to(like)
        return Prompted(block, prompts, num_prefix, keeps)

    if deep:
        encoder.blocks = nn.Sequential(*(prompted(block, keeps=False) for block in encoder.blocks))
        return
    encoder.blocks[0] = prompted(encoder.blocks[0], keeps=True)
    encoder.blocks[-1] = Unprompted(encoder.blocks[-1], num_prefix, num_prompts)
