"""Near-identical images: planted copies are found, other images are not; all near hashes are found."""

import errno
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from transferbench import InputError
from transferbench.datasets import digits
from transferbench.datasets.base import Dataset, Part
from transferbench.datasets.loading import image_folder
from transferbench.datasets.pixels import resize_square
from transferbench.datasets.reading import near_duplicates
from transferbench.datasets.storage import cache

SHARED = os.environ.get("TRANSFERBENCH_SHARED")
Picture = Image.Image


class Pictures:
    """Images that count how often they are decoded; None is one that cannot be read."""

    def __init__(self, pictures: Sequence[Picture | None]) -> None:
        self.pictures, self.num_decoded = pictures, 0

    def __len__(self) -> int:
        return len(self.pictures)

    def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
        self.num_decoded += 1
        picture = self.pictures[i]
        if picture is None:
            raise InputError(f"{i}: not a readable image")
        return resize_square(picture, side)


def hashes(dataset: Dataset, part: str) -> np.ndarray:
    return near_duplicates.hash_part(dataset, part)[2][0]


def dataset(hflip: bool = True, fingerprint: str = "", **parts: Sequence[Picture | None]) -> Dataset:
    content = repr([[p and (p.size, p.tobytes()) for p in pictures] for pictures in parts.values()])
    return Dataset(
        name="pictures",
        classes=("one",),
        parts={part: Part(Pictures(p), np.zeros(len(p), np.int64)) for part, p in parts.items()},
        fingerprint=fingerprint or hashlib.sha256(content.encode()).hexdigest()[:16],
        side=64,
        hflip=hflip,
    )


def num_decoded(found: Dataset) -> int:
    return sum(part.images.num_decoded for part in found.parts.values())


