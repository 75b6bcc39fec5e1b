"""Kill -9 while images are fetched, unpacked, decoded: the next call ends with what an unbroken one has."""

import hashlib
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import layouts.aircraft
import pytest
import torchvision.datasets
from deaths import killed_at, num_changes, start
from loopback import Loopback, loopback
from transferbench.datasets import aircraft, catalog
from transferbench.datasets.download import locate
from transferbench.datasets.storage import cache

WRITES = "kill -9 at a rename, flush or write of a download, an archive or the cache"


def contents(folder: Path) -> list[tuple[str, str]]:
    """Sum up all files but locks, which are empty and used again, and hashes kept by the times of files.

    An index is named by its time.
    """
    return sorted(
        (
            re.sub(r"index/aircraft-\w+", "index/aircraft", str(path.relative_to(folder))),
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "contents.npz"
    )


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Loopback]:
    """Serve a small set in its official archive; nobody else is asked."""
    (tmp_path / "served" / "aircraft").mkdir(parents=True)
    layouts.aircraft.write(tmp_path / "served" / "aircraft")
    archive = replace(aircraft.ABOUT.archives[0], checksum="", num_bytes=0)
    monkeypatch.setattr(aircraft, "ABOUT", replace(aircraft.ABOUT, archives=(archive,)))
    monkeypatch.setattr(locate, "check_reachable", lambda url: None)
    monkeypatch.delenv("TRANSFERBENCH_DATA", raising=False)
    with loopback(tmp_path / "served") as served:
        yield served


def fetch_and_decode() -> None:
    dataset = catalog.load("aircraft")
    for part in dataset.parts:
        cache.pixels(dataset, part, 16)


def make_array_set() -> None:
    cache.pixels(catalog.load("digits"), "test", 16)


@pytest.mark.parametrize("case", ["mirror", "torchvision", "made images"])
def test_killed_at_changes_to_the_cache(server, tmp_path, monkeypatch, tally, not_yet, case):
    not_yet(WRITES, case)
    if case == "made images" and not tally.is_long:
        pytest.skip("in `make torture`")
    work: Callable[[], None] = make_array_set if case == "made images" else fetch_and_decode
    if case == "mirror":
        monkeypatch.setenv("TRANSFERBENCH_MIRROR", server.url)
    if case == "torchvision":
        monkeypatch.delenv("TRANSFERBENCH_MIRROR", raising=False)
        url = f"{server.url}/aircraft/fgvc-aircraft-2013b.tar.gz"
        monkeypatch.setattr(torchvision.datasets.FGVCAircraft, "_URL", url)
    place = {"TRANSFERBENCH_CACHE": str(tmp_path / "cache")}  # always the same: an index tells where it is
    count = num_changes(work, tmp_path / "count", **place)
    whole = contents(tmp_path / "cache")
    wrong = kills = 0
    for k in random.Random(case).sample(range(1, count + 1), min(count, tally.times(3, 25))):
        shutil.rmtree(tmp_path / "cache")
        kills += killed_at(k, work, **place)
        again = start(work, **place)
        again.join()
        wrong += again.exitcode != 0 or contents(tmp_path / "cache") != whole
    tally.note(WRITES, case, kills, wrong=wrong)
