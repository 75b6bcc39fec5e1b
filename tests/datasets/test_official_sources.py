"""Large sources: tars inside tars, labels whose numbers mislead, splits of millions, words for classes."""

import io
import itertools
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from layouts import imagenet as ilsvrc
from layouts import imagenet21k as full
from layouts import inaturalist as inat
from layouts import places365 as scenes
from layouts import tiny_imagenet as tiny
from layouts.pictures import encoded, seen
from PIL import Image
from transferbench import InputError
from transferbench.datasets import imagenet, imagenet21k, inaturalist, places365, tiny_imagenet
from transferbench.datasets.about import Listing
from transferbench.datasets.download import archives
from transferbench.datasets.reading import holdout, wordnet
from transferbench.datasets.storage import nested_tar
from transferbench.datasets.storage.index import read_index, write_index
from transferbench.datasets.storage.table import Row


def check(
    root: Path, listing: Listing, sizes: Mapping[str, int], origin: Mapping[str, str] | None = None
) -> None:
    """See by the colors that each image has its label, and comes from its part or that part's origin."""
    assert {part: len(list(rows)) for part, rows in listing.parts.items()} == dict(sizes)
    for part, rows in listing.parts.items():
        for row in rows:
            label, came_from = seen(np.asarray(Image.open(io.BytesIO(content(root, row)))))
            assert (label, came_from) == (row.label, (origin or {}).get(part, part)), row


def content(root: Path, row: Row) -> bytes:
    whole = (root / (row.container or row.path)).read_bytes()
    return whole[row.offset : row.offset + row.num_bytes] if row.container else whole


def names(listing: Listing, part: str) -> set[str]:
    return {Path(row.path).name for row in listing.parts[part]}


def fetched(module, layout, tmp_path: Path) -> Path:
    """Unpack a small set's archives."""
    layout.write(tmp_path / "packed")
    with archives.draft(tmp_path / "root") as draft:
        for archive in module.ABOUT.archives:
            archives.extract(tmp_path / "packed" / archive.file_name, draft)
    return tmp_path / "root"


# Words


def test_words_are_first_lemmas():
    assert wordnet.class_names(["n01440764", "n15075141"]) == ("tench", "toilet tissue")


def test_classes_that_share_a_word_get_another():
    cranes, maillots = ["n02012849", "n03126707"], ["n03710637", "n03710721"]
    assert wordnet.class_names([*cranes, *maillots]) == (
        "crane (n02012849)",
        "crane (n03126707)",
        "maillot",
        "maillot, tank suit",
    )
    assert wordnet.class_names(cranes[:1]) == ("crane",)


@pytest.mark.parametrize("which", ["imagenet", "imagenet22k"])
def test_no_two_classes_have_one_name(which):
    (folder,) = wordnet.find_spec("timm").submodule_search_locations
    wnids = (Path(folder) / f"data/_info/{which}_synsets.txt").read_text().split()
    assert len(set(wordnet.class_names(wnids))) == len(wnids) in (1000, 21_841)


def test_an_unknown_id_names_itself(monkeypatch):
    assert wordnet.class_names(["n99999999", "n01440764"]) == ("n99999999", "tench")
    monkeypatch.setattr(wordnet, "find_spec", lambda name: None)  # without timm
    assert wordnet.class_names(["n01440764"]) == ("n01440764",)


