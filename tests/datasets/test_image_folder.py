"""Image folders and tars: what is read, how a plain tree is split, and when the fingerprint changes."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transferbench import InputError
from transferbench.datasets.base import Dataset, derive_seed
from transferbench.datasets.loading import image_folder
from transferbench.datasets.pixels import SMALL, resize_square
from transferbench.datasets.reading.examine import examine
from transferbench.datasets.storage import cache

SHARED = os.environ.get("TRANSFERBENCH_SHARED")
PACKS = sorted(p.parent for p in Path(SHARED).glob("packs/*/meta.json")) if SHARED else []


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """Write a noise image whose bytes depend on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def tree(root: Path, parts: Mapping[str, int], classes: Iterable[str] = ("cat", "dog")) -> Path:
    """Write `split/class/image`; with the part "" a plain `class/image` tree."""
    for p, (part, count) in enumerate(parts.items()):
        for c, name in enumerate(classes):
            for i in range(count):
                picture(root / part / name / f"{i:03}.png", 10_000 * p + 1_000 * c + i)
    return root


def tar_of(root: Path, tar: Path, prefix: str = "", names: Iterable[Path] | None = None) -> Path:
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as out:
        for path in names or sorted(p for p in root.rglob("*") if p.is_file()):
            out.add(path, prefix + path.relative_to(root).as_posix())
    return tar


def sizes(dataset: Dataset) -> dict[str, int]:
    return {part: len(content.labels) for part, content in dataset.parts.items()}


def paths(dataset: Dataset, part: str) -> list[str]:
    images = dataset.parts[part].images
    return [images.path(i) for i in range(len(images))]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return tree(tmp_path / "pets", {"train": 4, "val": 2, "test": 3})


def test_a_tree_of_splits(split):
    found = image_folder.load(split)
    assert (found.name, found.classes, found.side) == ("pets", ("cat", "dog"), 8)
    assert sizes(found) == {"train": 8, "holdout": 4, "test": 6}
    for part, content in found.parts.items():
        assert content.labels.dtype == np.int64
        assert [found.classes[y] for y in content.labels] == [p.split("/")[1] for p in paths(found, part)]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "holdout", "dev", "Val"])
def test_names_of_the_holdout(tmp_path, name):
    assert sizes(image_folder.load(tree(tmp_path / "set", {"train": 2, name: 1})))["holdout"] == 2


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_tar_equals_its_tree(split, tmp_path, prefix, inside):
    tar = tar_of(split, tmp_path / "box" / "pets.tar", prefix)
    (tar.parent / "meta.json").write_text("{}")
    (tar.parent / ".hidden").mkdir()
    found, plain = image_folder.load(tar.parent if inside else tar), image_folder.load(split)
    assert found.name == ("box" if inside else "pets")
    assert (found.classes, found.fingerprint) == (plain.classes, plain.fingerprint)
    for part in plain.parts:
        assert paths(found, part) == paths(plain, part)
        for i in range(len(plain.parts[part].labels)):
            image, aspect = found.parts[part].images.decode(i, 8)
            same, _ = plain.parts[part].images.decode(i, 8)
            assert aspect == 1
            assert np.array_equal(image, same)


def test_a_tar_in_another_order_is_the_same_set(split, tmp_path):
    tar = tar_of(split, tmp_path / "pets.tar", names=sorted(split.rglob("*.png"), reverse=True))
    assert image_folder.load(tar).fingerprint == image_folder.load(split).fingerprint


def test_a_plain_tree_is_split_by_class_in_the_same_way_each_time(tmp_path):
    root = tree(tmp_path / "plain", {"": 10}, ("a", "b-c", "b"))
    first, second = image_folder.load(root), image_folder.load(root)
    assert sizes(first) == {"train": 18, "holdout": 6, "test": 6}
    for part, a_class in (("train", 6), ("holdout", 2), ("test", 2)):
        assert np.bincount(first.parts[part].labels).tolist() == [a_class] * 3
        assert paths(first, part) == paths(second, part)
    everything = [p for part in first.parts for p in paths(first, part)]
    assert len(everything) == len(set(everything)) == 30
    assert paths(first, "test") != sorted(everything)[:6]  # drawn, not the first ones
    elsewhere = tar_of(root, tmp_path / "other.tar", names=sorted(root.rglob("*.png"), reverse=True))
    for part in first.parts:
        assert paths(image_folder.load(elsewhere), part) == paths(first, part)


