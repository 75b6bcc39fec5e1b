"""Crops read off images that are ramps: red rises to the right, green rises downwards."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision
from transferbench.datasets import augment as augmentation
from transferbench.datasets.augment import MEAN_STD, RATIO, Augment

SIDE, SIZE = 64, 16
TOLERANCE = 0.02  # shares of the image's side


def ramps(count: int) -> Tensor:
    rising = (4 * torch.arange(SIDE)).to(torch.uint8).expand(SIDE, SIDE)
    image = torch.stack((rising, rising.T, torch.full_like(rising, 255)))
    return image.expand(count, -1, -1, -1)


def augment(**given: object) -> Augment:
    return Augment(**{"image_size": SIZE, "mean_std": "none", "hflip": False, **given})


def extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Read start and length of the crop, in shares of the side, from ramp values [B,SIZE]."""
    length = (profile[:, -4] - profile[:, 3]) / (SIZE - 7) * SIZE * 255 / (4 * SIDE)
    center = (profile[:, SIZE // 2 - 1 : SIZE // 2 + 1].mean(1) * 255 / 4 + 0.5) / SIDE
    return center - length / 2, length


def boxes(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Read left, width, top and height of each image's crop; a mirror image has a negative width."""
    return *extent(x[:, 0].mean(1)), *extent(x[:, 1].mean(2))


def aspects(count: int) -> Tensor:
    return torch.linspace(0.5, 2, count)


@pytest.mark.parametrize("mean_std", MEAN_STD)
def test_whole_central_crop_at_native_size_is_the_identity(mean_std):
    x = torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    got = Augment(SIDE, crop_pct=1.0, mean_std=mean_std).central(x, torch.ones(3))
    mean, std = (torch.tensor(v)[:, None, None] for v in MEAN_STD[mean_std])
    torch.testing.assert_close(got, (x - 255 * mean) / (255 * std), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.875])
def test_central_crop_is_square_in_the_original(share):
    aspect = torch.tensor([1.0, 2.0, 0.5])
    left, width, top, height = boxes(augment(crop_pct=share).central(ramps(3), aspect))
    torch.testing.assert_close(width, share * torch.tensor([1, 0.5, 1]), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(height, share * torch.tensor([1, 1, 0.5]), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(left, (1 - width) / 2, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(top, (1 - height) / 2, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("crop_scale", [0.08, 0.5, 0.9])
def test_random_crops_keep_their_share_and_lie_inside(crop_scale):
    x = augment(crop_scale=crop_scale).train(ramps(600), aspects(600), seed=0)
    left, width, top, height = boxes(x)
    for start, length in ((left, width), (top, height)):
        assert start.min() > -TOLERANCE
        assert (start + length).max() < 1 + TOLERANCE
    area = width * height
    assert area.min() > crop_scale - TOLERANCE
    assert area.max() < 1 + TOLERANCE
    assert area.min() < crop_scale + 0.05
    assert area[aspects(600).log().abs() < 0.2].max() > 0.9


def test_random_crops_have_the_ratio_of_the_original_geometry():
    aspect = aspects(600)
    _, width, _, height = boxes(augment().train(ramps(600), aspect, seed=0))
    whole = (width < 0.95) & (height < 0.95)  # not cut off at the edge of the image
    ratio = (width * aspect / height)[whole]
    assert whole.sum() > 300
    assert ratio.min() > RATIO[0] - 0.05
    assert ratio.max() < RATIO[1] + 0.05
    assert ratio.max() - ratio.min() > 0.4


def test_each_image_gets_its_own_crop():
    x = augment().train(ramps(50), torch.ones(50), seed=0)
    assert len({tuple(image.flatten().tolist()) for image in x}) == 50


def test_mirror_images_are_about_half():
    x = augment(hflip=True, crop_scale=0.5).train(ramps(400), torch.ones(400), seed=0)
    _, width, _, height = boxes(x)
    assert 0.42 < (width < 0).float().mean() < 0.58
    assert (height > 0).all()


def test_without_mirror_none_is_mirrored():
    assert (boxes(augment(crop_scale=0.5).train(ramps(100), torch.ones(100), seed=0))[1] > 0).all()


def test_the_seed_decides():
    one, same, other = (augment(hflip=True).train(ramps(8), torch.ones(8), seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_no_crop_and_no_mirror_give_the_whole_image():
    x = augment(crop_scale=1.0, image_size=SIDE).train(ramps(5), aspects(5), seed=0)
    torch.testing.assert_close(x, ramps(5) / 255, atol=1e-5, rtol=0)


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)


def test_ten_crops_are_those_of_torchvision():
    """A square image that is not resized: 56 of 64 pixels."""
    x = noise(2)
    got = augment(image_size=56, crop_pct=56 / SIDE, hflip=True).ten(x, torch.ones(2))
    assert got.shape == (20, 3, 56, 56)
    mirrored = [6, 5, 8, 7, 9]  # torchvision cuts corners of the mirror image, we mirror the corners
    for image, crops in zip(x, got.unflatten(0, (2, 10)), strict=True):
        expected = torch.stack(torchvision.ten_crop(image, [56, 56])) / 255
        torch.testing.assert_close(crops[[0, 1, 2, 3, 4, *mirrored]], expected, atol=1e-5, rtol=0)


def test_corner_crops_have_the_size_of_the_central_one_and_touch_the_corners():
    aspect = torch.tensor([1.0, 2.0, 0.5])
    crops = augment(crop_pct=0.875)
    left, width, top, height = (part.unflatten(0, (3, 5)) for part in boxes(crops.ten(ramps(3), aspect)))
    _, central_width, _, central_height = boxes(crops.central(ramps(3), aspect))
    torch.testing.assert_close(width, central_width[:, None].expand(3, 5), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(height, central_height[:, None].expand(3, 5), atol=TOLERANCE, rtol=0)
    right, down = left + width, top + height
    for near in (left[:, [0, 2]], top[:, [0, 1]], 1 - right[:, [1, 3]], 1 - down[:, [2, 3]]):
        torch.testing.assert_close(near, torch.zeros(3, 2), atol=TOLERANCE, rtol=0)


def test_the_fifth_crop_is_the_central_one():
    x, aspect = noise(3), torch.tensor([1.0, 1.5, 0.7])
    crops = augment(hflip=True, mean_std="imagenet")
    ten = crops.ten(x, aspect).unflatten(0, (3, 10))
    torch.testing.assert_close(ten[:, 4], crops.central(x, aspect))
    torch.testing.assert_close(ten[:, 5:], ten[:, :5].flip(-1))


def test_where_a_mirror_image_loses_its_label_there_are_five_crops():
    assert len(augment(hflip=False).ten(noise(3), torch.ones(3))) == 15


@pytest.mark.parametrize("count", [0, 1, 5])
def test_large_images_are_cropped_as_small_ones(monkeypatch, count):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, 100, 100), generator=generator).to(torch.uint8)
    own = Augment(100, mean_std="imagenet")  # no box is larger than the crop, so both take one sample a pixel
    large = own.train(x, aspects(count), seed=3), own.ten(x, aspects(count))
    monkeypatch.setattr(augmentation, "SMALL", 100)
    small = own.train(x, aspects(count), seed=3), own.ten(x, aspects(count))
    torch.testing.assert_close(large, small, atol=2e-4, rtol=0)
