"""Learning rates by hand, what the optimizer decays, the preprocessing, and the crops of the test."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transferbench import InputError
from transferbench.benchmarks.config.compose import compose_request
from transferbench.benchmarks.config.length import length
from transferbench.benchmarks.config.resolve import preprocessed
from transferbench.benchmarks.training.evaluate import evaluate
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.base import update
from transferbench.methods.networks import encoders
from transferbench.methods.networks.encoders import SmallEncoder, data_config
from transferbench.methods.networks.network import Network
from transferbench.methods.recipe import MeanStd, OptimizerName, Recipe, Schedule
from transferbench.methods.recipe import TestCrops as Crops  # pytest would take it for a test


def parameters_by_decay(optimizer: torch.optim.Optimizer) -> dict[float, set[int]]:
    return {group["weight_decay"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}


@pytest.fixture
def net() -> Network:
    return Network(SmallEncoder(), 3, 2)


def test_warmup_and_cosine():
    recipe = Recipe(steps=100, lr=0.2, warmup_fraction=0.1)
    assert recipe.lr_at(0) == pytest.approx(0.02)
    assert recipe.lr_at(4) == pytest.approx(0.1)
    assert recipe.lr_at(9) == recipe.lr_at(10) == pytest.approx(0.2)
    assert recipe.lr_at(55) == pytest.approx(0.1)
    assert recipe.lr_at(99) == pytest.approx(0.1 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < recipe.lr_at(99) < recipe.lr_at(98)


@pytest.mark.parametrize(("share", "first"), [(0.0, 1.0), (1.0, 0.25)])
def test_no_warmup_and_nothing_but_warmup(share, first):
    recipe = Recipe(steps=4, lr=1.0, warmup_fraction=share)
    assert recipe.lr_at(0) == pytest.approx(first)
    assert all(0 < recipe.lr_at(t) <= 1 for t in range(4))


def test_milestones():
    recipe = Recipe(steps=100, lr=0.5, schedule=Schedule.milestones, milestones=[30, 60])
    assert [recipe.lr_at(t) for t in (0, 30, 31, 60, 61, 99)] == pytest.approx(
        [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )


def test_constant():
    recipe = Recipe(steps=100, lr=0.3, schedule=Schedule.constant)
    assert {recipe.lr_at(t) for t in (0, 50, 99)} == {0.3}


def test_kernels_are_decayed_and_norms_and_biases_are_not(net):
    groups = parameters_by_decay(Recipe(weight_decay=0.01).make_optimizer(net))
    assert groups == {
        0.01: {id(p) for n, p in net.named_parameters() if p.ndim > 1},
        0.0: {id(p) for n, p in net.named_parameters() if p.ndim == 1},
    }


@pytest.mark.parametrize("by_argument", [True, False])
def test_biases_are_decayed_on_demand_but_norms_never(net, by_argument):
    recipe = Recipe(weight_decay=0.01, decay_biases=not by_argument)
    groups = parameters_by_decay(recipe.make_optimizer(net, decay_biases=True if by_argument else None))
    heads = (net.source_head, net.target_head)
    assert {id(head.bias) for head in heads} <= groups[0.01]
    assert groups[0.0] == {
        id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    }


def test_frozen_parameters_are_left_out(net):
    net.encoder.requires_grad_(False)
    groups = parameters_by_decay(Recipe().make_optimizer(net))
    assert set.union(*groups.values()) == {
        id(p) for head in (net.source_head, net.target_head) for p in head.parameters()
    }


def test_optimisers(net):
    sgd = Recipe(momentum=0.8, nesterov=True).make_optimizer(net)
    assert isinstance(sgd, torch.optim.SGD)
    assert {(g["momentum"], g["nesterov"]) for g in sgd.param_groups} == {(0.8, True)}
    adam = Recipe(optimizer=OptimizerName.adam, lr=0.003, weight_decay=0.01).make_optimizer(net)
    assert isinstance(adam, torch.optim.Adam)
    assert {g["lr"] for g in adam.param_groups} == {0.003}
    assert set(parameters_by_decay(adam)) == {0.01, 0.0}


def preprocessing(recipe: Recipe) -> tuple[int, float, MeanStd]:
    return recipe.image_size, recipe.crop_pct, recipe.mean_std


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("inception_v3", (299, 0.875, MeanStd.half)),
        ("resnet50", (224, 0.95, MeanStd.imagenet)),
        ("resnet50.tv_in1k", (224, 0.875, MeanStd.imagenet)),
        ("densenet121", (224, 0.875, MeanStd.imagenet)),
        ("mobilenetv2_100", (224, 0.875, MeanStd.imagenet)),
        ("mobilenetv1_025", (224, 0.875, MeanStd.half)),
        ("vit_base_patch16_clip_224", (224, 0.95, None)),
        ("small", None),
        ("digits_cnn", None),
    ],
)
def test_the_data_config_is_timms_and_builds_no_model(monkeypatch, backbone, expected):
    monkeypatch.setattr(encoders._timm(), "create_model", None)
    assert data_config(backbone) == expected


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet51", "backbone=resnet51: neither 'small' nor a timm model; near: resnet5"),
        ("resnet50.nope", r"backbone=resnet50.nope: no such weights; expected one of resnet50\.a1_in1k"),
        ("vit_base_patch16_sapiens2", "takes images of 768 x 1024 px; expected square ones"),
    ],
)
def test_a_backbone_without_a_data_config_is_refused(backbone, message):
    with pytest.raises(InputError, match=message):
        data_config(backbone)


LARGE = 300  # side of the target's images in pixels


def left_to(backbone: str, side: int = LARGE, **given: Any) -> tuple[int, float, MeanStd]:
    open_ = {"image_size": 0, "crop_pct": 0, "mean_std": MeanStd.backbone}
    return preprocessing(preprocessed(Recipe(**{**open_, **given}), backbone, side))


def test_a_run_holds_the_preprocessing_of_its_backbone():
    assert left_to("densenet121") == (224, 0.875, MeanStd.imagenet)
    assert left_to("inception_v3") == (299, 0.875, MeanStd.half)


@pytest.mark.parametrize(("side", "size"), [(64, 64), (96, 64), (32, 32), (16, 32), (97, 224)])
def test_small_images_are_not_enlarged_for_a_backbone(side, size):
    assert left_to("densenet121", side)[0] == size


def test_each_part_of_the_preprocessing_can_be_given():
    of_backbone = (224, 0.95, MeanStd.imagenet)
    given = {"image_size": 96, "crop_pct": 0.5, "mean_std": MeanStd.none}
    for i, (name, value) in enumerate(given.items()):
        assert left_to("resnet50", **{name: value}) == (*of_backbone[:i], value, *of_backbone[i + 1 :])


def test_backbones_of_our_own_and_given_numbers_need_no_timm(config_of, monkeypatch):
    monkeypatch.setattr(encoders, "_timm", None)
    assert left_to("small") == (64, 1.0, MeanStd.half)
    assert config_of("finetune", "backbone=resnet18").recipe.image_size == 16


def test_a_normalisation_that_no_recipe_names_is_refused():
    clip = "vit_base_patch16_clip_224"
    with pytest.raises(
        InputError, match="another mean and standard deviation; expected one of imagenet, half, none"
    ):
        left_to(clip)
    assert left_to(clip, mean_std=MeanStd.half)[0] == 224


def test_presets_of_the_paper():
    paper = compose_request(["preset=paper"]).recipe
    assert preprocessing(preprocessed(paper, "inception_v3", LARGE)) == (299, 0.875, MeanStd.half)
    assert (paper.steps, paper.test_crops) == (20_000, Crops.central)
    chexpert = compose_request(["preset=chexpert"])
    assert preprocessing(preprocessed(chexpert.recipe, chexpert.backbone, LARGE)) == (
        224, 0.875, MeanStd.imagenet,
    )  # fmt: skip
    assert chexpert.recipe.lr_grid == [0.5, 0.8, 1.0, 1.3, 1.5, 2.0]
    assert (chexpert.backbone, chexpert.score, chexpert.recipe.test_crops) == (
        "densenet121", "auroc", Crops.ten,
    )  # fmt: skip
    assert chexpert.recipe.lr in (0.5, 0.8, 1, 1.3, 1.5, 2)
    assert chexpert.recipe.weight_decay in (0, 1e-4)


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [(1, (300, 2)), (3, (300, 2)), (4, (300, 4)), (63, (300, 32)), (64, (300, 64)), (1000, (300, 64)),
     (10_000, (3000, 64)), (66_667, (20_000, 64)), (1_281_167, (20_000, 64))],
)  # fmt: skip
def test_the_number_of_images_sets_the_length(num_images, expected):
    assert length(num_images) == expected


def test_zeros_are_resolved_before_the_digest(config_of):
    asked = "recipe.steps=0", "recipe.batch_size=0", "shots=4"
    config = config_of("finetune", *asked)
    assert (config.recipe.steps, config.recipe.batch_size) == (300, 32)  # ten classes
    given = config_of("finetune", "recipe.steps=300", "recipe.batch_size=32", "shots=4")
    assert config.digest == given.digest
    assert config_of("finetune", *asked, "recipe.steps=7").recipe.steps == 7


def test_no_limit_of_the_gradients_keeps_the_digest(config_of):
    config = config_of("finetune")
    assert "clip_grad" not in config.resolved()["recipe"]
    clipped = config_of("finetune", "recipe.clip_grad=1")
    assert clipped.resolved()["recipe"]["clip_grad"] == 1
    assert clipped.digest != config.digest


@pytest.mark.parametrize("largest", [0.0, 0.5, 100.0])
def test_a_step_with_clipped_gradients_by_hand(largest):
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.fill_(0)
        net.bias.fill_(0)
    optimizer = Recipe(clip_grad=largest, momentum=0.0, weight_decay=0.0).make_optimizer(net)
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)  # a resumed run clips, too
    (net(torch.tensor([[2.0, 2.0]])) * 1.0).sum().backward()  # gradient (2, 2, 1), of norm 3
    update(optimizer, 1.0)
    factor = 0.5 / 3 if largest == 0.5 else 1.0
    assert torch.cat([net.weight[0], net.bias]).tolist() == pytest.approx([-2 * factor, -2 * factor, -factor])


def test_logits_of_ten_crops_are_averaged():
    pixels = torch.randint(0, 256, (23, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    augment = Augment(14, crop_pct=14 / 16, mean_std="none")
    memory = MemoryPixels(pixels.to(torch.uint8), torch.ones(23))
    split = Split("toy/test", ("dark", "bright"), memory, torch.zeros(23).long(), torch.arange(23), augment)
    seen = []

    def predict(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        rate = x.mean((1, 2, 3)) - 127 / 255
        return torch.stack((0 * rate, rate**2 * rate.sign()), dim=1)

    method = SimpleNamespace(net=nn.Identity(), predict=predict)
    scores, logits = evaluate(method, split, batch_size=40, crops=Crops.ten)
    correct = logits.argmax(1) == split.labels
    assert seen == [40, 40, 40, 40, 40, 30]  # no more inputs at a time than images otherwise
    assert scores["num_images"] == len(correct) == 23
    crops = augment.ten(memory.pixels, memory.aspect).unflatten(0, (23, 10))
    expected = torch.stack([predict(crops[:, i]) for i in range(10)]).mean(0).argmax(1) == 0
    assert correct.tolist() == expected.tolist()
    assert 0 < expected.sum() < 23
    assert logits.tolist() != evaluate(method, split, batch_size=40)[1].tolist()


def test_only_the_test_takes_ten_crops(config_of, results, monkeypatch):
    counts = []
    ten = Augment.ten
    monkeypatch.setattr(Augment, "ten", lambda self, x, a: counts.append(len(x)) or ten(self, x, a))
    options = ("recipe.steps=2", "recipe.batch_size=400", "recipe.crop_pct=0.75")
    done = run_one(config_of("scratch", *options, "recipe.test_crops=ten"), results)
    assert sum(counts) == done["test"]["num_images"] == 797
    central = run_one(config_of("scratch", *options), results)
    assert sum(counts) == 797
    assert central["holdout"] == done["holdout"]
    assert central["test"]["loss"] != done["test"]["loss"]
