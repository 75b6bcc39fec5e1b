"""No traceback, no changed exit code and no module of a user's own, wherever a command is started."""

import sys
from pathlib import Path

import pytest
from surroundings import (
    ALL_AT_ONCE,
    C_LOCALE,
    COMMAND,
    HAS_SETPRIV,
    SINGLE,
    Surroundings,
    call,
    faults,
    prepare,
)
from transferbench.benchmarks.cli import main
from transferbench.datasets.catalog import load
from trees import tree

SMALL = (
    "tune=off",
    "source=none",
    "seeds=1",
    "backbone=tiny",
    "recipe.steps=2",
    "recipe.image_size=16",
    "workers=1",
)
NEEDS_DATA = ("home", "cache", "user")  # words of surroundings that touch the cache

pytestmark = pytest.mark.skipif(not HAS_SETPRIV, reason="needs setpriv, to give up the rights of root")


@pytest.fixture(scope="module")
def place(tmp_path_factory, forked) -> Path:
    """A small data set, its finished bench, and the folders of the surroundings."""
    place = tmp_path_factory.mktemp("surroundings")
    tree(place / "mine", train=8, val=4, test=4)
    prepare(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRANSFERBENCH_CACHE", str(place / "cache"))
        assert main(commands(place)["bench"]) == 0
        assert main(commands(place)["data doctor"]) == 0
    return place


def commands(place: Path) -> dict[str, list[str]]:
    results, target = f"results={place / 'results'}", f"target={place / 'mine'}"
    return {
        "help": ["--help"],
        "help of bench": ["bench", "--help"],
        "methods": ["methods"],
        "data list": ["data", "list"],
        "data doctor": ["data", "doctor", str(place / "mine")],
        "data prepare": ["data", "prepare", str(place / "mine")],
        "suite": ["suite"],
        "status": ["status", results],
        "watch": ["watch", results],
        "retry": ["retry", results],
        "cancel": ["cancel", results],
        "logs": ["logs", "scratch", results],
        "report": ["report", results],
        "compare": ["compare", str(place / "results"), str(place / "results")],
        "recommend": ["recommend", "target=mine", results],
        "dry run": ["bench", "--dry-run", "methods=scratch", target, results, *SMALL],
        "bench": ["bench", "methods=scratch", target, results, *SMALL],
    }


@pytest.fixture(scope="module")
def usual(place) -> dict[str, int]:
    """The exit code of each command in surroundings like ours."""
    codes = {}
    for name, words in commands(place).items():
        try:
            codes[name] = main(words)
        except SystemExit as end:
            codes[name] = end.code
    return codes


@pytest.mark.parametrize("command", commands(Path()))
def test_each_command_where_all_is_unusual_at_once(place, usual, command):
    done = call(ALL_AT_ONCE, place, commands(place)[command])
    assert not faults(done, usual[command], ALL_AT_ONCE)
    assert not (place / "ran").exists()
    done.stdout.decode("ascii")


@pytest.mark.parametrize("name", SINGLE)
def test_each_kind_of_surroundings(place, name):
    words = "data doctor" if any(word in name for word in NEEDS_DATA) else "compare"
    done = call(SINGLE[name], place, commands(place)[words])
    assert not faults(done, 0, SINGLE[name])
    assert not (place / "ran").exists()


@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-m", "transferbench.benchmarks.cli"]])
def test_workers_import_no_module_of_the_working_folder(place, tmp_path, command):
    words = ["bench", "methods=scratch", f"target={place / 'mine'}", f"results={tmp_path}", *SMALL]
    hostile = Surroundings({"PYTHONIOENCODING": "ascii"}, 'cd {place}/own; exec "$@"')
    done = call(hostile, place, words, command)
    assert not faults(done, 0, hostile)
    assert not (place / "ran").exists()
    assert b"From scratch" in done.stdout


@pytest.mark.parametrize("locale", [C_LOCALE, {"LC_ALL": "C.UTF-8"}])
def test_names_of_files_are_the_same_in_all_locales(place, locale):
    if not (place / "été").exists():
        tree(place / "été", ("chêne", "猫"), train=2, val=1, test=1)
    program = (
        "from transferbench.terminal import use_utf8; use_utf8()\n"
        "import sys; from transferbench.datasets.catalog import load\n"
        "found = load(sys.argv[1]); print(ascii(found.classes), found.fingerprint, sys.stdout.encoding)"
    )
    (place / "program.py").write_text(program)
    words = [str(place / "program.py"), str(place / "été")]
    done = call(Surroundings(locale), place, words, [sys.executable])
    classes, fingerprint, encoding = done.stdout.decode("ascii").rsplit(maxsplit=2)
    assert classes == ascii(("chêne", "猫"))
    assert (encoding == "utf-8") == (locale != C_LOCALE)
    assert fingerprint == load(str(place / "été")).fingerprint


def test_a_closed_pipe_stays_quiet(place):
    shell = 'exec 3>&1; { "$@"; echo "code $?" >&3; } | true'
    done = call(Surroundings({}, shell), place, commands(place)["compare"])
    assert (done.stdout, done.stderr) == (b"code 0\n", b"")


def test_characters_have_readable_substitutes(place):
    program = (
        "from transferbench.terminal import configure_output; configure_output()\n"
        "print('pets \\u2192 \\u00e9 \\u2212 \\u2013 \\u2026 \\u00d7 \\u03b1 \\udcff')"
    )
    for encoding, expected in (
        ("ascii", "pets -> e - - ... x \\u03b1 \\udcff"),
        ("latin-1", "pets -> é - - ... × \\u03b1 \\udcff"),
        ("cp1252", "pets -> é - – … × \\u03b1 \\udcff"),
        ("utf-8", "pets → é − – … × α \\udcff"),
        ("ascii:ignore", "pets        "),
    ):
        own = Surroundings({"PYTHONIOENCODING": encoding})
        done = call(own, place, ["-c", program], [sys.executable])
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding.partition(":")[0]) == f"{expected}\n"


def test_the_standard_numbers_of_files_stay_taken(place):
    """A file that is opened later would get the output of libraries."""
    program = (
        "from transferbench.terminal import configure_output; configure_output()\n"
        "import sys; print('lost'); print('lost', file=sys.stderr)\n"
        "sys.exit(open(sys.argv[1], 'w').fileno())"
    )
    done = call(SINGLE["no streams"], place, ["-c", program, str(place / "x")], [sys.executable])
    assert done.returncode > 2
    assert (place / "x").read_text() == ""


def test_a_read_only_results_folder_is_one_line(place):
    words = ["bench", "methods=scratch", f"target={place / 'mine'}", f"results={place / 'home/new'}", *SMALL]
    done = call(SINGLE["a read-only home"], place, words)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"results=" in done.stderr
