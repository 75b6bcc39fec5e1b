"""Corrections of arithmetic: they rename the runs that they change, and no other."""

import pytest
from transferbench.benchmarks.config.corrections import of_method

RESNET, VIT = "backbone=resnet10t", "backbone=vit_tiny_patch16_224"


def corrections(config):
    return of_method(config.method, config.settings, config.recipe, config.backbone)


@pytest.mark.parametrize(
    ("method", "without", "changed"),
    [
        ("vpt", ["method.deep=false", VIT], ["method.deep=false", VIT, "recipe.layer_decay=0.7"]),
        ("surgical", ["method.part=1", "recipe.ema=0.9"], ["method.part=0"]),
        ("head2toe", [], ["recipe.ema=0.9"]),
        ("meta_weights", ["recipe.ema=0.9"], ["recipe.head_lr_factor=2"]),
        ("meta_weights", [RESNET], ["recipe.clip_grad=1"]),
        ("l2sp", [RESNET], [VIT]),
        ("l2sp", ["method.kernels_only=false", VIT], [VIT]),
        ("ssf", [RESNET], ["backbone=resnetv2_50x1_bit"]),
    ],
)
def test_only_the_runs_that_a_correction_changes_have_another_name(config_of, method, without, changed):
    assert corrections(config_of(method, *without)) == []
    assert len(corrections(config_of(method, *changed))) == 1


def test_a_correction_that_is_older_keeps_its_place(config_of):
    config = config_of("surgical", "method.part=0", "recipe.ema=0.9")
    assert corrections(config) == [
        "each trial has its moving average",
        "each holdout image judges a part once",
    ]
