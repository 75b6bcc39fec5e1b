"""What is particular to birds, pets, cars, food, cub, dogs and flowers, and the committed splits."""

import importlib
from collections import Counter
from pathlib import Path

import pytest
from layouts import birds as birds_layout
from layouts import cars as cars_layout
from layouts import pets as pets_layout
from transferbench import InputError
from transferbench.datasets import birds, cars, catalog, cub, dogs, flowers, food, pets
from transferbench.datasets.download import archives, locate
from transferbench.datasets.reading import holdout
from transferbench.datasets.storage.table import Row

MODULES = birds, pets, cars, food, cub, dogs, flowers
READERS = {module.__name__.rpartition(".")[2]: module for module in MODULES}
OTHER_NAMES = {
    "birds": "birdsnap",
    "pets": "oxford-iiit-pet",
    "cars": "stanford_cars",
    "food": "food-101",
    "cub": "CUB_200_2011/CUB_200_2011",
    "flowers": "flowers-102",
}


def official(name: str) -> list[Row]:
    """Give the images of the official training list."""
    if name == "cars":
        return [Row(f"cars_train/{i:05}.jpg", label) for i, label in enumerate(cars_layout.TRAIN_LABELS, 1)]
    return [
        Row(f"images/{breed}_{i}.jpg", label)
        for label, (breed, ranges) in enumerate(pets_layout.TRAINVAL.items())
        for i in pets_layout.numbers(ranges)
    ]


