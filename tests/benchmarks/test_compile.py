"""torch.compile: each run is compiled anew, and the study of modes counts what is compiled."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters
from transferbench.benchmarks.studies import modes
from transferbench.benchmarks.training.run import run_one

# torch says it of the first Python 3.13 alone
pytestmark = pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")


@pytest.fixture
def graphs_alone(monkeypatch):
    """Compile to graphs without kernels, a piece of code at most twice; return the number of graphs."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=2):
        yield lambda: counters["stats"]["unique_graphs"]
    torch.compiler.reset()


def test_a_later_run_of_a_process_is_compiled_too(config_of, tmp_path, graphs_alone):
    numbers = []
    for seed in range(3):
        config = config_of(
            "scratch", "recipe.compile=true", "recipe.steps=2", "recipe.evaluations=1", f"seed={seed}"
        )
        run_one(config, tmp_path)
        numbers.append(graphs_alone())
    assert numbers[0] > 0
    assert numbers[1] - numbers[0] == numbers[2] - numbers[1] == numbers[0]


def test_operations_are_counted_in_a_compiled_run_too(config_of, tmp_path, graphs_alone):
    short = ("recipe.steps=2", "recipe.evaluations=1")
    plain, compiled = (
        run_one(config_of("scratch", *short, *more), tmp_path) for more in ((), ("recipe.compile=true",))
    )
    assert graphs_alone() > 0
    assert compiled["flops_per_step"] == plain["flops_per_step"] > 0


GIVEN = ("backbone=tiny", "recipe.image_size=16", "recipe.batch_size=8", "recipe.steps=20", "shots=2")


def test_one_graph_and_no_break_for_fine_tuning():
    layers, difference, *counts = modes.line("finetune", GIVEN)
    num_bf16, _, num_all = layers.split()
    assert 0 < int(num_bf16) <= int(num_all)
    assert float(difference.removesuffix(" %")) < 1
    assert counts == ["1", "0", "0"]


def test_what_is_not_compiled_and_what_is_refused_is_said():
    assert modes.line("l2tl_gradients", GIVEN)[0].startswith("refused: recipe.precision=bf16")
    assert modes.line("vpt", GIVEN)[0].startswith("does not run: ")
