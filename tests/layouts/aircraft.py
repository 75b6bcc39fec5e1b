"""fgvc-aircraft-2013b.tar.gz: lists by part, `number variant` a line; images in one folder."""

from pathlib import Path

from .pictures import archive, encoded

TOP = "fgvc-aircraft-2013b/data"
LISTS = {"train": "train", "holdout": "val", "test": "test"}
VARIANTS = ("707-320", "Boeing 717", "F/A-18")
SMALL = {"train": 24, "holdout": 12, "test": 12}
PUBLISHED = {"train": 3334, "holdout": 3333, "test": 3333}


def files(
    variants: tuple[str, ...], sizes: dict[str, int]
) -> tuple[dict[str, str], list[tuple[str, int, str]]]:
    """Give the lists, and each image's number, label and part."""
    texts, images = {"variants.txt": "\n".join(variants) + "\n"}, []
    for part, name in LISTS.items():
        own = [(f"{len(images) + i:07}", i % len(variants), part) for i in range(sizes[part])]
        texts[f"images_variant_{name}.txt"] = "".join(f"{n} {variants[label]}\n" for n, label, _ in own)
        images += own
    return texts, images


def write(folder: Path) -> None:
    texts, images = files(VARIANTS, SMALL)
    content = {f"{TOP}/{name}": text.encode() for name, text in texts.items()}
    content |= {f"{TOP}/images/{n}.jpg": encoded(label, part) for n, label, part in images}
    archive(folder / "fgvc-aircraft-2013b.tar.gz", content)


def lists(root: Path) -> None:
    texts, _ = files(tuple(f"variant {i}" for i in range(100)), PUBLISHED)
    (root / "data").mkdir(parents=True)
    for name, text in texts.items():
        (root / "data" / name).write_text(text)
