"""`screen`: score backbones and sources on the labeled images of a target, before anything is trained."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from ...datasets.download import locate
from ..launch import pool
from ..screening import candidates as cands
from ..screening.measure import check_folds, scored
from ..training.problem import build_problem


def screen(overrides: Sequence[str]) -> int:
    request, backbones, sources, rest = cands.request_of(overrides)
    console = Console(highlight=False, soft_wrap=True)
    locate.set_places(request.data.root, request.data.mirror)
    cands.require(cands.data_of(request, sources))
    cands.check_classes(request)
    torch.set_num_threads(pool.num_threads(request.threads, request.device, 1))
    for candidate in cands.encoders(backbones, sources, rest):
        problem = build_problem(candidate.config).problem
        check_folds(problem)
        t=time.time()
        found = scored(problem, problem.network().requires_grad_(False).eval())
        print(candidate.label, len(problem.target), problem.recipe.image_size, found, time.time()-t)
    return 0
