"""Credit by gradients: against the gradient of each image, and a policy that follows it."""

import math

import pytest
import torch
from near_pair import build_near, in_float64
from torch.nn import functional as F
from transferbench import InputError
from transferbench.methods.l2tl_gradients import Alpha, L2TLGradients, policy_config, times_share
from transferbench.methods.l2tl_policy.gradient_credit import (
    ClassCredit,
    Judge,
    image_credit,
    shared_parameters,
)
from transferbench.methods.l2tl_policy.reinforce import Policy, PolicyConfig
from transferbench.methods.networks.network import frozen_statistics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exact(config_of, built_of):
    return in_float64(build_near(config_of, built_of, "recipe.steps=200", "recipe.lr=0.02"), batch_size=8)


def flat(tensors):
    return torch.cat([t.ravel() for t in tensors])


def test_credit_is_the_product_of_each_images_gradient_and_the_holdouts(exact):
    """The slow way: one backward pass an image. A quotient of differences is off by its curvature."""
    net, source = exact.network(), exact.source.stream(8, 0)
    (x, y), (x_S, y_S) = next(exact.holdout.stream(8, 0)), next(source)
    direction, loss = Judge(net, 0).direction(net, x, y)
    with frozen_statistics(net):
        plain = F.cross_entropy(net.target(x), y)
        v = flat(torch.autograd.grad(plain, shared_parameters(net)))
        loss_B = F.cross_entropy(net.source(x_S), y_S, reduction="none")
        rows = [torch.autograd.grad(one, shared_parameters(net), retain_graph=True) for one in loss_B]
    assert loss.item() == pytest.approx(plain.item())
    assert torch.allclose(direction, v / v.norm())
    expected_B = torch.stack([flat(row) for row in rows]) @ v / v.norm()
    feature_BF = _features(net, x_S).detach()
    credit_B = image_credit(net, net.source_head, x_S, y_S, feature_BF, direction)
    expected_B = expected_B.to(credit_B)
    assert torch.allclose(credit_B, expected_B, atol=0.05 * expected_B.abs().max().item())
    relative_B = image_credit(net, net.source_head, x_S, y_S, feature_BF, direction, relative=True)
    assert torch.allclose(relative_B * (loss_B.to(credit_B) + 0.5), credit_B)
    assert torch.equal(net.source_features(x_S), feature_BF)  # what a step hands over


def _features(net, x):
    with frozen_statistics(net):
        return net.features(x)


def test_a_layerwise_direction_is_as_long_in_each_tensor_as_its_weights(exact):
    net = exact.network()
    x, y = next(exact.holdout.stream(8, 0))
    shared = shared_parameters(net)
    sizes = [p.numel() for p in shared]
    plain, layerwise = (
        Judge(net, 0, scaled).direction(net, x, y)[0].split(sizes) for scaled in (False, True)
    )
    total = flat([p for p in shared if p.norm() > 0]).norm()
    for p, g, v in zip(shared, plain, layerwise, strict=True):
        assert v.norm().item() == pytest.approx((p.norm() / total).item(), rel=1e-4)
        assert torch.dot(g, v).item() == pytest.approx((g.norm() * v.norm()).item(), rel=1e-4)


def test_a_judge_learns_from_a_batch_after_it_has_judged_by_it(exact):
    """Its head starts at zero, so a first batch says nothing about the encoder; then it fits that batch."""
    net = exact.network()
    x, y = next(exact.holdout.stream(8, 0))
    judge = Judge(net, 0.01)
    direction, first = judge.direction(net, x, y)
    assert first.item() == pytest.approx(math.log(10))
    assert direction.norm() == 0
    for _ in range(20):
        direction, loss = judge.direction(net, x, y)
    assert loss < 0.8 * first
    assert direction.norm().item() == pytest.approx(1)


def test_a_judges_source_head_learns_classes_that_are_not_trained_on(exact):
    """From images that are judged; the network's own head stays as it is."""
    net = exact.network()
    (x, y), (x_S, y_S) = next(exact.holdout.stream(8, 0)), next(exact.source.stream(8, 0))
    judge = Judge(net, 0.01)
    before = net.source_head.weight.clone()
    judge.direction(net, x, y)
    direction, _ = judge.direction(net, x, y)
    first = judge.credit(net, x_S, y_S, None, direction, relative=False)
    assert torch.equal(
        first, image_credit(net, net.source_head, x_S, y_S, _features(net, x_S).detach(), direction)
    )
    for _ in range(20):
        judge.credit(net, x_S, y_S, None, direction, relative=False)
    feature_BF = _features(net, x_S).detach()
    own, learned = (
        F.cross_entropy(head(feature_BF), y_S) for head in (net.source_head, judge.heads["source"])
    )
    assert learned < 0.8 * own
    assert torch.equal(net.source_head.weight, before)


