"""`recipe.ema`: the average of the weights is evaluated and kept; training goes on with the weights."""

import pytest
import torch
from processes import LONG, figures
from transferbench.benchmarks.model.load import load_model
from transferbench.benchmarks.training import loop
from transferbench.benchmarks.training.run import run_one
from transferbench.methods import catalog
from transferbench.methods.components.moving_average import MovingAverage
from transferbench.methods.networks.network import evaluation_mode

COSTLY = {"l2t_ww": ["method.num_stages=2"]}

NAMES = [
    name
    for name in catalog.names()
    if name != "pretrain" and not (m := catalog.load(name)).closed_form and not m.averages_weights
]


def test_the_average_is_that_of_the_definition():
    module = torch.nn.BatchNorm1d(2)
    average = MovingAverage((*module.parameters(), *module.buffers()), 0.15)
    expected, values = torch.tensor(1.0), [3.0, -1.0, 0.5]
    for n, value in enumerate(values):
        decay = min(0.15, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        with torch.no_grad():
            module.weight.fill_(value)
            module.running_var.fill_(value)
        module.num_batches_tracked += 1
        average.update()
    with average.swapped():
        for tensor in (module.weight, module.running_var):
            torch.testing.assert_close(tensor.detach(), expected.expand(2))
        assert module.num_batches_tracked == 3
    assert module.weight.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_what_predicts_holds_the_average_of_what_is_trained(name, build):
    """And where nothing is averaged, with a decay of 0, nothing changes."""
    method = build(name, *COSTLY.get(name, []))
    method.prepare()
    modes = [m.training for m in method.net.modules()]
    with evaluation_mode(method.net):
        averages = [MovingAverage(method.predicting(), decay) for decay in (0.0, 0.5)]
    assert [m.training for m in method.net.modules()] == modes
    for t in range(3):
        torch.manual_seed(t)
        method.step(t)
        for average in averages:
            average.update()
    x, _ = next(method.target.split.batches(8))
    with evaluation_mode(method.net), torch.no_grad():
        trained = method.predict(x)
        with averages[0].swapped():
            assert torch.equal(method.predict(x), trained)
        with averages[1].swapped():
            averaged = method.predict(x)
            assert torch.allclose(method.predictor()(x), averaged, atol=1e-5)
        assert torch.equal(method.predict(x), trained)
    assert not torch.equal(averaged, trained)
    storage = {t.data_ptr() for t in averages[1].trained}
    assert all(p.data_ptr() in storage for p in method.net.encoder.parameters() if p.requires_grad)


def test_a_run_that_is_broken_off_has_the_same_average(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SHARE", 0)
    options = (*LONG, "checkpoint_minutes=1e-9", "recipe.ema=0.9", "keep=all")
    config = config_of("finetune", *options)
    with monkeypatch.context() as patch:
        finetune, step = catalog.load("finetune"), catalog.load("finetune").step
        patch.setattr(finetune, "step", lambda self, t: step(self, t) if t != 26 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_one(config, tmp_path / "broken")
    broken, whole = (run_one(config, tmp_path / name) for name in ("broken", "whole"))
    assert figures(broken) == figures(whole)
    plain = run_one(config_of("finetune", *LONG), tmp_path / "off")
    assert plain["curve"][-1]["train"] == whole["curve"][-1]["train"]
    assert plain["curve"][-1]["holdout"] != whole["curve"][-1]["holdout"]
    kept = [load_model(config.folder(tmp_path / name), "cpu") for name in ("broken", "whole")]
    states = [model.net.state_dict() for model in kept]
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_the_average_of_surgical_fine_tuning_begins_anew_with_each_trial(config_of, tmp_path, monkeypatch):
    seen, starts, update = [], [], MovingAverage.update

    def noted(average: MovingAverage) -> None:
        seen.append(average.num_steps)
        if average.num_steps == 0:
            starts.append(torch.cat([mean.flatten() for mean in average.mean]))
        update(average)

    monkeypatch.setattr(MovingAverage, "update", noted)
    given = ("recipe.ema=0.9", "recipe.steps=12", "method.trial_share=0.5", "recipe.lr=0.1")
    run_one(config_of("surgical", *given), tmp_path)
    assert seen == [*(0, 1) * 3, *range(6)]
    assert all(torch.equal(start, starts[0]) for start in starts)
    assert starts[0].abs().sum() > 0