def test_the_split_of_one_class_does_not_depend_on_another(tmp_path):
    one = image_folder.load(tree(tmp_path / "one", {"": 10}, ("cat", "dog")))
    two = image_folder.load(tree(tmp_path / "two", {"": 10}, ("ant", "cat", "dog")))
    assert [p for p in paths(two, "test") if "ant" not in p] == paths(one, "test")


def test_the_split_of_a_plain_tree_stays_as_it_was(tmp_path):
    root, counts = tmp_path / "plain", {"a": 3, "b": 7, "c": 12, "d": 33}
    for c, count in counts.items():
        for i in range(count):
            picture(root / c / f"{i}.png")
    for as_source, shares in ((True, {"holdout": 0.05}), (False, {"holdout": 0.2, "test": 0.2})):
        expected: dict[str, list[str]] = {"train": [], "holdout": [], "test": []}
        for c, count in counts.items():
            left = sorted((f"{c}/{i}.png" for i in range(count)), key=lambda p: derive_seed(0, p))
            for part, share in shares.items():
                taken = max(1, round(share * len(left)))
                expected[part] += left[:taken]
                left = left[taken:]
            expected["train"] += left
        found = image_folder.load(root, as_source)
        for part in found.parts:
            assert paths(found, part) == sorted(expected[part])


def test_the_same_images_split_otherwise_are_another_set(tmp_path):
    root = tree(tmp_path / "plain", {"": 10})
    assert image_folder.load(root, as_source=True).fingerprint != image_folder.load(root).fingerprint


def test_a_plain_source_has_no_test_part(tmp_path):
    root = tree(tmp_path / "plain", {"": 20})
    assert sizes(image_folder.load(root, as_source=True)) == {"train": 38, "holdout": 2}


def test_hidden_files_and_other_files_are_left_out(split):
    before = image_folder.load(split)
    for name in (".DS_Store", "train/cat/._000.png", "train/cat/.hidden.png", "train/notes.txt", "README.md"):
        (split / name).write_bytes(b"no image")
    picture(split / ".thumbnails" / "cat" / "1.png")
    picture(split / "train" / "cat" / ".ipynb_checkpoints" / "1.png")
    (split / "train" / ".empty").mkdir()
    after = image_folder.load(split)
    assert sizes(after) == sizes(before)
    assert after.fingerprint == before.fingerprint


def test_a_small_tree_leaves_only_hashes_in_the_cache(split, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "own"))
    image_folder.load(split)
    assert [f.name for f in (tmp_path / "own").iterdir()] == ["contents"]


@pytest.mark.parametrize("parts", [{"train": 4, "val": 2}, {"": 6}])
def test_a_large_tree_is_walked_once_and_again_when_a_class_changes(tmp_path, monkeypatch, parts):
    root = tree(tmp_path / "pets", parts)
    small = image_folder.load(root)
    monkeypatch.setattr(image_folder, "KEPT_FROM", 12)
    first = image_folder.load(root)
    assert (first.fingerprint, first.classes, first.side) == (small.fingerprint, small.classes, small.side)
    for part, content in small.parts.items():
        assert paths(first, part) == paths(small, part)
        assert first.parts[part].labels.tolist() == content.labels.tolist()
    walk, walked = image_folder._images_below, []
    monkeypatch.setattr(image_folder, "_images_below", lambda *a: (walked.append(a), walk(*a))[1])
    assert image_folder.load(root).fingerprint == first.fingerprint
    assert not walked
    of_class = root / next(iter(parts)) / "dog"
    picture(of_class / "new.png")
    assert sum(sizes(image_folder.load(root)).values()) == 13
    assert walked
    picture(of_class.parent / "eel" / "1.png")
    picture(of_class.parent / "eel" / "2.png")
    picture(of_class.parent / "eel" / "3.png")
    assert "eel" in image_folder.load(root).classes
    shutil.rmtree(of_class.parent / "eel")
    of_class.joinpath("new.png").unlink()
    assert image_folder.load(root).fingerprint == first.fingerprint


