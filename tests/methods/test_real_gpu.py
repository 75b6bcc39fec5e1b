"""Methods and settings on a real GPU: a CPU's values within rounding; a resumed run goes on as before."""

import os
from functools import partial

import pytest
import torch
from lives import AGAIN, COSTLY, MAY_WAIT, STEP, STEPS, life, on_waits
from suited import SUITED, TRANSFORMER
from transferbench.benchmarks.training.determinism import deterministic_algorithms
from transferbench.methods import catalog

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before anything uses the GPU
TINY = ["backbone=tiny", "recipe.batch_size=16", "recipe.image_size=16", "recipe.steps=6"]


SETTINGS = {
    "bf16": ("recipe.precision=bf16",),
    "channels_last": ("recipe.channels_last=true",),
    "micro_batch": ("recipe.micro_batch=6", *TRANSFORMER),
    "grad_checkpointing": ("recipe.grad_checkpointing=true", *TRANSFORMER),
    "compile": ("recipe.compile=true",),
    "cuda_graphs": ("recipe.compile=true", "recipe.cuda_graphs=true"),
}


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", [name for name in catalog.names() if name not in MAY_WAIT])
def test_no_step_waits(config_of, tmp_path, name):
    in_steps = () if catalog.load(name).closed_form else STEPS
    try:
        life(
            config_of(name, *options_of(name), "device=cuda"),
            tmp_path,
            lambda phase: on_waits("error" if phase in in_steps else "default"),
        )
    finally:
        on_waits("default")


@pytest.mark.parametrize("name", catalog.names())
def test_its_settings_can_be_used_without_a_gpu_too(built_of, config_of, name):
    config = config_of(name, *options_of(name), "device=cpu")
    catalog.load(name)(built_of(config).problem, config.settings)


def losses_are_those_without_it(config_of, folder, setting, device):
    network = [word for word in SETTINGS[setting] if not word.startswith("recipe.")]
    here = life(config_of("finetune", *TINY, *network, "device=cpu"), folder)
    there = life(config_of("finetune", *TINY, *SETTINGS[setting], f"device={device}"), folder)
    losses = {key: value for key, value in here.items() if "loss" in key}
    rel = 0.05 if setting == "bf16" else 0.02
    assert {key: there[key] for key in losses} == pytest.approx(losses, rel=rel, abs=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_on_a_gpu_has_the_losses_of_a_cpu_without_it(config_of, tmp_path, monkeypatch, setting):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    losses_are_those_without_it(config_of, tmp_path, setting, "cuda")


@pytest.mark.parametrize("setting", [name for name in SETTINGS if name != "cuda_graphs"])
def test_a_setting_has_the_losses_without_it_on_a_cpu_too(config_of, tmp_path, monkeypatch, setting):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    losses_are_those_without_it(config_of, tmp_path, setting, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["finetune", "l2tl"])
def test_deterministic_algorithms_resume_bit_by_bit(config_of, tmp_path, name):
    with deterministic_algorithms(True):
        there = life(config_of(name, *TINY, "device=cuda"), tmp_path)
    again = {key: value for key, value in there.items() if key.startswith(AGAIN)}
    assert again == {key: there[key.replace(AGAIN, STEP)] for key in again}
