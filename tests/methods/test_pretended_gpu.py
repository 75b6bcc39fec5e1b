"""Every method on a pretended GPU: the same values as on a CPU, no mixed devices, and no waits in a step."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transferbench
from lives import AGAIN, COSTLY, REPLAY, SECOND, START, STEP, life
from pretended_gpu import Mismatch, pretended
from suited import SUITED
from transferbench.methods import catalog

PACKAGE = Path(transferbench.__file__).parent
TINY = ["backbone=tiny", "recipe.batch_size=16", "recipe.image_size=16", "recipe.steps=6"]
VARIANTS = [
    ("l2tl", "method.weights=uniform"),
    ("l2tl", "method.preset=code_svhn"),
    ("l2tl", "method.alpha=walk", "method.reward=auroc"),
    ("l2tl", "method.credit=present"),
    ("l2tl", "method.credit=gain"),
    ("linear_probe", "method.taps=3"),
    ("co_tuning", "method.relation=direct"),
    ("finetune", "recipe.optimizer=adam"),
    ("finetune", "bn=shared"),
    ("finetune", "bn=frozen"),
    ("finetune", "recipe.clip_grad=1", "recipe.class_weights=balanced"),
    ("finetune", "recipe.test_crops=ten", "recipe.crop_pct=0.875"),
]
ALLOWED = {  # waits of a step that have to be, by the file that asks for them
    "bss": "methods/bss.py",  # eigenvalues, for which CUDA's solver waits
    "surgical": "methods/surgical.py",  # which part the trials chose
    "selective_joint": "methods/selective_joint.py",  # a new round: which images are misclassified
}
SPECS = [(name,) for name in catalog.names()] + VARIANTS
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it is asked itself")


@pytest.mark.parametrize("spec", SPECS, ids=" ".join)
def test_a_method_lives_on_a_gpu_as_on_a_cpu(config_of, tmp_path, spec):
    name, *given = spec
    options = [*TINY, *COSTLY.get(name, ()), *SUITED.get(name, ()), *given]
    here = life(config_of(name, *options, "device=cpu"), tmp_path)
    with pretended(PACKAGE) as machine:
        there = life(
            config_of(name, *options, "device=cuda"), tmp_path, lambda n: setattr(machine, "phase", n)
        )
    assert there == pytest.approx(here, rel=2e-3, abs=2e-5, nan_ok=True)
    assert all(math.isfinite(value) for key, value in here.items() if "loss" in key)
    assert not [draw for draw in machine.draws if draw.phase in (START, REPLAY)]  # it starts as on a CPU
    if not catalog.load(name).closed_form:
        found = [w for w in machine.waits if w.phase in (STEP, AGAIN, SECOND)]
        waits = Counter((w.phase, w.what, w.where) for w in found if ALLOWED.get(name, "/") not in w.where)
        assert not waits, "\n".join(map(str, waits))


WRONG: dict[str, Callable[[torch.Tensor], Any]] = {
    "a sum with a tensor of the CPU": lambda x: x + torch.ones(3),
    "a stack": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "indices of the GPU": lambda x: torch.arange(3)[x.long()],
    "a generator of the CPU": lambda x: torch.rand(3, device="cuda", generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
    "another GPU": lambda x: x + torch.ones(3, device="cuda:1"),
}
WAITING: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "cpu": lambda x: x.cpu(),
    "a mask": lambda x: x[x > 0],
    "indices of the CPU": lambda x: x[torch.tensor([0])],
    "nonzero": lambda x: x.nonzero(),
    "memory that is not pinned": lambda x: torch.ones(3).to("cuda"),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(torch.diag(x)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cuda_refuses_is_refused(name):
    with pretended(PACKAGE, count=2):
        x = torch.zeros(3, device="cuda")
        with pytest.raises((Mismatch, TypeError)):
            WRONG[name](x)


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noted(name):
    with pretended(PACKAGE) as machine:
        WAITING[name](torch.ones(3, device="cuda"))
    assert len(machine.waits) == 1


def test_a_copy_to_the_host_is_late():
    with pretended(PACKAGE, count=2) as machine:
        x = torch.ones(2, device="cuda:1")
        host = torch.empty(2, pin_memory=True)
        host.copy_(x, non_blocking=True)
        event = torch.cuda.Event()
        event.record()  # on cuda:0, which is current
        event.synchronize()
        assert host.isnan().all()
        torch.cuda.synchronize("cuda:1")
        assert host.tolist() == [1, 1]
        assert not machine.waits
