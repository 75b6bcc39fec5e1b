"""What two processes that share a run say to each other: in one place, and how often a step."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transferbench
from processes import in_two
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from toy import toy_problem, toy_split
from transferbench.datasets import distributed
from transferbench.methods.finetune import FineTune
from transferbench.methods.l2tl import L2TL
from transferbench.methods.l2tl_policy.settings import Settings

PACKAGE = Path(transferbench.__file__).parent
STEPS = 3
GRADIENTS = 1  # one call for all of them
OF_NORM = 4  # mean and variance, forward and backward


class Encoder(nn.Module):
    """A convolution with or without a norm."""

    num_features = 6

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6) if norm else nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x)).mean((2, 3))


def without_norm() -> Encoder:
    return Encoder(norm=False)


def counted(method: Any, encoder: Any) -> Counter[str]:
    """Return the calls of a step by name."""
    said = Counter[str]()
    recipe = {"steps": STEPS, "lr": 0.05}
    problem = toy_problem(encoder=encoder, holdout=toy_split([0, 1, 2] * 5, 3, "holdout"), recipe=recipe)
    made = method(problem, Settings().resolved() if method is L2TL else method.Config())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "all_gather", "broadcast_object_list", "all_gather_object", "broadcast"):
            call = getattr(dist, name)

            def noted(*given: Any, name: str = name, call: Any = call) -> Any:
                said[name] += 1
                return call(*given)

            patch.setattr(dist, name, noted)
        for t in range(STEPS):
            made.step(t)
    assert all(count % STEPS == 0 for count in said.values())
    return Counter({name: count // STEPS for name, count in said.items()})


@pytest.mark.parametrize(
    ("method", "encoder", "expected"),
    [
        (FineTune, without_norm, {"all_reduce": GRADIENTS}),
        (FineTune, Encoder, {"all_reduce": GRADIENTS + OF_NORM}),
        # Two passes through the norm; images with a weight are counted; rewards gather logits and labels
        (L2TL, Encoder, {"all_reduce": GRADIENTS + 2 * OF_NORM + 1, "all_gather": 2}),
    ],
)
def test_a_step_says_so_much_and_no_more(method, encoder, expected):
    assert in_two(counted, method, encoder) == [expected, expected]


def test_one_file_speaks_to_other_processes():
    speaks = re.compile(r"torch\.distributed|from torch import .*\bdistributed\b|\bdist\.\w+\(")
    files = [p for folder in ("benchmarks", "datasets", "methods") for p in (PACKAGE / folder).rglob("*.py")]
    assert [p.name for p in files if speaks.search(p.read_text(encoding="utf-8"))] == ["distributed.py"]


def test_one_process_says_nothing():
    assert counted(FineTune, Encoder) == Counter()
    assert distributed.size() == 1
