"""Divide the weights of an encoder by depth."""

import re
from collections import defaultdict
from typing import Any

import numpy as np
from torch import nn

NUMBERED = re.compile(r"\D*\d+")  # the start of a name, to its first number


def by_depth(encoder: Any, most: int) -> list[list[nn.Parameter]]:
    """Return the weights of an encoder in at most `most` parts, from the images to the features.

    A part has whole stages, or blocks of a transformer, one after another, and about as many as any other:
    the groups of timm's `group_matcher`, or else those of the first number in the names of weights. A last
    norm belongs to the stage before it.
    """
    if hasattr(encoder, "group_matcher"):
        from timm.models import group_parameters

        groups = list(group_parameters(encoder, encoder.group_matcher(coarse=True)).values())
    else:
        by_number: dict[str, list[str]] = defaultdict(list)
        for name, _ in encoder.named_parameters():
            number = NUMBERED.match(name)
            by_number[number[0] if number else ""].append(name)
        groups = list(by_number.values())
    weights = dict(encoder.named_parameters())
    if len(groups) > 1 and all(weights[name].ndim < 2 for name in groups[-1]):
        groups[-2:] = [[*groups[-2], *groups[-1]]]
    cut = np.array_split(np.arange(len(groups)), min(most, len(groups)))
    return [[weights[name] for i in part for name in groups[i]] for part in cut]