def test_measuring_credit_leaves_the_network_as_it_is(exact):
    net = exact.network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    (x, y), (x_S, y_S) = next(exact.holdout.stream(8, 0)), next(exact.source.stream(8, 0))
    for rate in (0, 0.01):
        judge = Judge(net, rate, layerwise=True)
        direction, _ = judge.direction(net, x, y)
        judge.credit(net, x_S, y_S, None, direction, relative=True)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_means_of_classes_by_hand():
    credit = ClassCredit(4, CPU)
    credit.add(torch.tensor([1.0, 3.0, -1.0]), torch.tensor([0, 0, 1]))
    assert credit.mean().tolist() == [2, -1, 0, 0]
    credit.add(torch.tensor([8.0, 2.0]), torch.tensor([0, 3]))
    assert credit.mean().tolist() == [4, -1, 0, 2]
    # around them, in class 0: 9 + 1 + 16, of 5 images
    deviation = math.sqrt(26 / 5)
    assert credit.deviation().item() == pytest.approx(deviation)
    # counts 3, 1, 0, 1; weights 1, 1/2, 1, 0: shares 3, 1/2, 0, 0
    mean, error = credit.mixture(torch.tensor([1.0, 0.5, 1, 0]))
    assert mean.item() == pytest.approx((3 * 4 - 0.5) / 3.5)
    assert error.item() == pytest.approx(deviation * math.sqrt(3 + 0.5 * 0.5) / 3.5)
    expected = [2 * math.sqrt(3) / deviation, -3 / deviation, 0, 0]
    assert credit.evidence(torch.tensor(2.0)).tolist() == pytest.approx(expected)
    assert ClassCredit(4, CPU).evidence(torch.tensor(0.0)).tolist() == [0, 0, 0, 0]


def test_old_credit_fades():
    """A class whose credit changes sign is judged by its last images; one that is seen rarely by all."""
    kept, faded = ClassCredit(2, CPU), ClassCredit(2, CPU, memory=20)
    for value in [-1.0] * 30 + [1.0] * 30:
        for credit in (kept, faded):
            credit.add(torch.tensor([value, value]), torch.tensor([0, 0]))
    for credit in (kept, faded):
        credit.add(torch.tensor([2.0]), torch.tensor([1]))
    assert kept.mean().tolist() == [0, 2]
    assert faded.mean()[0].item() == pytest.approx(1 - 2 * (20 / 22) ** 30)
    assert faded.count_S.tolist() == pytest.approx([20, 1])
    assert faded.deviation() > 0


def test_a_share_of_the_helpful_classes_credit_by_hand():
    credit = ClassCredit(5, CPU)
    for c, value in enumerate([4.0, 2.0, 1.0, -3.0]):
        credit.add(torch.full((8,), value), torch.full((8,), c))
    helpful = (16 + 4 + 1) / 7  # each of the positive ones, weighted by itself: 3
    assert credit.share().tolist() == pytest.approx([1, 2 / helpful, 1 / helpful, 0.01, 1])
    credit.add(torch.full((7,), -1.0), torch.full((7,), 4))
    assert credit.share()[4] == 1  # too few


def test_a_product_of_probabilities_keeps_its_rank():
    logit, share = torch.tensor([-40.0, -30, 0, 2, 40, 40]), torch.tensor([1.0, 0.01, 0.5, 0.3, 1, 0.2])
    product = times_share(logit.double(), share.double())
    assert product.sigmoid().tolist() == pytest.approx((logit.double().sigmoid() * share).tolist())
    assert times_share(logit, share)[0] < times_share(logit, share)[1]
    assert times_share(logit, torch.ones(6)).tolist() == pytest.approx(logit.tolist())


def test_weights_are_the_probability_to_help_times_the_share(build):
    for proportional in (True, False):
        method = build("l2tl_gradients", f"method.proportional={proportional}")
        for t in range(6):
            method.step(t)
        worth, _ = method.credit.mixture(method.policy.expected()[0])
        evidence = method.credit.evidence(0.1 * worth.clamp(min=0))
        method._update_policy()
        expected = (2 * evidence).sigmoid() * (method.credit.share() if proportional else 1)
        assert method.policy.expected()[0].tolist() == pytest.approx(expected.tolist(), abs=2e-6)


