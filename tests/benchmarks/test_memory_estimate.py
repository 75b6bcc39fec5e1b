"""The memory of a step: counted by living tensors, estimated from few images, compared with a GPU's."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.launch import memory, start
from transferbench.benchmarks.launch.memory import GIB, LiveBytes, Need, step_bytes, too_large

BATCH = "recipe.batch_size=16"
LARGE = ("recipe.image_size=32", "recipe.batch_size=24", "recipe.steps=9")


def test_tensors_count_once_and_while_they_live():
    with LiveBytes() as live:
        x = torch.ones(1000)
        y = x * 2
        assert live.now == 8000
        view = y[10:].view(-1)
        y.add_(1)
        assert live.now == 8000
        del x
        assert live.now == 4000
        del y
        assert live.now == 4000  # the view holds it
        del view
        assert (live.now, live.peak) == (0, 8000)


def test_what_a_backward_pass_needs_counts():
    weight = torch.ones(10, requires_grad=True)
    with LiveBytes() as live:
        held = (weight * 2).exp().exp()  # both results of `exp` are kept for the gradient
        assert live.now == 80
        held.sum().backward()
        assert live.peak > 80


@pytest.mark.parametrize("name", ["finetune", "l2tl", "bi_tuning", "lp_ft"])
def test_the_estimate_is_what_a_whole_batch_takes(config_of, name):
    config = config_of(name, *LARGE)
    assert step_bytes(config) == pytest.approx(memory._measured(config, 24, 24), rel=0.05)


def test_the_second_of_two_stages_counts(config_of):
    assert step_bytes(config_of("lp_ft", *LARGE)) == pytest.approx(
        step_bytes(config_of("finetune", *LARGE)), rel=0.05
    )


def test_parts_of_a_batch_take_less(config_of):
    whole, parts = (step_bytes(config_of("finetune", *LARGE, f"recipe.micro_batch={n}")) for n in (0, 6))
    assert parts == pytest.approx(memory._measured(config_of("finetune", *LARGE), 6, 6), rel=0.05)
    assert parts < 0.6 * whole


def test_a_row_that_is_larger_than_the_gpu_is_named(config_of, results, monkeypatch):
    config, said = config_of("finetune"), StringIO()
    monkeypatch.setattr(start, "device_of", lambda name: torch.device("cuda"))
    needs = {"Fine-tuning": Need(23 * GIB, BATCH), "SpotTune": Need(50 * GIB, BATCH)}
    monkeypatch.setattr(memory, "by_row", lambda configs: needs)
    monkeypatch.setattr(memory, "free_gpu", lambda name: (79 * GIB, 2))
    console = Console(file=said, width=1000)
    start.say_memory([config], results, console, workers=2)
    assert not said.getvalue()
    start.say_memory([config], results, console, workers=4)
    assert said.getvalue() == (
        "recipe.batch_size=16: SpotTune needs about 50.0 GiB for a step, and the GPU has 79.0 GiB free, "
        "for 2 runs each; fewer images, recipe.precision=bf16 or recipe.grad_checkpointing=true need less\n"
    )
    assert not too_large({"Fine-tuning": Need(GIB, BATCH)}, 2 * GIB, 2)
    source = {"Source pre-training": Need(90 * GIB, "source_recipe.batch_size=512")}
    assert too_large(needs | source, 30 * GIB, 1).startswith(
        "recipe.batch_size=16: SpotTune needs about 50.0 GiB for a step; source_recipe.batch_size=512: "
        "Source pre-training needs about 90.0 GiB for a step, and the GPU has 30.0 GiB free; fewer images"
    )


def test_the_parts_of_a_batch_that_fit_are_named(config_of):
    config = config_of("finetune", *LARGE)
    row, other = memory.by_row([config, config_of("l2tl", *LARGE)]).values()
    free = row.size // 2
    size = row.micro_batch(free)
    assert 1 < size < 24
    needed = [step_bytes(config_of("finetune", *LARGE, f"recipe.micro_batch={n}")) for n in (size, 2 * size)]
    assert needed[0] < free < needed[1]
    assert f" recipe.micro_batch={size} or recipe.grad" in too_large({"Fine-tuning": row}, free, 1)
    both = too_large({"Fine-tuning": row, "L2TL": other}, free, 1)
    assert f"recipe.micro_batch={size}, for rows that can train in parts, or recipe.grad" in both
    assert "micro_batch" not in too_large({"Fine-tuning": row}, 1000, 1)  # not even one image fits


def test_rows_after_the_time_are_named(config_of, monkeypatch):
    rows = [config_of(name) for name in ("finetune", "finetune", "l2tl", "knn")]
    grown = memory.Growth(5 << 20, 1 << 18, 16)
    monkeypatch.setattr(memory, "growth", lambda config: grown)
    assert memory.by_row(rows) == {"Fine-tuning": Need(5 << 20, BATCH, grown), "L2TL": Need(5 << 20, BATCH)}
    monkeypatch.setattr(memory, "SECONDS", -1)
    found = {
        "Fine-tuning": Need(5 << 20, BATCH),
        **memory.by_row(rows[2:]),
        "Leap": Need(None, BATCH),
    }
    assert memory.memory_line(found) == (
        "memory of a step, estimated: Fine-tuning 5 MiB; images that the device holds come on top; "
        "not measured after -1 s: L2TL; cannot be measured beforehand: Leap"
    )


def test_a_source_batch_of_its_own_is_not_drawn_whole(config_of):
    sizes = [f"recipe.source_batch_size={n}" for n in (12, 48, 10**6)]
    few, more, most = (step_bytes(config_of("l2tl", *LARGE, size)) for size in sizes)
    assert few < more < most
    assert 1 <= few / memory._measured(config_of("l2tl", *LARGE, sizes[0]), 24, 12) < 1.25


def test_a_dry_run_says_it(results, capsys):
    given = ["target=digits", "source=glyphs", "methods=finetune,l2tl,knn", "seeds=1", "backbone=tiny"]
    assert main(["bench", *given, f"results={results}", "--dry-run"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("memory of a step"))
    assert "Fine-tuning" in line
    assert "L2TL" in line
    assert "neighbors" not in line
