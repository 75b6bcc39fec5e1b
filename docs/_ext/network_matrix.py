"""Which method runs on which network: asked of the methods, on small forms of networks that people choose."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from transferbench.benchmarks.config.compose import compose_request, settings_of
from transferbench.benchmarks.config.resolve import run_config
from transferbench.benchmarks.config.schema import Request
from transferbench.benchmarks.training.problem import BuiltProblem, build_problem
from transferbench.methods import catalog
from transferbench.methods.base import Method

NARROW = ("depth=2", "embed_dim=48", "num_heads=3")  # of a vision transformer
NETWORKS = {  # options that make each small, and the side of its images in pixels
    "resnet18": (("layers=[1,1,1,1]", "channels=[8,16,24,32]"), 32),
    "mobilenetv2_100": ((), 32),
    "efficientnet_lite0": ((), 32),
    "convnext_atto": (("depths=[1,1,1,1]", "dims=[8,16,24,32]"), 32),
    "vit_tiny_patch16_224": ((*NARROW, "img_size=32"), 32),
    "vit_small_patch14_dinov2": ((*NARROW, "img_size=28"), 28),
    "swin_tiny_patch4_window7_224": (
        ("depths=[1,1]", "embed_dim=16", "num_heads=[1,2]", "window_size=4", "img_size=32"),
        32,
    ),
    "vit_base_patch16_clip_224": ((*NARROW, "img_size=32"), 32),
}
NUM_SOURCE = 160  # source images
SMALL = (
    *("recipe.steps=40", "recipe.batch_size=4", "source_recipe.batch_size=4", "shots=4"),
    *("recipe.evaluations=1", "source_recipe.steps=2"),
)


@cache
def asked(network: str) -> Request:
    """Return a request of the embedded images and a small form of a network."""
    options, side = NETWORKS[network]
    given = (*SMALL, f"backbone={network}", *(f"backbone_options.{o}" for o in options))
    return compose_request((*given, f"recipe.image_size={side}"))


def posed(method: str, network: str, *own: str) -> tuple[BuiltProblem, Any]:
    """Return a method's problem on a small form of a network, with few source images, and its settings.

    Args:
        method: its name.
        network: one of `NETWORKS`.
        own: settings of the method, as `method.rank=2`.
    """
    config = run_config(asked(network), method, settings_of(method, own), seed=0)
    built = build_problem(config)
    source = built.problem.source
    assert source is not None
    some = source.subset(torch.arange(0, len(source), len(source) // NUM_SOURCE))
    return replace(built, problem=replace(built.problem, source=some)), config.settings


@cache
def reason(method: str, network: str) -> str:
    """Return why a method does not run on a network; empty if it does."""
    cls = catalog.load(method)
    if cls.why_incompatible.__func__ is Method.why_incompatible.__func__:  # type: ignore[attr-defined]
        return ""
    return cls.why_incompatible(posed(method, network)[0].problem)


def table() -> str:
    """Return which method runs on which network as a Markdown table, with the reasons below it."""
    known = [name for name in catalog.names() if name != "pretrain"]
    reasons: dict[str, list[str]] = {}
    lines = [["Method", *(f"`{network}`" for network in NETWORKS)], ["---"] * (1 + len(NETWORKS))]
    for name in known:
        cells = []
        for network in NETWORKS:
            why = reason(name, network)
            if why:
                reasons.setdefault(f"`{name}`: {why}", []).append(network)
            cells.append("no" if why else "yes")
        lines.append([f"`{name}`", *cells])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return rows + "\n\n" + "\n".join(f"- {text}." for text in reasons)
