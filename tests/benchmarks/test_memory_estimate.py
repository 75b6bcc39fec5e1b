"""The memory of a step: counted by living tensors, estimated from few images, compared with a GPU's."""

from io import StringIO

import pytest
import torch
from rich.console import Console
from suited import TRANSFORMER
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.launch import memory, start
from transferbench.benchmarks.launch.memory import GIB, LiveBytes, Need, step_bytes, too_large

BATCH = "recipe.batch_size=16"
LARGE = ("recipe.image_size=32", "recipe.batch_size=24", "recipe.steps=9")


def peak_of(config, images: int, of_source: int) -> float:
    """Return the most bytes that live in a step with so many images."""
    return max(memory._course(config, images, of_source))


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
        assert live.now == 0
        assert max(live.course) == 8000


def test_what_a_backward_pass_needs_counts():
    weight = torch.ones(10, requires_grad=True)
    with LiveBytes() as live:
        held = (weight * 2).exp().exp()  # both results of `exp` are kept for the gradient
        assert live.now == 80
        held.sum().backward()
        assert max(live.course) > 80


@pytest.mark.parametrize("name", ["finetune", "l2tl", "bi_tuning", "lp_ft"])
def test_the_estimate_is_what_a_whole_batch_takes(config_of, name):
    config = config_of(name, *LARGE)
    assert step_bytes(config) == pytest.approx(peak_of(config, 24, 24), rel=0.05)


@pytest.mark.parametrize("images", [8, 128, 512])
def test_weights_count_where_they_are_more_than_the_images(config_of, images):
    """With few images the optimizer's moment needs most, with many the one between the passes."""
    large = (
        *TRANSFORMER,
        "backbone_options.embed_dim=192",
        "backbone_options.num_heads=3",
        f"recipe.batch_size={images}",
    )
    config = config_of("finetune", *large)
    assert step_bytes(config) == pytest.approx(peak_of(config, images, images), rel=0.02)


def test_the_second_of_two_stages_counts(config_of):
    assert step_bytes(config_of("lp_ft", *LARGE)) == pytest.approx(
        step_bytes(config_of("finetune", *LARGE)), rel=0.05
    )


def test_parts_of_a_batch_take_less(config_of):
    whole, parts = (step_bytes(config_of("finetune", *LARGE, f"recipe.micro_batch={n}")) for n in (0, 6))
    assert parts == pytest.approx(peak_of(config_of("finetune", *LARGE), 6, 6), rel=0.05)
    assert parts < 0.6 * whole


def test_a_row_that_is_larger_than_the_gpu_is_named(config_of, results, monkeypatch):
    config, said = config_of("finetune"), StringIO()
    monkeypatch.setattr(start, "device_of", lambda name: torch.device("cuda"))
    ways = ("recipe.precision=bf16", "recipe.grad_checkpointing=true")
    needs = {"Fine-tuning": Need(23 * GIB, BATCH, ways=ways), "SpotTune": Need(50 * GIB, BATCH, ways=ways)}
    monkeypatch.setattr(memory, "by_row", lambda configs: needs)
    monkeypatch.setattr(memory, "free_gpu", lambda name: (79 * GIB, 2))
    console = Console(file=said, width=1000)
    start.say_memory([config], results, console, workers=2)
    assert not said.getvalue()
    start.say_memory([config], results, console, workers=4)
    assert said.getvalue() == (
        "recipe.batch_size=16: SpotTune needs about 50.0 GiB for a step, and the GPU has 79.0 GiB free, "
        "for 2 runs each; expected fewer images, recipe.precision=bf16 or recipe.grad_checkpointing=true\n"
    )
    assert not too_large({"Fine-tuning": Need(GIB, BATCH)}, 2 * GIB, 2)
    source = {"Source pre-training": Need(90 * GIB, "source_recipe.batch_size=512")}
    assert too_large(needs | source, 30 * GIB, 1).startswith(
        "recipe.batch_size=16: SpotTune needs about 50.0 GiB for a step; source_recipe.batch_size=512: "
        "Source pre-training needs about 90.0 GiB for a step, and the GPU has 30.0 GiB free; expected fewer"
    )


def test_the_parts_of_a_batch_that_fit_are_named(config_of):
    config = config_of("finetune", *LARGE)
    row, other = memory.by_row([config, config_of("l2tl", *LARGE)]).values()
    free = row.size // 2
    size = row.split.most_images(free)
    assert 1 < size < 24
    needed = [step_bytes(config_of("finetune", *LARGE, f"recipe.micro_batch={n}")) for n in (size, 2 * size)]
    assert needed[0] < free < needed[1]
    alone = too_large({"Fine-tuning": row}, free, 1)
    assert alone.endswith(f"expected fewer images, recipe.micro_batch={size} or recipe.precision=bf16")
    both = too_large({"Fine-tuning": row, "L2TL": other}, free, 1)
    assert f"recipe.micro_batch={size} (which leaves out rows that need whole batches) or recipe" in both
    assert "micro_batch" not in too_large({"Fine-tuning": row}, 1000, 1)  # not even one image fits


def test_settings_that_a_row_has_or_cannot_have_are_not_named(config_of):
    assert memory._ways(config_of("finetune")) == ("recipe.precision=bf16",)  # its batch norms count twice
    both = ("recipe.precision=bf16", "recipe.grad_checkpointing=true")
    assert memory._ways(config_of("finetune", *TRANSFORMER)) == both
    assert memory._ways(config_of("finetune", *TRANSFORMER, *both)) == ()


def test_rows_after_the_time_are_named(config_of, monkeypatch):
    rows = [config_of(name) for name in ("finetune", "finetune", "l2tl", "knn")]
    grown = memory.Growth(((5 << 20, 0.0),), 16)
    monkeypatch.setattr(memory, "growth", lambda config: grown)
    ways = ("recipe.precision=bf16",)
    assert memory.by_row(rows) == {
        "Fine-tuning": Need(5 << 20, BATCH, grown, ways),
        "L2TL": Need(5 << 20, BATCH, None, ways),
    }
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
    assert 1 <= few / peak_of(config_of("l2tl", *LARGE, sizes[0]), 24, 12) < 1.25


def test_a_dry_run_says_it(results, capsys):
    given = ["target=digits", "source=glyphs", "methods=finetune,l2tl,knn", "seeds=1", "backbone=tiny"]
    assert main(["bench", *given, f"results={results}", "--dry-run"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("memory of a step"))
    assert "Fine-tuning" in line
    assert "L2TL" in line
    assert "neighbors" not in line
