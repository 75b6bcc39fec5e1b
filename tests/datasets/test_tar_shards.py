"""Tars and shards: what their headers say, in which layouts, and what is made of it."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transferbench import InputError
from transferbench.datasets.base import Dataset
from transferbench.datasets.loading import image_folder
from transferbench.datasets.storage import tar_shards
from transferbench.datasets.storage.tar_shards import Member

Content = Mapping[str, bytes | int | dict]  # member to its bytes, a label, or JSON


def picture(seed: int) -> bytes:
    """Encode a noise image."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "PNG")
    return encoded.getvalue()


def tar_of(tar: Path, content: Content, **options: int) -> Path:
    """Write a tar; an image's content may be given by a seed, and a label's as a number."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w", **options) as out:
        for path, given in content.items():
            if isinstance(given, dict):
                given = json.dumps(given).encode()
            elif isinstance(given, int):
                given = f"{given}\n".encode() if path.endswith(".cls") else picture(given)
            member = tarfile.TarInfo(path)
            member.size = len(given)
            out.addfile(member, io.BytesIO(given))
    return tar


def labeled(first: int, labels: Sequence[int]) -> dict[str, int]:
    """Give samples of webdataset's layout: image `first + i` of the label `labels[i]`."""
    content = {}
    for i, label in enumerate(labels, first):
        content |= {f"{i:06}.png": i, f"{i:06}.cls": label}
    return content


def listed(tar: Path) -> list[Member]:
    with tar.open("rb") as f:
        return list(tar_shards.members(f))


def by_tarfile(tar: Path) -> list[Member]:
    with tarfile.open(tar, "r:") as f:
        return [Member(m.name.removeprefix("./"), m.offset_data, m.size) for m in f if m.isfile()]


def paths(found: Dataset, part: str) -> list[str]:
    images = found.parts[part].images
    return [images.path(i) for i in range(len(images))]


def classes_of(found: Dataset, part: str) -> dict[str, str]:
    labels = found.parts[part].labels.tolist()
    return {p: found.classes[y] for p, y in zip(paths(found, part), labels, strict=True)}


# --- headers ----------------------------------------------------------------------------------------

NAMES = [
    "./a/1.png",
    "train/" + "long " * 18 + "/" + "n" * 60 + ".png",
    "/".join(["folder" * 15] * 4) + ".png",
    "für/鳥.png",
    "x" * 100,
    "a/empty.png",
]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(tmp_path, form):
    fitting = NAMES if form != tarfile.USTAR_FORMAT else [n for n in NAMES if len(n.encode()) < 250]
    content = {name: b"?" * (511 * i) for i, name in enumerate(reversed(fitting))}
    tar = tar_of(tmp_path / "x.tar", content, format=form)
    assert listed(tar) == by_tarfile(tar)
    assert [m.num_bytes for m in listed(tar)] == [511 * i for i in range(len(fitting))]


