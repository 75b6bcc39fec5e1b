"""AdaptFormer: a trained bottleneck runs parallel to the MLP of every transformer block, which is frozen.

Use when: the backbone is a transformer, and LoRA is not enough.
Source: Chen, Ge, Tong, Wang, Song, Wang, Luo: AdaptFormer: Adapting Vision Transformers for Scalable Visual
Recognition (arXiv 2205.13535), section 3.2; dropout and first values as in the released code
(`ShoufaChen/AdaptFormer`).
Departs from: nothing; the bottleneck reads the normalized input of the MLP as in the paper's formula (the
released scripts give it the input before the norm). In blocks that scale the MLP's output, as in DINOv2, they
scale the bottleneck's output with it.
"""

from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Any

from torch import Tensor, nn

from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import train_only
from .networks.predictor import Predictor


@dataclass
class Config:
    """Settings of AdaptFormer."""

    width: int = 64  # width of the bottleneck
    # Scale of the bottleneck's output
    scale: float = field(default=0.1, metadata={"tuned": (0.01, 1.0)})
    dropout: float = 0.1  # dropout inside of the bottleneck, 0 to 0.99

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"width": (1, inf), "scale": (0, inf), "dropout": (0, 0.99)})
        return self


class Bottlenecked(Predictor):
    """An encoder with bottlenecks."""

    def __init__(self, *parts: Any, width: int, scale: float, **rest: Any) -> None:
        super().__init__(*parts, **rest)
        self.width, self.scale = width, scale

    @classmethod
    def empty(cls, encoder: nn.Module, head: nn.Module, options: dict[str, Any]) -> Predictor:
        """Return one whose state is still to be loaded."""
        add_bottlenecks(encoder, options["width"], options["scale"])
        return cls(encoder, head, **options)

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        return {**super().options(), "width": self.width, "scale": self.scale}


class AdaptFormer(Method[Config]):
    """Bottlenecks parallel to the MLPs of a frozen transformer."""

    title = "AdaptFormer"
    paper = "arXiv 2205.13535"
    data_parallel = True
    trains_in_parts = True
    predictor_class = Bottlenecked
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe, self.config = problem.recipe, config
        self.net = problem.network()
        train_only(self.net, ())
        add_bottlenecks(self.net.encoder, config.width, config.scale, config.dropout)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network that is no transformer."""
        found = transformer_blocks(problem.network().encoder)
        return "" if found else "it needs the blocks of a transformer, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train bottlenecks and head on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def predictor(self) -> Predictor:
        """Return the encoder with its bottlenecks, and the head."""
        return self.predictor_with(self.net.target_head, width=self.config.width, scale=self.config.scale)


class Parallel(nn.Module):
    """An MLP, plus scale * up(ReLU(down(x))); the second part is zero at first."""

    def __init__(self, mlp: nn.Module, width: int, scale: float, dropout: float) -> None:
        super().__init__()
        first = first_linear(mlp)
        assert first is not None
        self.mlp, self.scale = mlp, scale
        self.down = nn.Linear(first.in_features, width)
        self.up = nn.Linear(width, first.in_features)
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.down.weight, a=sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)
        self.to(first.weight.device)

    def forward(self, x: Tensor, *shape: Any) -> Tensor:
        """Return the sum for tokens [...,F]; some MLPs also take the sides of the image that they form."""
        return self.mlp(x, *shape) + self.scale * self.up(self.dropout(self.down(x).relu()))


def add_bottlenecks(encoder: nn.Module, width: int, scale: float, dropout: float = 0.0) -> None:
    """Put a bottleneck beside the MLP of each block."""
    for block in transformer_blocks(encoder):
        block.mlp = Parallel(block.mlp, width, scale, dropout)


def transformer_blocks(encoder: nn.Module) -> list[Any]:
    """Return the modules of an encoder with attention and an MLP of linear layers."""
    both = [
        m for m in encoder.modules() if hasattr(m, "attn") and isinstance(getattr(m, "mlp", None), nn.Module)
    ]
    return [m for m in both if first_linear(m.mlp)]


def first_linear(mlp: Any) -> nn.Linear | None:
    """Return the first layer of an MLP; None if it is not linear."""
    layers = [m for m in mlp.modules() if m._parameters]
    return layers[0] if layers and isinstance(layers[0], nn.Linear) else None
