"""A problem of a few coloured images and a small network, for tests of single methods."""

from typing import Any

import torch
from torch import Tensor, nn
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.base import Problem
from transferbench.methods.encoders import SmallEncoder
from transferbench.methods.network import Network
from transferbench.methods.recipe import Recipe, Schedule


def toy_split(labels: list[Any], num_classes: int, name: str = "toy") -> Split:
    """Make images of random noise around a random colour."""
    generator = torch.Generator().manual_seed(len(labels))
    colour = torch.randint(0, 200, (len(labels), 3, 1, 1), generator=generator)
    noise = torch.randint(0, 56, (len(labels), 3, 16, 16), generator=generator)
    return Split(
        name=name,
        classes=tuple(f"c{i}" for i in range(num_classes)),
        pixels=MemoryPixels((colour + noise).to(torch.uint8), torch.ones(len(labels))),
        labels=torch.tensor(labels),
        index=torch.arange(len(labels)),
        augment=Augment(16, normalise="half"),
    )


def toy_problem(
    target: Split | None = None,
    source: Split | None = None,
    encoder: type[nn.Module] = SmallEncoder,
    **changes: Any,
) -> Problem:
    """Pose a problem of 3 target and 4 source classes, whose network starts from a fixed seed."""
    target = target or toy_split([0, 1, 2] * 8, 3, "target")
    source = source or toy_split([0, 1, 2, 3] * 6, 4, "source")
    given = {"steps": 8, "batch_size": 8, "lr": 0.1, "image_size": 16, "head_std": 0.1}
    constant = {"schedule": Schedule.constant, "weight_decay": 0.01}

    def network(pretrained: bool = True) -> Network:
        torch.manual_seed(0)
        return Network(encoder(), source.num_classes, target.num_classes, head_std=0.1)

    fields: dict[str, Any] = {"holdout": None, "seed": 0, "device": torch.device("cpu"), "controls": None}
    recipe = Recipe(**{**given, **constant, **changes.pop("recipe", {})})
    return Problem(
        **{**fields, **changes},
        source=source,
        target=target,
        recipe=recipe,
        network=network,
        pretraining_images=120,
        pretrain=lambda *a, **k: None,
        score="top1",
    )


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    """Copy a network's parameters by name."""
    return {name: p.detach().clone() for name, p in net.named_parameters()}
