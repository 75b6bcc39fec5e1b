"""Groups of images that a draw keeps together: of a folder, a column, or near-identical ones."""

import json
from collections import Counter

import numpy as np
import pytest
from packed_trees import PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import request_for
from transferbench.benchmarks.config.overrides import overrides
from transferbench.benchmarks.config.resolve import run_config
from transferbench.datasets import catalog
from transferbench.datasets.base import Dataset
from transferbench.datasets.loading.draw import draw_groups
from transferbench.datasets.loading.groups import groups_of
from trees import TINY, texture

PATIENTS = [f"{c}/p{p}/{i}.png" for c in ("ill", "well") for p in range(8) for i in range(1 + p % 3)]


@pytest.fixture(autouse=True)
def fresh():
    catalog.load.cache_clear()


def paths(found: Dataset, part: str) -> list[str]:
    images = found.parts[part].images
    return [images.path(i) for i in range(len(images))]


def parts_of_groups(found: Dataset) -> dict[str, set[str]]:
    """Return the parts in which each folder has images."""
    parts: dict[str, set[str]] = {}
    for part in found.parts:
        for path in paths(found, part):
            parts.setdefault(path.rpartition("/")[0], set()).add(part)
    return parts


@pytest.mark.parametrize("kind", ["tree", "tar"])
def test_a_folder_inside_a_class_is_a_group(tmp_path, kind):
    place = written(tmp_path, PATIENTS, kind)
    found = catalog.load(str(place), groups="folder")
    assert found.classes == ("ill", "well")
    assert sorted(p for part in found.parts for p in paths(found, part)) == sorted(PATIENTS)
    assert all(len(parts) == 1 for parts in parts_of_groups(found).values())
    assert {part: len(own.labels) for part, own in found.parts.items()} == {
        "train": 18,
        "holdout": 6,
        "test": 6,
    }
    assert "about 20 % of each class with seed 0, 16 groups kept together" in found.notes[0]
    with pytest.raises(InputError, match="expected split/class/image"):
        catalog.load(str(place))


def test_a_column_is_a_group_and_gives_what_its_folders_give(tmp_path):
    place = written(tmp_path, PATIENTS)
    rows = "".join(f"{f},{f.split('/')[0]},{'-'.join(f.split('/')[:2])}\n" for f in PATIENTS)
    (place / "list.csv").write_text(f"image,label,patient\n{rows}")
    found = catalog.load(str(place / "list.csv"), groups="patient")
    (place / "list.csv").unlink()
    by_folder = catalog.load(str(place), groups="folder")
    assert all(paths(found, part) == paths(by_folder, part) for part in ("train", "holdout", "test"))


def test_near_identical_images_are_a_group(tmp_path, capsys):
    """The doctor warns of them in several parts and offers the setting, with which it has nothing to say."""
    place = tmp_path / "photos"
    for c in range(2):
        for i in range(10):
            texture(place / f"class{c}" / f"{i}.jpg", 100 * c + i)
            texture(place / f"class{c}" / f"{i}-again.jpg", 100 * c + i, quality=60, side=64)
    assert main(["data", "doctor", str(place)]) == 0
    said = capsys.readouterr().out
    assert "no faults" not in said
    assert "warning: " in said
    assert f"to keep them in one part: transferbench bench target={place} groups=near" in said
    names = [f"class{c}/{i}{again}.jpg" for c in range(2) for i in range(10) for again in ("", "-again")]
    rows = "".join(f"{name},{name.split('/')[0]},{name}\n" for name in names)
    (place / "list.csv").write_text(f"image,label,plant\n{rows}")
    assert main(["data", "doctor", str(place / "list.csv"), "groups=plant"]) == 0
    told = capsys.readouterr().out
    assert "groups=plant does not keep them in one part: give them one group" in told
    assert "groups=near" not in told
    (place / "list.csv").unlink()
    assert main(["data", "doctor", str(place), "groups=near"]) == 0
    said = capsys.readouterr().out
    assert "  no faults" in said
    assert "24 train, 8 holdout, 8 test" in said
    assert "20 groups kept together (draw=holdout,test groups=near)" in said


def test_bench_keeps_groups_together_and_records_how(tmp_path, capsys):
    place, results = written(tmp_path, PATIENTS), tmp_path / "results"
    given = [f"target={place}", "source=none", "methods=scratch", f"results={results}", *TINY]
    assert main(["bench", *given, "groups=folder"]) == 0
    assert "16 groups kept together" in capsys.readouterr().out
    (run,) = results.glob("*/scratch/seed0-*")
    words = ["reproduce", str(run), f"target={place}", "device=cpu", f"results={tmp_path / 'again'}"]
    assert main(words) == 0


def test_the_setting_is_in_the_digest_only_if_it_is_given(tmp_path):
    words = (f"target={written(tmp_path, PLAIN)}", "source=none", *TINY)
    configs = []
    for more in ((), ("groups=near",)):
        request, settings = request_for("scratch", (*words, *more))
        configs.append(run_config(request, "scratch", settings, 0))
    plain, grouped = configs
    assert "groups" not in plain.resolved()
    assert grouped.resolved()["groups"] == "near"
    assert "groups=near" in overrides(grouped)
    assert plain.data != grouped.data


@pytest.mark.parametrize(
    ("files", "groups", "message"),
    [
        (SPLIT, "near", "groups=near: pets has its own holdout and test images, and nothing is drawn"),
        (PLAIN, "patient", "groups=patient: pets has no such column; expected one of folder, near"),
        (PLAIN, "folder", "groups=folder: .*pets has no groups; expected class/group/image"),
        ([f for f in PATIENTS if "p0" in f or "p1" in f], "folder", "class 'ill' has 2 groups; .* 3 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_grouped(tmp_path, files, groups, message):
    with pytest.raises(InputError, match=message):
        catalog.load(str(written(tmp_path, files)), groups=groups)


def test_parts_have_about_their_share_and_each_class_where_it_can():
    rng = np.random.default_rng(0)
    for _ in range(20):
        groups = rng.integers(0, 60, 600)
        labels = groups % 3  # of one class each
        shares = {"train": 1.0, "holdout": 0.2, "test": 0.25}
        drawn = draw_groups("toy", "abc", rng.permutation(600), labels, groups, shares)
        assert sorted(np.concatenate(list(drawn.values())).tolist()) == list(range(600))
        assert sum(len(np.unique(groups[own])) for own in drawn.values()) == len(np.unique(groups))
        for part in ("holdout", "test"):
            assert 90 <= len(drawn[part]) <= 150
            assert set(Counter(labels[drawn[part]].tolist())) == {0, 1, 2}


def test_every_image_needs_a_group(tmp_path):
    place = written(tmp_path, [f"{i}.png" for i in range(8)])
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "patient": f"p{i}"} for i in range(8)]
    del rows[0]["patient"]
    (place / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"groups=patient: 1 of 8 images of a have nothing in that column"):
        groups_of(catalog.load(str(place / "a.jsonl"), groups="patient"), "patient")