def test_the_mixtures_error_is_what_many_draws_show():
    """Images of two classes with weights; their weighted mean over 20,000 sets of images."""
    weight_S, counts = torch.tensor([1.0, 0.3]), (6, 10)
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(2000):
        credit = ClassCredit(2, CPU)
        y = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
        credit.add(2 * torch.randn(16, generator=generator), y)
        mean, error = credit.mixture(weight_S)
        means.append(mean)
        errors.append(error**2)
    shown = torch.stack(means).var()
    # the deviation of n images around k means has n - k degrees of freedom, and is divided by n
    assert (torch.stack(errors).mean() * 16 / 14 / shown).item() == pytest.approx(1, abs=0.1)


def test_a_tilted_policy_by_hand():
    config = policy_config(L2TLGradients.Config(num_actions=3, num_alpha_actions=2))
    policy = Policy(2, config, 0, CPU)
    policy.tilt(torch.tensor([2 * math.log(2), 0.0]), torch.tensor(-math.log(3)))
    weight_C, scale = policy.expected()
    # levels 0, 1/2, 1 with chances 1 : 2 : 4, and 1/3 each; scales 0 and 1/2 with 1 : 1/3
    assert weight_C.tolist() == pytest.approx([(0.5 * 2 + 4) / 7, 0.5])
    assert scale.item() == pytest.approx(0.5 * 0.25)


def test_a_tilt_leaves_alone_what_is_not_learned():
    config = PolicyConfig(weight_levels=(0, 1), scale_levels=(0.5,), learns_weights=False, learns_scale=False)
    assert not policy_config(L2TLGradients.Config(alpha=Alpha.fixed)).learns_scale
    policy = Policy(2, config, 0, CPU)
    policy.tilt(torch.ones(2), torch.ones(()))
    assert policy.weight_logits.abs().sum() == 0
    assert policy.scale_logits.abs().sum() == 0


@pytest.mark.parametrize("proportional", [False, True])
def test_it_finds_the_classes_under_conflicting_labels(config_of, built_of, proportional):
    """The planted truth, from random weights and in few steps."""
    given = ("source=planted:conflicting:0.5:glyphs:digits", "backbone=tiny", "recipe.steps=200", "shots=2")
    config = config_of("l2tl_gradients", *given, "recipe.lr=0.05", f"method.proportional={proportional}")
    problem = built_of(config).problem
    method = L2TLGradients(problem, config.settings)
    for t in range(200):
        method.step(t)
    weight_S, truth_S = method.policy.expected()[0], torch.tensor(problem.source.truth)
    assert (weight_S[truth_S == 1][:, None] > weight_S[truth_S == 0]).float().mean() > 0.98
    assert weight_S[truth_S == 1].mean() > (0.5 if proportional else 0.9)
    assert weight_S[truth_S == 0].mean() < (0.01 if proportional else 0.1)


@pytest.mark.parametrize("explored", [0, 2])
def test_candidates_are_judged_that_are_not_trained_on(build, explored):
    given = (f"method.explored={explored}", "shots=2", "source=glyphs")
    method = build("l2tl_gradients", *given)
    method.step(0)
    assert method.credit.count_S.sum() == 16 * (1 + explored)
    assert method.source.num_images == 16 * (1 + explored)
    plain = build("l2tl", "shots=2")  # the paper's looks at no more than it trains on
    plain.step(0)
    assert plain.source.num_images == 16


def test_an_earlier_gradient_of_the_holdout_counts_less(build):
    method = build("l2tl_gradients", "method.direction_memory=0.5", "shots=2")
    method.step(0)  # a judge that knows nothing gives no direction
    assert method.direction.norm() == 0
    method.step(1)
    first = method.direction.clone()
    assert first.norm().item() == pytest.approx(1, rel=1e-4)
    method.step(2)
    newest = method.direction - 0.5 * first
    assert newest.norm().item() == pytest.approx(1, rel=1e-4)


def test_it_needs_fp32_and_settings_in_their_ranges(build):
    with pytest.raises(InputError, match="recipe.precision=bf16: .* expected fp32"):
        build("l2tl_gradients", "recipe.precision=bf16")
    with pytest.raises(InputError, match="method.direction_memory=2.0: expected 0 to 1"):
        build("l2tl_gradients", "method.direction_memory=2")


@pytest.mark.parametrize("setting", ["method.preset=first_order", "method.credit=first_order"])
def test_its_first_name_is_refused_by_one_line_with_the_present_one(config_of, setting):
    with pytest.raises(
        InputError, match=f"^{setting}: .* expected method=l2tl_gradients, in bench methods=l2tl_gradients$"
    ):
        config_of("l2tl", setting)
