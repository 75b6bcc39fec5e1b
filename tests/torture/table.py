"""Write the table of docs/explanation/reliability.md from the lines that `make torture` left."""

import json
import sys
from collections import defaultdict
from pathlib import Path

BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->\n"
COLUMNS = ("tried", "lost", "doubled", "wrong", "seconds")


def table(lines: list[str]) -> str:
    """Add up the cases of each fault, in the order of their first lines."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(COLUMNS, 0))
    cases: dict[str, set[str]] = defaultdict(set)
    for line in map(json.loads, lines):
        cases[line["fault"]].add(line["case"])
        for column in COLUMNS:
            sums[line["fault"]][column] += line[column]
    rows = [
        f"| {fault} | {len(cases[fault])} | "
        + " | ".join(f"{own[column]:,.0f}" for column in COLUMNS)
        + " |\n"
        for fault, own in sums.items()
    ]
    head = "| fault | cases | tried | lost | doubled | wrong | seconds |\n|---|--:|--:|--:|--:|--:|--:|\n"
    return head + "".join(rows)


def main(source: str, page: str) -> None:
    """Put the table between its two marks."""
    text = Path(page).read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    Path(page).write_text(before + BEGIN + table(Path(source).read_text().splitlines()) + END + after)


if __name__ == "__main__":
    main(*sys.argv[1:])
