"""The worked values of L2TL, and a policy that has to find a planted vector."""

import math
from types import SimpleNamespace

import pytest
import torch
from toy import toy_problem, toy_split
from transferbench import InputError
from transferbench.benchmarks.config.compose import compose_request, rows
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.config.schema import digested
from transferbench.methods.l2tl import L2TL
from transferbench.methods.l2tl_policy.candidates import select
from transferbench.methods.l2tl_policy.reinforce import Policy, _inverse_cdf
from transferbench.methods.l2tl_policy.settings import (
    PRESETS,
    Credit,
    Preset,
    Settings,
    Weights,
    policy_config,
)
from transferbench.methods.metrics import top1

CPU = torch.device("cpu")


def settings(**given: object) -> Settings:
    return Settings(**given).resolved()


def source_loss(loss: list[float], weight: list[float], **given: object) -> float:
    method = SimpleNamespace(config=settings(**given))
    return L2TL.source_loss(method, torch.tensor(loss), torch.tensor(weight)).item()


def test_weights_and_selection_of_the_released_code():
    config = policy_config(settings(preset=Preset.code_svhn, num_actions=4), steps=1200)
    weight_S = torch.tensor(config.weight_levels)[torch.tensor([2, 1])]
    assert weight_S.tolist() == [0.5, 0.25]
    y = torch.tensor([0, 1, 1, 0])
    kept = select(weight_S[y], 3, tie_seed=None)
    assert kept.tolist() == [0, 3, 1]
    weight = weight_S[y][kept]
    assert (3 * weight / weight.sum()).tolist() == pytest.approx([1.2, 1.2, 0.6])
    assert source_loss([1, 2, 3], weight.tolist(), preset=Preset.code_svhn) == pytest.approx(1.8)


def test_a_zero_weight_inflates_the_loss_of_the_released_code():
    assert source_loss([1.5, 9.0], [0.5, 0.0], preset=Preset.code_svhn) == pytest.approx(3.0)


def test_paper_weighs_by_the_plain_sum_over_the_batch():
    assert source_loss([1, 2, 3], [1.0, 0.5, 0.0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("preset", list(Preset))
def test_all_zero_weights_give_a_zero_loss(preset):
    assert source_loss([1, 2, 3], [0, 0, 0], preset=preset) == 0.0


def test_baseline_of_the_released_code():
    policy = Policy(2, policy_config(settings(preset=Preset.code_svhn), 1200), 0, CPU)
    assert policy.advantage(torch.tensor(0.5)).item() == pytest.approx(0, abs=1e-7)
    assert policy.advantage(torch.tensor(0.7)).item() == pytest.approx(0.094737, abs=1e-6)
    assert (policy.reward_sum / policy.reward_share).item() == pytest.approx(0.115 / 0.19)


def test_baseline_of_the_paper_is_subtracted_before_it_moves():
    policy = Policy(2, policy_config(settings(), 1200), 0, CPU)
    assert policy.advantage(torch.tensor(0.5)).item() == 0
    assert policy.advantage(torch.tensor(0.7)).item() == pytest.approx(0.2)


@pytest.mark.parametrize("num_classes", [1, 7, 1000])
def test_log_probability_of_a_uniform_policy(num_classes):
    policy = Policy(num_classes, policy_config(settings(preset=Preset.code_svhn), 1200), 3, CPU)
    assert policy.log_prob(policy.sample()[2]).item() == pytest.approx(-2 * math.log(100), abs=1e-4)


def test_actions_are_those_of_the_cumulative_distribution():
    logits, u = torch.randn(500, 11), torch.rand(500)
    cumulative = logits.softmax(1).cumsum(1)
    expected = [sum(c < x for c in row) for row, x in zip(cumulative.tolist(), u.tolist(), strict=True)]
    assert _inverse_cdf(logits, u).tolist() == [min(k, 10) for k in expected]


@pytest.mark.parametrize("num_images", [5, 8, 19])
def test_a_reward_in_pieces_is_that_of_the_whole_batch(num_images):
    holdout = toy_split([0, 1, 2] * 8, 3, "holdout")
    method = L2TL(toy_problem(holdout=holdout), settings())  # batches of 8
    x, y = torch.randn(num_images, 3, 16, 16), torch.arange(num_images) % 3
    reward = method.reward(x, y)
    assert method.net.training
    method.net.eval()
    assert reward.item() == top1(method.net.target(x), y).item()


def test_levels_of_paper_and_code():
    paper = policy_config(settings(), 20_000)
    assert paper.weight_levels[1] == pytest.approx(0.1)
    assert paper.weight_levels[-1] == 1.0
    assert paper.scale_levels[-1] == 0.5
    assert len(paper.scale_levels) == 100
    assert paper.lr == pytest.approx(1e-4)
    code = policy_config(settings(preset=Preset.code_svhn), 1200)
    assert code.weight_levels[-1] == pytest.approx(0.99)
    assert code.scale_levels[1] == pytest.approx(0.01)
    old = policy_config(settings(preset=Preset.code_svhn_2019), 6000)
    assert old.scale_levels[-1] == pytest.approx(0.099)


def test_presets_set_the_same_settings():
    assert len({frozenset(v) for v in PRESETS.values()}) == 1
    assert None not in vars(settings()).values()


def test_a_given_setting_wins_over_the_preset():
    assert settings(preset=Preset.code_svhn, num_actions=6).num_actions == 6


def test_ties_are_broken_at_random_and_by_the_seed():
    weight = torch.ones(1000)
    first = select(weight, 500, tie_seed=1)
    assert torch.equal(first, select(weight, 500, tie_seed=1))
    assert not torch.equal(first, select(weight, 500, tie_seed=2))
    assert 400 < first.float().mean().item() < 600  # not the first half
    assert len(first.unique()) == 500


def test_selection_keeps_the_heaviest():
    weight = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.0])
    assert set(select(weight, 3, tie_seed=0).tolist()) == {1, 2, 3}


