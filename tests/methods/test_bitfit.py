"""BitFit and norm tuning: which weights change, and networks that have none."""

import re

import pytest
import torch
from small_vit import SmallViT
from torch import nn
from toy import toy_problem, weights_of
from transferbench.methods.bitfit import BitFit
from transferbench.methods.networks.encoders import SmallEncoder
from transferbench.methods.norm_tuning import NormTuning

HEAD = {"target_head.weight", "target_head.bias"}


class Bare(nn.Module):
    """An encoder without biases or norms."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)


def changed_by(cls, encoder) -> tuple[set[str], set[str]]:
    """Return the names of the weights that some steps change, and of all."""
    method = cls(toy_problem(encoder=encoder), cls.Config())
    before = weights_of(method.net)
    for t in range(3):
        method.step(t)
    return {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}, set(
        before
    )


@pytest.mark.parametrize("encoder", [SmallEncoder, SmallViT])
def test_biases_and_head_alone_are_trained(encoder):
    changed, names = changed_by(BitFit, encoder)
    biases = {name for name in names if name.startswith("encoder.") and name.endswith(".bias")}
    assert changed == biases | HEAD


@pytest.mark.parametrize(
    ("encoder", "norms"), [(SmallEncoder, r"stages\.\d\.[14]\."), (SmallViT, r"(.*\.)?norm\d?\.")]
)
def test_norms_and_head_alone_are_trained(encoder, norms):
    changed, names = changed_by(NormTuning, encoder)
    assert changed == {name for name in names if re.match(rf"encoder\.{norms}", name)} | HEAD


def test_a_network_without_what_is_trained():
    problem = toy_problem(encoder=Bare)
    assert BitFit.why_incompatible(problem) == "it trains biases, and the backbone has none"
    assert "norms, and the backbone has none" in NormTuning.why_incompatible(problem)
    assert BitFit.why_incompatible(toy_problem()) == NormTuning.why_incompatible(toy_problem()) == ""
