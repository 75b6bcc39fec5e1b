"""Every stage of every method begins with a low learning rate."""

from collections import defaultdict

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transferbench.methods import catalog
from transferbench.methods.recipe import Recipe

STEPS = 10
OF_STEPS = ("recipe.schedule=warmup_cosine", "recipe.warmup_fraction=0.4", f"recipe.steps={STEPS}")
# Optimizers that take turns; the others begin with the first step
STAGES = {"lp_ft": 2, "wise_ft": 2, "soup": 2, "head2toe": 2}
SHORT = {"l2t_ww": ["method.num_stages=2"], "soup": ["method.num_models=1", "method.probe_share=0.5"]}
TRAINED = [name for name in catalog.names() if name != "pretrain" and not catalog.load(name).closed_form]


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_rate_of_each_stage_is_low(build, monkeypatch, name):
    of_recipe = set()
    make = Recipe.make_optimizer

    def made(*given, **named):
        optimizer = make(*given, **named)
        of_recipe.add(id(optimizer))
        return optimizer

    monkeypatch.setattr(Recipe, "make_optimizer", made)
    method = build(name, *OF_STEPS, "recipe.batch_size=8", *SHORT.get(name, []))
    rates = defaultdict(list)

    def note(optimizer, *_):
        if id(optimizer) in of_recipe:
            rates[id(optimizer)].append(optimizer.param_groups[0]["lr"])

    hook = register_optimizer_step_pre_hook(note)
    try:
        for t in range(STEPS):
            torch.manual_seed(t)
            method.step(t)
    finally:
        hook.remove()
    assert len(rates) >= STAGES.get(name, 1)
    begins = [(own[0], max(own)) for own in rates.values()]
    assert all(first <= 0.5 * largest for first, largest in begins)