def textures(count: int, seed: int, size: tuple[int, int] = (96, 64)) -> list[Picture]:
    """Make color noise whose power falls with the frequency, as a photograph's does."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        down, right = np.fft.fftfreq(size[1])[:, None], np.fft.rfftfreq(size[0])[None]
        spectrum = np.fft.rfft2(rng.normal(size=(3, size[1], size[0]))) / np.maximum(
            np.hypot(down, right), 0.01
        )
        noise = np.fft.irfft2(spectrum, (size[1], size[0]))
        noise = noise[0] + 0.3 * noise  # the channels have much in common
        levels = 118 + 42 * (noise - noise.mean()) / noise.std()
        made.append(Image.fromarray(levels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)))
    return made


def jpeg(picture: Picture, quality: int = 60) -> Picture:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def resized(picture: Picture, width: int, height: int) -> Picture:
    return picture.resize((width, height), Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "the same": lambda p: p,
    "JPEG": jpeg,
    "half the size": lambda p: resized(p, 48, 32),
    "large": lambda p: jpeg(resized(p, 400, 267), 75),
    "squeezed into a square": lambda p: resized(p, 64, 64),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.85),
    "less contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.8),
    "gray": lambda p: p.convert("L"),
    "mirrored": ImageOps.mirror,
    "all at once": lambda p: jpeg(ImageEnhance.Brightness(ImageOps.mirror(resized(p, 72, 48))).enhance(1.1)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_planted_copies_are_found_and_nothing_else(copy):
    train, fresh = textures(40, seed=1), textures(20, seed=2)
    planted = dataset(train=train, test=[*fresh[:10], *(COPIES[copy](p) for p in train[5:25]), *fresh[10:]])
    found = near_duplicates.overlap(planted, "train", planted, "test")
    assert found.tolist() == [[5 + k, 10 + k] for k in range(20)]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_a_mirror_image_that_loses_its_label_is_another_image(first, second):
    train = textures(5, seed=3)
    one, other = dataset(first, train=train), dataset(second, train=[ImageOps.mirror(p) for p in train])
    assert not len(near_duplicates.overlap(one, "train", other, "train"))


def test_images_that_differ_in_a_fine_pattern_alone_are_two():
    plain = textures(5, seed=16, size=(32, 32))
    squares = 40 * (np.indices((32, 32)).sum(axis=0) % 2)[..., None]
    fine = [Image.fromarray((np.asarray(p) * 0.8 + squares).astype(np.uint8)) for p in plain]
    found = dataset(train=plain, test=fine)
    hashed = [hashes(found, part) for part in ("train", "test")]
    assert len(near_duplicates.near_pairs(*hashed)) == len(plain)  # candidates
    assert not len(near_duplicates.overlap(found, "train", found, "test"))


def test_within_a_part_each_pair_is_there_once():
    train = textures(6, seed=4)
    symmetric = Image.fromarray(np.concatenate([a := np.asarray(train[5]), a[:, ::-1]], axis=1))
    found = dataset(train=[*train, jpeg(train[4]), ImageOps.mirror(train[1]), symmetric])
    assert near_duplicates.overlap(found, "train", found, "train").tolist() == [[1, 7], [4, 6]]


def noisy(level: np.ndarray | float, sigma: float, seed: int) -> Picture:
    noise = np.random.default_rng(seed).normal(0, sigma, (64, 64))
    return Image.fromarray((level + noise).clip(0, 255).astype(np.uint8))


def test_images_that_hold_little_are_not_taken_for_each_other():
    ramp = np.linspace(20, 230, 64)
    flat = [Image.new("RGB", (64, 64), color) for color in ("black", "white", "black", "navy")]
    nearly = [noisy(level, 4, seed) for seed, level in enumerate((100, 100, 140, 0))]
    ramps = [noisy(ramp, 8, seed) for seed in range(10, 14)]
    specks = [noisy(0, 0, 0) for _ in range(4)]
    for k, speck in enumerate(specks):
        ImageDraw.Draw(speck).ellipse((8 + 12 * k, 30, 13 + 12 * k, 35), fill=255)
    found = dataset(train=[*flat, *nearly, *ramps, *specks])
    assert not len(near_duplicates.overlap(found, "train", found, "train"))
    assert (hashes(found, "train")[: len(flat)] == near_duplicates.NONE).all()


def letters(font: str) -> list[Picture]:
    drawn = []
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghkmnrt0123456789":
        drawn.append(Image.new("L", (28, 28)))
        face = ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", font), 22)
        ImageDraw.Draw(drawn[-1]).text((14, 14), letter, fill=255, font=face, anchor="mm")
    return drawn


def test_different_letters_are_different_and_the_same_ones_are_found():
    found = dataset(False, train=letters("DejaVuSans.ttf"), test=letters("DejaVuSerif.ttf"))
    assert not len(near_duplicates.overlap(found, "train", found, "train"))
    assert all(i == j for i, j in near_duplicates.overlap(found, "train", found, "test"))
    again = dataset(False, train=[jpeg(p.convert("RGB"), 75) for p in letters("DejaVuSans.ttf")])
    pairs = near_duplicates.overlap(found, "train", again, "train")
    assert pairs.tolist() == [[i, i] for i in range(len(letters("DejaVuSans.ttf")))]


def test_hardly_any_digits_of_eight_by_eight_pixels_are_taken_for_each_other():
    parts = digits.images()
    found = dataset(False, **{part: [Image.fromarray(x) for x in parts[part][0]] for part in parts})
    pairs = near_duplicates.overlap(found, "train", found, "test")
    assert len(pairs) < 6  # of 600 x 797
    assert (parts["train"][1][pairs[:, 0]] == parts["test"][1][pairs[:, 1]]).all()


def clustered(count: int, seed: int, centers: int = 40) -> np.ndarray:
    """Draw hashes of which many are near each other, and some are `NONE`."""
    rng = np.random.default_rng(seed)
    middle = np.random.default_rng(0).integers(0, 2**63, centers, dtype=np.uint64)
    drawn = middle[rng.integers(0, centers, count)]
    for _ in range(5):
        flip = np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
        drawn = np.where(rng.random(count) < 0.3, drawn ^ flip, drawn)
    return np.where(rng.random(count) < 0.05, near_duplicates.NONE, drawn)


@pytest.mark.parametrize("distance", [0, 1, 4, 6, 11, 30, 63])
def test_near_finds_what_a_comparison_of_all_pairs_finds(distance, monkeypatch):
    monkeypatch.setattr(near_duplicates, "BLOCK", 100)  # so that blocks are cut
    first, second = clustered(300, seed=1), clustered(200, seed=2)
    apart = np.bitwise_count(first[:, None] ^ second).astype(int)
    apart[first == near_duplicates.NONE], apart[:, second == near_duplicates.NONE] = 99, 99
    expected = np.argwhere(apart <= distance)
    assert len(expected) > 10
    assert np.array_equal(near_duplicates.near_pairs(first, second, distance), expected)


def test_near_nothing_is_nothing():
    some, none = clustered(10, seed=1), np.empty(0, np.uint64)
    for first, second in ((some, none), (none, some), (none, none), (some, np.zeros(3, np.uint64))):
        assert near_duplicates.near_pairs(first, second).shape == (0, 2)


def test_a_crowd_of_equal_hashes_is_not_paired_in_full_and_each_row_stays():
    first, second = clustered(4000, seed=3, centers=4000), clustered(3000, seed=4, centers=4000)
    first[1000:], second[500:] = np.uint64(12345), np.uint64(12345 ^ 0b110)
    first[7] = second[9] = np.uint64(54321 << 20)
    found = near_duplicates.near_pairs(first, second)
    crowd = found[(found[:, 0] >= 1000) & (found[:, 1] >= 500)]
    assert len(crowd) < near_duplicates.CROWD * (3000 + 2500)
    assert set(crowd[:, 0]) == set(range(1000, 4000))
    assert set(crowd[:, 1]) == set(range(500, 3000))
    assert [7, 9] in found.tolist()
    few = near_duplicates.near_pairs(first[:1010], second)  # a crowd on one side alone is paired in full
    assert np.sum((few[:, 0] >= 1000) & (few[:, 1] >= 500)) == 10 * 2500


def test_a_crowd_of_placeholders_is_found_whole():
    placeholder, train = textures(1, seed=5)[0], textures(10, seed=6)
    source = dataset(train=[*train, *[placeholder] * 60])
    target = dataset(train=[*textures(10, seed=7), *[jpeg(placeholder)] * 40])
    assert near_duplicates.overlapping_rows(source, target).tolist() == list(range(10, 70))


def test_rows_that_any_part_of_the_target_has_are_named_once():
    train, fresh = textures(12, seed=8), textures(6, seed=9)
    source = dataset(train=train, holdout=fresh[:2])
    target = dataset(
        train=[fresh[2], jpeg(train[11]), fresh[0]],
        holdout=[fresh[3], train[4]],
        test=[ImageOps.mirror(train[2]), resized(train[11], 40, 40), train[11]],
    )
    assert near_duplicates.overlapping_rows(source, target).tolist() == [2, 4, 11]
    assert near_duplicates.overlapping_rows(source, dataset(train=fresh[4:])).tolist() == []


def test_what_was_found_is_kept():
    def made() -> tuple[Dataset, Dataset]:
        train = textures(8, seed=10)
        return dataset(train=train), dataset(train=textures(4, seed=11), test=[jpeg(train[3])])

    found = near_duplicates.overlapping_rows(*made())
    source, target = made()
    assert np.array_equal(near_duplicates.overlapping_rows(source, target), found)
    assert np.array_equal(hashes(source, "train"), hashes(made()[0], "train"))
    assert num_decoded(source) == num_decoded(target) == 0
    other = dataset(train=textures(8, seed=12))
    near_duplicates.overlapping_rows(other, target)
    assert num_decoded(other) == 8
    assert not list(cache.folder().glob("*.draft"))


def test_parts_of_other_sizes_under_one_fingerprint_are_not_mixed_up():
    train = textures(6, seed=13)
    assert len(hashes(dataset(train=train, fingerprint="drawn"), "train")) == 6
    assert len(hashes(dataset(train=train[:4], fingerprint="drawn"), "train")) == 4


def test_a_copy_of_a_set_has_all_its_images():
    train = textures(6, seed=15)
    one, copy = (dataset(train=train, fingerprint="copied") for _ in range(2))
    assert near_duplicates.overlapping_rows(one, copy).tolist() == list(range(6))


def test_an_image_that_cannot_be_read_is_left_out_until_it_can(monkeypatch):
    train = textures(5, seed=14)
    target = dataset(test=[jpeg(train[1]), None, jpeg(train[3])])
    broken = dataset(train=[*train[:3], None, train[4]], fingerprint="repaired")
    assert near_duplicates.overlapping_rows(broken, target).tolist() == [1]
    whole = dataset(train=train, fingerprint="repaired")
    assert near_duplicates.overlapping_rows(whole, target).tolist() == [1, 3]


def test_a_full_disk_is_one_line_and_leaves_no_draft(monkeypatch):
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"hashes-\w+.npy: no space left for thumbnails: free some space"):
        hashes(dataset(train=textures(2, seed=15)), "train")
    assert not list(cache.folder().glob("*.draft"))


def pack(name: str) -> Dataset:
    return image_folder.load(Path(SHARED or "", "packs", name))


@pytest.mark.skipif(not SHARED, reason="TRANSFERBENCH_SHARED names no folder with packs/")
@pytest.mark.parametrize(
    ("first", "first_part", "second", "second_part", "count"),
    [
        ("food101", "train", "food101", "test", 0),
        ("tiny-imagenet", "holdout", "food101", "train", 0),
        ("stanford-cars", "train", "stanford-cars", "test", 2),  # photographs under two classes
        ("stanford-cars", "train", "stanford-cars", "holdout", 1),  # mirrored
        ("dtd10", "train", "dtd10", "train", 8),  # of which five are recoloured
        ("mnist", "train", "mnist", "test", 0),
        ("usps", "train", "usps", "test", 0),
        ("mnist", "train", "usps", "train", 0),
        ("pneumonia-mnist", "train", "pneumonia-mnist", "train", 4),
    ],
)
def test_pairs_of_real_images_are_those_that_were_looked_at(first, first_part, second, second_part, count):
    assert len(near_duplicates.overlap(pack(first), first_part, pack(second), second_part)) == count


@pytest.mark.skipif(not SHARED, reason="TRANSFERBENCH_SHARED names no folder with packs/")
@pytest.mark.parametrize(
    ("copy", "share"), [("JPEG", 0.99), ("large", 0.99), ("brighter", 0.97), ("all at once", 0.95)]
)
def test_copies_of_real_photographs_are_found(copy, share):
    images = pack("food101").part("holdout").images
    photographs = [Image.fromarray(images.decode(i, 64)[0]) for i in range(0, 1500, 5)]
    found = near_duplicates.overlap(
        dataset(train=photographs), "train", dataset(train=[COPIES[copy](p) for p in photographs]), "train"
    )
    assert (found[:, 0] == found[:, 1]).all()
    assert len(found) >= share * len(photographs)
