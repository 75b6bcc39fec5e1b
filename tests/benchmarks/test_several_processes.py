"""Two processes that share a run compute what one computes."""

import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from processes import figures, in_two
from small_vit import SmallViT
from suited import FOR_TRANSFORMERS
from torch import nn
from torch.nn import functional as F
from toy import toy_problem, toy_split
from transferbench import InputError, RunFailed
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.schema import OnNan
from transferbench.benchmarks.launch.plan import why_incompatible
from transferbench.benchmarks.training import interrupt
from transferbench.benchmarks.training.nan_guard import NanGuard
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets import distributed
from transferbench.datasets.augmentation.mixing import Mixing
from transferbench.methods import catalog
from transferbench.methods.base import Method
from transferbench.methods.finetune import FineTune
from transferbench.methods.l2tl_gradients import Alpha, Config, L2TLGradients
from transferbench.methods.l2tl_policy import gradient_credit

STEPS = 50
SPLIT = [name for name in catalog.names() if catalog.load(name).data_parallel]
WHOLE = [name for name in catalog.names() if name not in SPLIT]
VARIANTS = [
    ("l2tl", "weights", "uniform"),
    ("l2tl", "weights", "random"),
    ("l2tl", "normalizer", "softmax"),
    ("l2tl", "reward", "mean_per_class"),
    ("l2tl", "credit", "gain"),
    ("l2tl", "credit", "present"),
    ("l2tl_gradients", "proportional", False),
]
ALL = [(name,) for name in SPLIT] + VARIANTS
OWN = {
    "adaptformer": {"dropout": 0.0},  # a process draws it for its own part of a batch
    # No draw and no choice by the weights: after rounding it may be another one.
    "l2tl_gradients": {"alpha": Alpha.fixed, "multiplier": 1, "explored": 0},
}
# A credit is a difference of losses, divided by the distance at which it is taken: at the 1e-4 of a run,
# rounding by 1e-7 makes 1e-3 of it. At this one it makes 1e-5, which still grows with the steps.
DISTANCE = 1e-2
FEW_STEPS = {("l2tl_gradients",): 10, ("l2tl_gradients", "proportional", False): 20}
# What sums in another order change, of metrics (relative, absolute) and of weights
ROUNDING = {"l2tl_gradients": (1e-4, 1e-3, 1e-3)}


