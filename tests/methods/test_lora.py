"""LoRA: a planted change of low rank is found, merging changes nothing, and peft computes the same."""

from types import SimpleNamespace

import pytest
import torch
from small_vit import SmallViT
from torch import nn
from torch.nn import functional as F
from toy import toy_problem, weights_of
from transferbench import InputError
from transferbench.methods.lora import Adapted, LoRA, layers_of


def filled(layer: nn.Module, rank: int, scale: float = 1.0) -> Adapted:
    """Adapt a layer by a change that is not zero."""
    adapted = Adapted(layer, rank, scale)
    nn.init.normal_(adapted.B.weight)
    return adapted


LAYERS = {
    "linear": lambda: (nn.Linear(6, 5), torch.randn(4, 3, 6)),
    "convolution": lambda: (nn.Conv2d(6, 5, 3, stride=2, padding=1), torch.randn(4, 6, 7, 7)),
    "dilated": lambda: (nn.Conv2d(6, 5, 3, padding=2, dilation=2, bias=False), torch.randn(4, 6, 7, 7)),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@every_layer
def test_zero_at_first_and_the_same_after_merging(make):
    torch.manual_seed(0)
    layer, x = make()
    assert torch.equal(Adapted(layer, 2, 3.0)(x), layer(x))
    adapted = filled(layer, 2, 3.0)
    merged = adapted.merged()
    assert type(merged) is type(layer)
    assert not torch.allclose(adapted(x), layer(x), atol=0.1)
    assert torch.allclose(adapted(x), merged(x), atol=1e-5)
    assert torch.equal(adapted.eval()(x), merged(x))
    assert merged.state_dict().keys() == layer.state_dict().keys()


def test_a_planted_change_of_low_rank_is_found():
    torch.manual_seed(0)
    layer = nn.Linear(12, 8)
    change = torch.randn(8, 2) @ torch.randn(2, 12)
    x = torch.randn(200, 12)
    y = layer(x).detach() + F.linear(x, change)
    adapted = Adapted(layer.requires_grad_(False), 2, 1.0)
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    for _ in range(400):
        loss = F.mse_loss(adapted(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(adapted.weight - layer.weight, change, atol=0.01)


@pytest.mark.parametrize("kind", ["linear", "convolution"])  # it does not dilate
def test_peft_computes_the_same(kind):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    layer, x = LAYERS[kind]()
    adapted = filled(layer.requires_grad_(False), 2, 4.0 / 2)
    holder = nn.ModuleDict({"layer": layer})
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["layer"])
    other = peft.inject_adapter_in_model(config, holder)["layer"]
    A, B = other.lora_A["default"], other.lora_B["default"]
    A.load_state_dict(adapted.A.state_dict())
    B.load_state_dict(adapted.B.state_dict())
    for one in (adapted, other):
        one(x).square().sum().backward()
    assert torch.allclose(adapted(x), other(x), atol=1e-5)
    assert torch.allclose(adapted.A.weight.grad, A.weight.grad, rtol=1e-4)
    assert torch.allclose(adapted.B.weight.grad, B.weight.grad, rtol=1e-4)
    merged = adapted.merged().weight
    other.merge()
    assert torch.allclose(merged, other.get_base_layer().weight, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"layers": "stages.0"}])
def test_changes_and_head_alone_are_trained(options):
    method = LoRA(toy_problem(), LoRA.Config(**options))
    before = weights_of(method.net)
    for t in range(3):
        method.step(t)
    changed = {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}
    adapted = [name for name in before if name.endswith((".A.weight", ".B.weight"))]
    assert changed == {*adapted, "target_head.weight", "target_head.bias"}
    assert len(adapted) == (4 if options else 16)


def test_the_predictor_is_a_plain_encoder_with_the_same_logits():
    problem = toy_problem(encoder=SmallViT)
    method = LoRA(problem, LoRA.Config())
    for t in range(3):
        method.step(t)
    method.net.eval()
    x, _ = next(problem.target.batches(24))
    predictor = method.predictor()
    assert predictor.encoder.state_dict().keys() == problem.network().encoder.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(predictor(x), method.predict(x))
        assert not torch.allclose(problem.network().encoder(x), predictor.encoder(x), atol=1e-3)


def test_which_layers():
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.Linear(4, 4))
    assert list(layers_of(net, "")) == ["0", "3"]
    assert all(".attn." in name for name in layers_of(SmallViT(), "attn"))
    with pytest.raises(
        InputError, match=r"method\.layers=none: no such layer; expected a part of a name, as 3"
    ):
        layers_of(net, "none")


def test_a_network_that_reads_the_weight_of_a_layer_gets_the_changed_one():
    adapted = filled(nn.Linear(6, 5), 2)
    x = torch.randn(3, 6)
    assert torch.allclose(F.linear(x, adapted.weight, adapted.bias), adapted(x), atol=1e-5)
    assert adapted.in_features == 6
    with pytest.raises(AttributeError):
        _ = adapted.nothing


def test_ranges():
    with pytest.raises(InputError, match=r"method\.rank=0: expected 1 or more"):
        LoRA.Config(rank=0).resolved()
    with pytest.raises(InputError, match=r"method\.rank=129: no layer has this rank; expected 1 to 128"):
        LoRA(toy_problem(), LoRA.Config(rank=129))
    assert LoRA(toy_problem(), LoRA.Config(rank=128)).step(0)["loss"].isfinite()


def test_a_network_without_plain_layers():
    class Standardized(nn.Conv2d):
        pass

    encoder = nn.Sequential(Standardized(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4))
    problem = SimpleNamespace(network=lambda: SimpleNamespace(encoder=encoder))
    assert LoRA.why_incompatible(problem).startswith("it changes plain linear layers and convolutions, and")
    assert LoRA.why_incompatible(toy_problem()) == ""
