"""EuroSAT_RGB.zip: class folders; the parts are drawn here once more, by the hash of class and name."""

from pathlib import Path

from transferbench.datasets.base import mix

from .pictures import archive, encoded

TOP = "EuroSAT_RGB"
SMALL = {"train": 18, "holdout": 6, "test": 6}
PUBLISHED = {
    "AnnualCrop": 3000, "Forest": 3000, "HerbaceousVegetation": 3000, "Highway": 2500, "Industrial": 2500,
    "Pasture": 2000, "PermanentCrop": 2500, "Residential": 3000, "River": 2500, "SeaLake": 3000,
}  # fmt: skip


def write(folder: Path) -> None:
    content = {}
    for label, name in enumerate(("AnnualCrop", "Forest", "SeaLake")):
        stems = sorted((f"{name}_{i}" for i in range(1, 11)), key=lambda s, name=name: mix(0, f"{name}/{s}"))
        drawn = ["test"] * 2 + ["holdout"] * 2 + ["train"] * 6
        content |= {
            f"{TOP}/{name}/{stem}.jpg": encoded(label, part) for stem, part in zip(stems, drawn, strict=True)
        }
    archive(folder / "EuroSAT_RGB.zip", content)


def lists(root: Path) -> None:
    for name, size in PUBLISHED.items():
        (root / name).mkdir()
        for i in range(size):
            (root / name / f"{name}_{i + 1}.jpg").touch()
