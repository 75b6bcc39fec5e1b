"""What the torture tests share: how hard they try, and where what they saw is written down."""

import json
import time
from pathlib import Path

import pytest

COUNTS = ("lost", "doubled", "wrong")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--torture",
        type=Path,
        metavar="FILE",
        help="try at full length; each case adds a line to FILE, and is left out where FILE has it already",
    )


class Tally:
    """Writes down how often a fault was tried and what came of it."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.begin = path, time.perf_counter()

    @property
    def is_long(self) -> bool:
        return self.path is not None

    def times(self, short: int, long: int) -> int:
        return long if self.is_long else short

    def has(self, fault: str, case: str) -> bool:
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        return any((line["fault"], line["case"]) == (fault, case) for line in map(json.loads, lines))

    def note(self, fault: str, case: str, tried: int, **seen: int) -> None:
        """Add a line, then see that nothing was `lost`, `doubled` or `wrong`."""
        counts = {name: seen.get(name, 0) for name in COUNTS}
        if self.path:
            seconds = round(time.perf_counter() - self.begin, 1)
            with self.path.open("a") as f:
                f.write(
                    json.dumps({"fault": fault, "case": case, "tried": tried, **counts, "seconds": seconds})
                    + "\n"
                )
        assert tried > 0
        assert not any(counts.values()), f"{fault}, {case}: {counts}"


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    path = request.config.getoption("--torture", default=None)
    return Tally(path and path.resolve())


@pytest.fixture
def not_yet(request: pytest.FixtureRequest, tally: Tally):
    """Leave out a case that an earlier call has tried."""

    def check(fault: str, case: str) -> None:
        if tally.has(fault, case):
            pytest.skip("tried by an earlier call")

    return check
