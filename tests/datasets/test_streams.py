"""Splits, streams, pixels and their cache."""

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transferbench import InputError
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Dataset, Part, Split, Stream
from transferbench.datasets.pixels import DemandPixels, JoinedPixels, MemoryPixels, as_tensor, batch_to_device
from transferbench.datasets.storage import cache

SIDE = 8
PLAIN = Augment(image_size=4, crop_scale=1.0, hflip=False, crop_pct=1.0, mean_std="none")
RANDOM = Augment(image_size=4, mean_std="half")


class CountedImages:
    """Images whose every pixel is their own number; it counts what is decoded."""

    def __init__(self, size: int, first: int = 0) -> None:
        self.size, self.first = size, first
        self.decoded: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.size

    def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
        self.decoded[i] += 1
        return np.full((side, side, 3), self.first + i, np.uint8), 0.5 + i / self.size


class NoisyImages(CountedImages):
    def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
        noise = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        return noise, super().decode(i, side)[1]


class AskedPixels:
    """Notes what is asked for, when it is asked for."""

    def __init__(self, pixels: DemandPixels) -> None:
        self.pixels, self.asked = pixels, []

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor):
        self.asked.append(index.tolist())
        return self.pixels.take(index)


def dataset_of(images: CountedImages, name: str = "toy", fingerprint: str = "f0") -> Dataset:
    part = Part(images, np.arange(len(images)) % 3)
    return Dataset(name, ("a", "b", "c"), {"train": part}, fingerprint, SIDE)


def split_of(labels: list[int], pixels=None, name: str = "toy/train", augment: Augment = PLAIN) -> Split:
    pixels = pixels or DemandPixels(CountedImages(len(labels)), SIDE, 1)
    classes = tuple("abcdefgh"[: max(labels) + 1])
    return Split(name, classes, pixels, torch.tensor(labels), torch.arange(len(labels)), augment)


def numbers(x: Tensor) -> list[int]:
    """Read images' numbers off a batch of them, or off raw pixels."""
    share = x / 255 if x.dtype == torch.uint8 else x
    return (255 * share.mean((1, 2, 3))).round().int().tolist()


def rows_of(stream: Stream, count: int) -> list[int]:
    return torch.cat([stream.draw()[0] for _ in range(count)]).tolist()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.mark.parametrize("weighted", [False, True])
def test_batch_k_depends_on_the_seed_and_k_alone(weighted):
    split = split_of([i % 3 for i in range(20)], DemandPixels(NoisyImages(20), SIDE, 1), augment=RANDOM)
    weights = torch.rand(20, generator=torch.Generator().manual_seed(0)) if weighted else None
    first = split.stream(6, seed=1, weights=weights)
    batches = [next(first) for _ in range(10)]
    later = split.stream(6, seed=1, weights=weights)
    later.load_state_dict({"drawn": 9, "num_images": 54})
    x, y = next(later)
    assert torch.equal(x, batches[9][0])
    assert torch.equal(y, batches[9][1])
    assert first.state_dict() == later.state_dict() == {"drawn": 10, "num_images": 60}
    assert not torch.equal(next(split.stream(6, seed=2, weights=weights))[1], batches[0][1])