class TinyEncoder(nn.Module):
    """Two convolutions with norms, for 16 px."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
            for wide, out in ((3, 6), (6, 8))
        )

    def forward_intermediates(self, x):
        taps = [self.stages[0](x)]
        return self.stages[1](taps[0]), taps

    def forward_head(self, last):
        return last.mean((2, 3))

    def forward(self, x):
        return self.forward_head(self.forward_intermediates(x)[0])


def built(spec: tuple[str, ...]) -> Method:
    cls = catalog.load(spec[0])
    config = cls.Config(**dict([spec[1:]] if spec[1:] else []), **OWN.get(spec[0], {}))
    config = config.resolved() if hasattr(config, "resolved") else config
    holdout = toy_split([0, 1, 2] * 5, 3, "holdout")
    encoder = SmallViT if spec[0] in FOR_TRANSFORMERS else TinyEncoder
    problem = toy_problem(encoder=encoder, holdout=holdout, recipe={"steps": STEPS, "lr": 0.05})
    return cls(problem, config)


def trained(spec: tuple[str, ...]) -> dict:
    """Return the metrics of every step, and the weights and statistics after the last."""
    method = built(spec)
    method.prepare()
    curve = []
    with patch.object(gradient_credit, "DISTANCE", DISTANCE):
        for t in range(FEW_STEPS.get(spec, STEPS)):
            torch.manual_seed(t)
            curve.append({k: distributed.mean(v).item() for k, v in method.step(t).items()})
    return {"curve": curve, "state": {k: v.tolist() for k, v in method.net.state_dict().items()}}


def augmented() -> list[float]:
    """Return the losses of steps on batches that are changed and mixed."""
    target = toy_split([0, 1, 2] * 8, 3, "target")
    changes = replace(target.augment, policy="trivial", color_jitter=0.4, random_erasing=0.5)
    mixing = Mixing(mixup=1.0, cutmix=1.0, smoothing=0.1)
    target = replace(target, augment=changes, mixing=mixing, weight_C=torch.ones(3))
    method = FineTune(toy_problem(target, encoder=TinyEncoder), FineTune.Config())
    return [distributed.mean(method.step(t)["loss"]).item() for t in range(8)]


def test_two_processes_mix_the_pairs_of_one():
    first, second = in_two(augmented)
    assert first == second
    assert first == pytest.approx(augmented(), abs=1e-5)


@pytest.fixture(scope="module")
def by_two():
    """Train all methods that claim it, by two processes started once."""
    first, second = in_two(lambda: {spec: trained(spec) for spec in ALL})
    assert first == second
    return first


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: " ".join(map(str, spec)))
def test_two_processes_compute_what_one_computes(by_two, spec):
    one, two = trained(spec), by_two[spec]
    rel, most, moved = ROUNDING.get(spec[0], (1e-4, 1e-5, 1e-4))
    for a, b in zip(one["curve"], two["curve"], strict=True):
        assert a == pytest.approx(b, rel=rel, abs=most)
    for name, value in one["state"].items():
        torch.testing.assert_close(
            torch.tensor(value),
            torch.tensor(two["state"][name]),
            atol=moved,
            rtol=0,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    assert one["curve"][-1] != one["curve"][0]


def judged() -> dict[str, list[float]]:
    """Return how many images of each class L2TL by gradients has judged in three steps, and their credit."""
    method = L2TLGradients(toy_problem(encoder=TinyEncoder, holdout=toy_split([0, 1] * 6, 3)), Config())
    for t in range(3):
        torch.manual_seed(t)
        method.step(t)
    return {"count": method.credit.count_S.tolist(), "total": method.credit.total_S.tolist()}


def test_two_processes_judge_the_images_of_one_with_those_that_are_only_explored():
    first, second = in_two(judged)
    assert first == second
    one = judged()
    assert sum(one["count"]) == 3 * 2 * 8  # three steps, batches of 8 that are trained on and explored
    assert first["count"] == one["count"]
    assert first["total"] == pytest.approx(one["total"], abs=0.02)


@pytest.mark.parametrize("name", WHOLE)
def test_a_method_that_cannot_be_split_says_so(config_of, results, name):
    ((_, reason),) = why_incompatible([config_of(name)], results, processes=2).values()
    assert reason == "its batches cannot be split over 2 processes"


def test_what_cannot_be_split_is_refused(config_of, results):
    config = config_of("finetune", "recipe.batch_size=10")
    ((_, reason),) = why_incompatible([config], results, processes=4).values()
    assert reason == "recipe.batch_size=10 is not a multiple of 4 processes"
    config = config_of("l2tl", "recipe.batch_size=8", "recipe.source_batch_size=10")
    ((_, reason),) = why_incompatible([config], results, processes=4).values()
    assert reason == "recipe.source_batch_size=10 is not a multiple of 4 processes"
    config = config_of("finetune", "recipe.compile=true")
    ((_, reason),) = why_incompatible([config], results, processes=2).values()
    assert reason == "recipe.compile=true supports one process; there are 2"
    with pytest.raises(InputError, match="batch_size=3: cannot be split evenly over 2 processes"):
        distributed.check_divisible(3, 2)


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """Return a run's settings, and its record by one process."""
    # Norms are as they were before: by statistics of small batches they would make much of rounding.
    short = ("recipe.steps=20", "recipe.evaluations=2", "recipe.batch_size=4", "recipe.image_size=16")
    config = config_of("linear_probe", *short, "shots=2", "source_recipe.lr=1e-4")
    return config, run_one(config, tmp_path_factory.mktemp("one"))


def test_a_run_by_two_has_the_record_of_one(whole, results):
    config, one = whole
    two, same = in_two(run_one, config, results)
    assert two == same
    assert (one["environment"]["world_size"], two["environment"]["world_size"]) == (1, 2)
    assert not differences(figures(one), figures(two))
    names = {p.name for p in config.folder(results).iterdir()}
    assert names == {"config.json", "metrics.jsonl", "model.json", "model.safetensors", "record.json"}
    assert len((config.folder(results) / "metrics.jsonl").read_text().splitlines()) == len(two["curve"])


