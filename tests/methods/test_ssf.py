"""SSF: scale and shift after each layer are what is folded into the weights."""

import pytest
import torch
from small_vit import SmallViT
from timm.layers.norm import RmsNorm
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn
from torch.nn.utils import parametrize
from toy import toy_problem, weights_of
from transferbench.methods.networks.encoders import SmallEncoder
from transferbench.methods.ssf import SSF, folded, scale_and_shift

LAYERS = {
    "linear": (nn.Linear(6, 5), (4, 3, 6), -1),
    "convolution": (nn.Conv2d(6, 5, 3), (4, 6, 7, 7), 1),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), (4, 6, 7, 7), 1),
    "batch norm": (nn.BatchNorm2d(6), (4, 6, 7, 7), 1),
    "layer norm": (nn.LayerNorm(6), (4, 3, 6), -1),
    "group norm": (nn.GroupNorm(2, 6), (4, 6, 7, 7), 1),
}


@pytest.mark.parametrize(("layer", "shape", "dim"), LAYERS.values(), ids=LAYERS)
def test_it_is_scale_and_shift_of_a_layers_output(layer, shape, dim):
    torch.manual_seed(0)
    x = torch.randn(shape)
    layer.eval()
    plain = layer(x).detach()
    net = nn.Sequential(layer)
    scale_and_shift(net, 0.5)
    bias = layer.parametrizations.bias[0]
    sides = [1] * plain.ndim
    sides[dim] = -1
    expected = plain * bias.scale.view(sides) + bias.shift.view(sides)
    assert torch.allclose(net(x), expected, atol=1e-5)
    copy = folded(net)
    assert torch.allclose(copy(x), expected, atol=1e-5)
    assert set(copy.state_dict()) == {f"0.{name}" for name in type(layer).state_dict(copy[0])}
    assert parametrize.is_parametrized(layer)  # the original stays


@pytest.mark.parametrize("encoder", [SmallEncoder, SmallViT])
def test_folding_is_exact_and_frozen_weights_stay(encoder):
    problem = toy_problem(encoder=encoder)
    method = SSF(problem, SSF.Config())
    before = weights_of(method.net)
    for t in range(3):
        method.step(t)
    changed = {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}
    trained = {name for name in before if name.endswith((".scale", ".shift"))}
    assert changed == {*trained, "target_head.weight", "target_head.bias"}
    method.net.eval()
    x, _ = next(problem.target.batches(24))
    predictor = method.predictor()
    assert predictor.encoder.state_dict().keys() == problem.network().encoder.state_dict().keys()
    with torch.no_grad():
        assert torch.allclose(predictor(x), method.predict(x), atol=1e-5)
        assert torch.allclose(method.predict(x), method.predictor()(x), atol=1e-5)


@pytest.mark.parametrize("layer", [ScaledStdConv2d(6, 5, 3), ScaledStdConv2dSame(6, 5, 3)])
def test_a_standardized_kernel_is_scaled_by_its_gain(layer):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 7, 7)
    plain = layer(x).detach()
    net = nn.Sequential(layer)
    scale_and_shift(net, 0.5)
    bias = layer.parametrizations.bias[0]
    expected = plain * bias.scale.view(-1, 1, 1) + bias.shift.view(-1, 1, 1)
    assert torch.allclose(net(x), expected, atol=1e-5)
    assert torch.allclose(folded(net)(x), expected, atol=1e-5)


def test_what_would_have_no_effect_is_not_trained():
    net = nn.Sequential(StdConv2d(6, 5, 3), StdConv2dSame(5, 5, 3), RmsNorm(5))
    scale_and_shift(net, 0.5)
    assert [parametrize.is_parametrized(layer) for layer in net] == [False, False, True]
