"""What learns the value of source images: its network, what that sees, and its loss (see DVRL).

Shape letters: B images of a batch, S source classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PENALTY, LOW, HIGH = 1e3, 0.1, 0.9  # keep the mean chance between these


def estimator(num_source: int, hidden: int) -> nn.Sequential:
    """Make the network from what is seen of an image [B,3S] to the logit of its chance [B,1]."""
    layers = [nn.Linear(3 * num_source, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def seen(logits: Tensor, y: Tensor) -> Tensor:
    """Put together probabilities, the label, and how far the former are from the latter [B,3S]."""
    chance, label = logits.softmax(1), F.one_hot(y, logits.shape[1]).to(logits.dtype)
    return torch.cat((chance, label, (label - chance).abs()), dim=1)


def value_loss(chance_B: Tensor, taken_B: Tensor, advantage: Tensor) -> Tensor:
    """Give what the estimator descends: REINFORCE, and a wall around chances that leave no choice."""
    log_prob = -F.binary_cross_entropy(chance_B, taken_B, reduction="sum")
    mean = chance_B.mean()
    return -advantage * log_prob + PENALTY * ((mean - HIGH).relu() + (LOW - mean).relu())
