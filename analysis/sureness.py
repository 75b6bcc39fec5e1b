"""The row to take in one sentence, and how sure that is: what its runs tell it apart from, and what not."""

import math
from collections.abc import Sequence

from . import wording
from .alarms import FAILED, FEW_SEEDS
from .candidates import Candidate
from .choice import Choice, choose
from .records.comparison import REFERENCE, Comparison
from .records.load import METRICS
from .statistics.aggregate import holm_corrected
from .statistics.difference import Difference
from .statistics.paired import paired_difference
from .tables.labels import labels_sentence

MOST_NAMES = 3
Pair = tuple[Candidate, Difference]  # another row, and by how much the one taken is above it


def take(comparison: Comparison) -> dict[str, str]:
    """Return the row to take, its `label`, and `why`; empty without one.

    Why: its score, its time, how sure that is, and its labels if those are more than fine-tuning's.
    """
    choice = choose(comparison)
    if choice.taken is None:
        return {}
    score = score_of(choice.taken, METRICS[comparison.metric])
    labels = labels_sentence(choice.taken.runs, comparison.by_label.get(REFERENCE, []))
    why = f"{score}; {choice.taken.time}. {capital(sureness(choice))}. {labels}"
    return {"label": choice.taken.label, "why": why.rstrip()}


def sureness(choice: Choice) -> str:
    """Return what the runs tell the row to take apart from: "not distinguishable from L2-SP (+0.1 points …)".

    Differences are paired, and Holm-corrected over the other rows; "" if no row is taken.
    """
    if (taken := choice.taken) is None:
        return ""
    others = [item for item in choice.fitting if item is not taken]
    if not others:
        return f"it is the only row {_why_alone(choice)}: nothing is compared"
    differences = holm_corrected([paired_difference(taken.runs, item.runs) for item in others])
    found = list(zip(others, differences, strict=True))
    tested = [(item, gap) for item, gap in found if gap.is_tested]
    if not tested:
        return _untested(*found[0])
    above = [pair for pair in tested if pair[1].outcome == "below"]
    near = [pair for pair in tested if not pair[1].is_significant]
    said = [f"{_listed(above[:1])} is above it"] if above else []
    if near:
        said.append(f"not distinguishable from {_listed(near)}")
    elif not above:
        said.append(f"above every other row; the nearest is {_listed(tested[:1])}")
    if any(gap.num_seeds < max(len(taken.runs), len(item.runs)) for item, gap in tested):
        said.append("differences are over the seeds that both rows have")
    if len(tested) < len(found):
        said.append(f"not compared with {wording.counted(len(found) - len(tested), 'row')}")
    return "; ".join(said)


def _why_alone(choice: Choice) -> str:
    """Return what the only row to choose from has that others lack."""
    if choice.too_slow:
        return "that fits into the time"
    return "whose training did not fail" if any(alarm.kind in FAILED for alarm in choice.alarms) else "here"


def score_of(item: Candidate, name: str) -> str:
    """Return the score of a row: "accuracy 91.0 % (95 % CI 90.2 to 91.8, 5 seeds)"."""
    seeds = wording.counted(len(item.runs), "seed")
    if math.isnan(item.score[1]):
        spread = f"{wording.SAME} {len(item.runs)} seeds" if len(item.runs) > 1 else seeds
    else:
        spread = f"95 % CI {wording.interval(*item.score[1:])}, {seeds}"
    return f"{name} {wording.number(item.score[0])} % ({spread})"


def capital(text: str) -> str:
    """Return a text with a capital letter first."""
    return text[:1].upper() + text[1:]


def _untested(item: Candidate, gap: Difference) -> str:
    few = f"one seed allows no conclusion: run seeds={FEW_SEEDS}" if gap.num_seeds == 1 else gap.note
    if math.isnan(gap.points):
        return f"not compared with {item.label}, the next: {few}"
    return f"{item.label}, the next, is {wording.number(gap.points)} points below; {few}"


def _listed(found: Sequence[Pair]) -> str:
    """Return the first rows, the first one with the difference, and how many others there are."""
    (first, gap), *rest = found
    others = len(rest) - (MOST_NAMES - 1)
    names = [item.label for item, _ in (rest if others <= 1 else rest[: MOST_NAMES - 1])]
    more = [f"{others} others"] if others > 1 else []
    return wording.listing([f"{first.label} ({_bare(gap)})", *names, *more])


def _bare(gap: Difference) -> str:
    """Return "+2.1 points, 95 % CI +0.8 to +3.4"."""
    return wording.signed_points(gap).replace(" (", ", ").removesuffix(")")
