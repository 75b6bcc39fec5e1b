"""Scores against scikit-learn's."""

import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import Tensor
from transferbench.methods.metrics import SCORES, auroc, mean_per_class, top1, top5


def sample(num_classes: int, seed: int = 0, size: int = 200) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, num_classes, (size,), generator=generator)
    y[:num_classes] = torch.arange(num_classes)
    logits = torch.randn(size, num_classes, generator=generator)
    return logits + torch.eye(num_classes)[y], y


def area(logits: Tensor, y: Tensor) -> float:
    score = log_softmax(logits.double().numpy(), axis=1)
    present = [c for c in range(logits.shape[1]) if 0 < (y == c).sum() < len(y)]
    return sum(roc_auc_score((y == c).numpy(), score[:, c]) for c in present) / len(present)


@pytest.mark.parametrize("num_classes", [2, 7, 30])
def test_accuracies(num_classes):
    logits, y = sample(num_classes)
    assert top1(logits, y).item() == pytest.approx(accuracy_score(y, logits.argmax(1)))
    assert mean_per_class(logits, y).item() == pytest.approx(balanced_accuracy_score(y, logits.argmax(1)))


@pytest.mark.parametrize("num_classes", [6, 30])
def test_top5(num_classes):
    logits, y = sample(num_classes)
    expected = top_k_accuracy_score(y, logits, k=5, labels=range(num_classes))
    assert expected < 1
    assert top5(logits, y).item() == pytest.approx(expected)


def test_top5_of_fewer_than_five_classes_is_one():
    assert top5(*sample(3)).item() == 1


def test_classes_without_an_image_do_not_count():
    logits, y = sample(8)
    y[(y == 2) | (y == 7)] = 1
    predicted = logits.argmax(1)
    expected = recall_score(y, predicted, labels=y.unique(), average="macro", zero_division=0)
    assert mean_per_class(logits, y).item() == pytest.approx(expected)
    assert auroc(logits, y).item() == pytest.approx(area(logits, y))


@pytest.mark.parametrize("num_classes", [2, 3, 12])
def test_auroc(num_classes):
    logits, y = sample(num_classes)
    assert 0.6 < auroc(logits, y).item() == pytest.approx(area(logits, y))


def test_ties_count_half():
    logits, y = sample(4, size=40)
    logits = logits.repeat(3, 1)  # equal scores with equal and with other labels
    y = torch.cat((y, y.flip(0), y.roll(1)))
    assert auroc(logits, y).item() == pytest.approx(area(logits, y))
    assert auroc(torch.zeros(6, 2), torch.tensor([0, 1, 1, 0, 1, 1])).item() == 0.5


def test_confident_logits_are_told_apart():
    logits = torch.tensor([[0.0, 30.0], [0.0, 40.0], [0.0, 50.0]])  # all of probability 1 in float32
    assert auroc(logits, torch.tensor([0, 1, 1])).item() == 1
    assert auroc(logits, torch.tensor([1, 0, 0])).item() == 0


def test_a_batch_of_one_class_gives_the_area_of_a_guess():
    assert auroc(torch.randn(9, 3), torch.full((9,), 2)).item() == 0.5


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_a_float_scalar_that_the_order_of_images_leaves_alone(name):
    logits, y = sample(6)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    score = SCORES[name](logits, y)
    assert score.shape == ()
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(SCORES[name](logits[order], y[order]).item())
