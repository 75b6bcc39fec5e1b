"""Checks the intervals on simulated runs with a known effect, with the functions that reports use.

python -m transferbench.analysis.statistics.simulate --trials 2000

A test image is answered right where a uniform draw is below the accuracy of its method and seed. For some
images the draw is the same for all methods, for some it is the method's own but the same for all its seeds,
for the rest it is fresh: so methods agree, seeds agree, and the true effect is known exactly.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..records.load import Run
from .aggregate import holm, improvement_bootstrap, iqm, middle_mean, probability_of_improvement
from .paired import CONFIDENCE, POWER, Difference, paired_difference, two_level_bootstrap

ACCURACY = 0.75
COMMON_SHARE = 0.68  # of the images; so two methods differ on about 12 %
LEVEL = 1 - CONFIDENCE

MANY = 200_000  # draws of a target for the true interquartile mean

Tail = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Compare = Callable[[Sequence[Run], Sequence[Run]], Difference]


@dataclass(frozen=True)
class Design:
    """The design of a comparison of two methods; spread and effect in points."""

    num_seeds: int = 3
    num_images: int = 1000
    spread: float = 0.5  # standard deviation, between seeds, of the true difference
    agreement: float = 0.5  # correlation between seeds, without an effect, of the differences on an image
    effect: float = 2.0


def simulate_runs(random: np.random.Generator, design: Design, effects: Sequence[float]) -> list[list[Run]]:
    """Return the runs of one method an effect (points above the common accuracy) on the same test images."""
    common, own = np.cumsum(
        random.multinomial(design.num_images, [COMMON_SHARE, *_rest(design.agreement)])[:2]
    ).tolist()
    shared = random.random(common, dtype=np.float32)
    methods = []
    for effect in effects:
        spread = random.normal(scale=design.spread / math.sqrt(2), size=design.num_seeds)
        draws = np.empty((design.num_seeds, design.num_images), dtype=np.float32)
        draws[:, :common] = shared
        draws[:, common:own] = random.random(own - common, dtype=np.float32)
        draws[:, own:] = random.random((design.num_seeds, design.num_images - own), dtype=np.float32)
        correct = draws < (ACCURACY + (effect + spread[:, None]) / 100)
        methods.append([_run(seed, correct[seed]) for seed in range(design.num_seeds)])
    return methods


def _rest(agreement: float) -> tuple[float, float]:
    """Return the shares of images that a method answers alike with every seed, and afresh with each."""
    return (1 - COMMON_SHARE) * agreement, (1 - COMMON_SHARE) * (1 - agreement)


def _run(seed: int, correct: np.ndarray) -> Run:
    """Return a run with as much of a record as a comparison reads."""
    record = {"test": {"num_images": len(correct)}, "fingerprints": {"target": "simulated"}}
    score = np.count_nonzero(correct) / len(correct)
    text = "simulated"
    return Run(
        Path(text), text, text, text, text, text, text, seed, text, "top1", score, correct, record
    )  # fmt: skip


def coverage(
    design: Design, trials: int, seed: int = 0, compare: Compare = paired_difference
) -> tuple[float, float, float]:
    """Return the share of trials whose interval holds the effect, the share that find one, and its size.

    The size is the root mean square of `detectable`, because variances can be averaged and roots cannot.
    """
    random = np.random.default_rng(seed)
    held = shown = squares = 0.0
    for _ in range(trials):
        found = compare(*simulate_runs(random, design, [design.effect, 0.0]))
        held += found.low <= design.effect <= found.high
        shown += found.low > 0 or found.high < 0
        squares += found.detectable**2
    return held / trials, shown / trials, math.sqrt(squares / trials)


def by_bootstrap(a_runs: Sequence[Run], b_runs: Sequence[Run]) -> Difference:
    """Return the difference with the interval of the two-level bootstrap."""
    deltas_SN = np.stack(
        [
            np.subtract(a.correct, b.correct, dtype=np.int8)
            for a, b in zip(a_runs, b_runs, strict=True)
            if a.correct is not None and b.correct is not None
        ]
    )
    points, low, high = two_level_bootstrap(deltas_SN, resamples=500)
    return Difference(100 * points, 100 * low, 100 * high, len(deltas_SN))


def false_claims(
    design: Design, trials: int, num_methods: int = 6, num_targets: int = 5, seed: int = 0
) -> tuple[float, float]:
    """Return the share of families with any false positive, by Holm-corrected and by plain p-values.

    A family: so many methods against one reference, on so many targets, none better than it.
    """
    random = np.random.default_rng(seed)
    corrected = plain = 0
    for _ in range(trials):
        p_values = [
            paired_difference(runs, reference).p_value
            for _ in range(num_targets)
            for reference, *others in [simulate_runs(random, design, [0.0] * (num_methods + 1))]
            for runs in others
        ]
        corrected += holm(p_values).min() < LEVEL
        plain += min(p_values) < LEVEL
    return corrected / trials, plain / trials


def across_coverage(
    num_targets: int, num_seeds: int, effect: float, gap: float, trials: int, seed: int = 0
) -> tuple[float, float, float]:
    """Return the coverage of the interquartile mean, of the improvement, and of the latter's bootstrap.

    Scores are normal with standard deviation 1 between seeds; targets are `gap` apart, and x is above y by
    `effect`, more on some targets and less on others.
    """
    random = np.random.default_rng(seed)
    levels, shape = gap * np.arange(num_targets)[:, None], (num_targets, num_seeds)
    above = effect * np.linspace(0.5, 1.5, num_targets)[:, None]
    truth = float(np.mean([0.5 * (1 + math.erf(value / 2)) for value in above.ravel()]))
    middle = (num_targets - 1) * gap / 2  # of symmetric scores the interquartile mean is the center
    held = np.zeros(3)
    for _ in range(trials):
        x, y = levels + above + random.normal(size=shape), levels + random.normal(size=shape)
        held += [
            _holds(iqm(y, resamples=500), middle),
            _holds(probability_of_improvement(x, y), truth),
            _holds(improvement_bootstrap(x, y, resamples=500), truth),
        ]
    middle_held, score_held, bootstrap_held = (held / trials).tolist()
    return middle_held, score_held, bootstrap_held


def skewed_coverage(
    num_targets: int, num_seeds: int, gap: float, tail: Tail, trials: int, seed: int = 0
) -> float:
    """Return the coverage of the interquartile mean where the scores of seeds have a long tail below.

    Args:
        num_targets: number of targets, `gap` apart.
        num_seeds: seeds of each.
        gap: in standard deviations between seeds.
        tail: a number of standard draws of a shape: how far a seed is below the highest scores.
        trials: number of trials.
        seed: seed of the draws.
    """
    levels = gap * np.arange(num_targets)[:, None]
    many = levels - tail(np.random.default_rng(seed + 1), (num_targets, MANY))
    truth = float(middle_mean(many.ravel()))
    random = np.random.default_rng(seed)
    shape = num_targets, num_seeds
    held = (_holds(iqm(levels - tail(random, shape), resamples=500), truth) for _ in range(trials))
    return sum(held) / trials


def exponential(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return draws of an exponential distribution of deviation 1: skewness 2."""
    return random.exponential(size=shape)


