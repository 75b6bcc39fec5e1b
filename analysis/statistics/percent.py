"""The ends of an axis of percentages."""

NARROWEST = 4.0  # points: a range of scores below this is not stretched to the full width


def percent_range(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis that spans NARROWEST points at least, within 0 to 100."""
    missing = max(0.0, NARROWEST - (high - low)) / 2
    low, high = low - missing, high + missing
    shift = max(0.0, -low) - max(0.0, high - 100)
    return max(low + shift, 0.0), min(high + shift, 100.0)
