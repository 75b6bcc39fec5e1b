"""Every method on every kind of network: it trains and predicts, or says in one line why not."""

import pytest
import torch
from network_matrix import NETWORKS, posed, reason, table
from transferbench.methods import catalog

SHORT = {  # else they take long
    "l2t_ww": ("method.num_stages=2",),
    "leap": ("method.num_images=80", "method.task_steps=2", "method.task_batch=10"),
}
NAMES = [name for name in catalog.names() if name != "pretrain"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_predicts_or_says_why_not(name, network):
    if why := reason(name, network):
        assert "\n" not in why
        assert len(why) < 110
        return
    built, settings = posed(name, network, *SHORT.get(name, ()))
    method = catalog.load(name)(built.problem, settings)
    method.prepare()
    for t in range(1 if method.closed_form else 3):
        torch.manual_seed(t)
        method.step(t)
    method.net.eval()
    x, _ = next(built.test.batches(4))
    with torch.no_grad():
        predictor = method.predictor()
        logits = method.predict(x)
        assert torch.isfinite(logits).all()
        assert logits.shape == (4, built.problem.target.num_classes)
        assert torch.allclose(predictor(x), logits, atol=1e-4)


def test_the_table_has_every_method_and_reason():
    text = table()
    assert sum(line.startswith("| `") for line in text.splitlines()) == len(NAMES)
    assert "- `vpt`: it needs a plain vision transformer" in text