@pytest.mark.parametrize("batch_size", [1, 4, 10, 23])
def test_every_epoch_is_a_full_shuffle(batch_size):
    stream = split_of([0, 1] * 5).stream(batch_size, seed=0)
    drawn = rows_of(stream, -(-60 // batch_size))
    epochs = [tuple(drawn[i : i + 10]) for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 6


def test_epochs_are_the_same_at_every_batch_size():
    split = split_of([0, 1] * 5)
    assert rows_of(split.stream(3, seed=0), 10) == rows_of(split.stream(15, seed=0), 2)


def test_weighted_draws_follow_the_weights():
    weights = torch.tensor([0.0, 1.0, 2.0, 0.0, 5.0, 0.0])
    drawn = rows_of(split_of([0, 1] * 3).stream(100, seed=0, weights=weights), 80)
    count = torch.bincount(torch.tensor(drawn), minlength=6).double()
    assert (count[weights == 0] == 0).all()
    expected = 8000 * weights.double() / 8
    chi_square = ((count - expected)[weights > 0] ** 2 / expected[weights > 0]).sum().item()
    assert chi_square < 18.4  # p = 1e-4 at two degrees of freedom


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_no_random_number_draws_a_zero_weight(monkeypatch, u):
    stream = split_of([0, 1] * 3).stream(1, seed=0, weights=torch.tensor([0.0, 0.1, 0.3, 0.0, 0.7, 0.0]))
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.full(a, u, dtype=torch.double))
    assert rows_of(stream, 1) == [1 if u == 0 else 4]


def test_an_image_is_cropped_anew_in_every_batch():
    stream = split_of([0], DemandPixels(NoisyImages(1), SIDE, 1), augment=RANDOM).stream(1, seed=0)
    assert not torch.equal(next(stream)[0], next(stream)[0])


def test_splits_of_different_names_are_drawn_in_different_orders():
    one, other = split_of([0, 1] * 10), split_of([0, 1] * 10, name="toy/holdout")
    assert rows_of(one.stream(20, seed=0), 1) != rows_of(other.stream(20, seed=0), 1)


def test_labels_come_first_and_only_what_is_asked_for_is_decoded():
    images = CountedImages(20)
    split = split_of([i % 4 for i in range(20)], DemandPixels(images, SIDE, 2))
    stream = split.stream(8, seed=0)
    rows, labels = stream.draw()
    assert labels.tolist() == [r % 4 for r in rows.tolist()]
    assert not images.decoded
    x, y = stream.fetch(rows[[5, 1, 2]]).result()
    assert images.decoded == Counter(rows[[5, 1, 2]].tolist())
    assert numbers(x) == rows[[5, 1, 2]].tolist()
    assert y.tolist() == labels[[5, 1, 2]].tolist()
    assert stream.state_dict() == {"drawn": 1, "num_images": 3}


def test_one_batch_ahead_is_decoded_and_none_twice():
    pixels = AskedPixels(DemandPixels(CountedImages(20), SIDE, 1))
    split = split_of([0, 1] * 10, pixels)
    ahead = split.stream(6, seed=0)
    plan = split.stream(6, seed=0)
    planned = [plan.draw()[0].tolist() for _ in range(4)]
    assert numbers(next(ahead)[0]) == planned[0]
    assert pixels.asked == planned[:2]
    assert numbers(next(ahead)[0]) == planned[1]
    assert pixels.asked == planned[:3]
    ahead.draw()  # batch 2 is passed over: what was decoded for it is not given out as batch 3
    assert numbers(next(ahead)[0]) == planned[3]
    ahead.load_state_dict({"drawn": 0, "num_images": 0})
    assert numbers(next(ahead)[0]) == planned[0]


def test_pixels_in_memory_and_on_demand_give_equal_batches(own_cache, monkeypatch):
    dataset = dataset_of(NoisyImages(15))
    in_memory = cache.pixels(dataset, "train", SIDE)
    monkeypatch.setenv("TRANSFERBENCH_CACHE_GB", "0")
    on_demand = cache.pixels(dataset, "train", SIDE)
    assert isinstance(in_memory, MemoryPixels)
    assert isinstance(on_demand, DemandPixels)
    labels = dataset.part("train").labels.tolist()
    streams = [split_of(labels, p, augment=RANDOM).stream(4, seed=0) for p in (in_memory, on_demand)]
    for _ in range(5):
        (x, y), (other_x, other_y) = (next(s) for s in streams)
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


@pytest.mark.parametrize("image_size", [80, 90])
def test_large_images_may_lie_where_they_will(image_size):
    rows, side = torch.tensor([4, 0, 5, 5]), 100
    on_demand = DemandPixels(NoisyImages(6), side, 1)
    apart, aspect = on_demand.take(torch.arange(6))()
    in_memory = MemoryPixels(as_tensor(apart), aspect)
    halves = (MemoryPixels(in_memory.pixels[own], aspect[own]) for own in (slice(2), slice(2, 6)))
    augment = Augment(image_size, mean_std="half")
    expected = augment.train(in_memory.pixels[rows], aspect[rows], seed=1)
    for pixels in (on_demand, in_memory, JoinedPixels(*halves)):
        assert torch.equal(augment.train(*pixels.take(rows)(), seed=1), expected)
        there = batch_to_device(pixels.take(rows)(), torch.device("meta"))
        assert [part.shape for part in there] == [(4, 3, side, side), (4,)]
        assert len(as_tensor(pixels.take(rows[:0])()[0])) == 0


@pytest.mark.parametrize("index", [[1, 7, 0, 4, 6, 3, 3], [2, 1], [6, 4, 5]])
def test_joined_pixels_keep_the_order_asked_for(index):
    joined = JoinedPixels(
        DemandPixels(CountedImages(4), SIDE, 1), DemandPixels(CountedImages(4, first=4), SIDE, 1)
    )
    pixels, aspect = joined.take(torch.tensor(index))()
    assert len(joined) == 8
    assert numbers(pixels) == index
    assert aspect.tolist() == [0.5 + (i % 4) / 4 for i in index]


def test_joined_pixels_may_lie_on_two_devices():
    here = MemoryPixels(torch.zeros(3, 3, SIDE, SIDE, dtype=torch.uint8), torch.ones(3))
    pixels, aspect = JoinedPixels(here.to(torch.device("meta")), here).take(torch.tensor([0, 4, 1]))()
    assert pixels.device.type == aspect.device.type == "meta"
    assert pixels.shape == (3, 3, SIDE, SIDE)


def test_batches_go_through_once_in_order():
    split = split_of([0, 1] * 5).subset(torch.tensor([9, 0, 4]))
    batches = list(split.batches(2))
    assert [numbers(x) for x, _ in batches] == [[9, 0], [4]]
    assert [y.tolist() for _, y in batches] == [[1, 0], [0]]


def test_shots_are_stratified_and_nested():
    split = split_of([i % 4 for i in range(60)])
    few, many = split.shots(5, seed=0), split.shots(10, seed=0)
    assert torch.bincount(few.labels).tolist() == [5] * 4
    assert torch.bincount(many.labels).tolist() == [10] * 4
    assert set(few.index.tolist()) < set(many.index.tolist())
    assert set(few.index.tolist()) != set(split.shots(5, seed=1).index.tolist())
    assert torch.equal(few.labels, split.labels[few.index])
    assert few.fingerprint() != many.fingerprint()


def test_too_few_shots_name_the_class():
    with pytest.raises(InputError, match="shots=3: class 'b' of toy/train has only 2 images"):
        split_of([0, 1, 0, 1, 0]).shots(3, seed=0)


def test_halves_are_stratified_disjoint_and_complete():
    split = split_of([0] * 10 + [1] * 6 + [2] * 5)
    for seed in range(6):
        one, other = split.halves(seed)
        assert sorted(one.index.tolist() + other.index.tolist()) == list(range(21))
        count, rest = (torch.bincount(half.labels, minlength=3) for half in (one, other))
        assert (count - rest).abs().max() <= 1
    one = split.halves(seed=0)[0]
    assert one.index.tolist() != split.halves(seed=1)[0].index.tolist()
    assert one.fingerprint() == split.halves(seed=0)[0].fingerprint()


def test_joined_split_keeps_images_and_labels_together():
    train = split_of([i % 3 for i in range(9)])
    holdout = split_of([2, 1, 0], DemandPixels(CountedImages(3, first=100), SIDE, 1), name="toy/holdout")
    joined = train.shots(2, seed=0).joined(holdout.subset(torch.tensor([2, 0])))
    assert len(joined) == 8
    label_of = {**{i: i % 3 for i in range(9)}, 100: 2, 102: 0}
    seen = [(n, label) for x, y in joined.batches(3) for n, label in zip(numbers(x), y.tolist(), strict=True)]
    assert [label_of[n] for n, _ in seen] == [label for _, label in seen]
    assert {n for n, _ in seen} >= {100, 102}
    assert joined.name == "toy/train+toy/holdout"


def test_the_cache_is_written_once_and_then_read(own_cache):
    images = NoisyImages(5)
    first = cache.pixels(dataset_of(images), "train", SIDE)
    again = cache.pixels(dataset_of(images), "train", SIDE)
    assert set(images.decoded.values()) == {1}
    index = torch.arange(5)
    for one, other in zip(first.take(index)(), again.take(index)(), strict=True):
        assert torch.equal(one, other)
    cache.pixels(dataset_of(images, fingerprint="f1"), "train", SIDE)
    assert set(images.decoded.values()) == {2}


def test_a_dot_in_a_name_does_not_mix_parts_up(own_cache):
    dataset = dataset_of(CountedImages(3), name="my.photos")
    test = Part(CountedImages(3, first=50), np.arange(3))
    dataset = replace(dataset, parts={**dataset.parts, "test": test})
    taken = [cache.pixels(dataset, part, SIDE).take(torch.arange(3))()[0] for part in ("train", "test")]
    assert [numbers(pixels) for pixels in taken] == [[0, 1, 2], [50, 51, 52]]


def test_a_failing_decode_leaves_nothing_behind(own_cache):
    class Broken(CountedImages):
        def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
            if i == 3:
                raise InputError("3.jpg: not a readable image")
            return super().decode(i, side)

    with pytest.raises(InputError, match=r"3\.jpg"):
        cache.pixels(dataset_of(Broken(5)), "train", SIDE)
    assert list(own_cache.iterdir()) == []


def test_two_writers_at_once_do_not_fight(own_cache):
    class Slow(CountedImages):
        def decode(self, i: int, side: int, interpolation: str = "bicubic") -> tuple[np.ndarray, float]:
            time.sleep(0.02)
            return super().decode(i, side)

    images, barrier, got = Slow(20), threading.Barrier(2), []

    def write() -> None:
        barrier.wait()
        got.append(numbers(cache.pixels(dataset_of(images), "train", SIDE).take(torch.arange(20))()[0]))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [list(range(20))] * 2
    assert sorted(f.suffixes[0] for f in own_cache.iterdir()) == [".aspect", ".pixels"]
