"""Damaged MATLAB lists of official data sets: the file is named, and no label leads out of the classes."""

import shutil

import layouts.cars
import layouts.dogs
import layouts.flowers
import layouts.imagenet
import layouts.svhn
import pytest
from hostile import damaged, fuzz
from hypothesis import strategies as st
from official_sets import place_unpacked
from transferbench import InputError
from transferbench.datasets import catalog

LISTS = {
    "cars": "**/cars_*.mat",
    "dogs": "*_list.mat",
    "flowers": "*.mat",
    "svhn": "*_32x32.mat",
    "imagenet": "**/meta.mat",
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.filterwarnings("ignore")  # of scipy, about what it leaves out
def test_damaged_lists_of_official_sets(tally, not_yet, root, tmp_path, name):
    not_yet("damaged lists", name)
    place = root / name
    place_unpacked(name, place, tmp_path)
    if name == "imagenet":
        shutil.unpack_archive(place / f"{layouts.imagenet.DEVKIT}.tar.gz", place)
    whole = {path: path.read_bytes() for path in sorted(place.glob(LISTS[name]))}
    assert whole
    seen = set()

    def check(given: tuple[int, bytes]) -> None:
        number, data = given
        path = list(whole)[number]
        path.write_bytes(data)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # the index, which looks less deep for changes
        catalog.load.cache_clear()
        try:
            found = catalog.load(name)
        except InputError as error:
            assert str(error).startswith((f"{path}: cut or damaged", f"{name}: "))  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017
            seen.add(False)
        else:
            labels = [label for part in found.parts.values() for label in part.labels.tolist()]
            assert all(0 <= label < len(found.classes) for label in labels)
            seen.add(True)
        finally:
            path.write_bytes(whole[path])

    numbered = [damaged([data]).map(lambda d, n=n: (n, d)) for n, data in enumerate(whole.values())]
    tried = fuzz(check, st.one_of(numbered), tally.times(25, 300), tally.is_long)
    assert False in seen
    tally.note("damaged lists", name, tried)
