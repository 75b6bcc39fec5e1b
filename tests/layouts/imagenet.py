"""ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, and two usual copies.

The images are the list, and there are a million of them: so no `lists` at the published sizes.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.io import savemat

from .pictures import archive, encoded

# In the order of the official numbers, which is not that of the ids: kit fox, crane, tench, crane.
WNIDS = ("n02119789", "n03126707", "n01440764", "n02012849")
INNER_NODE = "n02118333"  # fox: numbered behind the classes
SMALL = {"train": 12, "holdout": 8}
TRUTH = (3, 1, 4, 2, 2, 3, 1, 4)  # official numbers of validation images 1, 2, …
DEVKIT = "ILSVRC2012_devkit_t12"
FIELDS = (
    "ILSVRC2012_ID", "WNID", "words", "gloss",
    "num_children", "children", "wordnet_height", "num_train_images",
)  # fmt: skip


def label(wnid: str) -> int:
    return sorted(WNIDS).index(wnid)


def tar(files: Mapping[str, bytes], **options) -> bytes:
    """Make a tar in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as out:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def train_files(wnid: str) -> dict[str, bytes]:
    return {f"{wnid}_{i}.JPEG": encoded(label(wnid), "train") for i in (10026, 9, 731)}


def val_files() -> dict[str, bytes]:
    """Give the validation images, which the official tar does not hold in the order of their names."""
    files = {
        f"ILSVRC2012_val_{i:08}.JPEG": encoded(label(WNIDS[number - 1]), "holdout")
        for i, number in enumerate(TRUTH, start=1)
    }
    return dict(sorted(files.items(), key=lambda item: item[0][::-1], reverse=True))


def meta() -> bytes:
    """Make meta.mat: a struct for each node of the hierarchy, classes first."""
    nodes = [*WNIDS, INNER_NODE]
    synsets = np.zeros((len(nodes), 1), dtype=[(name, object) for name in FIELDS])
    for i, wnid in enumerate(nodes):
        children = [1.0] if wnid == INNER_NODE else []
        synsets[i, 0] = (i + 1.0, wnid, "a, b", "gloss", float(len(children)), np.array(children), 0.0, 3.0)
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def devkit(folder: Path) -> None:
    truth = "".join(f"{number}\n" for number in TRUTH).encode()
    data = {"meta.mat": meta(), "ILSVRC2012_validation_ground_truth.txt": truth}
    archive(folder / f"{DEVKIT}.tar.gz", {f"{DEVKIT}/data/{name}": content for name, content in data.items()})


def write(folder: Path) -> None:
    archive(folder / "ILSVRC2012_img_train.tar", {f"{wnid}.tar": tar(train_files(wnid)) for wnid in WNIDS})
    archive(folder / "ILSVRC2012_img_val.tar", val_files())
    devkit(folder)


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_folders(root: Path) -> None:
    """Write the usual copy: class folders for both parts."""
    images = val_files()
    for wnid in WNIDS:
        put(root / "train" / wnid, train_files(wnid))
        numbers = [i for i, number in enumerate(TRUTH, start=1) if WNIDS[number - 1] == wnid]
        names = [f"ILSVRC2012_val_{i:08}.JPEG" for i in numbers]
        put(root / "val" / wnid, {name: images[name] for name in names})


def write_kaggle(root: Path) -> None:
    """Write what Kaggle's archive unpacks to: flat validation images, and their classes in a list."""
    for wnid in WNIDS:
        put(root / "ILSVRC/Data/CLS-LOC/train" / wnid, train_files(wnid))
    put(root / "ILSVRC/Data/CLS-LOC/val", val_files())
    wnids = [WNIDS[number - 1] for number in TRUTH]
    rows = [f"ILSVRC2012_val_{i:08},{w} 1 2 3 4 {w} 5 6 7 8 \n" for i, w in enumerate(wnids, start=1)]
    (root / "LOC_val_solution.csv").write_text("".join(["ImageId,PredictionString\n", *reversed(rows)]))
