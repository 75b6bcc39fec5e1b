"""birdsnap.tgz unpacked, and the images that its lists name: tables with tabs and a line of names.

Species are numbered from 1 and listed in another order; their folders have capitals, in species.txt none.
"""

import re
from pathlib import Path

from .pictures import encoded

DRAWN = True
SPECIES = {3: "Blue Jay", 1: "Cooper's Hawk", 2: "Long-billed Curlew"}
SMALL = {"train": 43, "holdout": 5, "test": 6}
PARTS = (
    "back beak belly breast crown forehead left_cheek left_eye left_leg left_wing nape right_cheek right_eye "
    "right_leg right_wing tail throat"
)
PLACES = [f"{part}_{axis}" for part in PARTS.split() for axis in "xy"]
COLUMNS = ["url", "md5", "path", "species_id", "bb_x1", "bb_y1", "bb_x2", "bb_y2", *PLACES]
REST = "\t".join(["1"] * (len(COLUMNS) - 4))


def tables(
    species: dict[int, str], num_train: int, num_test: int
) -> tuple[dict[str, str], list[tuple[str, int, str]]]:
    """Give the lists, and each image's path, species and part; test images lie between the others."""
    folder = {number: re.sub(r"\W", "_", name.replace("'", "")) for number, name in species.items()}
    images, step = [], (num_train + num_test) // num_test
    for i in range(num_train + num_test):
        part = "test" if i % step == 0 and i // step < num_test else "train"
        number = (i // step if part == "test" else i) % len(species) + 1
        images.append((f"{folder[number]}/{i:04}.jpg", number, part))
    lines = {
        "species": ["id\tcommon\tscientific\tdir"],
        "images": ["\t".join(COLUMNS)],
        "test_images": ["path", *(path for path, _, part in images if part == "test")],
    }
    lines["species"] += [f"{n}\t{name}\tAves {n}\t{folder[n].lower()}" for n, name in species.items()]
    lines["images"] += [f"http://nowhere/{p}\t{'0' * 32}\t{p}\t{number}\t{REST}" for p, number, _ in images]
    return {f"{name}.txt": "\n".join([*own, ""]) for name, own in lines.items()}, images


def write(folder: Path) -> None:
    texts, images = tables(SPECIES, SMALL["train"] + SMALL["holdout"], SMALL["test"])
    content = {name: text.encode() for name, text in texts.items()}
    content |= {f"images/{path}": encoded(number - 1, part) for path, number, part in images}
    for name, own in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(own)


def lists(root: Path) -> None:
    texts, _ = tables({n: f"Bird {n}" for n in range(1, 501)}, 47_386, 2_443)
    for name, text in texts.items():
        (root / name).write_text(text)
