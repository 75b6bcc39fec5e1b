"""A tar for each class, as winter21_whole.tar.gz unpacks to, and other usual copies.

The images are the list, and there are 13 million of them: so no `lists` at the published size.
"""

from pathlib import Path

from .imagenet import put, tar
from .pictures import archive, encoded

WNIDS = ("n00004475", "n00005787", "n01440764")
SMALL = {"train": 12, "holdout": 3}
DRAWN = True  # the holdout is taken from the one part that there is


def files(label: int, part: str = "train") -> dict[str, bytes]:
    return {f"{WNIDS[label]}_{i}.JPEG": encoded(label, part) for i in range(5)}


def tars() -> dict[str, bytes]:
    return {f"{wnid}.tar": tar(files(label)) for label, wnid in enumerate(WNIDS)}


def write(folder: Path) -> None:
    put(folder, tars())


def write_whole(folder: Path) -> None:
    """Write winter21_whole.tar, whose tars lie in a folder."""
    content = {f"winter21_whole/{name}": content for name, content in tars().items()}
    archive(folder / "winter21_whole.tar", content)


def write_p(folder: Path) -> None:
    """Write 21K-P, which has parts of its own, and the classes that it leaves out."""
    for label in range(2):
        put(folder / "imagenet21k_resized/imagenet21k_train" / WNIDS[label], files(label))
        put(folder / "imagenet21k_resized/imagenet21k_val" / WNIDS[label], files(label, "holdout"))
    put(folder / "imagenet21k_resized/imagenet21k_small_classes" / WNIDS[2], files(2))


def write_shards(folder: Path, validation: bool) -> None:
    """Write webdataset's shards, each with images of all classes, and the ids of the classes."""
    parts = {"train": 5, "validation": 1 if validation else 0}
    for part, count in parts.items():
        for i in range(count):
            samples = {}
            for label in (2, 0, 1):
                samples[f"{part}{i}{label}.cls"] = b"%d" % label
                samples[f"{part}{i}{label}.jpg"] = encoded(label, "train" if part == "train" else "holdout")
            put(folder, {f"imagenet_w21-{part}-{i:04}.tar": tar(samples)})
    put(folder, {"classnames.txt": "\n".join(WNIDS).encode()})
