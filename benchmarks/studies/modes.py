"""How each method runs in bf16 and through torch.compile, on a CPU, for a few steps.

`python -m transferbench.benchmarks.studies.modes target=PATH source=PATH` prints a Markdown table, one row a
method. Settings are those of `bench`. For bf16: how many convolutions and linear layers run in it, and how
far the losses are from those in fp32. For torch.compile: how many graphs it makes, how many of them after the
second step, and how often it has to leave a graph (a break). The graphs are not made into kernels, which
would take minutes; what they are is the same.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from ... import InputError
from ...methods import catalog
from ...methods.base import Incompatible, Method
from ...terminal import configure_output
from ..speed.build import build

STEPS, WARM_UP = 6, 2
SMALL = ("backbone=resnet18", "recipe.image_size=32", "recipe.batch_size=16", "recipe.steps=100")
SHORT = ("source_recipe.steps=6", "source_recipe.batch_size=16", "protocol=holdout")
HEAD = ("method", "layers in bf16", "largest difference of a loss", "graphs", "of them later", "breaks")


def main() -> None:
    """Print the table, a line as soon as it is known."""
    configure_output()
    about = (__doc__ or "").split("\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(
        prog="python -m transferbench.benchmarks.studies.modes", description=about
    )
    parser.add_argument(
        "settings", nargs="*", help="of a bench, as target=PATH; methods=NAME,NAME for some rows"
    )
    words = parser.parse_args().settings
    chosen = [word.removeprefix("methods=").split(",") for word in words if word.startswith("methods=")]
    names = chosen[-1] if chosen else [name for name in catalog.names() if name != "pretrain"]
    given = [*SMALL, *SHORT, *(word for word in words if not word.startswith("methods="))]
    print("| " + " | ".join(HEAD) + " |\n| --- |" + " ---: |" * (len(HEAD) - 1))
    for name in names:
        print("| " + " | ".join([f"`{name}`", *line(name, given)]) + " |", flush=True)


def line(name: str, given: Sequence[str]) -> list[str]:
    """Return the cells of a method after its name, or why it does not run."""
    try:
        exact = losses(build(name, *given)[0])
    except (Incompatible, InputError) as reason:
        return [f"does not run: {reason}", *[""] * (len(HEAD) - 2)]
    return [*in_bf16(name, given, exact), *compiled(name, given)]


def losses(method: Method[Any], after: Callable[[int], None] = lambda t: None) -> list[float]:
    """Prepare a method and return the losses of its first steps; `after` is called after each."""
    method.prepare()
    found = []
    for t in range(STEPS):
        torch.manual_seed(t)
        found.append(method.step(t)["loss"].item())
        after(t)
    return found


def in_bf16(name: str, given: Sequence[str], exact: Sequence[float]) -> list[str]:
    """Return the share of layers that run in bf16, and the largest relative difference from `exact`."""
    try:
        method = build(name, *given, "recipe.precision=bf16")[0]
    except (Incompatible, InputError) as reason:
        return [f"refused: {reason}", ""]
    with counted_layers() as kinds:
        rounded = losses(method)
    pairs = zip(rounded, exact, strict=True)
    difference = max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)
    return [f"{kinds[torch.bfloat16]} of {kinds.total()}", f"{100 * difference:.2g} %"]


@contextmanager
def counted_layers() -> Iterator[Counter[torch.dtype]]:
    """Count the convolutions and linear layers that run inside, by the type of their output."""
    kinds: Counter[torch.dtype] = Counter()

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            kinds[output.dtype] += 1

    hook = register_module_forward_hook(note)
    try:
        yield kinds
    finally:
        hook.remove()


def compiled(name: str, given: Sequence[str]) -> list[str]:
    """Return the numbers of graphs, of those after the warm-up, and of breaks; or why it is refused."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    early: list[int] = []

    def note(t: int) -> None:
        if t < WARM_UP:
            early.append(counters["stats"]["unique_graphs"])

    with patch("torch.compile", partial(torch.compile, backend="eager")):
        try:
            losses(build(name, *given, "recipe.compile=true")[0], note)
        except (Incompatible, InputError) as reason:
            return [f"refused: {reason}", "", ""]
    graphs = counters["stats"]["unique_graphs"]
    if not graphs:
        return ["not compiled", "", ""]
    return [str(graphs), str(graphs - early[-1]), str(sum(counters["graph_break"].values()))]


if __name__ == "__main__":
    main()
