"""`recipe.class_weights=balanced`: the weighted loss is torch's, and every method trains with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import CrossEntropyLoss
from transferbench import InputError
from transferbench.benchmarks.launch.start import without_effect
from transferbench.benchmarks.training.problem import build_problem
from transferbench.methods import catalog
from transferbench.methods.metrics import balanced_weights, classification_loss

BALANCED = "recipe.class_weights=balanced"
NAMES = [name for name in catalog.names() if name != "pretrain"]


def test_the_weights_give_every_class_the_same_sum():
    y = torch.tensor([0] * 6 + [1] * 2 + [3])
    weight_C = balanced_weights(y, 5)
    assert weight_C.tolist() == [0.5, 1.5, 0, 3, 0]
    sums = [weight_C[y[y == c]].sum().item() for c in (0, 1, 3)]
    assert sums == [3, 3, 3]


def test_the_loss_is_the_weighted_cross_entropy_of_torch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 5, generator=generator, dtype=torch.double, requires_grad=True)
    y = torch.randint(0, 5, (40,), generator=generator)
    weight_C = balanced_weights(y, 5).double()
    own, known = (
        classification_loss(logits, y, weight_C=weight_C),
        CrossEntropyLoss(weight=weight_C)(logits, y),
    )
    torch.testing.assert_close(own, known)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (own, known)))
    equal = classification_loss(logits, y, weight_C=torch.ones(5, dtype=torch.double))
    torch.testing.assert_close(equal, classification_loss(logits, y))


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_with_it(name, config_of):
    """On a target with uneven classes, the first loss is another one, unless the method has no loss."""
    losses = []
    for more in ([], [BALANCED]):
        config = config_of(name, *more)
        problem = build_problem(config).problem
        rows = torch.nonzero((problem.target.labels > 4) | (torch.arange(len(problem.target)) % 3 == 0))[:, 0]
        target = problem.target.subset(rows)
        if more:
            assert target.weight_C is not None
            target = replace(target, weight_C=balanced_weights(target.labels, target.num_classes))
        method = catalog.load(name)(replace(problem, target=target), config.settings)
        method.prepare()
        torch.manual_seed(0)
        losses.append({key: value.item() for key, value in method.step(0).items()})
        assert np.isfinite(list(losses[-1].values())).all()
    assert (losses[0] != losses[1]) == catalog.load(name).weighs_classes


def test_a_classifier_of_frozen_features_matches_scikit_learn(config_of):
    linear_model = pytest.importorskip("sklearn.linear_model")
    config = config_of("logistic", BALANCED, "method.inverse_penalty=1")
    method = catalog.load("logistic")(build_problem(config).problem, config.settings)
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0] * 30 + [1] * 10 + [2] * 5)
    features = torch.randn(45, 6, generator=generator) + labels[:, None]
    method.head, method.target.width = torch.nn.Linear(6, 3), 6
    weight_CF, bias_C = next(method.path(features, labels, [1.0]))
    center, scale = features.mean(0), (features - features.mean(0)).square().mean().sqrt()
    known = linear_model.LogisticRegression(C=1.0, class_weight="balanced", tol=1e-8, max_iter=10_000)
    known.fit(((features - center) / scale).numpy(), labels.numpy())
    own = (features @ weight_CF.T + bias_C).softmax(1).detach().numpy()
    expected = known.predict_proba(((features - center) / scale).numpy())
    np.testing.assert_allclose(own, expected, atol=0.01)


def test_the_setting_changes_a_digest_only_if_it_is_given(config_of):
    plain, weighted = config_of("finetune"), config_of("finetune", BALANCED)
    assert "class_weights" not in plain.resolved()["recipe"]
    assert weighted.resolved()["recipe"]["class_weights"] == "balanced"
    assert build_problem(plain).problem.target.weight_C is None


def test_methods_without_a_loss_are_named(config_of):
    configs = [config_of(name, BALANCED) for name in ("knn", "finetune", "ncm")]
    lines = without_effect(configs)
    assert len(lines) == 2
    assert all(line.startswith("recipe.class_weights=balanced: no effect on ") for line in lines)
    assert without_effect([config_of("knn")]) == []


def test_images_of_several_labels_are_refused(config_of, tmp_path):
    from packed_trees import SPLIT, written

    place = written(tmp_path, SPLIT)
    rows = "".join(f"{f},a|b,{f.split('/')[0]}\n" for f in SPLIT)
    (place / "list.csv").write_text(f"image,label,split\n{rows}")
    with pytest.raises(InputError, match="class_weights=balanced: the target's images have several labels"):
        config_of("finetune", f"target={place / 'list.csv'}", "source=glyphs", BALANCED)