def test_links_folders_and_devices_are_passed_over(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    first = tmp_path / "set" / "a" / "1.png"
    first.write_bytes(b"12345")
    (tmp_path / "set" / "a" / "2.png").symlink_to("n" * 150)
    (tmp_path / "set" / "a" / "3.png").hardlink_to(first)
    (tmp_path / "set" / "b.png").write_bytes(b"678")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x.tar", "w", format=form) as out:
            out.add(tmp_path / "set", "./")
        assert listed(tmp_path / "x.tar") == by_tarfile(tmp_path / "x.tar")
        assert len(listed(tmp_path / "x.tar")) == 2


def test_a_size_may_be_told_by_a_header_of_its_own(tmp_path):
    member = tarfile.TarInfo("a.png")
    member.pax_headers = {"size": "700", "comment": "one\nand 7 another="}
    second = tarfile.TarInfo("b.png").tobuf()
    content = member.tobuf(tarfile.PAX_FORMAT) + bytes(range(256)) * 4 + second
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    assert [(m.path, m.num_bytes) for m in listed(tmp_path / "x.tar")] == [("a.png", 700), ("b.png", 0)]


def test_large_sizes_are_binary():
    for size in (0, 7, 8**11 - 1, 8**11, 2**40 + 3):
        assert tar_shards._number(tarfile.itn(size, 12, tarfile.GNU_FORMAT)) == size


def test_a_tar_without_its_end_is_whole(tmp_path):
    tar = tar_of(tmp_path / "x.tar", {"a.png": 1, "b.png": 2})
    whole = listed(tar)
    end = whole[-1].offset + -(-whole[-1].num_bytes // 512) * 512
    tar.write_bytes(tar.read_bytes()[:end])
    assert listed(tar) == whole


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda b: b[:1600], "unexpected end of data"),
        (lambda b: b[:100], "truncated header"),
        (lambda b: b"", "empty file"),
        (lambda b: b[:1] + b"!" + b[2:], "invalid header"),
        (lambda b: b"\xff" * 512 + b, "invalid header"),
        (gzip.compress, "(invalid|truncated) header"),
    ],
)
def test_what_is_wrong_with_a_tar_is_said(tmp_path, cut, reason):
    tar = tar_of(tmp_path / "x.tar", {"cat/1.png": b"?" * 3000})
    tar.write_bytes(cut(tar.read_bytes()))
    with pytest.raises(
        InputError, match=rf"x\.tar: not a readable tar \({reason}\); expected an uncompressed"
    ):
        image_folder.load(tar)


