"""MixUp, CutMix and label smoothing: the share of an image is the share of its label."""

import pytest
import torch
from toy import toy_split
from transferbench.datasets import distributed
from transferbench.datasets.augmentation.mixing import Mixing

VALUES = torch.arange(6.0)  # of one-colored images: a mixed pixel tells whose it is


def one_colored(number: int = 6, side: int = 20) -> torch.Tensor:
    return VALUES[:number, None, None, None].expand(-1, 3, side, side).clone()


def test_label_smoothing_is_torchs_and_leaves_the_images():
    x, y, z = one_colored(), torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(6, 4)
    same, soft = Mixing(smoothing=0.1)(x, y, 4, seed=0)
    assert same is x
    own = torch.nn.functional.cross_entropy(z, soft)
    torch.testing.assert_close(own, torch.nn.functional.cross_entropy(z, y, label_smoothing=0.1))


@pytest.mark.parametrize("mixing", [Mixing(mixup=1.0), Mixing(cutmix=1.0)])
def test_neighbors_are_mixed_by_the_share_of_their_labels(mixing):
    y = torch.arange(6)
    for seed in range(20):
        x, soft = mixing(one_colored(), y, 6, seed)
        torch.testing.assert_close(soft.sum(1), torch.ones(6))
        shares = soft.diagonal()
        torch.testing.assert_close(shares, shares[:1].expand(6))  # one share for the batch
        assert torch.equal(soft != 0, torch.block_diag(*[torch.ones(2, 2)] * 3) * soft != 0)
        torch.testing.assert_close(x.mean((1, 2, 3)), soft @ VALUES)
        if mixing.cutmix:
            assert set(x[2].unique().tolist()) <= {2.0, 3.0}


def test_the_share_is_drawn_from_beta():
    shares = [Mixing(mixup=0.2)(one_colored(2), torch.arange(2), 2, seed)[1][0, 0] for seed in range(400)]
    shares = torch.stack(shares)
    assert 0.45 < shares.mean() < 0.55
    assert shares.var().item() == pytest.approx(0.25 / 1.4, rel=0.15)  # of Beta(0.2, 0.2)


def test_with_both_half_of_the_batches_are_cut():
    both = Mixing(mixup=1.0, cutmix=1.0)
    mixed = [both(one_colored(2), torch.arange(2), 2, seed)[0] for seed in range(200)]
    assert 80 < sum(set(x.unique().tolist()) <= {0, 1} for x in mixed) < 120


def test_the_last_image_of_an_odd_batch_stays():
    x, soft = Mixing(mixup=1.0)(one_colored(5), torch.arange(5), 5, 0)
    assert (x[4] == 4).all()
    assert soft[4].tolist() == [0, 0, 0, 0, 1]


def test_a_slice_of_a_batch_is_mixed_as_in_the_whole():
    """So two processes with three pairs each see what one sees."""
    x, y = one_colored(), torch.arange(6)
    for seed in range(6):
        mixing = Mixing(mixup=0.5, cutmix=0.5, smoothing=0.1)
        whole = mixing(x, y, 6, seed)
        parts = [mixing(x[s], y[s], 6, seed) for s in (slice(0, 2), slice(2, 6))]
        for own, both in zip(whole, zip(*parts, strict=True), strict=True):
            torch.testing.assert_close(own, torch.cat(both))
    assert distributed.size() == 1


def test_only_training_batches_are_mixed():
    from dataclasses import replace

    split = replace(toy_split([0, 1, 2] * 4, 3), mixing=Mixing(mixup=1.0))
    assert next(split.stream(4, 0))[1].shape == (4, 3)
    assert next(split.stream(4, 0, mixed=False))[1].shape == (4,)
    assert next(split.stream(4, 0, augmented=False))[1].shape == (4,)
    assert next(iter(split.batches(4)))[1].shape == (4,)
    assert split.stream(4, 0).draw()[1].shape == (4,)
    one, again = (next(split.stream(4, 0)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
