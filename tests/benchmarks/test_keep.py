"""After a bench the chosen models lie on the disk, and predict images of any kind in one command."""

import csv
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transferbench.analysis.records.load import load
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.model.best import folder_of
from transferbench.benchmarks.model.files import FILES, has_model
from transferbench.benchmarks.model.keep import chosen, ordered
from transferbench.benchmarks.model.load import load_model
from transferbench.datasets import catalog as datasets

GIVEN = (
    *("bench", "methods=finetune,ncm", "seeds=3", "workers=2", "device=cpu", "backbone=tiny"),
    *("recipe.steps=12", "recipe.batch_size=16", "recipe.image_size=16", "recipe.evaluations=2"),
    *("source_recipe.steps=6", "source_recipe.batch_size=16"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, forked) -> Path:
    """The results of a bench that keeps every model."""
    results = tmp_path_factory.mktemp("place") / "results"
    assert main([*GIVEN, "keep=all", f"results={results}"]) == 0
    return results


@pytest.fixture
def again(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "results")


def models(results: Path) -> set[Path]:
    return {path.parent for name in FILES for path in results.glob(f"*/*/*/{name}")}


def test_all_are_kept_then_the_best(again, capsys):
    runs = load(again)
    assert models(again) == {run.path.parent for run in runs}
    assert not list(again.glob("*/pretrain/*/model.*"))
    assert main([*GIVEN, f"results={again}"]) == 0
    own = {m: ordered([run for run in runs if run.method == m])[0].path.parent for m in ("finetune", "ncm")}
    (best,) = again.glob("*/best.json")
    named = json.loads(best.read_text())
    taken = best.parent / named["run"]
    assert models(again) == {own["finetune"], taken}
    assert taken in own.values()
    assert all((taken / name).is_file() for name in FILES)
    assert f"predict best PATH results={again}" in capsys.readouterr().out
    about = json.loads((taken / "model.json").read_text())
    assert about["score"] == named["score"]
    assert about["tensors"] == json.loads((taken / "record.json").read_text())["model"]
    card = (taken / "README.md").read_text()
    assert card.startswith("---\n")
    assert "95 % CI" in card
    assert folder_of("best", again) == folder_of(str(best.parent), again) == taken


def test_the_median_seed_or_the_one_nearest_to_it_with_a_model(again):
    def run(seed: int, score: float | None) -> Any:
        holdout = None if score is None else {"top1": score}
        path = again / str(seed) / "record.json"
        return SimpleNamespace(
            seed=seed, digest=str(seed), metric="top1", record={"holdout": holdout}, path=path
        )

    def seeds(*scores: float | None) -> list[int]:
        return [r.seed for r in ordered([run(i, score) for i, score in enumerate(scores)])]

    assert seeds(0.5, 0.9, 0.7, 0.625, 0.125) == [3, 2, 0, 1, 4]
    assert seeds(0.5, 0.9, 0.8) == [2, 1, 0]
    assert seeds(0.5, 0.9) == [0, 1]
    assert seeds(None, None, None) == [0, 1, 2]
    three = [run(i, score) for i, score in enumerate((0.5, 0.9, 0.8))]
    assert chosen(three) is None
    shutil.copytree(next(iter(models(again))), again / "0", ignore=shutil.ignore_patterns("record.json"))
    assert chosen(three).seed == 0
    (again / "0" / "model.json").write_text("{")
    assert chosen(three) is None


def test_nothing_is_kept_where_none_is_asked_for_and_models_that_are_gone_are_said(again, capsys):
    for folder in models(again):
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    assert main([*GIVEN, "keep=none", f"results={again}"]) == 0
    assert "model" not in capsys.readouterr().out.rpartition("report:")[2]
    assert main([*GIVEN, f"results={again}"]) == 0
    out = capsys.readouterr().out
    assert "no model of Fine-tuning is here: `transferbench reproduce" in out
    assert not list(again.glob("*/best.json"))
    assert main(["predict", "best", "a.jpg", f"results={again}"]) == 2
    assert "no best.json" in capsys.readouterr().err
    folder = next(again.glob("*/finetune/seed0-*"))
    assert main(["predict", str(folder), "a.jpg"]) == 2
    assert "its model was not kept; `transferbench reproduce" in capsys.readouterr().err


def test_a_run_without_a_record_keeps_its_model(again):
    folder = next(again.glob("*/finetune/seed2-*"))  # not asked for again below
    (folder / "record.json").rename(folder / "aside.json")
    assert main([*GIVEN, "seeds=1", f"results={again}"]) == 0
    assert has_model(folder)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six images of the target, and one that is none."""
    array = datasets.load("digits").part("test").images.array[:6]
    place = tmp_path / "photos"
    (place / "inner").mkdir(parents=True)
    for i, pixels in enumerate(array):
        Image.fromarray(pixels).save(place / ("inner" if i > 3 else ".") / f"{i}.png")
    (place / "bad.jpg").write_text("no image")
    (place / "notes.txt").write_text("no image")
    return place


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {Path(row["image"]).name: row for row in csv.DictReader(file)}


def test_images_are_predicted_from_files_folders_archives_and_lists(whole, photos, tmp_path, capsys):
    out = tmp_path / "out.csv"
    given = [f"results={whole}", f"out={out}"]
    assert main(["predict", "best", str(photos), *given]) == 0
    said = capsys.readouterr()
    assert "7 images, 1 of them not read" in said.out
    assert "bad.jpg" in said.err
    rows = rows_of(out)
    assert set(rows) == {"bad.jpg", *(f"{i}.png" for i in range(6))}
    assert (rows["bad.jpg"]["class"], rows["bad.jpg"]["error"] != "") == ("", True)
    model = load_model(folder_of("best", whole), "cpu")
    own = model.predict(datasets.load("digits").part("test").images.array[:6])
    for i, found in enumerate(own):
        row = rows[f"{i}.png"]
        assert row["class"] == found.label
        assert float(row["probability"]) == pytest.approx(found.probability, abs=1e-5)
        assert float(row["probability_5"]) <= float(row["probability_4"])
        assert row["error"] == ""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(photos, "photos")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in photos.rglob("*.*"):
            archive.write(path, path.name)
    (photos / "list.csv").write_text("id,image\n1,0.png\n2,inner/5.png\n3,../photos/1.png\n4,lost.png\n")
    for name, num in (("a.tar.gz", 7), ("a.zip", 7), ("photos/list.csv", 4), ("photos/0.png", 1)):
        assert main(["predict", "best", str(tmp_path / name), "top=1", *given]) == 0
        found = rows_of(out)
        assert len(found) == num
        assert all(row["class"] == rows[key]["class"] for key, row in found.items() if key in rows)
        assert list(next(iter(found.values()))) == ["image", "class", "probability", "error"]
    assert main(["predict", "best", str(photos / "0.png"), "out=-", f"results={whole}"]) == 0
    assert "image,class,probability,class_2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "predict: no model; expected `best`"),
        (("best",), "predict: no images; expected files"),
        (("best", "{}/none.png"), "no such file or folder"),
        (("best", "{}/empty"), "no image in it"),
        (("best", "{}/bad.jpg"), "none of 1 image can be read"),
        (("best", "{}/wrong.csv"), "no column for the image"),
        (("best", "{}/void.csv"), "no image in it"),
        (("best", "{}/0.png", "top=0"), "top=0: expected a whole number of 1 or more"),
        (("best", "{}/0.png", "tops=0"), "tops=0: not known; expected out=PATH"),
        (("{}", "{}/0.png"), "no model; expected the folder of a finished run"),
        (("{}/none", "{}/0.png"), "no such folder"),
    ],
)
def test_one_line_for_what_cannot_be_predicted(whole, photos, tmp_path, capsys, words, message):
    (photos / "empty").mkdir()
    (photos / "wrong.csv").write_text("picture,label\n0.png,1\n")
    (photos / "void.csv").write_text("image\n")
    own = [f"out={tmp_path / 'o.csv'}", f"results={whole}"] if words else []
    assert main(["predict", *(word.format(photos) for word in words), *own]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error


def test_predictions_stay_if_no_image_can_be_read_and_replaced_ones_are_said(whole, photos, tmp_path, capsys):
    given = [f"out={tmp_path / 'o.csv'}", f"results={whole}"]
    assert main(["predict", "best", str(photos / "0.png"), *given]) == 0
    before = (tmp_path / "o.csv").read_bytes()
    assert main(["predict", "best", str(photos / "bad.jpg"), *given]) == 2
    assert (tmp_path / "o.csv").read_bytes() == before
    said = capsys.readouterr()
    assert f"the first: {photos / 'bad.jpg'}: cannot identify" in said.err
    assert "replaced" not in said.out
    assert main(["predict", "best", str(photos / "0.png"), *given]) == 0
    assert "o.csv (replaced)" in capsys.readouterr().out


def test_a_cut_model_is_not_offered(again):
    (pair,) = [path.parent for path in again.glob("*/best.json")]
    folder = folder_of(str(pair), again)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(2000)
    assert not has_model(folder)


def test_one_of_several_bests_is_named(whole, again, capsys):
    (pair,) = [path.parent for path in again.glob("*/best.json")]
    shutil.copytree(pair, again / "other")
    assert main(["predict", "best", "a.png", f"results={again}"]) == 2
    assert f"has 2 of them; expected one of {pair}, {again / 'other'}" in capsys.readouterr().err
    (pair / "best.json").write_text('{"run": "../../x"}')
    assert main(["predict", str(pair), "a.png"]) == 2
    assert "which is not beside it" in capsys.readouterr().err


def test_a_large_folder_is_predicted_in_batches(whole, tmp_path):
    place = tmp_path / "many"
    place.mkdir()
    for i in range(70):
        Image.fromarray(np.full((9, 9), 3 * i, np.uint8)).save(place / f"{i}.png")
    out = tmp_path / "out.csv"
    assert main(["predict", "best", str(place), f"results={whole}", f"out={out}"]) == 0
    assert len(rows_of(out)) == 70