# --- layouts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_labels_beside_the_images(tmp_path, suffix):
    for i, name in enumerate(("train-000000", "train-000001", "validation-000000", "test-000000")):
        content = {}
        for label in range(11):
            content[f"{i}{label:02}.png"] = 100 * i + label
            told = {"label": label, "caption": "?"} if suffix == "json" else label
            content[f"{i}{label:02}.{suffix}"] = told
        tar_of(tmp_path / "toy" / f"toy-{name}.tar", content)
    found = image_folder.load(tmp_path / "toy")
    assert found.name == "toy"
    assert found.side == 8
    assert found.classes == tuple(map(str, range(11)))
    assert {part: len(own.labels) for part, own in found.parts.items()} == {
        "test": 11,
        "train": 22,
        "holdout": 11,
    }
    assert found.parts["train"].labels.tolist() == [*range(11)] * 2  # in the order of the shards
    for i in range(22):
        assert found.parts["train"].images.read(i) == picture(100 * (i // 11) + i % 11)


def test_names_of_classes_beside_the_shards(tmp_path):
    for i in range(2):
        tar_of(tmp_path / f"train-{i}.tar", labeled(10 * i, [0, 2, 0, 2]))
    (tmp_path / "classnames.txt").write_text("ant\nbee\ncow bell\ndog\n")
    found = image_folder.load(tmp_path)
    assert found.classes == ("ant", "bee", "cow bell", "dog")
    assert found.parts["train"].labels.tolist() == [0, 2, 0, 2] * 2
    (tmp_path / "classnames.txt").write_text("ant\nbee\n")
    with pytest.raises(InputError, match=r"classnames.txt: 2 names; labels in the shards go up to 2"):
        image_folder.load(tmp_path)


def test_a_sample_is_what_shares_a_name_up_to_its_first_dot(tmp_path):
    content = {
        "a/1.0.png": 3,  # of the sample a/1, whose image is another
        "a/1.jpg": 1,
        "a/1.cls": 4,
        "a/1.seg.png": 2,
        "a/.2.png": 5,
        "a/.2.cls": 0,
        "b/1.JPEG": 6,
        "b/1.cls": 7,
    }
    tar_of(tmp_path / "train-0.tar", content)
    found = image_folder.load(tar_of(tmp_path / "train-1.tar", labeled(0, [1])).parent)
    assert classes_of(found, "train") == {"a/1.jpg": "4", "b/1.JPEG": "7", "000000.png": "1"}


@pytest.mark.parametrize(
    "places", [("train/x-0", "val/x-0"), ("Training/0", "dev/0"), ("x_train_0", "x_val_0")]
)
def test_the_part_of_a_shard_is_told_by_its_name_or_its_folder(tmp_path, places):
    for i, place in enumerate(places):
        tar_of(tmp_path / f"{place}.tar", labeled(10 * i, [0, 1, 2]))
    found = image_folder.load(tmp_path)
    assert {part: paths(found, part) for part in sorted(found.parts)} == {
        "holdout": ["000010.png", "000011.png", "000012.png"],
        "train": ["000000.png", "000001.png", "000002.png"],
    }


@pytest.mark.parametrize("layout", ["{part}/{c}/{i}.png", "{c}/{i}.png"])
@pytest.mark.parametrize("as_source", [True, False])
def test_shards_of_a_tree_equal_the_tree(tmp_path, layout, as_source):
    names = [
        layout.format(part=part, c=c, i=20 * p + i)
        for p, part in enumerate(("train", "val", "test"))
        for c in ("ant", "b-c", "b")
        for i in range(7)
    ]
    for i, name in enumerate(names):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(picture(i))
    for shard in range(4):
        content = {name: i for i, name in enumerate(names) if i % 4 == shard}
        tar_of(tmp_path / "shards" / f"{shard}.tar", content)
    found, plain = (image_folder.load(tmp_path / name, as_source) for name in ("shards", "tree"))
    assert found.classes == plain.classes
    assert set(found.parts) == set(plain.parts)
    for part in plain.parts:
        assert classes_of(found, part) == classes_of(plain, part)
        images = plain.parts[part].images
        encoded = {images.path(i): images.read(i) for i in range(len(images))}
        images = found.parts[part].images
        assert {images.path(i): images.read(i) for i in range(len(images))} == encoded


def test_shards_with_class_folders_and_a_part_in_their_names(tmp_path):
    for name, first in (("train-0", 0), ("train-1", 4), ("val-0", 8)):
        tar_of(tmp_path / f"{name}.tar", {f"{c}/{first + i}.png": i for i, c in enumerate(("a", "b"))})
    found = image_folder.load(tmp_path)
    assert classes_of(found, "train") == {"a/0.png": "a", "b/1.png": "b", "a/4.png": "a", "b/5.png": "b"}
    assert classes_of(found, "holdout") == {"a/8.png": "a", "b/9.png": "b"}


def test_a_tar_for_each_class(tmp_path):
    for c, wnid in enumerate(("n02", "n01", "n03")):
        tar_of(tmp_path / "toy" / f"{wnid}.tar", {f"{wnid}_{i}.JPEG": 10 * c + i for i in range(5)})
    found = image_folder.load(tmp_path / "toy", as_source=True)
    assert found.classes == ("n01", "n02", "n03")
    for part in ("train", "holdout"):
        assert all(path.startswith(f"{name}_") for path, name in classes_of(found, part).items())
    assert np.bincount(found.parts["holdout"].labels).tolist() == [1, 1, 1]


def test_a_source_without_holdout_gets_a_twentieth_of_each_class(tmp_path):
    labels = [0] * 60 + [1] * 20 + [2] * 1 + [4] * 2
    for i in range(2):
        tar_of(tmp_path / f"train-{i}.tar", labeled(100 * i, labels[i::2]))
    found = image_folder.load(tmp_path, as_source=True)
    assert np.bincount(found.parts["train"].labels, minlength=5).tolist() == [57, 19, 1, 0, 1]
    assert np.bincount(found.parts["holdout"].labels, minlength=5).tolist() == [3, 1, 0, 0, 1]
    assert not set(paths(found, "train")) & set(paths(found, "holdout"))
    whole = image_folder.load(tmp_path)
    assert list(whole.parts) == ["train"]
    assert set(paths(whole, "train")) == set(paths(found, "train")) | set(paths(found, "holdout"))
    assert whole.fingerprint != found.fingerprint


def test_one_tar_may_have_labels_too(tmp_path):
    found = image_folder.load(tar_of(tmp_path / "train.tar", labeled(0, [1, 0, 10] * 4)), as_source=True)
    assert found.classes == tuple(map(str, range(11)))
    assert {p: len(own.labels) for p, own in found.parts.items()} == {"train": 9, "holdout": 3}


# --- reading ----------------------------------------------------------------------------------------


def test_shards_that_are_read_ahead_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shards, "NUM_THREADS", 3)
    for i in range(14):
        tar_of(tmp_path / f"train-{i:02}.tar", labeled(10 * i, [i % 2] * (1 + i % 3)))
    found = image_folder.load(tmp_path)
    expected = [f"{10 * i + j:06}.png" for i in range(14) for j in range(1 + i % 3)]
    assert paths(found, "train") == expected


def test_headers_are_read_again_only_when_a_shard_has_changed(tmp_path, monkeypatch):
    for i in range(3):
        tar_of(tmp_path / f"train-{i}.tar", labeled(10 * i, [0, 1]))
    first = image_folder.load(tmp_path)
    read, own = [], tar_shards._samples
    monkeypatch.setattr(tar_shards, "_samples", lambda tar, *a: (read.append(tar), own(tar, *a))[1])
    assert image_folder.load(tmp_path).fingerprint == first.fingerprint
    assert not read
    tar_of(tmp_path / "train-1.tar", labeled(10, [0, 1, 1]))
    assert len(image_folder.load(tmp_path).parts["train"].labels) == 7
    assert len(read) == 3
    (tmp_path / "classes.txt").write_text("ant\nbee")
    assert image_folder.load(tmp_path).classes == ("ant", "bee")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"1.png": 1, "1.cls": b"cat"},
            r"train-1\.tar:1\.cls: invalid label \(b'cat'\); expected a number from 0",
        ),
        ({"1.png": 1, "1.cls": b"-1"}, r"invalid label \(b'-1'\)"),
        ({"c/1.png": 1}, r"some images have a label in a \.cls or \.json, others do not"),
        ({"c/1.png": 1, "c/1.json": {"caption": "?"}}, "others do not"),
        ({"c/1.png": 1, "c/1.json": b"{"}, "others do not"),
    ],
)
def test_labels_that_are_missing_or_none_are_named(tmp_path, content, message):
    tar_of(tmp_path / "train-0.tar", labeled(0, [0, 1]))
    tar_of(tmp_path / "train-1.tar", content)
    with pytest.raises(InputError, match=message):
        image_folder.load(tmp_path)


