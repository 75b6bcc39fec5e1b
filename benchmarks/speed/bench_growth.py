"""Growth of cost with source classes, images, candidates and actions; share of the policy in a step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ...datasets.augment import Augment
from ...datasets.base import Split
from ...datasets.pixels import MemoryPixels
from ...methods.l2tl_policy.reinforce import Policy
from ...methods.l2tl_policy.settings import Settings, policy_config
from .build import SIZES, build, stepper
from .interleaved import Rounds, device_clock, race, show

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLASSES = (10, 100, 1_000, 10_000, 21_841)
IMAGES = (1_000, 10_000, 100_000, 1_000_000, 14_000_000)
CANDIDATES = (1, 2, 5, 10, 20)
ACTIONS = (6, 11, 21, 51, 101)
FLAT = 1.25  # largest ratio of costs that should be equal


def policy_step(num_classes: int, num_actions: int) -> Callable[[], Tensor]:
    """Return a function that does all work of a policy in a step: sample, log-probability, one update."""
    config = policy_config(replace(Settings(), num_actions=num_actions).resolved(), 20_000)
    policy = Policy(num_classes, config, 0, DEVICE)
    reward = torch.tensor(0.5, device=DEVICE)
    return lambda: policy.reinforce(policy.log_prob(policy.sample()[2]), reward)


def grow(
    benchmark: Any,
    what: str,
    axis: str,
    rivals: dict[int, Callable[[], object]],
    count: int = 8,
    most: float | None = None,
) -> None:
    """Time the sizes of one axis; store the curve for the figure, and the ratio of last to first size."""
    times = race(benchmark, Rounds({str(n): rivals[n] for n in rivals}, device_clock(DEVICE)), count)
    points = [[n, 1e3 * times.median(str(n))] for n in rivals]
    benchmark.extra_info["curve"] = {"what": what, "axis": axis, "points": points}
    first, last = list(rivals)[0], list(rivals)[-1]
    values = times.ratios(str(last), str(first))
    show(benchmark, f"{what}: {last:,} {axis} / {first:,}", values, most=most)


def bench_growth_with_classes(benchmark: Any) -> None:
    """Time policies over few and many source classes."""
    rivals: dict[int, Callable[[], object]] = {n: policy_step(n, 11) for n in CLASSES}
    grow(benchmark, "policy, 11 actions", "source classes", rivals)


def bench_growth_with_actions(benchmark: Any) -> None:
    """Time policies of few and many actions over 1,000 classes."""
    rivals: dict[int, Callable[[], object]] = {n: policy_step(1_000, n) for n in ACTIONS}
    grow(benchmark, "policy, 1,000 source classes", "actions", rivals)


def draw_of(num_images: int, labels: Tensor) -> Callable[[], object]:
    """Return a function that draws 1,280 candidates; it needs labels only."""
    pixels = MemoryPixels(torch.empty(0), torch.empty(0))
    index = torch.zeros(1, dtype=torch.long).expand(num_images)  # only its length is used
    split = Split(f"made/{num_images}", ("c",) * 1_000, pixels, labels, index, Augment(16))
    return split.stream(1_280, 0).draw


def bench_growth_with_images(benchmark: Any) -> None:
    """Time draws of 1,280 candidates out of small and large sources."""
    rivals = {n: draw_of(n, torch.arange(n, dtype=torch.int32) % 1_000) for n in IMAGES}
    grow(benchmark, "draw of 1,280 candidates", "source images", rivals, count=20, most=FLAT)


def bench_draw_of_labels_near(benchmark: Any) -> None:
    """Time a draw out of a large source, and one whose labels share an address: cost of cache misses."""
    n = IMAGES[-1]
    rivals = {
        "spread": draw_of(n, torch.arange(n, dtype=torch.int32) % 1_000),
        "in one place": draw_of(n, torch.zeros(1, dtype=torch.int32).expand(n)),
    }
    times = race(benchmark, Rounds(rivals, device_clock(DEVICE)), count=20)
    show(benchmark, f"draw out of {n:,} images", 1e3 * times.median("spread"), "ms")
    show(benchmark, "that / with all labels in one place", times.ratios("spread", "in one place"))


def bench_growth_with_candidates(benchmark: Any) -> None:
    """Time L2TL steps with few and many candidates for each source image that is kept."""
    rivals: dict[int, Callable[[], object]] = {
        m: stepper(build("l2tl", "recipe.batch_size=32", f"method.multiplier={m}")[0]) for m in CANDIDATES
    }
    grow(benchmark, "L2TL step", "candidates an image kept", rivals, most=FLAT)


@pytest.mark.parametrize("size", list(SIZES)[1:])
def bench_policy_share(benchmark: Any, size: str) -> None:
    """Compare the cost of a policy over 21,841 classes (ImageNet-21k), 101 actions each, with a step."""
    rivals = {"policy": policy_step(21_841, 101), "step": stepper(build("l2tl", *SIZES[size])[0])}
    times = race(benchmark, Rounds(rivals, device_clock(DEVICE)), count=10, warmup=2)
    show(benchmark, "policy, 21,841 classes and 101 actions", 1e3 * times.median("policy"), "ms")
    share = [100 * r for r in times.ratios("policy", "step")]
    show(benchmark, f"that / L2TL step: {size}", share, "%", most=2.0)
