"""What a finished model takes: parameters of its own, bytes of its own, and work per prediction."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ...methods.base import Method, Problem
from ...methods.networks.predictor import Predictor
from .flops import flop_counter


def model_size(method: Method, problem: Problem) -> dict[str, Any]:
    """Return the record's field `size` of a method after its last step.

    Returns: `trained_parameters`, the number of parameters that the target has for itself; `target_bytes`,
        the bytes that one more target takes beside the shared start: these parameters, and buffers that
        differ from the start; and `prediction_flops`, of one image with one crop, a multiplication and an
        addition counted as two.
    """
    predictor = method.predictor()
    own = [t for t in method.predicting() if t.requires_grad]
    return {
        "trained_parameters": sum(p.numel() for p in own),
        "target_bytes": sum(_bytes(t) for t in chain(own, _own_buffers(predictor, problem))),
        "prediction_flops": _flops(predictor, problem),
    }


def _own_buffers(predictor: Predictor, problem: Problem) -> list[Tensor]:
    """Return the buffers outside of the encoder, and those of the encoder that training has changed."""
    start = dict(problem.network().encoder.named_buffers(prefix="encoder"))
    return [
        buffer
        for name, buffer in predictor.named_buffers()
        if not (name in start and torch.equal(buffer, start[name]))
    ]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _flops(predictor: Predictor, problem: Problem) -> int:
    x, _ = next(iter(problem.target.batches(1)))
    with flop_counter()(display=False) as counter, torch.no_grad():
        predictor(x)
    return int(counter.get_total_flops())
