"""GTSRB: traffic signs in Germany, 43 kinds, with an official test set.

The training set is that of the 2011 competition, as in torchvision: 26,640 images in tracks of 30 frames that
show one sign at decreasing distance. The holdout is drawn by whole tracks. With frames of one sign in both
parts it would only measure memorization.
"""

import csv
from itertools import groupby
from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

BASE = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
ABOUT = About(
    title="GTSRB, traffic signs (Stallkamp et al. 2012)",
    homepage="https://benchmark.ini.rub.de/",
    license="free for research",
    num_classes=43,
    sizes={"train": 23_820, "holdout": 2_820, "test": 12_630},
    probes=("GTSRB/Training",),
    folders=("gtsrb",),
    archives=(
        Archive(
            f"{BASE}/GTSRB-Training_fixed.zip",
            "sha256:df4144942083645bd60b594de348aa6930126c3e0e5de09e39611630abf8455a",
            187_490_228,
        ),
        Archive(
            f"{BASE}/GTSRB_Final_Test_Images.zip",
            "sha256:48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
            88_978_620,
        ),
        Archive(
            f"{BASE}/GTSRB_Final_Test_GT.zip",
            "sha256:f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
            99_620,
        ),
    ),
    torchvision=Torchvision("GTSRB", ({"split": "train"}, {"split": "test"})),
    preset="small",
    hflip=False,
)
CLASSES = (
    "speed limit 20 km/h", "speed limit 30 km/h", "speed limit 50 km/h", "speed limit 60 km/h",
    "speed limit 70 km/h", "speed limit 80 km/h", "end of speed limit 80 km/h", "speed limit 100 km/h",
    "speed limit 120 km/h", "no passing", "no passing for vehicles over 3.5 t",
    "right of way at the next intersection", "priority road", "yield", "stop", "no vehicles",
    "no vehicles over 3.5 t", "no entry", "general caution", "dangerous curve to the left",
    "dangerous curve to the right", "double curve", "bumpy road", "slippery road",
    "road narrows on the right", "road work", "traffic signals", "pedestrians", "children crossing",
    "bicycles crossing", "beware of ice or snow", "wild animals crossing",
    "end of all speed and passing limits", "turn right ahead", "turn left ahead", "ahead only",
    "straight or right", "straight or left", "keep right", "keep left", "roundabout", "end of no passing",
    "end of no passing for vehicles over 3.5 t",
)  # fmt: skip


def read(root: Path) -> Listing:
    """Read the class folders, and the list with the labels of the test images."""
    parts: dict[str, list[Row]] = {"train": [], "holdout": [], "test": []}
    for label in range(len(CLASSES)):
        folder = f"GTSRB/Training/{label:05}"
        frames = sorted(f.name for f in (root / folder).glob("*.ppm"))
        if not frames:
            continue  # this copy lacks the class
        tracks = {t: list(of_track) for t, of_track in groupby(frames, lambda frame: frame.split("_")[0])}
        # a tenth of the tracks of a class, rounded, at least one
        held = holdout.draw([Row(f"{folder}/{t}", label) for t in tracks], max(1, (len(tracks) + 5) // 10))
        for (_, of_track), is_held in zip(tracks.items(), held, strict=True):
            part = "holdout" if is_held else "train"
            parts[part] += [Row(f"{folder}/{frame}", label) for frame in of_track]
    with (root / "GT-final_test.csv").open(encoding="utf-8-sig", newline="") as f:
        for line in csv.DictReader(f, delimiter=";"):
            parts["test"].append(Row(f"GTSRB/Final_Test/Images/{line['Filename']}", int(line["ClassId"])))
    return Listing(CLASSES, parts)