def test_a_run_by_two_stops_in_step_and_goes_on_by_one(whole, results):
    config, one = whole

    def stopped(rank: int, at: int) -> list[int]:
        interrupt._requested.clear()
        cls, taken = catalog.load(config.method), []
        step = cls.step

        def noted(self, t):
            taken.append(t)
            if t == at and distributed.is_first() == (rank == 0):
                interrupt.request()  # one process is told, the other is not
            return step(self, t)

        cls.step = noted
        with pytest.raises(interrupt.Interrupted, match=f"saved at step {at + 1} of 20"):
            run_one(config, results)
        return taken

    assert in_two(stopped, 1, 12) == [list(range(13))] * 2
    assert in_two(stopped, 0, 16) == [list(range(13, 17))] * 2
    assert not differences(figures(run_one(config, results)), figures(one))


def test_credit_by_gradients_by_two_goes_on_by_two_with_the_digits_of_an_unbroken_run(config_of, tmp_path):
    short = ("recipe.steps=12", "recipe.evaluations=2", "recipe.batch_size=8", "recipe.image_size=16")
    config = config_of("l2tl_gradients", *short, "shots=4", "keep=none")
    unbroken = in_two(run_one, config, tmp_path / "unbroken")

    def stopped() -> None:
        cls = catalog.load(config.method)
        step = cls.step

        def asked(self, t):
            if t == 6 and distributed.is_first():
                interrupt.request()
            return step(self, t)

        cls.step = asked
        with pytest.raises(interrupt.Interrupted, match="saved at step 7 of 12"):
            run_one(config, tmp_path / "stopped")

    in_two(stopped)
    resumed = in_two(run_one, config, tmp_path / "stopped")
    assert resumed[0] == resumed[1]
    assert figures(resumed[0]) == figures(unbroken[0])
    assert resumed[0]["environment"]["world_size"] == 2


def test_a_process_that_ends_ends_the_others_and_leaves_the_run_as_it_was(whole, results):
    config, one = whole

    def killed() -> None:
        cls = catalog.load(config.method)
        step = cls.step
        cls.step = lambda self, t: os._exit(9) if t == 9 and not distributed.is_first() else step(self, t)
        run_one(config, results)

    with pytest.raises(AssertionError, match="both ended without an answer"):
        in_two(killed)
    assert not (config.folder(results) / "error.json").exists()
    assert not differences(figures(run_one(config, results)), figures(one))


def test_the_error_is_that_of_the_process_that_failed(whole, results):
    config, _ = whole

    def failing() -> None:
        cls = catalog.load(config.method)
        step = cls.step
        cls.step = lambda self, t: 1 / 0 if t == 9 and not distributed.is_first() else step(self, t)
        run_one(config, results)

    with pytest.raises(AssertionError, match="both ended without an answer"):
        in_two(failing)
    assert "ZeroDivisionError" in (config.folder(results) / "error.json").read_text()


def poison(step: Any, at: int, what: str) -> Any:
    """Plant a loss or a weight that is not finite in a step of the second process only."""

    def bad(self: Method, t: int) -> Any:
        metrics = step(self, t)
        if t == at and not distributed.is_first():
            if what == "loss":
                metrics["loss"] = torch.tensor(math.nan)
            else:
                self.net.target_head.weight.data[0, 0] = math.inf
        return metrics

    return bad


@pytest.mark.parametrize(("what", "words"), [("loss", "loss is nan at step 4;"), ("weight", "at step 5;")])
def test_what_is_not_finite_in_one_process_stops_both_at_its_step(tmp_path, what, words):
    def seen(on_nan: OnNan) -> Any:
        method = built(("finetune",))
        method.step = partial(poison(type(method).step, 3, what), method)
        watch = NanGuard(method, tmp_path, on_nan)
        try:
            for t in range(7):
                watch.step(t)
            watch.check()
        except RunFailed as error:
            return str(error)
        return watch.skipped

    ((stopped, left_out), others) = in_two(lambda: [seen(OnNan.stop), seen(OnNan.skip)])
    assert others == [stopped, left_out]
    assert words in stopped
    assert left_out == [4]


