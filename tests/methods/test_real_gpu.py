"""Every method on a real GPU: the values of a CPU within rounding, and a resumed run goes on as before."""

import os

import pytest
import torch
from lives import AGAIN, COSTLY, STEP, life
from suited import SUITED
from transferbench.benchmarks.training.determinism import deterministic_algorithms
from transferbench.methods import catalog

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before anything uses the GPU
TINY = ["backbone=tiny", "recipe.batch_size=16", "recipe.image_size=16", "recipe.steps=6"]


def options_of(name):
    return [*TINY, *COSTLY.get(name, ()), *SUITED.get(name, ())]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", catalog.names())
def test_a_method_on_a_gpu_is_the_one_on_a_cpu(config_of, tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    options = options_of(name)
    here = life(config_of(name, *options, "device=cpu"), tmp_path)
    there = life(config_of(name, *options, "device=cuda"), tmp_path)
    losses = {key: value for key, value in here.items() if "loss" in key}
    assert {key: there[key] for key in losses} == pytest.approx(losses, rel=0.02, abs=1e-3)
    went_on = {key.removeprefix(STEP): value for key, value in there.items() if key.startswith(f"{STEP} ")}
    again = {key.removeprefix(AGAIN): value for key, value in there.items() if key.startswith(AGAIN)}
    assert {key: went_on[key] for key in again} == pytest.approx(again, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", catalog.names())
def test_its_settings_can_be_used_without_a_gpu_too(built_of, config_of, name):
    config = config_of(name, *options_of(name), "device=cpu")
    catalog.load(name)(built_of(config).problem, config.settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["finetune", "l2tl"])
def test_deterministic_algorithms_resume_bit_by_bit(config_of, tmp_path, name):
    with deterministic_algorithms(True):
        there = life(config_of(name, *TINY, "device=cuda"), tmp_path)
    again = {key: value for key, value in there.items() if key.startswith(AGAIN)}
    assert again == {key: there[key.replace(AGAIN, STEP)] for key in again}
