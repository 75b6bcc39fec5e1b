"""Files that are not read as images: counted by suffix and class, the same for trees, tars and shards."""

import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from packed_trees import KINDS, PLAIN, SPLIT, written
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.datasets import catalog
from transferbench.datasets.decoding.formats import why_left_out
from transferbench.datasets.loading import image_folder
from transferbench.datasets.loading.left_out import LeftOut, by_suffix, lines
from trees import TINY


def said(root: Path, files: Sequence[str], kind: str = "tree") -> tuple[str, ...]:
    return image_folder.load(written(root, files, kind)).left_out


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_counted_by_suffix(tmp_path, kind):
    wrong = [
        "train/cat/a.PSD",
        "train/dog/b.psd",
        "val/cat/IMG_0001",
        "test/dog/a.tif~",
        "train/cat/notes/x.md",
    ]
    assert said(tmp_path, [*SPLIT, *wrong], kind) == (
        f"pets: 5 files left out: 2 .psd ({why_left_out('.psd')}), 2 without a suffix, 1 .md",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("files", [SPLIT, PLAIN])
def test_what_is_no_file_of_a_class_is_not_counted(tmp_path, kind, files):
    around = ["read.md", ".hidden", "__MACOSX/cat/._0.png", "docs/a.xml" if files is SPLIT else "labels.csv"]
    in_class = [f"{Path(files[0]).parent}/{name}" for name in (".DS_Store", "Thumbs.db", "._0.png", ".nfs00")]
    assert said(tmp_path, [*files, *around, *in_class], kind) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_that_loses_most_is_named_if_it_loses_more_than_half(tmp_path, kind):
    half = [f"train/cat/{i}.psd" for i in range(4)]
    assert "most in" not in said(tmp_path / "half", [*SPLIT, *half], kind)[0]
    more = [*half, "train/cat/x.psd", "train/dog/x.psd"]
    assert said(tmp_path / "more", [*SPLIT, *more], kind)[0].endswith("; most in 'train/cat', 5 of 9")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("files", "place", "inside"), [(PLAIN, "", ""), (SPLIT, "train/", " in train")])
def test_a_class_of_which_all_is_left_out_is_no_empty_folder(tmp_path, kind, files, place, inside):
    lost = [f"{place}bird/{i}.{suffix}" for i in range(6) for suffix in ("psd", "svg")]
    found = image_folder.load(written(tmp_path, [*files, *lost], kind))
    assert found.classes == ("cat", "dog")
    assert found.left_out[0].startswith("pets: 12 files left out: 6 .psd (")
    assert found.left_out[1:] == (f"pets: class 'bird': all 12 files{inside} are left out (.psd, .svg)",)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("files", [SPLIT, PLAIN])
def test_empty_class_folders_are_said(tmp_path, kind, files):
    place = "train/" if files is SPLIT else ""
    for names in (["bird"], ["a", "b", "c", "d", "e"]):
        found = image_folder.load(
            written(tmp_path / names[0], [*files, *(f"{place}{n}/" for n in names)], kind)
        )
        assert found.classes == ("cat", "dog")
        shown = ", ".join(f"'{place}{n}'" for n in names[:3]) + " and 2 more" * (len(names) > 3)
        assert found.left_out == (f"pets: empty class folder{'s' * (len(names) > 1)} left out: {shown}",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_of_which_all_is_left_out(tmp_path, kind):
    with pytest.raises(
        InputError, match=r"no images; expected .*; all files are left out: 3 \.psd \(.*\), 1 \.md"
    ):
        said(tmp_path, ["cat/0.psd", "dog/1.psd", "2.psd", "dog/x.md"], kind)


def test_too_few_images_for_a_split_and_what_is_left_out(tmp_path):
    files = [f for f in PLAIN if f.startswith("dog") or f < "cat/2"]
    with pytest.raises(InputError, match=r"class 'cat' has 2 images; .* 3 or more \(pets: 1 file left out"):
        said(tmp_path, [*files, "cat/3.psd"])


def test_samples_of_shards_have_labels_and_captions_beside_their_images(tmp_path):
    """Of a sample with an image nothing is left out; one whose image is not read is counted."""
    image = written(tmp_path, ["0.png"]) / "0.png"
    (tmp_path / "0.cls").write_text("0")
    (tmp_path / "1.cls").write_text("1")
    for shard in range(2):
        (tmp_path / "set").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "set" / f"train-{shard}.tar", "w") as tar:
            for i in range(4):
                name, label = f"{shard}{i}", tmp_path / f"{i % 2}.cls"
                tar.add(image, f"{name}.psd" if i == 3 else f"{name}.png")
                tar.add(label, f"{name}.cls")
                tar.add(label, f"{name}.txt")
                tar.add(label, f"{name}.seg.bin")
    (line, *_) = image_folder.load(tmp_path / "set").left_out
    assert line.startswith("set: 4 files left out: 2 .bin, 2 .psd (")


def test_links_in_a_tar_are_not_followed_and_said(tmp_path):
    tree = written(tmp_path, SPLIT)
    (tree / "train/cat/8.png").symlink_to("0.png")
    (tree / "train/cat/9.png").hardlink_to(tree / "train/cat/0.png")
    with tarfile.open(tmp_path / "linked.tar", "w") as tar:
        tar.add(tree, ".")
    found = image_folder.load(tmp_path / "linked.tar")
    assert len(found.parts["train"].labels) == 8
    assert found.left_out == ("linked: 2 files left out: 2 linked inside the tar",)


def test_many_suffixes_are_cut_short():
    count = Counter({f".x{i}": 10 - i for i in range(9)})
    shown = ", ".join(f"{10 - i} .x{i}" for i in range(6))
    assert by_suffix(count) == f"{shown}, 9 of other kinds"


def test_one_file_is_singular():
    left = LeftOut()
    left.add("cat", "0.x")
    assert lines("pets", {"cat": 3}, left.count) == ["pets: 1 file left out: 1 .x"]
    assert lines("pets", {}, left.count)[1] == "pets: class 'cat': its only file is left out (.x)"


def test_the_index_of_a_tar_knows_what_is_left_out(tmp_path):
    place = written(tmp_path, [*SPLIT, "train/cat/x.psd"], "tar")
    first, again = image_folder.load(place), image_folder.load(place)
    assert first.left_out == again.left_out
    assert json.dumps(first.left_out)


@pytest.mark.parametrize("command", ["run", "bench", "bench --dry-run", "suite", "data doctor"])
def test_every_command_says_it_once_of_target_and_source(tmp_path, capsys, command):
    target = written(tmp_path / "target", [*SPLIT, "train/cat/x.psd"])
    source = written(tmp_path / "source", [*PLAIN, "cat/x.psd", "cat/y.psd"])
    catalog.load.cache_clear()
    results = f"results={tmp_path / 'results'}"
    words = {
        "run": ["run", "method=finetune", f"target={target}", f"source={source}", results, *TINY],
        "bench": [
            "bench",
            "methods=scratch,finetune",
            f"target={target}",
            f"source={source}",
            results,
            *TINY,
        ],
        "suite": ["suite", "seeds", "--dry-run", f"targets={target}", f"source={source}", *TINY],
        "data doctor": ["data", "doctor", str(target), str(source)],
    }
    words["bench --dry-run"] = [*words["bench"], "--dry-run"]
    assert main(words[command]) == 0
    out = capsys.readouterr().out
    assert out.count("1 file left out: 1 .psd") == 1
    assert out.count("2 files left out: 2 .psd") == 1
