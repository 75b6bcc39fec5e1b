"""TrivialAugment, RandAugment, color jitter and random erasing: torchvision's operations, image by image."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, RandAugment, TrivialAugmentWide
from torchvision.transforms.v2 import functional as tv
from transferbench.datasets.augment import Augment
from transferbench.datasets.augmentation.operations import (
    BINS,
    LARGEST,
    RAND_BIN,
    by_policy,
    changed,
    erased,
    jittered,
    strengths,
)

NAMES = list(LARGEST)
LINEAR = InterpolationMode.BILINEAR


def images(number: int = 6, side: int = 24) -> torch.Tensor:
    """Smooth images of whole values, and noise in the last."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(number, 3, 5, 5, generator=generator) * 255
    x = torch.nn.functional.interpolate(small, (side, side), mode="bicubic").clamp(20, 240)
    x[-1] = torch.rand(3, side, side, generator=generator) * 255
    return x.round()


def known(x: torch.Tensor, name: str, strength: float) -> torch.Tensor:
    """Return what torchvision's operation makes of whole values."""
    if name == "identity":
        return x
    if name.startswith("shear"):
        degrees = torch.tensor(strength).atan().rad2deg().item()
        shear = [degrees, 0.0] if name == "shear_x" else [0.0, degrees]
        return tv.affine(x, 0.0, [0, 0], 1.0, shear, interpolation=LINEAR, center=[0, 0])
    if name.startswith("translate"):
        way = [int(strength), 0] if name == "translate_x" else [0, int(strength)]
        return tv.affine(x, 0.0, way, 1.0, [0.0, 0.0], interpolation=LINEAR)
    if name == "rotate":
        return tv.rotate(x, strength, interpolation=LINEAR)
    whole = x.to(torch.uint8)
    one_value = {"posterize": 8 - round(abs(strength)), "solarize": 255 - abs(strength)}
    if name in one_value:
        return getattr(tv, name)(whole, one_value[name]).float()
    if name in ("autocontrast", "equalize"):
        return getattr(tv, name)(whole).float()
    kind = {"color": "saturation"}.get(name, name)
    return getattr(tv, f"adjust_{kind}")(whole, 1 + strength).float()


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvisions(name):
    """With another strength for each image; torchvision rounds after every step of color operations."""
    x = images()
    largest = {"translate_x": 9.0, "translate_y": 9.0}.get(name, LARGEST[name][0])
    signed = largest * torch.tensor([-1.0, -0.6, -0.2, 0.2, 0.6, 1.0])
    which = torch.full((len(x),), NAMES.index(name))
    own = changed(x, which, signed)
    expected = torch.cat([known(one[None], name, s.item()) for one, s in zip(x, signed, strict=True)])
    worst = (own - expected).abs().max().item()
    assert worst <= (2 if name in ("color", "contrast", "sharpness", "brightness", "autocontrast") else 0.02)


def test_images_of_one_batch_do_not_meet():
    x = images(len(NAMES))
    which, signed = torch.arange(len(NAMES)), torch.linspace(-0.9, 0.9, len(NAMES))
    before = x.clone()
    together = changed(x, which, signed)
    apart = torch.cat([changed(x[i : i + 1], which[i : i + 1], signed[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(together, apart)
    assert torch.equal(x, before)


@pytest.mark.parametrize("is_trivial", [True, False])
def test_strengths_are_torchvisions(is_trivial):
    space = (TrivialAugmentWide if is_trivial else RandAugment)._AUGMENTATION_SPACE
    names = {"identity": "Identity", "autocontrast": "AutoContrast", "equalize": "Equalize"}
    for number, name in enumerate(NAMES):
        magnitudes = space[names.get(name, "".join(w.title() for w in name.split("_")))][0](BINS, 224, 224)
        if magnitudes is None:
            continue
        bins = torch.arange(BINS)
        own = strengths(torch.full((BINS,), number), bins, is_trivial, 224)
        if name == "posterize":
            own = 8 - own.round()
        if name == "solarize":
            own, magnitudes = 255 - own, 255 * magnitudes
        torch.testing.assert_close(own.float(), magnitudes.float())


def test_every_operation_is_drawn_equally_often():
    x = torch.full((4000, 3, 1, 1), 100.0)
    seen = []

    def count(x, which, signed):
        seen.append((which, signed))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transferbench.datasets.augmentation.operations.changed", count)
        by_policy(x, "randaugment", torch.Generator().manual_seed(0))
    assert len(seen) == 2
    for which, signed in seen:
        counts = which.bincount(minlength=len(NAMES))
        assert counts.min() > 0.7 * 4000 / len(NAMES)
        assert counts.max() < 1.3 * 4000 / len(NAMES)
        turned = signed[which == NAMES.index("rotate")]
        assert turned.abs().unique().tolist() == [pytest.approx(30 * RAND_BIN / 30)]
        assert 0.4 < (turned > 0).float().mean() < 0.6


def test_jitter_of_nothing_is_nothing():
    x = images()
    torch.testing.assert_close(jittered(x, 1e-7, torch.Generator().manual_seed(0)), x, atol=0.01, rtol=0)


def test_jitter_stays_in_the_range_of_pixels_and_differs_by_image():
    x = images(1).expand(8, -1, -1, -1)
    y = jittered(x, 0.5, torch.Generator().manual_seed(0))
    assert y.min() >= 0
    assert y.max() <= 255
    assert len({round(one.mean().item(), 3) for one in y}) == 8


def test_a_box_is_erased_as_often_and_as_large_as_asked():
    x = torch.ones(2000, 3, 32, 32)
    y = erased(x, 0.25, torch.Generator().manual_seed(0))
    share = (y == 0).float().mean((1, 2, 3))
    hit = share > 0
    assert 0.2 < hit.float().mean() < 0.3
    assert share[hit].min() > 0.01
    assert share.max() < 0.36
    inside = y[hit][0, 0] == 0
    rows, columns = inside.any(1), inside.any(0)
    assert inside.sum() == rows.sum() * columns.sum()  # a box


@pytest.mark.parametrize("change", [{"policy": "trivial"}, {"color_jitter": 0.4}, {"random_erasing": 1.0}])
def test_a_change_depends_on_the_seed_alone_and_leaves_the_crops(change):
    raw = images(4, 32).to(torch.uint8)
    plain = Augment(16)
    strong = replace(plain, **change)
    aspect = torch.ones(4)
    one, again, other = (strong.train(raw, aspect, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    crops = plain.train(raw, aspect, 1)
    assert not torch.equal(crops, one)
    assert torch.equal(replace(strong, **{k: getattr(plain, k) for k in change}).train(raw, aspect, 1), crops)
    assert torch.equal(strong.central(raw, aspect), plain.central(raw, aspect))
