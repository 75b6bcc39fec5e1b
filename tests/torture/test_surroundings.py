"""Surroundings that differ from ours: each command in each of them."""

from itertools import product

import pytest
from surroundings import ALL_AT_ONCE, COMMAND, HAS_SETPRIV, SINGLE, Surroundings, call, faults, prepare
from trees import tree

FAULT = "unusual surroundings"
SMALL = ("tune=off", "source=none", "backbone=tiny", "recipe.steps=2", "recipe.image_size=16", "device=cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    if not HAS_SETPRIV:
        pytest.skip("needs setpriv, to give up the rights of root")
    place = tmp_path_factory.mktemp("surroundings")
    tree(place / "mine", train=8, val=4, test=4)
    prepare(place)
    return place


def test_commands_in_unusual_surroundings(place, tally, not_yet):
    """A short call tries each of a few commands in one place; `make torture` each command in each place."""
    not_yet(FAULT, "-")
    results, target = f"results={place / 'results'}", f"target={place / 'mine'}"
    bench = ["bench", "methods=scratch", "seeds=2", "workers=2", target, results, *SMALL]
    run = ["run", "method=scratch", target, f"results={place / 'run'}", *SMALL]
    doctor = ["data", "doctor", str(place / "mine")]
    few = [["status", results], ["report", results]]
    assert call(Surroundings(), place, bench).returncode == 0
    assert call(Surroundings(), place, doctor).returncode == 0
    every = {**SINGLE, "all at once": ALL_AT_ONCE}
    cases = list(product(every, [bench, run, doctor, ["methods"], *few])) if tally.is_long else []
    cases += list(zip(("all at once", "own modules"), few, strict=True))
    wrong = {}
    for name, words in cases:
        done = call(every[name], place, words, COMMAND)
        if found := faults(done, 0, every[name]):
            wrong[name, words[0]] = found
    ran = (place / "ran").exists()
    assert not wrong
    tally.note(FAULT, "-", len(cases), wrong=len(wrong) + ran)
