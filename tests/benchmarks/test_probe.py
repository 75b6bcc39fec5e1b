"""Requests that cannot work are refused while planning, with the setting that helps; working ones are not."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from transferbench import InputError, RunFailed
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.resolve import preprocessed
from transferbench.benchmarks.config.schema import RunConfig
from transferbench.benchmarks.launch import probe
from transferbench.benchmarks.launch.plan import large_batches, why_incompatible
from transferbench.benchmarks.launch.probe import check_networks
from transferbench.benchmarks.training.misfit import misfit
from transferbench.benchmarks.training.run import run_one
from transferbench.methods.networks.encoders import fitting_size
from transferbench.methods.recipe import MeanStd, Recipe
from trees import TINY, tree

VIT = ("backbone=vit_tiny_patch16_224", "backbone_options.depth=1")
SWIN = ("backbone=swin_tiny_patch4_window7_224", "backbone_options.depths=[1,1]")
RESNET = "backbone=resnet10t"
ConfigOf = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((RESNET, "recipe.batch_size=1"), "recipe.batch_size=1: .*expected 2 or more, or a backbone without"),
        ((RESNET, "source_recipe.batch_size=1"), "source_recipe.batch_size=1: .*expected 2 or more"),
        (("recipe.batch_size=1", "recipe.image_size=1"), "recipe.batch_size=1: tiny .*expected 2 or more"),
        ((*VIT, "recipe.image_size=30"), "_size=30: .*patches of 16 px leave out 14 px .*expected 32"),
        ((*SWIN, "recipe.image_size=97"), "_size=97: .*patches of 4 px leave out 1 px .*expected 100"),
        (("backbone=vgg11", "recipe.drop_path=0.1"), "recipe.drop_path=0.1: vgg11 has no stochastic depth"),
        (("recipe.drop_path=0.1",), "recipe.drop_path=0.1: tiny has no stochastic depth; expected 0"),
        (
            (*VIT, "recipe.drop_path=0.1", "backbone_options.drop_path_rate=0.2"),
            "recipe.drop_path=0.1: backbone_options.drop_path_rate=0.2; expected one",
        ),
        ((*VIT, "backbone_options.img_size=48", "recipe.image_size=32"), "_size=32: .*expected 48"),
        (
            (*VIT, "backbone_options.dynamic_img_size=true", "recipe.image_size=40"),
            "recipe.image_size=40: .*leave out 8 px at the edge.*; expected 48",
        ),
        (("backbone=digits_cnn", "recipe.image_size=64"), "recipe.image_size=64: digits_cnn .*expected 32"),
        ((RESNET, "backbone_options.in_chans=1"), "backbone_options.in_chans=1: .*; expected none"),
        ((RESNET, "backbone_options.features_only=true"), "options.features_only=True: .*expected none"),
        ((*VIT, "backbone_options.global_pool=''", "recipe.image_size=224"), "options.global_pool=: "),
        ((RESNET, "backbone_options.foo=1"), "backbone_options.foo=1: resnet10t does not take it"),
        ((*VIT, "backbone_options.embed_dim=100"), "options.depth=1, .*options.embed_dim=100: "),
        (("backbone_options.foo=1",), "backbone_options.foo: backbone=tiny takes no options"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_trained_names_the_setting_that_helps(config_of, given, message):
    config = config_of("finetune", *given)
    with pytest.raises(InputError, match=message) as error:
        check_networks([config])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("finetune", (*VIT, "recipe.batch_size=1", "source_recipe.batch_size=1", "recipe.image_size=0")),
        ("finetune", (RESNET, "recipe.batch_size=1", "recipe.image_size=96")),  # 3 x 3 values a channel
        ("finetune", ("recipe.precision=bf16", "recipe.channels_last=true")),
        ("finetune", ("recipe.batch_size=5000",)),  # more than there are images
        (
            "linear_probe",
            (RESNET, "recipe.batch_size=1", "recipe.image_size=32"),
        ),  # its encoder is not trained
        ("l2tl", ("bn=shared",)),
        ("finetune", (*VIT, "recipe.image_size=48", "recipe.drop_path=0.1", "recipe.layer_decay=0.7")),
        ("finetune", (*SWIN, "recipe.image_size=36", "recipe.optimizer=adamw")),
    ],
)
def test_networks_that_can_be_trained(config_of, method, given):
    assert check_networks([config_of(method, *given)]) == []


def test_a_batch_of_each_process_counts(config_of):
    given = ("recipe.batch_size=2", "source_recipe.batch_size=4", "recipe.image_size=32")
    config = config_of("finetune", RESNET, *given)
    assert check_networks([config]) == []
    with pytest.raises(InputError, match=r"recipe.batch_size=2: .* for each of 2 processes .*expected 4 or"):
        check_networks([config], processes=2)


def test_random_numbers_and_modes_stay(config_of):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_networks([config_of("l2tl")])
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_networks_are_tried_once(config_of, monkeypatch):
    steps: list[Any] = []
    step = probe._step
    monkeypatch.setattr(probe, "_step", lambda c, passes: steps.append(passes) or step(c, passes))
    rows = [config_of(m, f"seed={seed}") for m in ("finetune", "scratch", "l2tl") for seed in (0, 1)]
    check_networks(rows)
    assert len(steps) == 1
    assert {(p.of_source, p.batch) for p in steps[0]} == {(False, 2), (True, 2)}
    check_networks([*rows, config_of("finetune", "recipe.image_size=32")])
    assert len(steps) == 3


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("lora", ("layers=zzz",), "method.layers=zzz: no such layer; expected a part of a name, as stages"),
        ("lora", ("rank=33",), "method.rank=33: no layer has this rank; expected 1 to 32"),
        ("surgical", ("part=4", "num_parts=9"), "method.part=4: the backbone has parts 1 to 3"),
        ("linear_probe", ("taps=4",), "method.taps=4: the backbone has 3 stages; expected 1 to 3"),
    ],
)
@pytest.mark.parametrize("plan", [(), ("protocol=trainval",), ("tune=auto",), ("recipe.compile=true",)])
def test_settings_of_a_method_that_do_not_fit_the_network(config_of, results, method, given, message, plan):
    config = config_of(method, *(f"method.{one}" for one in given), *plan)
    with pytest.raises(InputError) as error:
        why_incompatible([config], results)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_setting_that_does_not_fit_is_refused_before_any_run(command, results, capsys):
    given = [f"results={results}", "method.layers=zzz", *("method=lora", "methods=finetune,lora")]
    given = [g for g in given if not g.startswith("method=" if command == "bench" else "methods=")]
    for more in (["--dry-run"], []):
        assert main([command, *given, *more]) == 2
        assert capsys.readouterr().err.startswith("transferbench: method.layers=zzz: no such layer; ")
    assert not list(results.rglob("config.json"))


def test_a_method_that_takes_too_much_memory_is_refused_by_its_settings(config_of, results):
    config = config_of("adaptformer", *VIT, f"method.width={10**15}", "recipe.image_size=32")
    with pytest.raises(InputError, match=r"AdaptFormer \(width=10+\): out of memory before the first step"):
        why_incompatible([config], results)


def test_methods_are_tried_without_a_trace(config_of, results):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    configs = [config_of(m, "protocol=trainval") for m in ("finetune", "l2tl", "surgical", "linear_probe")]
    assert why_incompatible(configs, results) == {}
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_that_is_short_names_the_batch(config_of, monkeypatch):
    def short(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("transferbench.methods.networks.network.Network.features", short)
    with pytest.raises(
        InputError, match="recipe.batch_size=16: out of memory in a forward and backward pass"
    ):
        check_networks([config_of("scratch")])


def test_an_error_in_a_run_names_the_setting_too(config_of, results):
    """Some methods pass other batches than the plan tries."""
    config = config_of("scratch", RESNET, "recipe.batch_size=1", "source=none")
    with pytest.raises(InputError, match="recipe.batch_size=1: resnet10t at recipe.image_size=16 has norms"):
        run_one(config, results)
    error = json.loads((config.folder(results) / "error.json").read_text())["error"]
    assert "recipe.batch_size=1" in error


def test_errors_without_a_known_setting_stay(config_of):
    config = config_of("scratch")
    assert misfit(config, ValueError("something else")) is None
    assert misfit(config, RunFailed("out of memory")) is None
    assert "recipe.batch_size=16" in str(misfit(config, RuntimeError("DefaultCPUAllocator: can't allocate")))
    assert "recipe.image_size=16" in str(
        misfit(config, AssertionError("Input height (1) doesn't match model"))
    )


def sized(backbone: str, side: int, **options: Any) -> int:
    open_ = Recipe(image_size=0, crop_pct=0, mean_std=MeanStd.half)
    return preprocessed(open_, backbone, side, options).image_size


@pytest.mark.parametrize(
    ("side", "options", "size"),
    [
        (32, {}, 224),
        (300, {}, 224),
        (32, {"img_size": 32}, 32),
        (64, {"img_size": 32}, 32),
        (300, {"img_size": 96}, 96),
        (32, {"dynamic_img_size": True}, 32),
    ],
)
def test_a_network_of_one_image_size_gets_it(side, options, size):
    assert sized("vit_tiny_patch16_224", side, depth=1, **options) == size


def test_networks_of_any_image_size_keep_that_of_small_images():
    assert sized("resnet10t", 32) == 32
    assert sized("twins_pcpvt_small", 64) == 64  # timm names one size; its layers take others
    assert fitting_size("digits_cnn", {}, 64) == 32
    assert fitting_size("small", {}, 64) == 64


@pytest.mark.parametrize("command", ["run", "bench", "bench --dry-run"])
def test_commands_refuse_before_anything_runs(tmp_path, capsys, command):
    tree(tmp_path / "pets")
    name, *options = command.split()
    method = "method=scratch" if name == "run" else "methods=scratch"
    given = [f"target={tmp_path / 'pets'}", "source=none", method, RESNET, f"results={tmp_path / 'results'}"]
    words = [word for word in TINY if not word.startswith("recipe.batch_size")]
    assert main([name, *options, *given, *words, "recipe.batch_size=1"]) == 2
    assert "recipe.batch_size=1" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "results").rglob("config.json"))


def test_what_a_weights_file_lacks_is_told_once(tmp_path, capsys):
    tree(tmp_path / "pets")
    state = timm.create_model("resnet10t", num_classes=7).state_dict()
    path = tmp_path / "w.pth"
    torch.save({"model": state, "model_ema": {**state, "extra": torch.ones(2)}}, path)
    given = [f"target={tmp_path / 'pets'}", "source=none", RESNET, f"checkpoint={path}"]
    assert main(["run", "method=finetune", *given, f"results={tmp_path / 'results'}", *TINY]) == 0
    line = (
        f"checkpoint={path}: read from 'model_ema', not 'model'; 1 tensor unused: extra; "
        "classifier left out: 7 classes"
    )
    assert capsys.readouterr().out.count(line) == 1


def test_every_part_of_a_weights_file_counts_for_a_run(config_of, tmp_path):
    """A run with other weights is another run, even if the index is the same."""
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"weight_map": {"a": "part.pth"}}))
    found = []
    for value in (1, 2):
        torch.save({"a": torch.full((1,), value)}, tmp_path / "part.pth")
        found.append(config_of("finetune", RESNET, f"checkpoint={path}").data["checkpoint"])
    assert found[0] != found[1]


def test_a_batch_above_the_images_is_said(config_of):
    configs = [config_of("finetune", "recipe.batch_size=125", "shots=5", f"seed={seed}") for seed in range(2)]
    assert large_batches(configs) == [
        "recipe.batch_size=125: each step reads the 50 training images of digits 2.5 times"
    ]
    assert large_batches([config_of("finetune", "recipe.batch_size=50", "shots=5")]) == []


def test_a_row_that_refuses_the_recipe_is_left_out_alone(config_of, results):
    rows = [config_of(name, "recipe.precision=bf16") for name in ("finetune", "l2tl_gradients")]
    ((config, reason),) = why_incompatible(rows, results).values()
    assert config.method == "l2tl_gradients"
    assert reason.startswith("recipe.precision=bf16: ")


def test_source_batches_are_shared_only_where_they_are_drawn(config_of, results):
    rows = [config_of(name, "recipe.source_batch_size=3") for name in ("finetune", "l2tl")]
    ((config, reason),) = why_incompatible(rows, results, processes=2).values()
    assert config.method == "l2tl"
    assert "recipe.source_batch_size=3 is not a multiple of 2" in reason


def test_images_smaller_than_the_stride_of_the_last_stage_are_said(config_of):
    small = config_of("finetune", RESNET, "recipe.image_size=16")
    (note,) = [n for n in check_networks([small]) if "recipe.image_size" in n]
    assert note.startswith("recipe.image_size=16: resnet10t looks at fields of 32 x 32 pixels")
    for given in ((RESNET, "recipe.image_size=32"), ("recipe.image_size=8",), (*VIT, "recipe.image_size=48")):
        assert not [n for n in check_networks([config_of("finetune", *given)]) if "recipe.image_size" in n]
