"""VPT and AdaptFormer: what is trained, the formulas, and that they learn on a small transformer."""

import pytest
import timm
import torch
from small_vit import SmallViT
from toy import toy_problem, weights_of
from transferbench import InputError
from transferbench.methods.adaptformer import AdaptFormer, Parallel, add_bottlenecks
from transferbench.methods.networks.parameter_groups import layer_scales
from transferbench.methods.vpt import VPT, Prompted, add_prompts

HEAD = {"target_head.weight", "target_head.bias"}
NAME, NARROW = (
    "vit_tiny_patch16_224",
    {"embed_dim": 48, "num_heads": 3, "img_size": 32, "num_classes": 0},
)
SPECS = {
    "deep": (VPT, {"num_prompts": 3}),
    "shallow": (VPT, {"num_prompts": 3, "deep": False}),
    "adaptformer": (AdaptFormer, {"width": 4}),
}
every_spec = pytest.mark.parametrize(("cls", "options"), SPECS.values(), ids=SPECS)


@every_spec
def test_added_weights_and_head_alone_are_trained(cls, options):
    problem = toy_problem(encoder=SmallViT)
    own = {f"encoder.{name}" for name in problem.network().encoder.state_dict()}
    method = cls(problem, cls.Config(**options))
    before = weights_of(method.net)
    for t in range(3):
        method.step(t)
    changed = {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}
    added = {n for n in before if n.endswith(".prompts") or ".mlp.up." in n or ".mlp.down." in n}
    assert changed == added | HEAD
    assert not added & own
    assert (
        len(added)
        == {"deep": 2, "shallow": 1, "adaptformer": 8}[next(k for k, v in SPECS.items() if v[1] is options)]
    )


@every_spec
def test_it_learns_colors_and_is_built_again_without_data(cls, options):
    recipe = {"steps": 100, "batch_size": 24, "lr": 0.05, "weight_decay": 0.0}
    problem = toy_problem(encoder=SmallViT, recipe=recipe)
    method = cls(problem, cls.Config(**options))
    losses = [method.step(t)["loss"].item() for t in range(100)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    method.net.eval()
    x, _ = next(problem.target.batches(24))
    kept = method.predictor()
    again = cls.predictor_class.empty(
        problem.network().encoder, problem.network().target_head, kept.options()
    ).eval()
    again.load_state_dict(kept.state_dict())
    with torch.no_grad():
        assert torch.allclose(again(x), method.predict(x), atol=1e-6)


def test_prompts_stand_behind_the_prefix_and_are_taken_out_again():
    seen = []
    prompts = torch.full((3, 2), 7.0)

    def part(x):
        seen.append(x)
        return x + 1

    layer = Prompted(torch.nn.Identity(), prompts, 1)
    layer.part = type("Part", (torch.nn.Module,), {"forward": lambda self, x: part(x)})()
    x = torch.arange(10.0).view(1, 5, 2)
    assert torch.equal(layer(x), x + 1)
    assert torch.equal(seen[0], torch.cat([x[:, :1], prompts[None], x[:, 1:]], dim=1))


@pytest.mark.parametrize("depth", [1, 3])
def test_shallow_prompts_run_through_all_blocks(depth):
    torch.manual_seed(0)
    encoder = timm.create_model(NAME, **NARROW, depth=depth).eval()
    blocks = list(encoder.blocks)
    add_prompts(encoder, False, 3)
    (prompts,) = (p for name, p in encoder.named_parameters() if name.endswith("prompts"))
    x = torch.randn(2, 5, 48)
    expected = torch.cat([x[:, :1], prompts.expand(2, -1, -1), x[:, 1:]], dim=1)
    for block in blocks:
        expected = block(expected)
    expected = torch.cat([expected[:, :1], expected[:, 4:]], dim=1)
    assert torch.allclose(encoder.blocks(x), expected, atol=1e-6)
    assert encoder(torch.randn(2, 3, 32, 32)).shape == (2, 48)


def test_first_prompts_are_of_the_stated_size():
    torch.manual_seed(0)
    deep = SmallViT()
    add_prompts(deep, True, 3)
    assert len(deep.blocks) == 2
    largest = (6 / (3 * 64 + 32)) ** 0.5
    assert 0.9 * largest < deep.blocks[1].prompts.abs().max() <= largest


@pytest.mark.parametrize("deep", [True, False])
def test_prompts_have_the_learning_rate_of_their_block(deep):
    net = torch.nn.Module()
    net.encoder = timm.create_model(NAME, **NARROW, depth=3)
    plain = layer_scales(net, 0.5)[id(net.encoder.blocks[0].attn.qkv.weight)]
    add_prompts(net.encoder, deep, 2)
    scales = layer_scales(net, 0.5)
    prompts = [p for name, p in net.encoder.named_parameters() if name.endswith(".prompts")]
    assert [scales[id(p)] for p in prompts] == ([plain, 2 * plain, 4 * plain] if deep else [plain])


def test_the_bottleneck_is_parallel_to_the_mlp():
    torch.manual_seed(0)
    mlp = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4))
    both = Parallel(mlp, 2, 0.1, 0.0)
    x = torch.randn(3, 5, 4)
    assert torch.equal(both(x), mlp(x))
    torch.nn.init.normal_(both.up.weight)
    assert torch.allclose(both(x), mlp(x) + 0.1 * both.up(both.down(x).clamp(min=0)), atol=1e-6)


def test_mlps_that_take_the_sides_of_the_image_have_one_too():
    narrow = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 16, 16), "num_heads": (1, 1, 1, 1)}
    encoder = timm.create_model("pvt_v2_b0", num_classes=0, **narrow).eval()
    x = torch.randn(2, 3, 32, 32)
    plain = encoder(x)
    add_bottlenecks(encoder, 4, 1.0)
    added = [m for m in encoder.modules() if isinstance(m, Parallel)]
    assert len(added) == 4
    assert torch.equal(encoder(x), plain)
    torch.nn.init.normal_(added[0].up.bias)
    assert not torch.allclose(encoder(x), plain, atol=1e-3)


def test_ranges():
    with pytest.raises(InputError, match=r"method\.num_prompts=1001: expected 1 to 1000"):
        VPT.Config(num_prompts=1001).resolved()
    with pytest.raises(InputError, match=r"method\.dropout=1: expected 0 to 0.99"):
        AdaptFormer.Config(dropout=1).resolved()


def test_other_networks_are_refused_in_one_line():
    assert VPT.why_incompatible(toy_problem()) == "it needs a plain vision transformer, as vit_* of timm"
    assert "blocks of a transformer" in AdaptFormer.why_incompatible(toy_problem())
    for cls in (VPT, AdaptFormer):
        assert cls.why_incompatible(toy_problem(encoder=SmallViT)) == ""
