"""Mean features of classes, and the selection of classes by a score.

Shape letters: C classes, F features.
"""

import torch
from torch import Tensor

from ... import InputError
from ...datasets.base import Split
from ..networks.network import Network


def class_means(net: Network, split: Split, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return the mean features of each class, in evaluation mode on central crops.

    Returns: means [C,F], zero for a class without an image, and numbers of images [C]; float64 on the CPU.

    Raises: InputError if images have several labels.
    """
    if split.multi_label:
        raise InputError(f"the images of {split.name} have several labels; expected one class each")
    total = torch.zeros(())
    was_training = net.training
    net.eval()
    with torch.no_grad():
        for x, y in split.batches(batch_size):
            total = total + class_sums(net.features(x), y, split.num_classes)
    net.train(was_training)
    return means_of(total, split)


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the sum of the features [B,F] of each class [C,F]; float64 on the CPU."""
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.double)
    return sums.index_add(0, labels.cpu(), features.cpu().double())


def means_of(sums_CF: Tensor, split: Split) -> tuple[Tensor, Tensor]:
    """Return means [C,F], zero for a class without an image, and numbers of images [C], given sums."""
    count = torch.bincount(split.labels.cpu(), minlength=split.num_classes)
    return sums_CF / count.clamp(min=1)[:, None], count.double()


def best_classes(score_S: Tensor, share: float) -> Tensor:
    """Return 1 for the share of classes with the highest finite scores, at least one, else 0 [S]."""
    num_kept = max(1, round(share * len(score_S)))
    kept = score_S.argsort(descending=True, stable=True)[:num_kept]
    weight_S = torch.zeros(len(score_S))
    weight_S[kept[score_S[kept].isfinite()]] = 1
    return weight_S
