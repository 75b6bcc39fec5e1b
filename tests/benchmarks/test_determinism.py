"""`deterministic=true`: torch is told, the record says so, and an operation that cannot is one line."""

import os

import pytest
import torch
from transferbench import InputError
from transferbench.benchmarks.training.determinism import deterministic_algorithms
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog

SHORT = ("recipe.steps=2", "recipe.evaluations=1", "backbone=tiny", "keep=none")


def test_a_run_takes_deterministic_algorithms_alone_and_says_so(config_of, results, monkeypatch):
    seen, step = [], catalog.load("scratch").step

    def noted(self, t):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(self, t)

    monkeypatch.setattr(catalog.load("scratch"), "step", noted)
    free, bound = (config_of("scratch", *SHORT, f"deterministic={word}") for word in ("false", "true"))
    assert bound.digest == free.digest
    done = run_one(bound, results)
    assert done["environment"]["deterministic"] is True
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert run_one(free, results / "free")["environment"]["deterministic"] is False
    assert done["curve"][-1]["train"] == run_one(free, results / "free")["curve"][-1]["train"]


def test_what_has_no_deterministic_algorithm_is_one_line(config_of, results, monkeypatch):
    def step(self, t):
        return {"loss": torch.zeros(3).put_(torch.tensor([0]), torch.ones(1)).sum()}

    monkeypatch.setattr(catalog.load("scratch"), "step", step)
    with pytest.raises(InputError, match="deterministic=true: put_ has no deterministic algorithm on this"):
        run_one(config_of("scratch", *SHORT, "deterministic=true"), results)


def test_cublas_is_told(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic_algorithms(False):
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic_algorithms(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
