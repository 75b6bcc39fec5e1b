"""`tune=auto` in real training: a planted best strength is found, and one without effect does no harm."""

import importlib.util
import sys
from dataclasses import replace
from math import log10
from pathlib import Path

import pytest
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog

NAME = "planted_strength"


@pytest.fixture
def planted(monkeypatch) -> None:
    """Add the method of `planted_strength.py` to the catalog."""
    spec = importlib.util.spec_from_file_location(
        f"{catalog.__package__}.{NAME}", Path(__file__).with_name(f"{NAME}.py")
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    known = catalog.names()
    monkeypatch.setattr(catalog, "names", lambda: (*known, NAME))


SETTINGS = ("tune=auto", "recipe.steps=60", "source_recipe.steps=60", "recipe.evaluations=1")


@pytest.mark.usefixtures("planted")
def test_a_planted_best_strength_is_found_by_training(config_of, results):
    config = config_of(NAME, *SETTINGS)
    done = run_one(config, results)
    found = done["choice"]["strengths"]["strength"]
    assert abs(log10(found / 0.1)) < 0.4  # one step of the lattice is 0.375
    wrong = run_one(replace(config, tune="off", settings=replace(config.settings, strength=1.0)), results)
    assert done["test"]["top1"] > wrong["test"]["top1"] + 0.15


@pytest.mark.usefixtures("planted")
def test_a_strength_without_effect_does_no_harm(config_of, results):
    """The row is fine-tuning, with one more setting to tune: it costs no trial of a rate."""
    own = run_one(config_of(NAME, *SETTINGS, "method.share=0"), results)
    plain = run_one(config_of("finetune", *SETTINGS), results)
    assert own["choice"]["lr"] == plain["choice"]["lr"]
    assert own["test"] == plain["test"]