def committed(name: str) -> list[str]:
    lines = (holdout.FOLDER / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def layout(name: str):
    return importlib.import_module(f"layouts.{name}")


def placed(name: str, folder: Path, tmp_path: Path) -> Path:
    """Put a small set unpacked into a folder; gives where its layout begins."""
    about = READERS[name].ABOUT
    layout(name).write(tmp_path / "packed" if about.archives else folder)
    for archive in about.archives:
        file = tmp_path / "packed" / archive.file_name
        if archive.unpack:
            archives.extract(file, folder / archive.into)
        else:
            (folder / archive.file_name).write_bytes(file.read_bytes())
    starts = (folder, *(folder / name for name in about.folders))
    return next(start for start in starts if any((start / probe).exists() for probe in about.probes))


def check_rows(root: Path, name: str) -> None:
    """See that the images of all parts are there, and that the parts have their small sizes."""
    parts = READERS[name].read(root).parts
    assert {part: len(rows) for part, rows in parts.items()} == layout(name).SMALL
    assert [row.path for rows in parts.values() for row in rows if not (root / row.path).is_file()] == []


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data root, and a cache, of its own."""
    monkeypatch.setenv("TRANSFERBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("TRANSFERBENCH_MIRROR", raising=False)
    (tmp_path / "data").mkdir()
    catalog.load.cache_clear()
    yield tmp_path / "data"
    catalog.load.cache_clear()


@pytest.mark.parametrize("name", ["pets", "cars"])
def test_the_official_training_list_has_its_size(name):
    about, rows = READERS[name].ABOUT, official(name)
    assert len({row.path for row in rows}) == len(rows) == about.sizes["train"] + about.sizes["holdout"]
    assert {row.label for row in rows} == set(range(about.num_classes))


@pytest.mark.parametrize("name", ["pets", "cars"])
def test_the_committed_holdout_is_drawn_from_the_official_list(name):
    keys, size = committed(name), READERS[name].ABOUT.sizes["holdout"]
    assert len(set(keys)) == len(keys) == size
    assert keys == sorted(keys)
    rows = official(name)
    chosen = holdout.draw(rows, size)
    assert set(keys) == {holdout.key(row) for row, is_held in zip(rows, chosen, strict=True) if is_held}


@pytest.mark.parametrize("name", ["pets", "cars"])
def test_the_committed_holdout_has_its_share_of_each_class(name):
    keys, rows = set(committed(name)), official(name)
    of_class = Counter(row.label for row in rows)
    held = Counter(row.label for row in rows if holdout.key(row) in keys)
    share = len(keys) / len(rows)
    assert [label for label, count in of_class.items() if abs(held[label] - share * count) >= 1] == []


@pytest.mark.parametrize("name", sorted(OTHER_NAMES))
def test_a_copy_is_found_under_its_other_name(name, data, tmp_path):
    begins = placed(name, tmp_path / "own", tmp_path)
    (data / OTHER_NAMES[name]).parent.mkdir(exist_ok=True)
    begins.rename(data / OTHER_NAMES[name])
    sizes = {part: len(own.labels) for part, own in catalog.load(name).parts.items()}
    assert sizes == layout(name).SMALL


def test_cars_are_read_as_kaggle_has_them(tmp_path):
    root = placed("cars", tmp_path / "cars", tmp_path)
    check_rows(root, "cars")
    before = cars.read(root)
    for folder, name in (("cars_train", "cars_train"), ("cars_test", "cars_test"), ("car_devkit", "devkit")):
        (root / name).rename(root / "moved")
        (root / folder).mkdir()
        (root / "moved").rename(root / folder / name)
    labeled = "cars_test_annos_withlabels.mat"
    (root / labeled).rename(root / "car_devkit/devkit" / labeled)
    check_rows(root, "cars")
    after = cars.read(root)
    assert after.classes == before.classes
    first, second = (
        {part: [(holdout.key(row), row.label) for row in rows] for part, rows in listing.parts.items()}
        for listing in (before, after)
    )
    assert first == second


def test_the_annotations_without_classes_do_not_stand_for_the_cars_test_list(data, tmp_path):
    root = placed("cars", data / "cars", tmp_path)
    assert (root / "devkit/cars_test_annos.mat").exists()
    (root / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(InputError, match="cars: .*cars_test_annos_withlabels.mat is missing"):
        catalog.load("cars")


def test_breeds_of_pets_go_by_their_number_and_not_by_name(tmp_path):
    pets_layout.lists(tmp_path)
    classes = pets.read(tmp_path).classes
    assert classes[3:6] == (
        "basset hound",
        "beagle",
        "Bengal",
    )  # capitals are sorted first
    assert classes[-1] == "yorkshire terrier"


def test_names_of_classes_are_words(tmp_path):
    expected = {
        "birds": ("Cooper's Hawk", "Long-billed Curlew", "Blue Jay"),  # by number, which is not their order
        "food": ("apple pie", "lobster roll sandwich", "waffles"),
        "cub": ("Black footed Albatross", "Laysan Albatross", "Chuck wills Widow"),
        "dogs": ("Chihuahua", "Shih-Tzu", "black-and-tan coonhound"),
    }
    for name, classes in expected.items():
        root = placed(name, tmp_path / name, tmp_path / f"{name}.work")
        assert READERS[name].read(root).classes == classes


def test_dogs_are_read_in_the_folders_of_kaggle(tmp_path):
    root = placed("dogs", tmp_path / "dogs", tmp_path)
    (root / "images").mkdir()
    (root / "Images").rename(root / "images/Images")
    check_rows(root, "dogs")


def test_flowers_are_named_as_torchvision_does():
    from torchvision.datasets import Flowers102

    assert list(flowers.CLASSES) == Flowers102.classes
    assert len(set(flowers.CLASSES)) == flowers.ABOUT.num_classes


def test_flowers_count_images_and_labels_from_one(tmp_path):
    root = placed("flowers", tmp_path / "flowers", tmp_path)
    rows = [row for part in flowers.read(root).parts.values() for row in part]
    assert {row.path for row in rows} == {f"jpg/image_{i:05}.jpg" for i in range(1, 17)}
    assert {row.path: row.label for row in rows}["jpg/image_00002.jpg"] == 5


@pytest.mark.parametrize("folder", birds.IMAGES)
def test_birds_are_found_where_their_script_or_a_person_puts_them(folder, tmp_path):
    root = placed("birds", tmp_path / "birds", tmp_path)
    (root / "images").rename(root / "moved")
    (root / folder).parent.mkdir(exist_ok=True)
    for species in sorted((root / "moved").iterdir()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        species.rename(root / folder / species.name)
    check_rows(root, "birds")


def test_a_dead_address_moves_no_other_bird_into_another_part(data, tmp_path):
    root = placed("birds", data / "birds", tmp_path)
    before = {part: {row.path for row in rows} for part, rows in birds.read(root).parts.items()}
    dead = sorted(root.glob("images/*/*.jpg"))[::3]
    for image in dead:
        image.unlink()
    gone = {image.relative_to(root).as_posix() for image in dead}
    found = catalog.load("birds")
    for part, own in found.parts.items():
        assert {own.images.path(i) for i in range(len(own.labels))} == before[part] - gone
    assert any("not the published split" in note for note in found.notes)


def test_birds_are_not_fetched_to_lists_without_images(data):
    assert not birds.ABOUT.fetchable
    with pytest.raises(locate.MissingData, match="by hand: download the lists, .*get_birdsnap.py"):
        catalog.load("birds")


def test_the_parts_of_birds_come_from_the_test_list(tmp_path):
    birds_layout.write(tmp_path)
    listed = set((tmp_path / "test_images.txt").read_text().split()[1:])
    parts = birds.read(tmp_path).parts
    assert {row.path.removeprefix("images/") for row in parts["test"]} == listed
    assert not listed & {row.path.removeprefix("images/") for row in (*parts["train"], *parts["holdout"])}
