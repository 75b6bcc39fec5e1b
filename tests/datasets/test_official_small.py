"""What trips a reader of the small known sets, and what their drawn splits promise."""

import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from layouts import cifar10 as cifar10_layout
from layouts import gtsrb as gtsrb_layout
from layouts import mnist as mnist_layout
from layouts import svhn as svhn_layout
from layouts import usps as usps_layout
from scipy.io import savemat
from transferbench import InputError
from transferbench.datasets import (
    caltech101,
    caltech256,
    catalog,
    cifar10,
    cifar100,
    eurosat,
    gtsrb,
    mnist,
    svhn,
    svhn5,
    svhn10,
    usps,
)
from transferbench.datasets.download import locate
from transferbench.datasets.download.archives import draft, extract
from transferbench.datasets.pixels import ArrayImages
from transferbench.datasets.reading import holdout
from transferbench.datasets.reading.arrays import split_arrays
from transferbench.datasets.storage.table import Row


def unpacked(layout, folder: Path) -> Path:
    """Write a small set and unpack its archives into one folder."""
    layout.write(folder / "packed")
    with draft(folder / "unpacked") as into:
        for archive in sorted((folder / "packed").iterdir()):
            extract(archive, into)
    return folder / "unpacked"


def arrays(name: str, sizes: dict[str, int], num_classes: int = 10):
    """Make the parts of a set of published size, of one pixel an image, which holds its position."""
    num_train = sizes["train"] + sizes["holdout"]
    train = np.arange(num_train).reshape(-1, 1, 1), np.arange(num_train) * 7 % num_classes
    test = np.zeros((sizes["test"], 1, 1)), np.zeros(sizes["test"], np.int64)
    return split_arrays(name, train, test, sizes)


@pytest.mark.parametrize("module", [svhn, cifar100])
def test_a_drawn_holdout_has_the_published_size_and_shares_no_image(module):
    name, about = module.__name__.split(".")[-1], module.ABOUT
    parts = arrays(name, about.sizes, about.num_classes)
    assert {part: len(content.labels) for part, content in parts.items()} == about.sizes
    taken = np.concatenate([parts[part].images.array.ravel() for part in ("train", "holdout")])
    assert sorted(taken) == list(range(len(taken)))
    share = np.bincount(parts["holdout"].labels, minlength=about.num_classes) / len(parts["holdout"].labels)
    assert np.ptp(share) < 1e-3  # of classes equally large


def test_each_image_of_a_drawn_holdout_keeps_its_label():
    parts = arrays("mnist", {"train": 900, "holdout": 100, "test": 10})
    for part in ("train", "holdout"):
        assert (parts[part].images.array.ravel() * 7 % 10 == parts[part].labels).all()


def test_the_digit_0_of_svhn_is_called_10_in_its_files(tmp_path):
    svhn_layout.save(tmp_path, "train", np.array([10, 1, 9, 10]), np.array([[5, 6, 7]] * 4))
    images, digits = svhn.arrays(tmp_path, "train")
    assert digits.tolist() == [0, 1, 9, 0]
    assert images.shape == (4, 32, 32, 3)
    assert images[0, 0, 0].tolist() == [5, 6, 7]


