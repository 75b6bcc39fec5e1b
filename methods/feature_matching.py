"""Matching a student's maps to a teacher's: which pairs of stages, and how much each channel and pair counts.

Shape letters: B images, C channels of the teacher's map, D of the student's, h, w places of the student's.
"""

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pairing(StrEnum):
    """Which stages of the teacher are matched with which of the student."""

    all_all = "all_all"
    one_to_one = "one_to_one"  # of two depths: counted from the last
    single = "single"  # the last of each

    def pairs(self, num_teacher: int, num_student: int) -> list[tuple[int, int]]:
        """List the pairs (m, n) of a teacher's and a student's stage."""
        if self is Pairing.all_all:
            return [(m, n) for m in range(num_teacher) for n in range(num_student)]
        count = 1 if self is Pairing.single else min(num_teacher, num_student)
        return [(num_teacher - i, num_student - i) for i in range(count, 0, -1)]


class WhatWhere(nn.Module):
    """For each pair, what channels count, and where: how much the pair does; of each image.

    At first all channels of a map count the same, and pairs about one.

    Args:
        widths: C of the teacher's map in each pair.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.what, self.where = nn.ModuleList(), nn.ModuleList()
        for C in widths:
            what, where = nn.Linear(C, C), nn.Linear(C, 1)
            nn.init.zeros_(what.weight)
            nn.init.zeros_(what.bias)
            nn.init.ones_(where.bias)
            self.what.append(what)
            self.where.append(where)

    def forward(self, teacher_maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Teacher's maps [B,C,h,w], one a pair, to channel weights [B,C] and pair weights [B], 0 to 6."""
        weights = []
        for what, where, map_ in zip(self.what, self.where, teacher_maps, strict=True):
            mean_BC = map_.mean((2, 3))
            weights.append((what(mean_BC).softmax(1), F.relu6(where(mean_BC))[:, 0]))
        return weights


def connectors(widths: list[tuple[int, int]]) -> nn.ModuleList:
    """Make what brings a student's map to a teacher's channels, for each pair of widths C, D."""
    return nn.ModuleList(nn.Conv2d(D, C, 1) for C, D in widths)


def matching_loss(
    teacher_maps: Sequence[Tensor],
    student_maps: Sequence[Tensor],
    bridges: nn.ModuleList,
    weights: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Sum over the pairs the weighted squared distance of maps, in the mean over places and images.

    Args:
        teacher_maps: [B,C,·,·], one a pair; resized to the student's.
        student_maps: [B,D,h,w], one a pair.
        bridges: `connectors`.
        weights: of channels [B,C] and of the pair [B].
    """
    losses = []
    for teacher, student, bridge, (what_BC, where_B) in zip(
        teacher_maps, student_maps, bridges, weights, strict=True
    ):
        if teacher.shape[2:] != student.shape[2:]:
            teacher = F.interpolate(teacher, size=student.shape[2:], mode="bilinear")
        distance_BC = (teacher - bridge(student)).square().mean((2, 3))
        losses.append((where_B * (what_BC * distance_BC).sum(1)).mean())
    return torch.stack(losses).sum()
