"""Every known data set in its official layout, made small: fetched over loopback, found, read, split."""

import os

import pytest
from loopback import Fault
from official_sets import check, layout, place_unpacked, reader, serve
from transferbench import InputError
from transferbench.datasets import catalog
from transferbench.datasets.download import locate

NAMES = [name for name in catalog.names() if catalog.about(name).probes]
REAL = os.environ.get("TRANSFERBENCH_DATA")  # real copies, where a machine has some
FETCHED = [name for name in NAMES if catalog.about(name).archives]


@pytest.mark.parametrize("name", FETCHED)
def test_archives_are_fetched_checked_unpacked_and_read(name, root, mirror):
    serve(mirror, name)
    found = catalog.load(name)
    check(found, name)
    asked = [r.path for r in mirror.requests]
    catalog.load.cache_clear()
    again = catalog.load(name)
    assert [r.path for r in mirror.requests] == asked  # the second time nobody is asked
    assert again.fingerprint == found.fingerprint
    assert not list(locate.cache_folder().glob("data/*.draft"))
    assert not (locate.cache_folder() / "data" / f"{name}.archives").exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_users_own_copy_is_read_where_it_lies(name, root, tmp_path):
    place_unpacked(name, root / name, tmp_path)
    before = sorted(str(p) for p in root.rglob("*"))
    check(catalog.load(name), name)
    assert sorted(str(p) for p in root.rglob("*")) == before
    assert not (locate.cache_folder() / "data" / name).exists()


@pytest.mark.parametrize("name", FETCHED)
def test_the_users_archives_are_unpacked_into_the_store(name, root, tmp_path):
    layout(name).write(root / name)
    before = sorted(str(p) for p in root.rglob("*"))
    check(catalog.load(name), name)
    assert sorted(str(p) for p in root.rglob("*")) == before


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(layout(n), "lists")])
def test_the_official_lists_give_the_published_sizes(name, tmp_path):
    layout(name).lists(tmp_path)
    listing = reader(name).read(tmp_path)
    about = catalog.about(name)
    sizes = {
        part: len(rows.labels if hasattr(rows, "labels") else list(rows))
        for part, rows in listing.parts.items()
    }
    assert sizes == dict(about.sizes)
    assert len(listing.classes) == about.num_classes


@pytest.mark.skipif(REAL is None, reason="TRANSFERBENCH_DATA is not set: no real copies to count")
@pytest.mark.parametrize("name", NAMES)
def test_a_real_copy_has_the_published_sizes(name):
    about = catalog.about(name)
    if locate.find(name, about) is None and not locate.find_archives(name, about):
        pytest.skip(f"no copy of {name} in {REAL}")
    found = catalog.load(name)
    assert {part: len(content.labels) for part, content in found.parts.items()} == dict(about.sizes)
    assert len(found.classes) == about.num_classes


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named_with_what_to_do(name, root):
    about = catalog.about(name)
    with pytest.raises(locate.MissingData) as error:
        catalog.load(name)
    first, *rest = str(error.value).splitlines()
    assert first.startswith(f"{name}: ")
    assert any(str(root / name) in line for line in rest)
    assert rest[-1].strip().startswith("by hand: ")
    for archive in about.archives:
        assert archive.file_name in rest[-1] or about.by_hand
    assert catalog.about(about.source) is not None or about.source == "none"


def test_a_wrong_sum_is_refused_and_nothing_stays(root, mirror):
    folder = serve(mirror, "aircraft")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  fgvc-aircraft-2013b.tar.gz\n")
    with pytest.raises(locate.MissingData, match="tried mirror .*sha256"):
        catalog.load("aircraft")
    assert not (locate.cache_folder() / "data/aircraft").exists()


def test_a_mirror_without_sums_is_held_to_the_published_ones(root, mirror):
    (serve(mirror, "aircraft") / "SHA256SUMS").unlink()
    with pytest.raises(locate.MissingData, match="tried mirror .*fgvc-aircraft-2013b.tar.gz"):
        catalog.load("aircraft")


def test_a_cut_transfer_goes_on_where_it_ended(root, mirror, monkeypatch):
    monkeypatch.setattr("transferbench.datasets.download.http.PAUSES_SECONDS", (0, 0))
    folder = serve(mirror, "aircraft")
    size = (folder / "fgvc-aircraft-2013b.tar.gz").stat().st_size
    mirror.faults["/aircraft/fgvc-aircraft-2013b.tar.gz"] = Fault(times=1, cut_after=size // 2)
    check(catalog.load("aircraft"), "aircraft")
    sent = [r.num_bytes for r in mirror.requests if r.path.endswith(".tar.gz")]
    assert len(sent) == 2
    assert sum(sent) == size


def test_images_that_a_copy_lacks_are_left_out_and_told(root, tmp_path):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    sorted(root.rglob("*.jpg"))[0].unlink()
    found = catalog.load("aircraft")
    assert len(found.parts["train"].labels) == 23
    assert any("train 23 of 3,334" in note for note in found.notes)


def test_a_missing_list_is_named(root, tmp_path):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    next(root.rglob("images_variant_val.txt")).unlink()
    with pytest.raises(InputError, match="aircraft: .*images_variant_val.txt is missing"):
        catalog.load("aircraft")


def test_lists_without_any_image_are_refused(root, tmp_path):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    for image in root.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(InputError, match="has the lists, but no images"):
        catalog.load("aircraft")


def test_a_changed_copy_is_read_anew(root, tmp_path):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    first = catalog.load("aircraft").fingerprint
    lines = next(root.rglob("images_variant_train.txt"))
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:-1]))
    catalog.load.cache_clear()
    assert len(catalog.load("aircraft").parts["train"].labels) == 23
    assert catalog.load("aircraft").fingerprint != first


def test_an_image_replaced_in_place_changes_the_fingerprint(root, tmp_path):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    first = catalog.load("aircraft").fingerprint
    image = sorted(root.rglob("*.jpg"))[5]
    content = image.read_bytes()
    image.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    catalog.load.cache_clear()
    assert catalog.load("aircraft").fingerprint != first


def test_a_data_root_that_is_not_there_is_named(root, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(root / "nowhere"))
    with pytest.raises(InputError, match="data.root .*nowhere: no such folder"):
        catalog.load("aircraft")


def test_what_only_a_person_can_get_is_asked_for_before_anything_is_fetched(root, mirror, monkeypatch):
    serve(mirror, "aircraft")
    with pytest.raises(locate.MissingData) as error:
        catalog.require(["aircraft", "imagenet"])
    lines = str(error.value).splitlines()
    assert lines[0].startswith("imagenet: ")
    assert lines[-1].startswith("aircraft: missing; a bench downloads it")
    assert mirror.requests == []
