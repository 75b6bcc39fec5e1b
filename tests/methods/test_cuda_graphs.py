"""CUDA graphs, as far as a CPU can tell: where they are refused, and that features outlive the next pass."""

import pytest
import torch
from transferbench import InputError
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.launch.plan import why_incompatible

GRAPHS = ("recipe.compile=true", "recipe.cuda_graphs=true")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            GRAPHS[1:],
            "recipe.cuda_graphs=true: captures compiled kernels; expected recipe.compile=true with it",
        ),
        ((*GRAPHS, "recipe.micro_batch=8"), "recipe.micro_batch=8: expected 0 with recipe.cuda_graphs=true"),
    ],
)
def test_what_they_need(config_of, given, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        config_of("finetune", *given)


@pytest.mark.parametrize("name", ["l2tl", "delta"])
def test_methods_that_take_several_passes_are_refused(config_of, results, name):
    ((_, reason),) = why_incompatible([config_of(name, *GRAPHS)], results).values()
    assert reason == (
        "it takes several passes a step, and recipe.cuda_graphs=true captures one; expected false"
    )


def test_other_rows_may_have_them(config_of, results):
    assert not why_incompatible([config_of(name, *GRAPHS) for name in ("finetune", "knn")], results)


def test_a_cpu_has_none(build):
    with pytest.raises(InputError, match="cuda_graphs=true: needs a GPU, and the device is a CPU"):
        build("finetune", *GRAPHS)


@pytest.mark.parametrize("command", ["bench", "run"])
def test_a_cpu_has_none_before_anything_starts(results, capsys, command):
    rows = "methods=finetune" if command == "bench" else "method=finetune"
    given = ["target=digits", "source=glyphs", rows, "backbone=tiny", *GRAPHS]
    assert main([command, *given, f"results={results}"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "recipe.cuda_graphs=true: needs a GPU" in err
    assert not results.exists()


def test_features_outlive_the_next_pass(build, monkeypatch):
    """A graph writes the output of each pass to the same place."""
    method = build("finetune")
    net, place = method.net, []

    def captured(function, mode):
        assert mode == "reduce-overhead"

        def run(x):
            out = function(x)
            place[:] = place or [out.clone()]
            return place[0].copy_(out)

        return run

    monkeypatch.setattr(torch, "compile", captured)
    net.compile_encoder(cuda_graphs=True)
    net.eval()
    with torch.no_grad():
        one, other = torch.randn(2, 4, 3, 16, 16)
        expected = net.encoder(one)
        first = net.features(one)
        net.features(other)
    torch.testing.assert_close(first, expected)


def test_runs_without_them_keep_their_names(config_of):
    assert "cuda_graphs" not in config_of("finetune").resolved()["recipe"]
    assert config_of("finetune", *GRAPHS).digest != config_of("finetune", GRAPHS[0]).digest
