"""CheXpert-v1.0-small: two csv files, and images by split, patient and study; bars tell labels and part."""

import io
import random
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

DRAWN = True
SMALL = {"train": 88, "holdout": 2, "test": 6}
OFFICIAL = {"train": 90, "valid": 6}
PUBLISHED = {"train": 223_414, "valid": 234}
NUM_PATIENTS = {"train": 3_000, "valid": 200}  # so few in train, for each has a folder
LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
HEADER = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS))
FIRST = {"train": 1, "valid": 64541}
BAR = 8  # pixels: a block of JPEG


def lines(split: str, size: int, num_patients: int, top: str) -> list[str]:
    """Make `size` lines of a list: most patients have one image, some many; a study has two."""
    rng = random.Random(split)
    values = ("", "", "1.0", "0.0", "-1.0") if split == "train" else ("0.0", "0.0", "1.0")
    codes = [",".join(rng.choices(values, k=len(LABELS))) for _ in range(997)]
    more = [int(num_patients * rng.random() ** 4) for _ in range(size - num_patients)]
    made: list[str] = []
    for owner, images in groupby(sorted([*range(num_patients), *more])):
        start = f"{top}/{split}/patient{FIRST[split] + owner:05}/study"
        for i, _ in enumerate(images):
            sex = "Unknown" if i == 7 else "Female"
            view = (
                f"view2_lateral.jpg,{sex},61,Lateral," if i % 2 else f"view1_frontal.jpg,{sex},61,Frontal,AP"
            )
            made.append(f"{start}{1 + i // 2}/{view},{codes[len(made) % 997]}")
    return made


def path(line: str) -> str:
    return line.partition(",")[0]


def truth(line: str) -> list[float]:
    return [float(value in ("1.0", "-1.0")) for value in line.split(",")[5:]]


def bars(labels: list[float], split: str) -> bytes:
    """Encode a grey image: 14 bars of labels and two of the split."""
    bits = [*labels, 0.0, float(split == "valid")]
    row = (20 + 200 * np.repeat(bits, BAR)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.tile(row, (16 * BAR, 1))).save(buffer, "JPEG")
    return buffer.getvalue()


def seen(image: np.ndarray) -> tuple[list[float], str]:
    """Read labels and part off a decoded image uint8 [128,128,3]."""
    bits = image.reshape(len(image), 16, BAR, 3).mean((0, 2, 3)) > 120
    return bits[:14].astype(float).tolist(), "test" if bits[15] else "train"


def csv_text(rows: list[str]) -> str:
    return "\n".join((HEADER, *rows, ""))


def write(folder: Path, top: str = "CheXpert-v1.0-small") -> None:
    write_files(folder, {f"{top}/{name}": content for name, content in files(top)})


def write_batches(folder: Path) -> None:
    """The full release as its archives unpack: the training patients in batches 2 to 4."""
    placed = {}
    for name, content in files("CheXpert-v1.0"):
        split, _, rest = name.partition("/")
        if split == "train":
            batch = 2 + int(rest[7:12]) % 3
            placed[f"CheXpert-v1.0 batch {batch} (train {batch - 1})/{rest}"] = content
        else:
            placed[f"CheXpert-v1.0 batch 1 (validate & csv)/{name}"] = content
    write_files(folder, placed)


def files(top: str) -> Iterator[tuple[str, bytes]]:
    """Give the files below the top folder."""
    for split, size in OFFICIAL.items():
        made = lines(split, size, num_patients=size // 2, top=top)
        yield f"{split}.csv", csv_text(made).encode()
        for line in made:
            yield path(line).removeprefix(f"{top}/"), bars(truth(line), split)


def write_files(folder: Path, content: Mapping[str, bytes]) -> None:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def lists(root: Path, sizes: Mapping[str, int] = PUBLISHED) -> None:
    for split, size in sizes.items():
        rows = lines(split, size, NUM_PATIENTS[split], "CheXpert-v1.0")
        (root / f"{split}.csv").write_text(csv_text(rows))
        (root / split).mkdir()
        for patient in {path(line).split("/")[2] for line in rows}:
            (root / split / patient).mkdir()