def test_a_large_tar_is_sorted_on_disk(split, tmp_path, monkeypatch):
    plain = image_folder.load(split)
    monkeypatch.setattr(image_folder, "KEPT_FROM", 3)
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "own"))
    tar = tar_of(split, tmp_path / "pets.tar", names=sorted(split.rglob("*.png"), reverse=True))
    found = image_folder.load(tar)
    assert [paths(found, part) for part in found.parts] == [paths(plain, part) for part in plain.parts]
    assert found.fingerprint == plain.fingerprint
    assert not list((tmp_path / "own").rglob("unsorted"))


def test_links_to_classes_are_followed(split, tmp_path):
    linked = tmp_path / "linked"
    (linked / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        (linked / "train" / name).symlink_to(split / "train" / name)
    assert sizes(image_folder.load(linked)) == {"train": 8}


def test_a_link_to_nothing_is_named(split):
    (split / "train" / "elk").symlink_to("/nowhere/elk")
    with pytest.raises(InputError, match="elk: a broken link"):
        image_folder.load(split)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGBA", "png"), ("P", "png"), ("1", "png"), ("CMYK", "jpg"), ("LA", "png")],
)
def test_modes_become_rgb(tmp_path, mode, suffix):
    for part, name in (("train", "a"), ("train", "b")):
        picture(tmp_path / "set" / part / name / f"1.{suffix}", 1, mode=mode)
    image, _ = image_folder.load(tmp_path / "set").parts["train"].images.decode(0, 6)
    assert (image.shape, image.dtype) == ((6, 6, 3), np.uint8)
    if mode in ("L", "1", "LA"):
        assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize("size", [(300, 200), (90, 120), (SMALL + 1, SMALL + 1)])
