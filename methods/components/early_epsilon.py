"""Adam as TensorFlow has it: epsilon is added before the second moment is corrected for its start at zero.

Source: Kingma, Ba: Adam (arXiv 1412.6980), end of section 2, where the constant is called epsilon hat.
TensorFlow 1 (`tf.train.AdamOptimizer`, 1e-8) and Keras (1e-7) follow it, torch follows algorithm 1.
"""

import math
from typing import Any

import torch


def add_epsilon_early(optimizer: torch.optim.Adam, epsilon: float) -> None:
    """Make an Adam add `epsilon` to the root of the second moment before it is corrected.

    Step t of torch divides by sqrt(v / (1 - b^t)) + eps. With eps = epsilon / sqrt(1 - b^t) this is
    (sqrt(v) + epsilon) / sqrt(1 - b^t). The count of steps is kept in the groups, which checkpoints hold, and
    starts anew where the moments do. A parameter that is trained later takes the count of its group.
    """
    for group in optimizer.param_groups:
        group["num_steps"] = 0

    def set_epsilon(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            group["num_steps"] = group["num_steps"] + 1 if optimizer.state else 1
            group["eps"] = epsilon / math.sqrt(1 - group["betas"][1] ** group["num_steps"])

    optimizer.register_step_pre_hook(set_epsilon)
