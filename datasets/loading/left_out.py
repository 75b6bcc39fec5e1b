"""Count the files of a folder or tar that are not read as images, and say so in a line or two."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ..decoding.formats import why_left_out

SUFFIX = re.compile(r"\.\w{1,10}$")
NO_SUFFIX, LINK = "without a suffix", "linked inside the tar"
MOST_SUFFIXES, MOST_CLASSES = 6, 3  # that are named in a line


class LeftOut:
    """What a scan found and did not take.

    Attributes:
        count: the number of files of each folder by suffix; an empty folder has none.
        circular: folders that are links to a folder above them.
    """

    def __init__(self) -> None:
        self.count: dict[str, Counter[str]] = defaultdict(Counter)
        self.circular: list[str] = []

    def add(self, folder: str, name: str = "", is_link: bool = False) -> None:
        """Count a file of a folder; without a name, note the folder, which may be empty.

        Args:
            folder: path of the folder.
            name: of the file.
            is_link: whether it is a link inside a tar, which is not followed.
        """
        if name:
            found = SUFFIX.search(name)
            self.count[folder][LINK if is_link else found.group().lower() if found else NO_SUFFIX] += 1
        else:
            self.count[folder].update()

    def total(self) -> Counter[str]:
        """Return the number of files by suffix."""
        return total_of(self.count)


def total_of(count: Mapping[str, Counter[str]]) -> Counter[str]:
    """Return the number of files by suffix, of all folders together."""
    return sum(count.values(), Counter[str]())


def by_suffix(count: Counter[str]) -> str:
    """Return the numbers of files by suffix as text, the most frequent first, and what would read them."""
    ordered = sorted(count.items(), key=lambda item: (-item[1], item[0]))
    reasons = {suffix: why_left_out(suffix) for suffix in count}
    words = [f"{n:,} {suffix}{f' ({reasons[suffix]})' * bool(reasons[suffix])}" for suffix, n in ordered]
    more = sum(n for _, n in ordered[MOST_SUFFIXES:])
    return ", ".join(words[:MOST_SUFFIXES] + ([f"{more:,} of other kinds"] if more else []))


def lines(name: str, taken: Mapping[str, int], left: Mapping[str, Counter[str]]) -> list[str]:
    """Return one line on all files that are left out, and one each on classes that are left out or empty.

    Args:
        name: name of the data set.
        taken: number of images of each class folder.
        left: number of files that are left out, of each class folder.
    """
    found = []
    if total := total_of(left):
        shares = {c: n.total() / (n.total() + taken[c]) for c, n in left.items() if taken.get(c)}
        worst = max(shares, key=shares.__getitem__, default="")
        text = f"{name}: {_files(total.total())} left out: {by_suffix(total)}"
        if shares.get(worst, 0) > 0.5:
            lost = left[worst].total()
            text += f"; most in '{worst}', {lost:,} of {lost + taken[worst]:,}"
        found.append(text)
    gone = [c for c in sorted(left) if not taken.get(c)]
    if whole := [_whole(c, left[c]) for c in gone if left[c]]:
        found.append(f"{name}: {_first(whole)}")
    if empty := [f"'{c}'" for c in gone if not left[c]]:
        found.append(f"{name}: empty class folder{'s' * (len(empty) > 1)} left out: {_first(empty)}")
    return found


def _whole(folder: str, count: Counter[str]) -> str:
    """Return the words on a class folder of which nothing is read."""
    part, _, of_class = folder.rpartition("/")
    inside = f" in {part}" if part else ""
    kinds = ", ".join(sorted(count))
    if count.total() == 1:
        return f"class '{of_class}': its only file{inside} is left out ({kinds})"
    return f"class '{of_class}': all {count.total():,} files{inside} are left out ({kinds})"


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _first(words: Sequence[str]) -> str:
    """Return the first words, and the number of the others."""
    more = len(words) - MOST_CLASSES
    return ", ".join(words[:MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")