def test_large_squares_are_pils_to_one_level(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    got, aspect = resize_square(image, SMALL + 1)
    pils = image.resize((SMALL + 1, SMALL + 1), Image.Resampling.BICUBIC)
    apart = np.abs(got.astype(int) - np.asarray(pils))
    assert apart.max() <= 1
    assert apart.mean() < 0.01
    assert aspect == size[1] / size[0]


def test_an_image_keeps_its_aspect_beside_the_square(tmp_path):
    picture(tmp_path / "set" / "train" / "a" / "wide.png", size=(30, 10))
    picture(tmp_path / "set" / "train" / "b" / "high.png", size=(10, 20))
    found = image_folder.load(tmp_path / "set")
    assert found.side == 10
    pixels, aspect = cache.pixels(found, "train", 8).take(torch.tensor([0, 1]))()
    assert pixels.shape == (2, 3, 8, 8)
    assert aspect.tolist() == [3.0, 0.5]


def test_the_cache_holds_what_was_decoded_and_on_demand_is_equal(split, monkeypatch):
    found = image_folder.load(split)
    rows = torch.tensor([5, 0, 3])
    kept = cache.pixels(found, "train", 8).take(rows)()
    monkeypatch.setenv("TRANSFERBENCH_CACHE_GB", "0")
    fresh = cache.pixels(found, "train", 8).take(rows)()
    assert all((a == b).all() for a, b in zip(kept, fresh, strict=True))
    assert np.array_equal(kept[0][1].permute(1, 2, 0).numpy(), found.parts["train"].images.decode(0, 8)[0])


def test_the_fingerprint_follows_the_images_and_not_the_place(split, tmp_path):
    before = image_folder.load(split).fingerprint
    moved = tmp_path / "far" / "away" / "pets"
    shutil.copytree(split, moved)
    assert image_folder.load(moved).fingerprint == before
    picture(moved / "test" / "dog" / "001.png", seed=77)
    changed = image_folder.load(moved).fingerprint
    (moved / "val" / "cat" / "000.png").rename(moved / "val" / "cat" / "900.png")
    renamed = image_folder.load(moved).fingerprint
    (moved / "train" / "cat" / "000.png").unlink()
    assert len({before, changed, renamed, image_folder.load(moved).fingerprint}) == 4


@pytest.mark.parametrize(
    ("parts", "classes", "message"),
    [
        ({"val": 1, "test": 1}, ("a", "b"), "no 'train' images; put class folders into .*set/train"),
        ({"": 2}, ("a", "b"), "class 'a' has 2 images; a random split needs 3 or more"),
        ({"": 2}, ("train", "test"), "expected split/class/image .* found test/000.png"),
        ({"train/deep": 1}, ("a", "b"), "expected split/class/image .* found train/deep/a/000.png"),
        ({"train": 1, "extra": 1}, ("a", "b"), "expected split/class/image .* found extra/a/000.png"),
    ],
)
def test_a_tree_of_another_shape_is_refused(tmp_path, parts, classes, message):
    with pytest.raises(InputError, match=message):
        image_folder.load(tree(tmp_path / "set", parts, classes))


def test_what_cannot_be_read_is_named(split, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        image_folder.load(tmp_path / "nowhere")
    (tmp_path / "junk.tar").write_text("junk")
    with pytest.raises(InputError, match="junk.tar: not a readable tar .* expected an uncompressed one"):
        image_folder.load(tmp_path / "junk.tar")
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="bare: no images; expected split/class/image"):
        image_folder.load(tmp_path / "bare")
    picture(split / "test" / "bird" / "1.png")
    with pytest.raises(InputError, match="pets/test: class 'bird' has no folder with images in pets/train"):
        image_folder.load(split)
    shutil.rmtree(split / "test" / "bird")
    (split / "train" / "bird").mkdir()
    (split / "train" / "bird" / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match="bird/1.png: a broken link"):
        image_folder.load(split)


def test_a_corrupt_image_in_a_tar_is_named_with_the_tar(split, tmp_path):
    (split / "val" / "dog" / "001.png").write_bytes(b"not an image")
    found = image_folder.load(tar_of(split, tmp_path / "pets.tar"))
    with pytest.raises(InputError, match="pets.tar:val/dog/001.png: not a readable image"):
        cache.pixels(found, "holdout", 8)
    assert len(examine(found.parts["holdout"].images, "holdout").errors) == 1
    assert not examine(found.parts["test"].images, "test").errors


def test_what_decoding_did_is_printed_once(split, capsys):
    turned = Image.Exif()
    turned[0x0112] = 6
    for n in range(3):
        picture(split / "train" / "cat" / f"{n:03}.png", n)
        with Image.open(split / "train" / "cat" / f"{n:03}.png") as image:
            image.save(split / "train" / "cat" / f"{n:03}.png", exif=turned)
    for _ in range(2):
        cache.pixels(image_folder.load(split), "train", 8)
        cache.pixels(image_folder.load(split), "test", 8)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["decoding pets train: 3 of 8 images turned upright by their orientation tag (EXIF)"]


@pytest.mark.skipif(not PACKS, reason="TRANSFERBENCH_SHARED names no folder with packs/")
@pytest.mark.parametrize("pack", PACKS, ids=lambda p: p.name)
def test_real_packs_are_as_their_description_says(pack):
    meta = json.loads((pack / "meta.json").read_text())
    found = image_folder.load(pack, as_source=True)
    assert len(found.classes) == meta["num_classes"]
    names = {image_folder.PART_NAMES[part]: count for part, count in meta["splits"].items()}
    assert sizes(found) == names
    for part, spread in meta.get("images_per_class", {}).items():
        count = np.bincount(found.parts[image_folder.PART_NAMES[part]].labels, minlength=len(found.classes))
        assert (count.min(), count.max()) == (spread["min"], spread["max"])