def lognormal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return draws of a lognormal distribution of deviation 1: skewness 6."""
    return random.lognormal(size=shape) / math.sqrt((math.e - 1) * math.e)


def _holds(estimate: tuple[float, float, float], truth: float) -> bool:
    """Return whether the interval of (value, low, high) holds the truth, but for rounding."""
    return estimate[1] - 1e-9 <= truth <= estimate[2] + 1e-9


SEEDS, IMAGES, SPREADS = (2, 3, 5, 10), (100, 1000, 10_000), (0.0, 0.5, 2.0)
AGREEMENTS, EFFECTS = (0.1, 0.5, 0.9), (0.0, 2.0)


def report(trials: int) -> Iterator[str]:
    """Yield the lines of the whole report."""
    error = 100 * math.sqrt(CONFIDENCE * LEVEL / trials)
    yield f"{trials} trials a cell; binomial error {1.96 * error:.1f} points (at 95 %)"
    yield from _coverage_table(trials)
    yield from _bootstrap_table(trials)
    yield from _claims_table(trials)
    yield from _power_table(trials)
    yield from _across_table(trials)
    yield from _skewed_table(trials)


def _coverage_table(trials: int) -> Iterator[str]:
    """Yield the coverage of `paired_difference` on the whole grid, and its range by number of seeds."""
    columns = list(itertools.product(AGREEMENTS, EFFECTS))
    yield "\nCoverage of paired_difference, %, by agreement between seeds (a) and true effect in points (e)"
    yield "seeds images spread " + " ".join(f"a{agreement} e{effect:.0f}" for agreement, effect in columns)
    found: dict[tuple[int, float], list[float]] = {}
    for num_seeds, num_images, spread in itertools.product(SEEDS, IMAGES, SPREADS):
        designs = [Design(num_seeds, num_images, spread, *column) for column in columns]
        shares = [100 * coverage(design, trials)[0] for design in designs]
        found.setdefault((num_seeds, spread), []).extend(shares)
        yield f"{num_seeds:5} {num_images:6} {spread:6.1f} " + " ".join(f"{share:7.1f}" for share in shares)
    yield "\nseeds spread  lowest highest  cells within 93 to 97"
    for (num_seeds, spread), shares in found.items():
        inside = sum(93 <= share <= 97 for share in shares)
        yield f"{num_seeds:5} {spread:6.1f} {min(shares):7.1f} {max(shares):7.1f}  {inside} of {len(shares)}"


def _bootstrap_table(trials: int) -> Iterator[str]:
    """Yield the coverage of the two-level bootstrap next to that of `paired_difference`, in fewer trials."""
    few = max(trials // 4, 1)
    yield f"\nCoverage, %, at 1,000 images, agreement .5, effect 2; {few} trials, 500 resamples"
    yield "seeds spread  bootstrap  paired_difference"
    for num_seeds, spread in itertools.product(SEEDS, SPREADS):
        design = Design(num_seeds, spread=spread)
        old, new = (coverage(design, few, compare=way)[0] for way in (by_bootstrap, paired_difference))
        yield f"{num_seeds:5} {spread:6.1f} {100 * old:10.1f} {100 * new:18.1f}"


def _claims_table(trials: int) -> Iterator[str]:
    """Yield how often families without any effect have a significant result."""
    most = 100 * (LEVEL + 1.645 * math.sqrt(LEVEL * CONFIDENCE / trials))
    yield "\nFamilies of 6 methods x 5 targets without any effect: share with a claim, %"
    yield f"(of a true 5 %, up to {most:.1f} % is binomial error)"
    yield "seeds spread   Holm  uncorrected   (1,000 images)"
    for num_seeds, spread in ((2, 0.5), (2, 6.0), (3, 0.0), (3, 0.5), (3, 6.0), (5, 0.5), (10, 2.0)):
        holms, plain = false_claims(Design(num_seeds, spread=spread), trials)
        yield f"{num_seeds:5} {spread:6.1f} {100 * holms:6.1f} {100 * plain:12.1f}"


def _power_table(trials: int) -> Iterator[str]:
    """Yield how often an effect of 2 points is found, and one of the size named detectable."""
    power = f"{100 * POWER:.0f} % power"
    yield f"\nShare of trials that find an effect, %; detectable: minimum detectable effect at {power}"
    yield "seeds spread  of 2 points  detectable, points  of that size   (1,000 images)"
    for num_seeds, spread in itertools.product(SEEDS, (0.0, 0.5, 1.0)):
        design = Design(num_seeds, spread=spread)
        _, shown, size = coverage(design, trials)
        _, of_that_size, _ = coverage(replace(design, effect=size), trials, seed=1)
        yield f"{num_seeds:5} {spread:6.1f} {100 * shown:12.1f} {size:19.2f} {100 * of_that_size:13.1f}"


def _across_table(trials: int) -> Iterator[str]:
    """Yield the coverage of the intervals across targets."""
    yield "\nCoverage over 5 targets, %; effect and gap between targets in standard deviations between seeds"
    yield "seeds effect gap  IQM  improvement  its percentile bootstrap"
    for num_seeds, (effect, gap) in itertools.product(SEEDS, ((0.5, 1.0), (3.0, 5.0))):
        shares = across_coverage(5, num_seeds, effect, gap, trials)
        middle, score, bootstrap = (100 * share for share in shares)
        yield f"{num_seeds:5} {effect:6.1f} {gap:3.0f} {middle:4.1f} {score:12.1f} {bootstrap:25.1f}"


def _skewed_table(trials: int) -> Iterator[str]:
    """Yield the coverage of the interquartile mean where scores have a long tail below."""
    yield "\nCoverage of the IQM over 5 targets with a long tail below, %; gap as above"
    yield "seeds gap  exponential  lognormal"
    for num_seeds, gap in itertools.product(SEEDS, (0.0, 1.0, 5.0)):
        shares = [skewed_coverage(5, num_seeds, gap, tail, trials) for tail in (exponential, lognormal)]
        yield f"{num_seeds:5} {gap:3.0f} {100 * shares[0]:12.1f} {100 * shares[1]:10.1f}"


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m transferbench.analysis.statistics.simulate", description=__doc__
    )
    parser.add_argument("--trials", type=int, default=2000, help="simulated comparisons a cell")
    start = time.perf_counter()
    for line in report(parser.parse_args().trials):
        print(line, flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
