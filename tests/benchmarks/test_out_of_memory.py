"""Memory that ends in the middle of a run: one line names the setting to lower, and nothing is lost."""

import pytest
import torch
from transferbench.benchmarks.cli import main
from transferbench.methods.finetune import FineTune

GIVEN = (
    *("device=cpu", "backbone=tiny", "recipe.steps=6", "recipe.batch_size=16", "recipe.image_size=16"),
    *("recipe.evaluations=2", "source_recipe.steps=4", "source_recipe.batch_size=16"),
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
@pytest.mark.parametrize(
    "command", [("run", "method=finetune"), ("bench", "methods=finetune,scratch", "seeds=1")]
)
def test_the_setting_to_lower_is_named(results, monkeypatch, capsys, command, error, forked):
    step = FineTune.step

    def short(self, t):
        if t == 4:
            raise error
        return step(self, t)

    monkeypatch.setattr(FineTune, "step", short)
    words = [*command, *GIVEN, f"results={results}"]
    assert main(words) != 0
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert "recipe.batch_size=16: out of memory in a training step of tiny at 16 px" in text
    assert (
        "expected fewer images, a smaller recipe.image_size, recipe.micro_batch=8, or recipe.precision=bf16"
        in text
    )
    assert "Traceback" not in text
    monkeypatch.setattr(FineTune, "step", step)
    assert main(words) == 0
