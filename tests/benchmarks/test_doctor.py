"""`data doctor` says what a set can serve as, and `bench` agrees."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from packed_trees import KINDS, PLAIN, SPLIT, written
from transferbench.benchmarks.cli import main
from transferbench.datasets import catalog
from trees import TINY

TRAIN, VAL, TEST = ([f for f in SPLIT if f.startswith(f"{part}/")] for part in ("train", "val", "test"))
TARGET, SOURCE, NOTHING = "as a target", "only as a source", "no data set"
LAYOUTS: dict[str, tuple[Sequence[str], str]] = {
    "all parts": (SPLIT, TARGET),
    "class folders": (PLAIN, TARGET),
    "a wrapper": ([f"box/{f}" for f in SPLIT], TARGET),
    "droppings": ([*SPLIT, "__MACOSX/train/cat/._0.png", "train/.ipynb_checkpoints/0.png"], TARGET),
    "documents": ([*SPLIT, "docs/x.md", "labels/cat/0.txt"], TARGET),
    "an empty class": ([*SPLIT, "train/bird/"], TARGET),
    "a class without test images": ([f for f in SPLIT if not f.startswith("test/dog")], TARGET),
    "a class left out": ([*SPLIT, "train/bird/0.psd"], TARGET),
    "files left out": ([*SPLIT, "train/cat/x.psd", "val/dog/y"], TARGET),
    "no test": ([*TRAIN, *VAL], SOURCE),
    "no holdout": ([*TRAIN, *TEST], TARGET),
    "train alone": (TRAIN, SOURCE),
    "a test without classes": ([*TRAIN, *VAL, "test/0.png"], SOURCE),
    "a holdout left out": ([*TRAIN, *TEST, "val/cat/0.psd", "val/dog/0.psd"], TARGET),
    "two images a class": (["a/0.png", "a/1.png", "b/0.png", "b/1.png"], SOURCE),
    "one class": ([f for f in SPLIT if "/cat/" in f], NOTHING),
    "one class is read": ([*(f for f in SPLIT if "/cat/" in f), "train/dog/0.psd"], NOTHING),
    "no train": ([*VAL, *TEST], NOTHING),
    "a class in test alone": ([*SPLIT, "test/bird/0.png"], NOTHING),
    "a class of which train is left out": ([*SPLIT, "test/bird/0.png", "train/bird/0.psd"], NOTHING),
    "two names of a part": ([*SPLIT, "valid/cat/0.png"], NOTHING),
    "a part of another name": ([*SPLIT, "extra/cat/0.png"], NOTHING),
    "folders in classes": ([*SPLIT, "train/cat/more/0.png"], NOTHING),
    "no class folders": (["0.png", "1.png"], NOTHING),
    "nothing is read": (["cat/0.psd", "dog/0.psd"], NOTHING),
    "one image a class": (["a/0.png", "b/0.png"], NOTHING),
}
PACKED = (  # the layouts that are tried as a tar and as shards, too
    *("a wrapper", "an empty class", "no test", "one class is read"),
    *("two names of a part", "one image a class"),
)


@pytest.fixture
def ask(capsys):
    """Return a function that runs a command, and returns its exit code and all that it printed."""

    def call(*words: str) -> tuple[int, str]:
        catalog.load.cache_clear()
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def bench(ask, place: Path, *given: str) -> tuple[int, str]:
    given = (f"target={place}", "source=none", "methods=scratch", "backbone=tiny", *TINY, *given)
    return ask("bench", *given, f"results={place.parent / 'results'}", "--dry-run")


@pytest.mark.parametrize(
    ("kind", "layout"),
    [*(("tree", layout) for layout in LAYOUTS), *((kind, layout) for kind in KINDS[1:] for layout in PACKED)],
)
def test_doctor_and_bench_agree(tmp_path, ask, kind, layout):
    files, serves = LAYOUTS[layout]
    if (layout, kind) == ("one image a class", "shards"):  # a source of shards keeps it in train
        serves = SOURCE
    place = written(tmp_path, files, kind)
    (doctor, told), (benched, said) = ask("data", "doctor", str(place)), bench(ask, place)
    assert "Traceback" not in told + said
    assert benched == (0 if serves == TARGET else 2)
    assert (doctor == 0) == (serves in (TARGET, SOURCE))
    assert ("usable as a target and as a source" in told) == (serves == TARGET)
    assert ("usable only as a source" in told) == (serves == SOURCE)
    if serves != TARGET:  # in the same words
        (reason,) = (line for line in said.splitlines() if line.startswith("transferbench: "))
        reason = reason.removeprefix("transferbench: ")
        if "only one class" in reason:
            assert "1 fault\n" in told
            assert reason.partition(": ")[2].partition(";")[0] in told
        else:
            assert reason in told
    for line in told.splitlines():
        if "left out" in line and "note: " in line:
            assert line.partition("note: ")[2] in said


@pytest.mark.parametrize("files", [[*TRAIN, *VAL], TRAIN, [*TRAIN, *VAL, "test/0.png"]])
def test_the_command_that_the_doctor_gives_works(tmp_path, ask, files):
    place = written(tmp_path / "my photos", files)
    _, told = ask("data", "doctor", str(place))
    (line,) = (line for line in told.splitlines() if line.startswith("  try: "))
    program, command, target, draw, source = shlex.split(line.removeprefix("  try: "))
    assert (program, command, target) == ("transferbench", "bench", f"target={place}")
    assert source == "source=PATH"
    code, said = bench(ask, place, draw)
    assert code == 0, said
    code, told = ask("data", "doctor", str(place), draw)
    assert code == 0
    assert "usable as a target and as a source" in told
    assert f"are drawn from train, 20 % of each class with seed 0 ({draw})" in told


def test_a_part_that_cannot_be_drawn(tmp_path, ask):
    files = [*(f for f in TRAIN if "cat" in f), "train/dog/0.png", *VAL]
    place = written(tmp_path, files)
    code, told = ask("data", "doctor", str(place))
    assert code == 0
    assert "draw=test: pets/train: class 'dog' has 1 image; a random split needs 2 or more" in told
    assert "try: " not in told
    assert ask("data", "doctor", str(place), "draw=test")[0] == bench(ask, place, "draw=test")[0] == 2


def test_faults_are_counted_with_their_number(tmp_path, ask):
    place = written(tmp_path, SPLIT)
    for n, words in ((0, "1 fault\n"), (1, "2 faults\n")):
        (place / f"train/cat/{n}.png").write_bytes(b"not an image")
        code, told = ask("data", "doctor", str(place))
        assert code == 1
        assert told.endswith(f"  {words}")


def test_what_the_doctor_says_of_the_source(tmp_path, ask):
    target, source = written(tmp_path / "a", SPLIT), written(tmp_path / "b", [*TRAIN, "train/cat/x.psd"])
    code, told = ask("data", "doctor", str(target), str(source))
    assert code == 0
    assert "note: pets: 1 file left out: 1 .psd" in told
    assert "pets: 8 of 8 train images are near-identical" in told
