"""Data sets from the command line: what is listed, fetched, missing, left out; from an address to a table."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torchvision.datasets
from loopback import Fault, loopback
from official_sets import check, place_unpacked, serve
from transferbench.benchmarks.cli import main
from transferbench.datasets import catalog
from transferbench.datasets.download import http, locate
from transferbench.datasets.loading import print_holdout
from trees import texture

QUICK = (
    "tune=off",
    "seeds=1", "workers=1", "device=cpu", "preset=small", "recipe.image_size=16", "recipe.batch_size=8",
    "recipe.steps=4", "source_recipe.steps=4", "source_recipe.batch_size=8", "recipe.evaluations=1",
)  # fmt: skip


def test_the_list_names_every_set_with_sizes_and_where_it_is(root, tmp_path, capsys, monkeypatch):
    place_unpacked("aircraft", root / "aircraft", tmp_path)
    monkeypatch.setenv("COLUMNS", "240")
    assert main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert set(catalog.names()) <= set(lines)
    assert "3,334" in lines["aircraft"]
    assert "yes" in lines["aircraft"]
    assert "2.75 GB" in lines["aircraft"]
    assert "no; download by hand" in lines["imagenet"]
    assert "yes, built in" in lines["digits"]


def test_a_drawn_holdout_is_printed_as_it_is_kept(root, tmp_path, capsys):
    place_unpacked("food", root / "food", tmp_path)
    print_holdout.main("food")
    title, how, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith(f"# food: the {len(lines)} holdout images")
    assert "seed 0" in how
    assert lines == sorted(set(lines))
    assert len(lines) == len(catalog.load("food").parts["holdout"].labels) > 0


def test_every_set_says_what_a_list_needs():
    for name in catalog.names():
        about = catalog.about(name)
        assert about.title, name
        assert about.license, name
        assert about.homepage.startswith("http"), name
        assert about.num_classes > 1, name
        assert about.sizes["train"] > 0, name
        assert about.fetchable or about.by_hand or not about.probes, name
        for archive in about.archives:
            kind, _, digits = archive.checksum.partition(":")
            assert (kind, len(digits)) in {("sha256", 64), ("md5", 32), ("", 0)}, name


def test_a_bench_goes_from_an_address_to_a_table(root, mirror, tmp_path, capsys, forked):
    serve(mirror, "aircraft")
    for i in range(16):
        texture(tmp_path / "source" / f"class{i % 2}" / f"{i:02}.jpg", i)
    results = tmp_path / "results"
    overrides = [
        "target=aircraft",
        f"source={tmp_path / 'source'}",
        "methods=scratch,finetune",
        f"results={results}",
        *QUICK,
    ]
    assert main(["bench", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "Fine-tuning" in shown
    note = (
        "aircraft: not the published split: train 24 of 3,334, holdout 12 of 3,333, test 12 of 3,333 images"
    )
    assert note in " ".join(shown.split())
    records = [json.loads(p.read_text()) for p in results.glob("source-??????-aircraft/*/*/record.json")]
    assert len(records) == 2
    assert all(r["notes"] == [note] for r in records)
    assert note in (results / "report" / "report.html").read_text()


def test_a_bench_without_images_or_network_says_at_once_what_to_do(tmp_path):
    environment = {**os.environ, "TRANSFERBENCH_CACHE": str(tmp_path / "cache")}
    for name in ("TRANSFERBENCH_DATA", "TRANSFERBENCH_MIRROR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "transferbench.benchmarks.cli", "bench", "target=aircraft"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert time.perf_counter() - begin < 30  # 5 on a machine at rest
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].startswith("transferbench: imagenet: its images are missing")
    assert "ILSVRC2012_img_train.tar" in done.stderr
    assert "TRANSFERBENCH_DATA" in done.stderr
    assert lines[-1].strip().startswith("aircraft: missing")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_dry_run_fetches_nothing(root, mirror, capsys):
    serve(mirror, "aircraft")
    assert main(["bench", "--dry-run", "target=aircraft", "source=glyphs"]) == 2
    assert "aircraft: missing; a bench downloads it" in capsys.readouterr().err
    assert mirror.requests == []


def test_torchvision_fetches_through_our_transfers(root, tmp_path, monkeypatch):
    with loopback(tmp_path / "served") as server:
        serve(server, "aircraft")
        url = f"{server.url}/aircraft/fgvc-aircraft-2013b.tar.gz"
        monkeypatch.setattr(torchvision.datasets.FGVCAircraft, "_URL", url)
        monkeypatch.setattr(locate, "check_reachable", lambda url: None)
        monkeypatch.setattr(http, "PAUSES_SECONDS", (0, 0))
        size = (server.folder / "aircraft/fgvc-aircraft-2013b.tar.gz").stat().st_size
        with pytest.raises(
            locate.MissingData,
            match="torchvision FGVCAircraft: .*its sha256 checksum is not the published one",
        ):
            catalog.load("aircraft")
        from transferbench.datasets import aircraft

        archive = aircraft.ABOUT.archives[0]
        unsummed = type(archive)(archive.url, "", archive.num_bytes)
        monkeypatch.setattr(aircraft, "ABOUT", replace(aircraft.ABOUT, archives=(unsummed,)))
        server.requests.clear()
        server.faults["/aircraft/fgvc-aircraft-2013b.tar.gz"] = Fault(times=2, cut_after=size // 2)
        check(catalog.load("aircraft"), "aircraft")
    assert not list(locate.cache_folder().rglob("*.tar.gz"))


@pytest.fixture
def shared_images(tmp_path) -> tuple[Path, Path]:
    """A target, and a source that holds two of its test images, saved anew at another size."""
    for p, part in enumerate(("train", "val", "test")):
        for c, name in enumerate(("cat", "dog")):
            for i in range(4):
                texture(tmp_path / "target" / part / name / f"{i}.jpg", 100 * p + 10 * c + i)
    for i in range(20):
        texture(tmp_path / "source" / f"class{i % 2}" / f"{i:02}.jpg", 1000 + i)
    for i in range(2):
        texture(tmp_path / "source" / "class0" / f"copy{i}.jpg", 200 + i, quality=60, side=64)
    return tmp_path / "target", tmp_path / "source"


def test_the_doctor_finds_what_a_source_has_of_the_target(shared_images, capsys):
    target, source = map(str, shared_images)
    assert main(["data", "doctor", target, source]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "source: 2 of 20 train images are near-identical with images of target" in out


def test_the_doctor_tells_twins_of_two_parts(shared_images, capsys):
    target, _ = shared_images
    shutil.copy(target / "test/cat/0.jpg", target / "train/dog/copy.jpg")
    assert main(["data", "doctor", str(target)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warning: 1 of 8 test images are near-identical with train images, 1 pairs with different" in out
    assert "the parts of target are given: remove such images from train" in out
    assert "no faults" not in out
    assert "train/dog/copy.jpg and test/cat/0.jpg" in out


def test_drop_overlap_leaves_those_images_out_of_run_and_pretraining(shared_images, tmp_path):
    target, source = shared_images
    results = tmp_path / "results"
    overrides = [f"target={target}", f"source={source}", "method=l2tl", f"results={results}", *QUICK]
    assert main(["run", *overrides, "drop_overlap=true"]) == 0
    assert main(["run", *overrides]) == 0
    records = [json.loads(p.read_text()) for p in results.rglob("record.json")]
    left_out = {(r["role"], bool(r["notes"])) for r in records}
    assert left_out == {(role, told) for role in ("run", "pretraining") for told in (True, False)}
    for record in records:
        told = "source: 2 images left out that the target has, too" in record["notes"]
        assert told == bool(record["config"]["drop_overlap"])
    splits = {r["fingerprints"]["splits"]["train"] for r in records if r["role"] == "pretraining"}
    assert len(splits) == 2


def test_drop_overlap_knows_targets_in_groups(shared_images, tmp_path):
    _, source = shared_images
    for name in ("cat", "dog"):
        for group in range(5):
            for i in range(2):
                own = 300 + 10 * group + i + 100 * (name == "dog")
                seed = 200 + i if (name, group) == ("cat", 0) else own
                texture(tmp_path / "animals" / name / f"animal{group}" / f"{i}.jpg", seed)
    results = tmp_path / "results"
    given = [f"target={tmp_path / 'animals'}", f"source={source}", "method=l2tl", f"results={results}"]
    assert main(["run", *given, *QUICK, "groups=folder", "drop_overlap=true"]) == 0
    records = [json.loads(p.read_text()) for p in results.rglob("record.json")]
    assert {r["role"] for r in records} == {"run", "pretraining"}
    assert all("source: 2 images left out that the target has, too" in r["notes"] for r in records)