def test_an_image_of_svhn_lies_neither_on_its_side_nor_mirrored(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": np.stack([image, image * 0], 3), "y": np.array([[1], [2]])})
    assert (svhn.arrays(tmp_path, "train")[0][0] == image).all()


def test_svhn5_makes_the_digit_5_class_0_and_draws_as_the_released_code(monkeypatch):
    """The steps of that code, with numpy's one generator, on images of one pixel."""
    random = np.random.default_rng(0)
    sizes = {"train": 900, "test": 19_000}
    images = {file: random.integers(0, 256, (n, 1, 1, 3), np.uint8) for file, n in sizes.items()}
    digits = {file: random.integers(0, 10, n) for file, n in sizes.items()}
    monkeypatch.setattr(svhn, "arrays", lambda _, file: (images[file], digits[file]))
    found = svhn5.read(Path())
    np.random.seed(0)
    order = {}
    for file in ("train", "test"):
        for digit in (1, 2, 3, 4, 5):
            order[file, digit] = np.where(digits[file] == digit)[0]
            np.random.shuffle(order[file, digit])
    cuts = {"train": ("train", 0, 60), "holdout": ("test", 0, 600), "test": ("test", 600, 1_800)}
    for part, (file, start, stop) in cuts.items():
        for label, digit in enumerate((5, 1, 2, 3, 4)):
            of_class = found.parts[part].images.array[found.parts[part].labels == label]
            assert (of_class == svhn.to_gray(images[file][order[file, digit][start:stop]])).all()
    assert {part: len(content.labels) for part, content in found.parts.items()} == svhn5.ABOUT.sizes
    assert found.classes == ("five", "one", "two", "three", "four")


def test_svhn10_has_60_images_a_digit_in_each_part(tmp_path):
    for file in ("train", "test"):
        names = svhn_layout.names_of(1_300)
        svhn_layout.save(tmp_path, file, names, np.zeros((len(names), 3)))
    for content in svhn10.read(tmp_path).parts.values():
        assert Counter(content.labels.tolist()) == dict.fromkeys(range(10), 60)


def test_grey_is_that_of_tensorflow():
    """Worked by hand: 0.2989 x 200 + 0.587 x 100 + 0.114 x 50 = 124.18, times 255.5 / 255 is 124.42."""
    colors = np.array([[200, 100, 50], [255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8)
    assert svhn.to_gray(colors[None]).tolist() == [[124, 255, 0, 76]]
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert (svhn.to_gray(ramp[None])[0] == np.arange(256)).all()


def test_mnist_is_padded_and_not_resized(tmp_path):
    images = np.random.default_rng(0).integers(1, 256, (20, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(mnist_layout.idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(
            mnist_layout.idx(np.arange(20, dtype=np.uint8) % 10)
        )
    found = mnist.read(tmp_path).parts["test"].images.array
    assert found.shape == (20, 32, 32)
    assert (found[:, 2:30, 2:30] == images).all()
    assert found.sum() == images.sum()


def test_the_digits_of_usps_are_one_less_than_their_labels(tmp_path):
    ramp = " ".join(f"{i + 1}:{i / 127.5 - 1:.4f}" for i in range(256))
    for name in ("usps", "usps.t"):
        (tmp_path / name).write_text("".join(f"{label} {ramp} \n" for label in range(1, 11)))
    test = usps.read(tmp_path).parts["test"]
    assert test.labels.tolist() == list(range(10))
    assert test.images.array[0].ravel().tolist() == list(range(256))


def test_the_planes_of_cifar_are_red_green_blue_by_rows(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    planes = cifar10_layout.array(image.transpose(2, 0, 1).reshape(1, -1))
    labels = cifar10_layout.listed([cifar10_layout.number(3)])
    (tmp_path / "batch").write_bytes(cifar10_layout.pickled({b"data": planes, b"labels": labels}))
    images, numbers = cifar10.batch(tmp_path / "batch", b"labels")
    assert numbers.tolist() == [3]
    assert (images[0] == image).all()


def test_the_made_batches_are_what_pickle_itself_takes_for_cifar():
    content = pickle.loads(cifar10_layout.batch("train", np.arange(3)), encoding="bytes")
    assert content[b"labels"] == [0, 1, 2]
    assert content[b"data"].shape == (3, 3072)
    assert content[b"data"].dtype == np.uint8


class Harm:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\nndarray.__class__\n.",
        b"\x80\x02}(",  # cut
        b"",
        pickle.dumps({b"data": b"", b"labels": []}),
        pickle.dumps([1, 2]),
    ],
)
def test_a_pickle_that_is_no_file_of_cifar_is_refused(tmp_path, content):
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match="data_batch_1: not a CIFAR file"):
        cifar10.batch(tmp_path / "data_batch_1", b"labels")


def test_nothing_in_a_hostile_pickle_runs(tmp_path):
    harmed = tmp_path / "harmed"
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(Harm(harmed)))
    with pytest.raises(InputError):
        cifar10.read(tmp_path)
    assert not harmed.exists()
    pickle.loads((tmp_path / "data_batch_1").read_bytes())
    assert harmed.exists()  # so it would have


def test_an_array_forged_in_a_pickle_is_never_made(tmp_path):
    """Numpy itself takes the flags of a type from a pickle, and then bytes for addresses."""
    forged = cifar10_layout.array(np.zeros((1, 3072), np.uint8)).replace(b"u1", b"O8")
    labels = cifar10_layout.listed([cifar10_layout.number(0)])
    (tmp_path / "batch").write_bytes(cifar10_layout.pickled({b"data": forged, b"labels": labels}))
    images, _ = cifar10.batch(tmp_path / "batch", b"labels")
    assert images.dtype == np.uint8


def test_a_batch_of_cifar_that_names_anything_but_arrays_is_refused(tmp_path):
    more = {"more": b"cos\nsystem\n"}
    (tmp_path / "batch").write_bytes(cifar10_layout.batch("train", np.arange(3), **more))
    with pytest.raises(InputError, match="batch: not a CIFAR file"):
        cifar10.batch(tmp_path / "batch", b"labels")


@pytest.mark.parametrize(
    ("module", "folders", "classes"),
    [
        (eurosat, ("AnnualCrop", "SeaLake"), ("Annual Crop", "Sea Lake")),
        (caltech101, ("BACKGROUND_Google", "Faces_easy", "ant"), ("BACKGROUND Google", "Faces easy", "ant")),
        (
            caltech256,
            ("001.ak47", "002.american-flag", "251.airplanes-101"),
            ("ak47", "american flag", "airplanes"),
        ),
    ],
)
def test_folders_become_class_names_in_words_in_their_order(module, folders, classes, tmp_path):
    for folder in folders[::-1]:
        (tmp_path / folder).mkdir()
        stem = {eurosat: f"{folder}_1", caltech101: "image_0001", caltech256: f"{folder[:3]}_0001"}[module]
        (tmp_path / folder / f"{stem}.jpg").touch()
    (tmp_path / "README.txt").touch()
    assert module.read(tmp_path).classes == classes


def test_no_track_of_gtsrb_is_in_two_parts(tmp_path):
    parts = gtsrb.read(unpacked(gtsrb_layout, tmp_path)).parts
    tracks = {part: {(r.label, Path(r.path).name[:5]) for r in parts[part]} for part in ("train", "holdout")}
    assert not tracks["train"] & tracks["holdout"]
    assert {label for label, _ in tracks["holdout"]} == set(range(43))
    of_class = Counter(label for label, _ in tracks["holdout"])
    assert [of_class[label] for label in (0, 1, 7)] == [1, 2, 2]  # of 5, 16 and 24
    assert len(parts["train"]) + len(parts["holdout"]) == 375


def test_a_track_of_gtsrb_that_lacks_a_frame_stays_where_it_was(tmp_path):
    root = unpacked(gtsrb_layout, tmp_path)
    before = gtsrb.read(root).parts["holdout"]
    (root / before[0].path).unlink()
    assert gtsrb.read(root).parts["holdout"] == before[1:]


def test_a_copy_of_gtsrb_without_a_class_is_read(tmp_path):
    root = unpacked(gtsrb_layout, tmp_path)
    shutil.rmtree(root / "GTSRB/Training/00003")
    parts = gtsrb.read(root).parts
    assert {r.label for r in parts["train"]} == set(range(43)) - {3}


def test_neither_order_nor_place_of_a_copy_changes_a_draw_of_caltech():
    rows = [Row(f"accordion/image_{i:04}.jpg", 0) for i in range(40)]
    parts = holdout.draw_per_class(rows, 3, 27)
    moved = holdout.draw_per_class([Row(f"elsewhere/{r.path}", 0) for r in rows[::-1]], 3, 27)
    for part, size in (("train", 27), ("holdout", 3), ("test", 10)):
        assert len(parts[part]) == size
        assert [f"elsewhere/{r.path}" for r in parts[part]] == [r.path for r in moved[part]]


@pytest.mark.parametrize(
    ("module", "layout", "file"),
    [
        (svhn, svhn_layout, "train_32x32.mat"),
        (usps, usps_layout, "usps.t.bz2"),
        (mnist, mnist_layout, "t10k-images-idx3-ubyte.gz"),
    ],
)
def test_a_cut_file_is_named_in_a_line(module, layout, file, tmp_path):
    layout.write(tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-40])
    with pytest.raises(InputError, match=f"{file}: cut or damaged") as error:
        module.read(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError) as missing:
        module.read(tmp_path)
    assert Path(missing.value.filename).name == file


def test_grey_arrays_are_shown_as_three_equal_channels():
    shown, _ = ArrayImages(np.full((1, 32, 32), 9, np.uint8)).decode(0, 32)
    assert (shown == 9).all()
    assert shown.shape == (32, 32, 3)


TORCHVISION = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte.gz",
    "usps": "usps.bz2",
    "svhn": "train_32x32.mat",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "cifar100": "cifar-100-python/meta",
    "eurosat": "eurosat/2750/AnnualCrop/AnnualCrop_1.jpg",
    "gtsrb": "gtsrb/GTSRB/Training/00000/00000_00000.ppm",
    "dtd": "dtd/dtd/labels/train1.txt",
    "caltech101": "caltech101/101_ObjectCategories/accordion/image_0001.jpg",
    "caltech256": "caltech256/256_ObjectCategories/001.ak47/001_0001.jpg",
}


@pytest.mark.parametrize(
    ("name", "folder"),
    [*((n, n) for n in TORCHVISION), *((n, "") for n, path in TORCHVISION.items() if "/" in path)],
)
def test_what_torchvision_has_fetched_is_found(name, folder, tmp_path, monkeypatch):
    """In the folder of the set, or, where torchvision makes a folder of its own, right in the data root."""
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / folder / TORCHVISION[name]
    file.parent.mkdir(parents=True)
    file.touch()
    found = locate.find(name, catalog.about(name))
    assert found is not None
    assert any((found / probe).exists() for probe in catalog.about(name).probes)


@pytest.mark.parametrize("name", ["svhn5", "svhn10"])
def test_the_small_svhn_sets_take_the_files_of_svhn(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn/train_32x32.mat").touch()
    assert locate.find(name, catalog.about(name)) == tmp_path / "svhn"
