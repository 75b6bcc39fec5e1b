"""The answer of one comparison in three lines: what to take, what differs from fine-tuning, what is open."""

from .page.headline import decided, findings, undecided
from .records.comparison import Comparison
from .sureness import take
from .tables.comparison_table import comparison_table


def answer(comparison: Comparison) -> list[str]:
    """Return the lines; the last two are one without a row that is compared with fine-tuning."""
    taken = take(comparison)
    first = f"Take {taken['label']}: {taken['why']}" if taken else "No row can be recommended."
    found = findings([(comparison, comparison.target, comparison_table(comparison))])
    if not found:
        return [first, "Nothing is compared with fine-tuning: that takes runs of both."]
    known = " ".join(decided(found)) or "Nothing can be claimed."
    return [first, f"Known: {known}", f"Open: {' '.join(undecided(found)) or 'nothing.'}"]
