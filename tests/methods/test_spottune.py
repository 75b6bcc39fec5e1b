"""SpotTune: where the blocks are, what each choice gives, its gradient, and a problem that asks for it."""

from dataclasses import replace
from itertools import pairwise

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from toy import toy_problem, toy_split, weights_of
from transferbench.datasets.augment import Augment
from transferbench.methods.finetune import FineTune
from transferbench.methods.networks.blocks import find_blocks
from transferbench.methods.networks.encoders import DIGITS_CNNS, DigitsCNN, SmallEncoder
from transferbench.methods.spottune import Router, SpotTune


def layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Conv2d(a, b, 1) for a, b in pairwise(widths)))


class Mixed(nn.Module):
    """A stage of two blocks, two chains that are one block each, and what is none: see the names."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.stage = nn.Sequential(layers(3, 4, 4), layers(4, 4, 3))
        self.attended = nn.Sequential(nn.Conv2d(3, 3, 1), layers(3, 2, 3), nn.Conv2d(3, 3, 1))
        self.joined = Joined()
        self.twice = nn.Sequential(layers(3, 4, 3), layers(3, 4, 3))
        self.pair, self.single = Pair(), nn.Conv2d(3, 3, 1)
        self.of_halves = layers(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.joined(self.attended(self.stage(x)))
        upper, lower = self.of_halves(torch.cat(x.chunk(2, 2))).chunk(2)
        return self.single(self.pair(self.twice(self.twice(upper + lower)))[0]).mean((2, 3))


class Joined(nn.Module):
    """A shortcut half-way: it ends as its last part does."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers(3, 4, 3), layers(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.first(x))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = layers(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.body(x), x


