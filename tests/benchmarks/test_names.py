"""A path means the same wherever it is given, and of two things with one name it is said which is used."""

import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import transferbench
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.compose import compose_request
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.launch import on_slurm, suite_plan
from transferbench.datasets import catalog
from transferbench.slurm.submit import _log_files
from trees import tree

ROOT = Path(transferbench.__file__).parent
ODD = [
    "my photos, [best]=1",
    'it\'s "mine"',
    "'quoted'",
    "a~b $HOME $(x) `y`",
    "#1 100% {a: b}",
    "back\\slash\\",
    "-dash",
    "two\nlines",
    "(a)|b&c;d<e>f*g?h!",
    "ümläut\N{COMBINING ACUTE ACCENT}",
    "null x",
    "a:b@c+d",
    "${HOME}",
]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("key", ["source", "results", "checkpoint", "cluster", "data.root"])
def test_a_path_stays_as_it_is(name, key):
    request = compose_request(["target=digits", f"{key}=/there/{name}"])
    group, _, last = key.rpartition(".")
    assert getattr(getattr(request, group) if group else request, last) == f"/there/{name}"


@pytest.mark.parametrize("name", ODD)
def test_make_hands_it_over_as_it_is(name):
    given = dict(zip(("TARGET", "SOURCE", "RESULTS"), [name, f"a {name}", f"b {name}"], strict=True))
    show = f"RUN={sys.executable} -c 'import sys; print(ascii(sys.argv[2:]))'"
    words = [f"{key}={value}" for key, value in given.items()]
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", ROOT, "-o", ".venv/.ready", "bench", show, *words],
        capture_output=True,
        text=True,
        check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
    )
    expected = [f"target={name}", f"source=a {name}", f"results=b {name}"]
    assert done.stdout.strip() == ascii(expected)


def test_a_tilde_is_the_home_folder_in_every_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    request = compose_request(["target=digits", "source=~/a b", "results=~/r", "checkpoint=~/w.pth"])
    assert request.source == f"{tmp_path}/a b"
    assert request.results == f"{tmp_path}/r"
    assert request.checkpoint == f"{tmp_path}/w.pth"
    tree(tmp_path / "fish")
    (suite,) = suite_plan.load("compare", ["targets=~/fish,digits", "source=glyphs"])
    assert suite.targets == [f"{tmp_path}/fish", "digits"]


@pytest.mark.parametrize(("name", "said"), [("a\0b", "zero byte"), ("a\udcff", "not UTF-8")])
def test_a_name_that_cannot_be_is_one_line(name, said):
    with pytest.raises(InputError, match=said) as caught:
        compose_request([f"target=./{name}"])
    assert "\n" not in str(caught.value)


def test_paths_with_commas_are_told_from_lists(tmp_path, monkeypatch):
    tree(tmp_path / "one, two")
    monkeypatch.chdir(tmp_path)
    (suite,) = suite_plan.load("compare", ["targets=one, two,digits", "source=glyphs"])
    assert suite.targets == ["one, two", "digits"]


def test_targets_of_one_name_are_columns_and_plans_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("birds/images", "cars/images", "old/cars/images"):
        tree(Path(place))
    assert list(suite_plan._columns(["birds/images", "cars/images", "digits"]).values()) == [
        "birds/images",
        "cars/images",
        "digits",
    ]
    assert suite_plan._columns(["cars/images", "old/cars/images"])["old/cars/images"] == "old/cars/images"
    names = {
        suite_plan.load("compare", [f"targets={t}/images", "source=glyphs"])[0].name
        for t in ("birds", "cars")
    }
    assert len(names) == 2


def test_folders_of_own_sets_have_their_fingerprint_and_known_ones_do_not(tmp_path, monkeypatch, config_of):
    monkeypatch.chdir(tmp_path)
    own = tree(tmp_path / "digits")
    request = compose_request([f"target={own}", "source=glyphs"])
    config = run_config(request, "scratch", config_of("scratch").settings, 0)
    pair = config.folder(Path("r")).parts[1]
    assert pair == f"glyphs-digits-{config.data['target'][:6]}"
    assert config_of("scratch").folder(Path("r")).parts[1] == "glyphs-digits"
    moved = shutil.copytree(own, tmp_path / "other" / "digits")
    request = compose_request([f"target={moved}", "source=glyphs"])
    assert run_config(request, "scratch", config.settings, 0).digest == config.digest


def test_a_known_name_that_is_here_too_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tree(Path("digits"))
    Path("glyphs.tar").touch()
    target = (
        "target=digits: the known data set is used, not the folder ./digits; target=./digits takes the folder"
    )
    source = (
        "source=glyphs: the known data set is used, not the file ./glyphs.tar; "
        "source=./glyphs.tar takes the file"
    )
    assert [*catalog.namesakes("target", "digits"), *catalog.namesakes("source", "glyphs")] == [
        target,
        source,
    ]
    assert not [*catalog.namesakes("target", "./digits"), *catalog.namesakes("target", "svhn")]
    assert len([*catalog.namesakes("source", "planted:shuffled:0.5:glyphs:digits")]) == 2
    assert main(["bench", "methods=scratch", "seeds=1", "backbone=tiny", "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out.count(target) == out.count(source) == 1
    main(["data", "doctor", "digits"])
    assert (
        capsys.readouterr().out.count("digits: the known data set is used, not the folder ./digits; ./digits")
        == 1
    )


def test_a_folder_that_the_known_set_is_read_from_is_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    about = catalog.about("dtd")
    (Path("dtd") / about.probes[0]).mkdir(parents=True)
    monkeypatch.setenv("TRANSFERBENCH_DATA", str(tmp_path))
    assert not [*catalog.namesakes("target", "dtd")]


def test_one_form_of_names_makes_one_class(tmp_path):
    root = tree(tmp_path / "x", ("\N{LATIN SMALL LETTER E WITH ACUTE}tui", "dog"))
    for part in ("val", "test"):  # as macOS writes them
        folder = root / part / "\N{LATIN SMALL LETTER E WITH ACUTE}tui"
        folder.rename(root / part / unicodedata.normalize("NFD", folder.name))
    found = catalog.load(str(root))
    assert found.classes == ("dog", "\N{LATIN SMALL LETTER E WITH ACUTE}tui")
    assert len(found.part("test").labels) == 8


def test_percent_signs_in_a_folder_are_no_patterns_of_sbatch():
    files = _log_files(Path("/a/50% off"), is_array=True)
    assert files["output"] == "/a/50%% off/%A_%a_%t_log.out"
    with pytest.raises(InputError, match="'%j' has another meaning"):
        on_slurm._check_folder(Path("/a/50%j"))