def test_words_do_without_the_import_of_timm():
    code = (
        "import sys; from transferbench.datasets.reading import wordnet; "
        "wordnet.class_names(['n1']); print('timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Tars inside tars

LONG = "a" * 60 + "/" + "b" * 90 + ".JPEG"  # needs the prefix of POSIX, or a header of its own
LONGER = "ä" * 80 + "/" + "c" * 200 + ".JPEG"


def reference(file: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(file) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isfile()]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(tmp_path, kind):
    longest = [] if kind == tarfile.USTAR_FORMAT else [LONGER]
    file = tmp_path / "x.tar"
    with tarfile.open(file, "w", format=kind, pax_headers={"comment": "for all"}) as tar:
        for i, name in enumerate(["a.JPEG", LONG, *longest, "last.JPEG"]):
            for type_, own in ((tarfile.DIRTYPE, f"folder{i}"), (tarfile.LNKTYPE, f"link{i}")):
                member = tarfile.TarInfo(own)
                member.type, member.linkname = type_, "to" * 20 * i
                member.size = 700 if type_ == tarfile.LNKTYPE else 0  # stated by some, but nothing follows
                tar.addfile(member)
            member = tarfile.TarInfo(name)
            member.size = 511 + i  # below, at and above a block
            tar.addfile(member, io.BytesIO(bytes([i]) * member.size))
    found = nested_tar.members(file)
    assert found == reference(file)
    assert [m.path for m in found] == ["a.JPEG", LONG, *longest, "last.JPEG"]


def test_a_tar_inside_a_tar_is_read_at_its_place(tmp_path):
    inner = {f"n1_{i}.JPEG": bytes([65 + i]) * (700 + i) for i in range(3)}
    outer = {"n0.tar": ilsvrc.tar({"x.JPEG": b"x"}), "n1.tar": ilsvrc.tar(inner), "readme": b"no tar"}
    (tmp_path / "outer.tar").write_bytes(ilsvrc.tar(outer))
    places = nested_tar.find_classes(tmp_path, "outer.tar")
    assert list(places) == ["n0", "n1"]
    rows = list(nested_tar.rows(tmp_path, {"n1": places["n1"]}, {"n1": 7}, ""))
    assert [(r.path, r.label, content(tmp_path, r)) for r in rows] == [
        (f"n1/{name}", 7, data) for name, data in inner.items()
    ]


def test_an_inner_tar_ends_where_it_ends_without_a_mark(tmp_path):
    inner = ilsvrc.tar({"x.JPEG": b"x" * 512})[:1024]
    (tmp_path / "outer.tar").write_bytes(ilsvrc.tar({"n0.tar": inner, "n1.tar": inner}))
    first = nested_tar.find_classes(tmp_path, "outer.tar")["n0"]
    assert nested_tar.members(tmp_path / "outer.tar", first.start, first.num_bytes) == [("x.JPEG", 1024, 512)]


def test_a_member_of_eight_gigabytes_and_more_is_stepped_over(tmp_path):
    big = 9 * 2**30  # a number that octal digits cannot hold; a hole in the file takes no disk
    file = tmp_path / "x.tar"
    with file.open("wb") as f:
        for name, size in (("big.JPEG", big), ("small.JPEG", 5)):
            member = tarfile.TarInfo(name)
            member.size = size
            f.write(member.tobuf(tarfile.GNU_FORMAT))
            f.seek(-(-size // 512) * 512, 1)
        f.truncate(f.tell() + 1024)
    assert nested_tar.members(file) == [("big.JPEG", 512, big), ("small.JPEG", 1024 + big, 5)]


@pytest.mark.parametrize("damage", ["cut", "compressed", "empty", "overwritten"])
def test_what_is_no_whole_tar_is_refused_by_name(tmp_path, damage):
    ilsvrc.write(tmp_path)
    file = tmp_path / "ILSVRC2012_img_train.tar"
    whole = file.read_bytes()
    at = whole.index(b"n01440764_9.JPEG")  # an inner header
    file.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "compressed": (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").read_bytes(),
            "empty": b"",
            "overwritten": whole[: at + 50] + b"?" + whole[at + 51 :],
        }[damage]
    )
    with pytest.raises(InputError, match="ILSVRC2012_img_train.tar: not a complete uncompressed tar"):
        list(imagenet.read(tmp_path).parts["train"])


def test_a_damaged_tar_ends_the_listing_at_once(tmp_path, monkeypatch):
    """The other tars, of which there are thousands, are not walked first."""
    for i in range(400):
        (tmp_path / f"n{i:08}.tar").write_bytes(b"no tar" if i == 0 else ilsvrc.tar({"x.JPEG": b"x"}))
    walked = []
    walk, ending = nested_tar.members, threading.Event()

    class Threads(ThreadPoolExecutor):
        def __exit__(self, *error):
            ending.set()
            return super().__exit__(*error)

    def walk_at_the_end(path, *place):
        walked.append(path)
        if path.name != "n00000000.tar":
            ending.wait(60)
        return walk(path, *place)

    monkeypatch.setattr(nested_tar, "ThreadPoolExecutor", Threads)
    monkeypatch.setattr(nested_tar, "members", walk_at_the_end)
    with pytest.raises(InputError, match="n00000000.tar"):
        list(imagenet21k.read(tmp_path).parts["train"])
    assert len(walked) <= 1 + nested_tar.THREADS


# ImageNet


def trap() -> list[int]:
    """Give the labels that one gets who takes the official numbers for the order of the ids."""
    return [number - 1 for number in ilsvrc.TRUTH]


def test_validation_labels_go_through_the_devkits_numbers(tmp_path):
    ilsvrc.write(tmp_path)
    listing = imagenet.read(tmp_path)
    check(tmp_path, listing, ilsvrc.SMALL)
    rows = sorted(listing.parts["holdout"])
    wnids = [ilsvrc.WNIDS[number - 1] for number in ilsvrc.TRUTH]
    assert [sorted(ilsvrc.WNIDS)[row.label] for row in rows] == wnids
    assert [row.label for row in rows] != trap()  # the case tells the two apart


def test_archives_stay_packed_and_every_image_lies_in_them(tmp_path):
    ilsvrc.write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    listing = imagenet.read(tmp_path)
    assert {r.container for rows in listing.parts.values() for r in rows} == {
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("write", [ilsvrc.write, ilsvrc.write_folders, ilsvrc.write_kaggle])
def test_every_layout_of_imagenet_gives_the_same_images(tmp_path, write):
    ilsvrc.write(tmp_path / "archives")
    write(tmp_path / "other")
    one, other = imagenet.read(tmp_path / "archives"), imagenet.read(tmp_path / "other")
    check(tmp_path / "other", other, ilsvrc.SMALL)
    assert one.classes == other.classes == ("tench", "crane (n02012849)", "kit fox", "crane (n03126707)")
    for part in ilsvrc.SMALL:
        labels = [{Path(r.path).name: r.label for r in found.parts[part]} for found in (one, other)]
        assert labels[0] == labels[1]
    order = [[Path(r.path).name for r in found.parts["train"]] for found in (one, other)]
    assert order[0] == order[1]


def test_kaggles_list_is_found_beside_its_folder(tmp_path):
    ilsvrc.write_kaggle(tmp_path)
    check(tmp_path / "ILSVRC", imagenet.read(tmp_path / "ILSVRC"), ilsvrc.SMALL)


def test_a_train_tar_unpacked_to_tars_is_read_too(tmp_path):
    ilsvrc.write(tmp_path)
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar") as tar:
        tar.extractall(tmp_path / "train", filter="data")
    (tmp_path / "ILSVRC2012_img_train.tar").unlink()
    check(tmp_path, imagenet.read(tmp_path), ilsvrc.SMALL)


def test_an_unpacked_devkit_serves_as_well(tmp_path):
    ilsvrc.write(tmp_path)
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    check(tmp_path, imagenet.read(tmp_path), ilsvrc.SMALL)


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar.gz"),
        ("ILSVRC2012_img_val.tar", "ILSVRC2012_img_val.tar"),
        ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_train.tar"),
    ],
)
def test_an_archive_that_is_missing_is_named(tmp_path, gone, named):
    ilsvrc.write(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(FileNotFoundError) as error:
        imagenet.read(tmp_path)
    assert str(error.value.filename) == str(tmp_path / named)


@pytest.mark.parametrize("write", [ilsvrc.write_folders, ilsvrc.write_kaggle])
def test_a_class_that_only_validation_has_is_named(tmp_path, write):
    write(tmp_path)
    for folder in tmp_path.rglob("train/n02119789"):
        for image in folder.iterdir():
            image.unlink()
        folder.rmdir()
    with pytest.raises(FileNotFoundError) as error:
        imagenet.read(tmp_path)
    assert error.value.filename.endswith("train/n02119789")


def test_a_stray_validation_image_is_named(tmp_path):
    ilsvrc.write_kaggle(tmp_path)
    (tmp_path / "ILSVRC/Data/CLS-LOC/val/mine.JPEG").write_bytes(encoded(0, "holdout"))
    with pytest.raises(InputError, match="mine.JPEG is not an official validation image"):
        imagenet.read(tmp_path)


def test_an_index_reads_images_out_of_nested_tars(tmp_path):
    ilsvrc.write(tmp_path / "root")
    listing = imagenet.read(tmp_path / "root")
    write_index(tmp_path / "index", tmp_path / "root", listing.parts, listing.classes)
    _, parts = read_index(tmp_path / "index")
    for part, found in parts.items():
        shown = [seen(found.images.decode(i, 8)[0]) for i in range(len(found.labels))]
        assert shown == [(label, part) for label in found.labels.tolist()]


# ImageNet-21k

DRAWN = {"holdout": "train"}


@pytest.mark.parametrize("write", [full.write, full.write_whole])
def test_tars_of_classes_are_read_in_place(tmp_path, write):
    write(tmp_path)
    listing = imagenet21k.read(tmp_path)
    check(tmp_path, listing, full.SMALL, DRAWN)
    assert listing.classes == ("organism", "benthos", "tench")
    assert all(row.container.endswith(".tar") for rows in listing.parts.values() for row in rows)
    assert not names(listing, "train") & names(listing, "holdout")


def test_the_same_images_are_held_out_in_every_layout(tmp_path):
    full.write(tmp_path / "tars")
    full.write_whole(tmp_path / "whole")
    for label, wnid in enumerate(full.WNIDS):
        ilsvrc.put(tmp_path / "folders" / wnid, full.files(label))
    listings = [imagenet21k.read(tmp_path / name) for name in ("tars", "whole", "folders")]
    check(tmp_path / "folders", listings[2], full.SMALL, DRAWN)
    assert names(listings[0], "holdout") == names(listings[1], "holdout") == names(listings[2], "holdout")


def test_the_official_part_keeps_its_official_split(tmp_path):
    full.write_p(tmp_path)
    check(tmp_path, imagenet21k.read(tmp_path), {"train": 10, "holdout": 10})
    (tmp_path / "imagenet21k_resized").rename(tmp_path / "mine")
    check(tmp_path / "mine", imagenet21k.read(tmp_path / "mine"), {"train": 10, "holdout": 10})


def test_other_files_beside_the_tars_are_no_classes(tmp_path):
    full.write(tmp_path)
    (tmp_path / "words.tar").write_bytes(ilsvrc.tar({"words.txt": b""}))
    (tmp_path / "logs").mkdir()
    assert len(imagenet21k.read(tmp_path).classes) == 3


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        imagenet21k.read(tmp_path)
    assert error.value.filename.endswith("nXXXXXXXX.tar")


@pytest.mark.parametrize("validation", [False, True])
def test_shards_of_webdataset_are_read_by_their_labels(tmp_path, validation):
    full.write_shards(tmp_path, validation)
    listing = imagenet21k.read(tmp_path)
    if validation:
        check(tmp_path, listing, {"train": 15, "holdout": 3})
    else:
        check(tmp_path, listing, {"train": 12, "holdout": 3}, DRAWN)
        assert {row.label for row in listing.parts["holdout"]} == {0, 1, 2}
    assert not names(listing, "train") & names(listing, "holdout")
    assert listing.classes == ("organism", "benthos", "tench")


def test_a_shard_without_labels_is_named(tmp_path):
    ilsvrc.put(tmp_path, {"imagenet_w21-train-0000.tar": ilsvrc.tar({"1.jpg": encoded(0, "train")})})
    with pytest.raises(InputError, match="imagenet_w21-train-0000.tar:1.jpg: no label"):
        imagenet21k.read(tmp_path)


def test_headers_are_read_once_for_both_parts_and_not_before(tmp_path, monkeypatch):
    full.write(tmp_path)
    walked = []
    walk = nested_tar.members
    monkeypatch.setattr(nested_tar, "members", lambda *place: walked.append(place) or walk(*place))
    listing = imagenet21k.read(tmp_path)
    assert walked == []
    for rows in listing.parts.values():
        list(rows)
    assert len(walked) == 3


@pytest.mark.parametrize(
    ("num_images", "most", "size"),
    [(0, 2, 0), (1, 2, 0), (2, 2, 1), (150, 2, 1), (1000, 2, 2), (1300, 50, 13)],
)
def test_the_holdout_is_a_hundredth_of_a_class_within_bounds(num_images, most, size):
    chosen = imagenet21k.choose_holdout("n01440764", num_images, most)
    assert chosen.sum() == size
    assert len(chosen) == num_images


def test_the_holdout_is_spread_and_stays_what_it_was():
    chosen = np.flatnonzero(imagenet21k.choose_holdout("n01440764", 1000, 10))
    assert set(np.diff(chosen)) == {100}
    assert chosen[0] == 70
    firsts = {np.flatnonzero(imagenet21k.choose_holdout(f"n{i:08}", 1000, 10))[0] for i in range(50)}
    assert len(firsts) > 25  # not the same place in every class


def test_no_more_than_fifty_thousand_are_held_out_of_the_largest_release():
    most = imagenet21k.MOST // 21_841
    assert 21_841 * imagenet21k.choose_holdout("n01440764", 3000, most).sum() <= 50_000


def test_every_table_hears_of_jft():
    assert imagenet21k.ABOUT.notes == ("ImageNet-21k stands in for JFT-300M, which is not public",)


# Tiny ImageNet


def test_labels_go_by_sorted_id_though_the_list_is_not_sorted(tmp_path):
    assert list(tiny.WNIDS) != sorted(tiny.WNIDS)
    root = fetched(tiny_imagenet, tiny, tmp_path) / tiny.TOP
    listing = tiny_imagenet.read(root)
    check(root, listing, tiny.SMALL, DRAWN)
    assert listing.classes == ("goldfish", "Egyptian cat", "reel")


def test_a_tenth_of_each_class_is_held_out():
    rows = [Row(f"train/n{w}/images/n{w}_{i}.JPEG", w) for w, i in itertools.product(range(10), range(500))]
    parts = holdout.split_off("tiny-imagenet", rows, tiny_imagenet.ABOUT.sizes)
    for part, of_class in (("train", 450), ("holdout", 50)):
        assert Counter(row.label for row in parts[part]) == dict.fromkeys(range(10), of_class)
        assert tiny_imagenet.ABOUT.sizes[part] == 200 * of_class


# Places365


@pytest.mark.parametrize("folder", ["data_256", "data_256_standard"])
def test_scenes_are_read_by_their_index(tmp_path, folder):
    root = fetched(places365, scenes, tmp_path)
    (root / "data_256").rename(root / folder)
    listing = places365.read(root)
    check(root, listing, scenes.SMALL)
    assert listing.classes == ("airfield", "apartment building, outdoor", "alley")


def test_the_order_of_categories_is_that_of_the_index(tmp_path):
    root = fetched(places365, scenes, tmp_path)
    file = root / "categories_places365.txt"
    file.write_text("".join(sorted(file.read_text().splitlines(keepends=True))))
    assert places365.read(root).classes == ("airfield", "apartment building, outdoor", "alley")


@pytest.mark.parametrize("gone", ["places365_val.txt", "categories_places365.txt"])
def test_a_list_that_is_missing_is_told_at_once(tmp_path, gone):
    root = fetched(places365, scenes, tmp_path)
    (root / gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        places365.read(root)


# iNaturalist


@pytest.mark.parametrize(
    ("train", "val"),
    [("train_mini", "val"), ("2021_train_mini", "2021_valid"), ("train", "val"), ("2021_train", "val")],
)
def test_species_are_read_in_the_official_folders_and_in_torchvisions(tmp_path, train, val):
    root = fetched(inaturalist, inat, tmp_path)
    (root / "train_mini").rename(root / train)
    (root / "val").rename(root / val)
    listing = inaturalist.read(root)
    check(root, listing, inat.SMALL)
    assert listing.classes == ("Lumbricus terrestris", "Ardea herodias", "Iris versicolor")


def test_the_mini_set_comes_before_the_full_one(tmp_path):
    root = fetched(inaturalist, inat, tmp_path)
    ilsvrc.put(root / "train" / inat.CLASSES[0], {"x.jpg": encoded(1, "train")})
    check(root, inaturalist.read(root), inat.SMALL)


def test_a_species_that_train_lacks_is_named(tmp_path):
    root = fetched(inaturalist, inat, tmp_path)
    (root / "train_mini" / inat.CLASSES[1]).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="Ardea_herodias"):
        inaturalist.read(root)
