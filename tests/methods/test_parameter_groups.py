"""Learning rate and weight decay of each parameter: as timm gives them, and as before without its names."""

from typing import Any

import pytest
import timm
import torch
from timm.layers.norm import RmsNorm, RmsNormFp32, SimpleNorm
from timm.optim import param_groups_layer_decay
from torch import nn
from transferbench import InputError
from transferbench.methods.networks.encoders import build_encoder
from transferbench.methods.networks.network import Network
from transferbench.methods.networks.parameter_groups import decayed
from transferbench.methods.recipe import OptimizerName, Recipe

MODELS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"depth": 2, "img_size": 32},
    "vit_base_patch16_clip_224": {"depth": 1, "img_size": 32},
    "vit_small_patch14_dinov2": {"depth": 2, "img_size": 28},
    "swin_tiny_patch4_window7_224": {"depths": [1, 1], "img_size": 56},
    "convnext_atto": {"depths": [1, 1, 1, 1]},
    "efficientnet_b0": {},
    "resnet10t": {},
}


def network(backbone: str, options: dict[str, Any]) -> Network:
    return Network(build_encoder(backbone, False, None, options)[0], 3, 2)


def by_name(net: nn.Module, **given: Any) -> dict[str, tuple[float, float]]:
    """Return factor of the rate and weight decay of each parameter."""
    names = {id(p): name for name, p in net.named_parameters()}
    groups = Recipe(weight_decay=0.01, **given).make_optimizer(net).param_groups
    return {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("backbone", MODELS)
def test_layers_and_decay_are_those_of_timm(backbone):
    whole = timm.create_model(backbone, num_classes=10, **MODELS[backbone])
    spared = whole.no_weight_decay() if hasattr(whole, "no_weight_decay") else ()
    groups = param_groups_layer_decay(whole, 0.01, no_weight_decay_list=spared, layer_decay=0.5)
    names = {id(p): name for name, p in whole.named_parameters()}
    expected = {names[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    found = by_name(network(backbone, MODELS[backbone]), layer_decay=0.5)
    of_encoder = {
        name.removeprefix("encoder."): v for name, v in found.items() if name.startswith("encoder.")
    }
    assert of_encoder == {name: expected[name] for name in of_encoder}
    assert min(scale for scale, _ in of_encoder.values()) < 0.5
    assert {scale for name, (scale, _) in found.items() if not name.startswith("encoder.")} == {1.0}


@pytest.mark.parametrize("backbone", ["small", "digits_cnn"])
def test_layers_of_encoders_of_our_own(backbone):
    found = by_name(network(backbone, {}), layer_decay=0.5)
    scales = [scale for name, (scale, _) in found.items() if name.endswith("weight")]
    assert scales[0] == 0.5**4
    assert found["target_head.weight"][0] == 1


def test_embeddings_have_no_decay_and_heads_their_own_rate():
    found = by_name(
        network("vit_tiny_patch16_224", MODELS["vit_tiny_patch16_224"]), layer_decay=0.5, head_lr_factor=7.0
    )
    assert found["encoder.cls_token"] == found["encoder.pos_embed"] == (0.125, 0.0)
    assert found["encoder.patch_embed.proj.weight"] == (0.125, 0.01)
    assert found["encoder.blocks.1.attn.qkv.weight"] == (0.5, 0.01)
    assert found["encoder.blocks.1.norm1.weight"] == (0.5, 0.0)
    assert found["target_head.weight"] == (7.0, 0.01)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("backbone", ["small", "resnet10t", "efficientnet_b0"])
def test_groups_without_timms_names_are_as_before(backbone, factor, biases):
    """In the same order: equal settings give equal weights, bit by bit."""
    net = network(backbone, {})
    recipe = Recipe(weight_decay=0.01, head_lr_factor=factor, decay_biases=biases)
    norms = {
        id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters(recurse=False)
    }
    expected: dict[tuple[bool, bool], list[int]] = {}
    for name, p in net.named_parameters():
        decays = id(p) not in norms and (p.ndim > 1 or biases)
        expected.setdefault((factor != 1 and "target_head" in name, not decays), []).append(id(p))
    groups = recipe.make_optimizer(net).param_groups
    assert [[id(p) for p in g["params"]] for g in groups] == [expected[kind] for kind in sorted(expected)]
    assert [g["lr_scale"] for g in groups] == [factor if kind[0] else 1.0 for kind in sorted(expected)]


def test_adamw_decays_without_a_gradient():
    net = nn.Linear(3, 2)
    before = net.weight.detach().clone()
    recipe = Recipe(optimizer=OptimizerName.adamw, lr=0.1, weight_decay=0.5)
    optimizer = recipe.make_optimizer(net)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(net.weight, before * (1 - 0.1 * 0.5))


def test_an_encoder_that_names_no_layers_is_refused():
    encoder: Any = nn.Linear(3, 2)
    encoder.num_features = 2
    with pytest.raises(
        InputError, match=r"recipe.layer_decay=0.5: Linear does not name its layers; expected 1"
    ):
        Recipe(layer_decay=0.5).make_optimizer(Network(encoder, 3, 2))


@pytest.mark.parametrize(
    "norm", [nn.RMSNorm, RmsNorm, RmsNormFp32, SimpleNorm], ids=lambda norm: norm.__name__
)
def test_norms_by_the_root_of_the_mean_square_have_no_decay(norm):
    net = nn.Sequential(nn.Linear(4, 4), norm(4))
    assert decayed(net, biases=True) == {id(p) for p in net[0].parameters()}