def test_shards_of_another_shape_are_refused(tmp_path):
    hint = r"class/image, or a label in a \.cls or \.json beside each image; found 000000007\.png"
    for i in range(2):  # captions beside images, as web crawls have them
        tar_of(tmp_path / "crawl" / f"0000{i}.tar", {f"0000{i}0007.png": 1, f"0000{i}0007.txt": b"?"})
    with pytest.raises(InputError, match=hint):
        image_folder.load(tmp_path / "crawl")
    for name in ("a-train-val-0", "b"):
        tar_of(tmp_path / "two" / f"{name}.tar", labeled(0, [0, 1]))
    with pytest.raises(InputError, match=r"a-train-val-0\.tar: may be holdout or train; expected one part"):
        image_folder.load(tmp_path / "two")
    for name in ("val-0", "test-0"):
        tar_of(tmp_path / "late" / f"{name}.tar", labeled(0, [0, 1]))
    with pytest.raises(InputError, match="no 'train' images"):
        image_folder.load(tmp_path / "late")
    tar_of(tmp_path / "packed" / "a.tar", labeled(0, [0]))
    (tmp_path / "packed" / "b.tar.gz").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"expected one uncompressed \.tar or uncompressed shards; found a\.tar, b\.tar\.gz"
    ):
        image_folder.load(tmp_path / "packed")
    for i in range(2):
        tar_of(tmp_path / "few" / f"{i}.tar", labeled(10 * i, [0, 1]))
    with pytest.raises(InputError, match="few: class '0' has 2 images; a random split needs 3 or more"):
        image_folder.load(tmp_path / "few")
