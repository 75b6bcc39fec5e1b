"""The one evaluator: every score of a method on a split, and which images were right."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..datasets.base import Split
from ..methods.base import Method
from ..methods.metrics import SCORES


def evaluate(method: Method, split: Split, batch_size: int) -> tuple[dict[str, float], np.ndarray]:
    """Judge a method on all images of a split, the last partial batch too.

    Returns: scores in [0,1] with `loss` and `num_images`, and which images were right [N].
    """
    logits, labels = [], []
    with evaluation_mode(method.net), torch.no_grad():
        for x, y in split.batches(batch_size):
            logits.append(method.predict(x))
            labels.append(y)
    z, y = torch.cat(logits), torch.cat(labels)
    scores = {name: score(z, y).item() for name, score in SCORES.items()}
    correct = (z.argmax(1) == y).cpu().numpy()
    return {**scores, "loss": F.cross_entropy(z, y).item(), "num_images": len(y)}, correct


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each back as it was."""
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
