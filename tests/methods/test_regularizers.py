"""The penalties of L2-SP and BSS, against hand-worked numbers and their effect in a step."""

import pytest
import torch
from small_vit import SmallViT
from toy import toy_problem, weights_of
from transferbench.methods.bss import BSS, spectral_tail
from transferbench.methods.finetune import FineTune
from transferbench.methods.l2sp import L2SP


def matrix(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, columns, generator=generator, dtype=torch.double)


def test_l2sp_is_zero_on_the_encoder_at_its_start():
    method = L2SP(toy_problem(), L2SP.Config(alpha=3.0, beta=0.0))
    assert method.penalty().item() == 0
    method = L2SP(toy_problem(), L2SP.Config(alpha=3.0, beta=0.5))
    expected = 0.25 * method.net.target_head.weight.square().sum().item()
    assert method.penalty().item() == pytest.approx(expected)


@pytest.mark.parametrize("kernels_only", [True, False])
def test_l2sp_of_a_shift_is_worked_by_hand(kernels_only):
    """Shifted by d, a group of n weights costs alpha/2 n d^2; a head of n twos costs beta/2 4 n."""
    method = L2SP(toy_problem(), L2SP.Config(alpha=0.2, beta=0.6, kernels_only=kernels_only))
    counted = [p for p in method.net.encoder.parameters() if p.ndim > 1 or not kernels_only]
    with torch.no_grad():
        for p in method.net.encoder.parameters():
            p.add_(0.5)
        for p in (*method.net.target_head.parameters(), *method.net.source_head.parameters()):
            p.fill_(2.0)
    shifted = sum(p.numel() for p in counted)
    assert shifted == 293_040 + (0 if kernels_only else 960)
    size = 4 * (128 * 3 + (0 if kernels_only else 3))
    assert method.penalty().item() == pytest.approx(0.1 * 0.25 * shifted + 0.3 * size, rel=1e-5)


def test_embeddings_are_no_kernels():
    method = L2SP(toy_problem(encoder=SmallViT), L2SP.Config())
    names = {id(p): name for name, p in method.net.encoder.named_parameters()}
    pulled = {names[id(p)] for p, _ in method.pulled}
    assert {"cls_token", "pos_embed"} <= set(names.values()) - pulled
    assert "blocks.0.attn.qkv.weight" in pulled


def test_l2sp_takes_the_place_of_weight_decay():
    """One step of plain SGD from the start: only the head is pulled, towards zero."""
    changes = {"recipe": {"momentum": 0.0, "weight_decay": 0.0}}
    plain = FineTune(toy_problem(**changes), None)
    changes["recipe"]["weight_decay"] = 0.7  # without effect
    pulled = L2SP(toy_problem(**changes), L2SP.Config(alpha=50.0, beta=2.0))
    start = weights_of(plain.net)["target_head.weight"]
    plain.step(0)
    pulled.step(0)
    wanted = weights_of(plain.net)
    wanted["target_head.weight"] -= 0.1 * 2.0 * start
    for name, weight in weights_of(pulled.net).items():
        torch.testing.assert_close(weight, wanted[name], msg=name)


def test_l2sp_pulls_back_to_the_start():
    method = L2SP(toy_problem(recipe={"momentum": 0.0, "lr": 0.01}), L2SP.Config(alpha=99.0, beta=0.0))
    start = weights_of(method.net.encoder)
    with torch.no_grad():
        for p in method.net.encoder.parameters():
            if p.ndim > 1:
                p.add_(3.0)
    method.step(0)
    for name, weight in weights_of(method.net.encoder).items():
        if weight.ndim > 1:  # 1 - lr alpha of the way is left
            assert (weight - start[name]).mean().item() == pytest.approx(0.03, abs=0.02)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_bss_sums_the_smallest_squared_singular_values(shape, k):
    feature = matrix(*shape)
    expected = torch.linalg.svdvals(feature).square().flip(0)[:k].sum()
    assert spectral_tail(feature, k).item() == pytest.approx(expected.item())


def test_bss_of_a_known_spectrum():
    feature = torch.tensor([[3.0, 0, 0, 0], [0, 0, 2.0, 0], [0, 0.5, 0, 0]])
    assert [spectral_tail(feature, k).item() for k in (1, 2, 3)] == pytest.approx([0.25, 4.25, 13.25])


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
def test_the_gradient_of_bss_is_that_of_finite_differences(shape):
    assert torch.autograd.gradcheck(lambda f: spectral_tail(f, 2), matrix(*shape).requires_grad_())


def test_bss_sees_a_weak_direction_beside_a_strong_one():
    """In float32 the square of 1e-3 would drown in that of 1e3."""
    turn = torch.linalg.qr(matrix(4, 4)).Q
    feature = (turn @ torch.diag(torch.tensor([1e3, 1.0, 1.0, 1e-3], dtype=torch.double))).float()
    assert spectral_tail(feature, 1).item() == pytest.approx(1e-6, rel=0.2)


def test_bss_shrinks_the_tail_and_fine_tuning_is_its_limit():
    plain, zero = FineTune(toy_problem(), None), BSS(toy_problem(), BSS.Config(eta=0.0))
    for t in range(2):
        assert plain.step(t)["loss"] == zero.step(t)["loss"]
    for a, b in zip(plain.net.parameters(), zero.net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    strong = BSS(toy_problem(), BSS.Config(eta=1.0, k=6))
    strong.step(0)
    strong.step(1)
    x = next(toy_problem().target.batches(8))[0]
    tail = [spectral_tail(m.net.features(x), 6).item() for m in (zero, strong)]
    assert tail[1] < tail[0] / 2
