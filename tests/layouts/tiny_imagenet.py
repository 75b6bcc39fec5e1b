"""tiny-imagenet-200.zip: class folders for train, one folder and a list for val, `wnids.txt` not sorted.

The training images are the list, and there are 100,000 of them: so no `lists` at the published sizes.
"""

from pathlib import Path

from .pictures import archive, encoded

TOP = "tiny-imagenet-200"
WNIDS = ("n02124075", "n04067472", "n01443537")  # as in wnids.txt: Egyptian cat, reel, goldfish
SMALL = {"train": 54, "holdout": 6, "test": 6}
DRAWN = True  # the holdout is taken from train


def write(folder: Path) -> None:
    content = {"wnids.txt": "\n".join(WNIDS).encode() + b"\n", "words.txt": b"n00001740\tentity\n"}
    lines = []
    for label, wnid in enumerate(sorted(WNIDS)):
        images = [f"{wnid}_{i}.JPEG" for i in range(20)]
        boxes = "".join(f"{name}\t0\t10\t63\t58\n" for name in images)
        content[f"train/{wnid}/{wnid}_boxes.txt"] = boxes.encode()
        content |= {f"train/{wnid}/images/{name}": encoded(label, "train") for name in images}
        for i in (label, 5 - label):
            content[f"val/images/val_{i}.JPEG"] = encoded(label, "test")
            lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    content["val/val_annotations.txt"] = "".join(sorted(lines)).encode()
    content["test/images/test_0.JPEG"] = encoded(0, "test")
    archive(folder / "tiny-imagenet-200.zip", {f"{TOP}/{name}": data for name, data in content.items()})