class Named(nn.Module):
    """An encoder that hands its block something by name."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.block = Scaled()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, scale=3.0).mean((2, 3))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = layers(3, 4, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return x + scale * self.body(x)


class Bare(nn.Module):
    """A single layer."""

    num_features = 5

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean((2, 3))


RESNET = ["layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0"]
CONVNEXT = ["stem", "stages.0.blocks.0"]
for stage, depth in enumerate((2, 4, 2), start=1):
    CONVNEXT += [f"stages.{stage}.{part}" for part in ("downsample", *(f"blocks.{i}" for i in range(depth)))]
ENCODERS = {
    "small": (SmallEncoder, [f"stages.{i}" for i in range(4)]),
    "digits_cnn": (lambda: DigitsCNN(*DIGITS_CNNS["digits_cnn"]), ["convs", "hidden"]),
    "mixed": (Mixed, ["stage.0", "stage.1", "attended", "joined"]),
    "named": (Named, ["block"]),
    "bare": (Bare, []),
    "resnet": (lambda: ResNet(BasicBlock, (2, 1, 1, 1), num_classes=0, channels=(8, 16, 24, 32)), RESNET),
    "vit": (lambda: timm.create_model("test_vit", num_classes=0), [f"blocks.{i}" for i in range(6)]),
    "convnext": (lambda: timm.create_model("test_convnext", num_classes=0), CONVNEXT),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_blocks_are_found_and_each_copy_can_be_taken(name):
    """All tuned is the network as it is, all frozen the one that it was, to the bit."""
    make, blocks = ENCODERS[name]
    torch.manual_seed(0)
    encoder, x = make().eval(), torch.randn(2, 3, *[160 if name == "vit" else 32] * 2)
    names = {module: name for name, module in encoder.named_modules()}
    found = find_blocks(encoder, x)
    assert [names[block] for block in found] == blocks
    assert not any(module._forward_hooks for module in encoder.modules())
    if not blocks:
        return
    router = Router(found, 5.0).eval()
    before = weights_of(encoder)

    def by(choice: float) -> Tensor:
        with router.taking(torch.full((2, len(found)), choice)):
            return encoder(x)

    with torch.no_grad():
        at_first = by(1)
        assert torch.equal(by(0), at_first)
        for parameter in (p for block in found for p in block.parameters()):
            parameter += 0.1 * torch.randn_like(parameter)
        plain = make().eval()
        plain.load_state_dict(encoder.state_dict())
        assert torch.equal(by(0), at_first)
        assert torch.equal(by(1), plain(x))
        assert not torch.equal(by(1), at_first)
    assert weights_of(encoder).keys() == before.keys()


def method_of(lr: float = 0.1, **settings: float) -> SpotTune:
    return SpotTune(toy_problem(recipe={"lr": lr}), SpotTune.Config(**settings))


def test_all_tuned_is_fine_tuning(monkeypatch):
    """Step by step, norms and all: the frozen copies and the policy are beside the encoder."""
    plain, method = FineTune(toy_problem(), None), method_of()
    monkeypatch.setattr(Router, "choose", lambda self, x: torch.ones(len(x), 4))
    assert [plain.step(t)["loss"] for t in range(4)] == [method.step(t)["loss"] for t in range(4)]
    tuned = method.net.state_dict()
    assert all(torch.equal(value, tuned[name]) for name, value in plain.net.state_dict().items())
    assert [len(g["params"]) for g in plain.optimizer.param_groups] == [
        len(g["params"]) for g in method.optimizer.param_groups
    ]


def test_frozen_copies_stay_as_they_were_their_norms_too():
    """The network trains meanwhile, and is in training mode when it is asked."""
    method, before = method_of(), toy_problem().network().eval()
    x, _ = next(toy_problem().target.batches(8))
    for t in range(4):
        method.step(t)
    assert method.net.encoder.training
    with method.router.taking(torch.zeros(8, 4)):
        assert torch.equal(method.net.features(x), before.features(x))


def test_tuned_blocks_policy_and_head_move_and_nothing_else():
    method = method_of()
    before, statistics = weights_of(method.net), [norm.running_mean.clone() for norm in method.net.norms]
    for t in range(2):
        method.step(t)
    moved = {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}
    kinds = ("encoder.", "target_head.", "router.policy.")
    assert moved == {name for name in before if name.startswith(kinds)}
    assert len(method.net.norms) == 8
    assert not any(torch.equal(n.running_mean, s) for n, s in zip(method.net.norms, statistics, strict=True))


def test_each_image_goes_its_own_way():
    """Every choice for 4 blocks, against the copies called one after another."""
    method = method_of()
    for t in range(3):
        method.step(t)
    tuned = toy_problem().network().eval()
    own = method.net.state_dict()
    tuned.load_state_dict({name: own[name] for name in tuned.state_dict()})
    frozen = toy_problem().network().eval()
    choice_BN = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    x = torch.randn(16, 3, 16, 16)
    method.net.eval()
    with torch.no_grad():
        got = method.routed(x, choice_BN)
        for i, choice in enumerate(choice_BN.bool().tolist()):
            z = x[i : i + 1]
            for is_tuned, new, old in zip(choice, tuned.encoder.stages, frozen.encoder.stages, strict=True):
                z = (new if is_tuned else old)(z)
            assert torch.allclose(got[i], tuned.target_head(z.mean((2, 3)))[0], atol=1e-5)
    assert len({tuple(row) for row in got.tolist()}) == 16


def with_logits(router: Router, logits_BN2: Tensor) -> Tensor:
    """Let the policy say these; gives the leaf that gradients reach."""
    leaf = logits_BN2.clone().requires_grad_()
    router.policy.forward = lambda x: leaf.flatten(1)
    return leaf


def test_the_gradient_of_a_choice_is_that_of_its_relaxed_form():
    """By hand: the loss's slope along tuned minus frozen, times s (1 - s) / temperature."""
    torch.manual_seed(0)
    block, temperature = layers(3, 5, 3), 5.0
    router = Router([block], temperature)
    with torch.no_grad():
        block[0].weight += 0.5
    logits = torch.randn(6, 1, 2, generator=torch.Generator().manual_seed(1))
    leaf, x, slope = with_logits(router, logits), torch.randn(6, 3, 4, 4), torch.randn(6, 3, 4, 4)
    torch.manual_seed(2)
    choice_BN = router.choose(x)
    with router.taking(choice_BN):
        (block(x) * slope).sum().backward()
    torch.manual_seed(2)
    noisy = logits - torch.empty(6, 1, 2).exponential_().log()
    soft_B = (noisy[:, 0, 1] - noisy[:, 0, 0]).div(temperature).sigmoid()
    assert torch.allclose(choice_BN[:, 0], (noisy[:, 0, 1] > noisy[:, 0, 0]).float())
    assert 0 < choice_BN.sum() < 6
    copy = router.frozen[0]
    with torch.no_grad():
        tuned = nn.Sequential(*block)(x)
        along_B = ((tuned - copy(x)) * slope).sum((1, 2, 3)) * soft_B * (1 - soft_B) / temperature
    assert torch.allclose(leaf.grad[:, 0], torch.stack((-along_B, along_B), 1), rtol=1e-4, atol=1e-6)
    assert along_B.abs().min() > 1e-4