def test_samples_follow_the_policy():
    policy = Policy(2, policy_config(settings(num_actions=3), 1000), 0, CPU)
    with torch.no_grad():
        policy.weight_logits.copy_(torch.tensor([[0.0, 0.0, math.log(2)], [3.0, 0.0, 0.0]]))
    drawn = torch.stack([policy.sample()[0] for _ in range(3000)])
    for level, share in ((0.0, 0.25), (0.5, 0.25), (1.0, 0.5)):
        assert (drawn[:, 0] == level).float().mean().item() == pytest.approx(share, abs=0.03)
    assert policy.mean_weights()[0].item() == pytest.approx(0.625, abs=0.01)
    assert policy.expected()[0][0].item() == pytest.approx(0.625)


def test_policy_reaches_a_planted_vector():
    planted = torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0, 0.5])
    given = settings(num_actions=3, policy_lr=0.02)
    policy = Policy(6, policy_config(given, 6000), 0, CPU)
    for _ in range(6000):
        weight_S, _, actions = policy.sample()
        policy.reinforce(policy.log_prob(actions), -(weight_S - planted).abs().sum())
    likeliest = policy.weight_levels[policy.weight_logits.argmax(1)]
    assert torch.equal(likeliest, planted)
    assert (policy.expected()[0] - planted).abs().max().item() < 0.1


def test_ablations_learn_the_scale_alone():
    for weights in (Weights.uniform, Weights.random):
        policy = Policy(5, policy_config(settings(weights=weights, policy_lr=0.1), 10), 0, CPU)
        for reward in (0.1, 0.9, 0.2):
            policy.reinforce(policy.log_prob(policy.sample()[2]), torch.tensor(reward))
        assert policy.weight_logits.abs().sum() == 0
        assert policy.scale_logits.abs().sum() > 0


def test_only_classes_of_the_batch_are_judged():
    policy = Policy(3, policy_config(settings(policy_lr=0.1), 10), 0, CPU)
    for reward in (0.1, 0.9):
        actions = policy.sample()[2]
        policy.reinforce(policy.log_prob(actions, torch.tensor([True, False, True])), torch.tensor(reward))
    moved_C = policy.weight_logits.abs().sum(1) > 0
    assert moved_C.tolist() == [True, False, True]


def test_a_gain_is_measured_on_the_same_images(build):
    """Without learning rate nothing is gained."""
    method = build("l2tl", "method.credit=gain", "method.reward=negative_loss", "recipe.lr=1e-30")
    assert method.step(0)["reward"].item() == pytest.approx(0, abs=1e-6)


def test_an_oracle_needs_a_known_truth(build):
    with pytest.raises(InputError, match="worth is not known; expected source=planted"):
        build("l2tl", "method.weights=oracle")


def test_credit_by_rewards_is_not_in_the_digest():
    assert "credit" not in digested(settings())
    assert digested(settings(credit=Credit.gain))["credit"] == "gain"


@pytest.mark.parametrize(
    ("row", "digest"),
    [
        ("finetune", "cebbf3b576"),
        ("uniform", "0dabf540ef"),
        ("random", "784e2aa006"),
        ("l2tl", "0bbe3440e2"),
        ("l2tl_code", "6e7ccdbe46"),  # since its policy has TensorFlow's Adam
        ("oracle", "9fa762fc26"),
    ],
)
def test_digests_of_earlier_runs_do_not_change(row, digest):
    first = ["backbone=small", "recipe.batch_size=32", "recipe.lr=0.01", "recipe.evaluations=10"]
    overrides = [
        "target=digits",
        f"methods={row}",
        *first,
        "source_recipe.steps=1000",
        "source_recipe.seed=0",
    ]
    request = compose_request(overrides)
    ((method, own),) = rows(request, overrides)
    assert run_config(request, method, own, seed=0).digest == digest