def test_a_run_that_is_not_finite_in_one_process_ends_by_one_line(results, capfd):
    command = ["run", "target=digits", "source=none", "method=scratch", "backbone=tiny", "recipe.steps=6"]
    command += ["recipe.evaluations=3", "recipe.batch_size=4", "recipe.image_size=16", f"results={results}"]

    def run() -> int:
        cls = catalog.load("scratch")
        cls.step = poison(cls.step, 3, "loss")
        try:
            return main(command)
        except SystemExit as end:
            return end.code

    assert in_two(run, join=nullcontext) == [1, 1]
    error = capfd.readouterr().err
    assert error.startswith("transferbench: loss is nan at step 4; ")
    assert "checkpoint.pt, of step 2, is the last good checkpoint" in error
    assert error.count("\n") == 1
    (left,) = results.glob("*/*/*/error.json")
    assert "loss is nan at step 4; " in left.read_text()


def test_by_hand_what_cannot_be_split_is_refused_at_once(results, capfd):
    command = ["run", "target=digits", "method=reweight", f"results={results}"]
    assert in_two(main, command, join=nullcontext) == [2, 2]
    words = "method=reweight: cannot run here: its batches cannot be split over 2 processes"
    assert words in capfd.readouterr().err
    assert in_two(main, ["bench", f"results={results}"], join=nullcontext) == [2, 2]
    assert "torchrun: its processes share one run" in capfd.readouterr().err


SHORT = ("image_size=16", "steps=4", "batch_size=8")


def record_by(launcher: list[str], results: Path, device: str) -> dict:
    """Return the record of a run on the embedded pair that a launcher starts."""
    small = ["preset=embedded", "backbone=tiny", *(f"recipe.{o}" for o in SHORT)]
    run = ["-m", "transferbench.benchmarks.cli", "run", "method=l2tl", "tune=off", *small]
    given = ["source_recipe.steps=4", "source_recipe.batch_size=8", f"device={device}", f"results={results}"]
    command = [sys.executable, *launcher, *run, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = results.glob("glyphs-digits/l2tl/*/record.json")
    return json.loads(path.read_text(encoding="utf-8"))


TWO_GPUS = (
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two GPUs here"),
)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=TWO_GPUS)])
def test_torchrun_starts_a_run_by_two(tmp_path, device):
    one = record_by([], tmp_path / "one", device)
    by_two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two = record_by(by_two, tmp_path / "two", device)
    assert (one["environment"]["world_size"], two["environment"]["world_size"]) == (1, 2)
    losses = [record["curve"][-1]["train"]["loss"] for record in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02, abs=1e-3)


def differences(a, b, path: str = "") -> list[str]:
    """List where the figures of two records differ by more than rounding; hashes and packed floats do."""
    if isinstance(a, dict):
        keys = (a.keys() | b.keys()) - {"sha256", "probabilities"}
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{path}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for k, pair in enumerate(zip(a, b, strict=True)) for d in differences(*pair, f"{path}.{k}")]
    same = a == pytest.approx(b, abs=1e-4) if isinstance(a, float) else a == b
    return [] if same else [f"{path}: {a} {b}"]


@pytest.mark.parametrize("shape", [(8, 3, 5, 5), (8, 3)])
def test_the_norm_of_one_process_is_that_of_torch(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.double) + 3
    weight, bias = torch.rand(2, 3, dtype=torch.double)
    found = []
    for norm in (F.batch_norm, distributed.batch_norm):
        mean, var = torch.zeros(3, dtype=torch.double), torch.ones(3, dtype=torch.double)
        own = x.clone().requires_grad_()
        out = norm(own, mean, var, weight, bias, True, 0.1, 1e-5)
        (out.sin() * x).sum().backward()
        found.append((out.detach(), own.grad, mean, var))
    torch.testing.assert_close(*found)