@pytest.mark.parametrize("temperature", [0.5, 5.0])
def test_choices_are_drawn_by_the_softmax_of_the_logits(temperature):
    """At every temperature: it shapes the gradient alone."""
    router = Router([layers(3, 3, 3), layers(3, 3, 3)], temperature)
    with_logits(router, torch.tensor([[[0.0, 1.0], [0.5, -1.5]]]).expand(4000, 2, 2))
    torch.manual_seed(0)
    shares = router.choose(torch.zeros(4000, 3, 4, 4)).mean(0)
    assert torch.allclose(shares, torch.tensor([1.0, -2.0]).sigmoid(), atol=0.03)
    assert router.eval().choose(torch.zeros(4000, 3, 4, 4)).unique(dim=0).tolist() == [[1.0, 0.0]]


def test_the_policy_has_a_rate_and_a_decay_of_its_own():
    method = method_of(policy_rate=0.3, policy_weight_decay=0.02)
    method.step(0)
    groups = method.policy_optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.02, 0]  # kernels, the rest
    assert [group["lr"] for group in groups] == pytest.approx([0.03, 0.03])
    assert [group["lr"] for group in method.optimizer.param_groups] == pytest.approx([0.1, 0.1])


def test_the_policy_sees_small_images():
    router, seen = Router([layers(3, 3, 3)], 5.0), []
    router.policy.register_forward_pre_hook(lambda m, given: seen.append(given[0].shape[-2:]))
    for side in (32, 100):
        assert router.choose(torch.zeros(2, 3, side, side)).shape == (2, 1)
    assert seen == [(32, 32), (64, 64)]


class OneBlock(nn.Module):
    """A block that is the identity at first, and its mean color."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.block = layers(3, 3, 3)
        for layer in self.block:
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).mean((2, 3))


def test_the_policy_learns_which_images_need_the_tuned_block():
    """Reddish images are right by the old block, bluish ones by the tuned one, which turns green around.

    No one copy is right for all, and the network's own weights are held, so that the choice alone can learn.
    """
    labels = [i % 2 for i in range(64)]
    target = toy_split(labels, 2, "target")
    red, green = torch.arange(64) % 4 < 2, torch.arange(64) % 2 == 0
    pixels = torch.full((64, 3, 16, 16), 40, dtype=torch.uint8)
    pixels[red, 0], pixels[~red, 2] = 220, 220
    pixels[green == red, 1] = 220  # what green means depends on the rest
    target.pixels.pixels.copy_(pixels)
    target = replace(target, augment=Augment(8, hflip=False, mean_std="half"))
    recipe = {"lr": 1e-6, "batch_size": 32}
    method = SpotTune(
        toy_problem(target, encoder=OneBlock, recipe=recipe),
        SpotTune.Config(policy_rate=1e5, policy_weight_decay=0.0),
    )
    with torch.no_grad():
        method.net.encoder.block[1].weight[1, 1] = -1
        method.net.target_head.weight.copy_(torch.tensor([[0.0, 4.0, 0.0], [0.0, -4.0, 0.0]]))
    torch.manual_seed(0)
    for t in range(60):
        metrics = method.step(t)
    method.net.eval()
    x, y = next(target.batches(64))
    with torch.no_grad():
        right = {
            n: (method.routed(x, torch.full((64, 1), n)).argmax(1) == y).float().mean() for n in (0.0, 1.0)
        }
        assert (method.predict(x).argmax(1) == y).float().mean() > 0.95
        assert torch.equal(method.predict(x), method.predict(x))
        chosen = method.router.choose(x)[:, 0]
    assert right == {0.0: 0.5, 1.0: 0.5}
    assert torch.equal(chosen, (~red).float())
    assert 0.3 < metrics["tuned_share"] < 0.7


def test_a_backbone_without_blocks_is_refused():
    assert SpotTune.why_incompatible(toy_problem()) == ""
    assert "blocks" in SpotTune.why_incompatible(toy_problem(encoder=Bare))
