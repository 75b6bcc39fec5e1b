"""dtd-r1.0.1.tar.gz: ten splits as lists of `texture/image.jpg`; an image is in another part of each."""

from pathlib import Path

from .pictures import archive, encoded

SMALL = {"train": 6, "holdout": 6, "test": 6}
PARTS = {"train": "train", "val": "holdout", "test": "test"}
TEXTURES = ("banded", "blotchy", "zigzagged")


def lines(textures: tuple[str, ...], part: int, each: int) -> list[str]:
    """Give the lines of a part of split 1."""
    return [f"{t}/{t}_{part * each + i + 1:04}.jpg" for t in textures for i in range(each)]


def write(folder: Path) -> None:
    content = {}
    for k, (name, part) in enumerate(PARTS.items()):
        own = lines(TEXTURES, k, 2)
        content |= {f"dtd/images/{line}": encoded(i // 2, part) for i, line in enumerate(own)}
        content[f"dtd/labels/{name}1.txt"] = "".join(f"{line}\n" for line in own).encode()
        other = lines(TEXTURES, (k + 1) % 3, 2)
        content[f"dtd/labels/{name}2.txt"] = "".join(f"{line}\n" for line in other).encode()
    archive(folder / "dtd-r1.0.1.tar.gz", content)


def lists(root: Path) -> None:
    (root / "labels").mkdir()
    textures = tuple(f"texture{i}" for i in range(47))
    for k, name in enumerate(PARTS):
        (root / f"labels/{name}1.txt").write_text("".join(f"{x}\n" for x in lines(textures, k, 40)))
