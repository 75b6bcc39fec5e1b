"""MixUp, CutMix and label smoothing: every method trains with them or says why not."""

import numpy as np
import pytest
import torch
from torch.nn import CrossEntropyLoss
from transferbench import InputError
from transferbench.benchmarks.launch.plan import why_incompatible
from transferbench.benchmarks.launch.start import without_effect
from transferbench.benchmarks.training.pretraining import generalist
from transferbench.benchmarks.training.problem import build_problem
from transferbench.methods import catalog, metrics
from transferbench.methods.metrics import classification_loss
from transferbench.methods.recipe import TARGET_ONLY, Recipe

NAMES = [name for name in catalog.names() if name != "pretrain"]
MIXED = ("recipe.mixup=0.5", "recipe.cutmix=1.0", "recipe.label_smoothing=0.1")
ALL = (*MIXED, "recipe.augment=trivial", "recipe.color_jitter=0.4", "recipe.random_erasing=0.25")
COSTLY = {"l2t_ww": ["method.num_stages=2"]}
REFUSING = {"bi_tuning", "co_tuning"}


def test_the_loss_of_probabilities_is_torchs():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20, 5, generator=generator)
    soft = torch.rand(20, 5, generator=generator).softmax(1)
    ones, weight_C = torch.ones(5), torch.arange(1.0, 6.0)
    torch.testing.assert_close(classification_loss(z, soft, weight_C=ones), CrossEntropyLoss()(z, soft))
    y = torch.arange(20) % 5
    hard = torch.nn.functional.one_hot(y).float()
    own, known = (classification_loss(z, labels, weight_C=weight_C) for labels in (hard, y))
    torch.testing.assert_close(own, known)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_with_it_or_says_why_not(name, config_of, tmp_path, monkeypatch):
    """Its first loss is another one; no loss takes probabilities for several labels of an image."""
    configs = [config_of(name, *COSTLY.get(name, []), *more) for more in ((), MIXED)]
    if why_incompatible(configs[:1], tmp_path):  # not on this network at all
        return
    reasons = [reason for _, reason in why_incompatible(configs[1:], tmp_path).values()]
    if name in REFUSING:
        said = "it needs the class of each training image, and recipe.mixup makes labels probabilities"
        assert reasons == [said]
        return
    assert reasons == []
    monkeypatch.setattr(metrics.F, "binary_cross_entropy_with_logits", None)
    losses = []
    for config in configs:
        method = catalog.load(name)(build_problem(config).problem, config.settings)
        method.prepare()
        torch.manual_seed(0)
        losses.append({key: value.item() for key, value in method.step(0).items()})
        assert np.isfinite(list(losses[-1].values())).all()
    assert (losses[0] != losses[1]) != catalog.load(name).closed_form


@pytest.mark.parametrize("setting", ALL)
def test_a_setting_changes_a_digest_only_if_it_is_given(setting, config_of):
    name, _, value = setting.removeprefix("recipe.").partition("=")
    plain, changed = config_of("finetune"), config_of("finetune", setting)
    assert name not in plain.resolved()["recipe"]
    assert str(changed.resolved()["recipe"][name]) == value
    assert plain.digest != changed.digest
    assert generalist(plain).digest == generalist(changed).digest  # of the target only


def test_the_source_and_the_holdout_stay_as_they_are(config_of):
    built = build_problem(config_of("finetune", *ALL))
    problem = built.problem
    assert problem.target.mixing
    assert problem.target.augment.policy == "trivial"
    for split in (problem.source, problem.holdout, built.curve, built.test):
        assert split.mixing is None
        assert split.augment.policy == "none"
        assert not split.augment.random_erasing


def test_settings_without_effect_are_named(config_of):
    configs = [config_of(name, "recipe.mixup=0.5", "recipe.ema=0.9") for name in ("knn", "finetune")]
    assert without_effect(configs) == [
        "recipe.mixup=0.5: no effect on k nearest neighbors, which is not trained by steps",
        "recipe.ema=0.9: no effect on k nearest neighbors, which is not trained by steps",
    ]
    assert list(TARGET_ONLY) == [n for n in Recipe.__dataclass_fields__ if n in TARGET_ONLY]


def test_pairs_need_an_even_slice(config_of, tmp_path):
    config = config_of("finetune", "recipe.mixup=1", "recipe.batch_size=6", "source_recipe.batch_size=6")
    ((_, reason),) = why_incompatible([config], tmp_path, processes=2).values()
    assert reason == "recipe.batch_size=6 on 2 processes gives no pairs to mix"


@pytest.mark.parametrize("setting", MIXED)
def test_images_of_several_labels_are_refused(setting, config_of, tmp_path):
    from packed_trees import SPLIT, written

    place = written(tmp_path, SPLIT)
    rows = "".join(f"{f},a|b,{f.split('/')[0]}\n" for f in SPLIT)
    (place / "list.csv").write_text(f"image,label,split\n{rows}")
    with pytest.raises(InputError, match=f"{setting}: the target's images have several labels; expected 0"):
        config_of("finetune", f"target={place / 'list.csv'}", "source=glyphs", setting)
