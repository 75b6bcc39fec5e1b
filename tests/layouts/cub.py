"""CUB_200_2011.tgz: lists of `number value`, from 1 on, beside the images; attributes.txt lies above them."""

from pathlib import Path

from .pictures import archive, encoded

DRAWN = True
SMALL = {"train": 27, "holdout": 3, "test": 6}
SPECIES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Chuck_wills_Widow")
PUBLISHED = 5_994, 5_794


def texts(species: tuple[str, ...], num_train: int, num_test: int) -> dict[str, list[str]]:
    """Give the values of each list, in the order of the numbers; training and test images are mixed."""
    size = num_train + num_test
    is_test = [i * num_test // size != (i + 1) * num_test // size for i in range(size)]
    labels = [i * len(species) // size for i in range(size)]
    return {
        "images": [f"{species[k]}/{species[k][4:]}_{i:04}_{i * 3}.jpg" for i, k in enumerate(labels)],
        "image_class_labels": [str(k + 1) for k in labels],
        "train_test_split": [str(int(not t)) for t in is_test],
        "classes": list(species),
    }


def numbered(values: list[str]) -> str:
    return "".join(f"{i} {value}\n" for i, value in enumerate(values, 1))


def write(folder: Path) -> None:
    own = texts(SPECIES, SMALL["train"] + SMALL["holdout"], SMALL["test"])
    content = {f"CUB_200_2011/{name}.txt": numbered(values).encode() for name, values in own.items()}
    names = ("images", "image_class_labels", "train_test_split")
    for path, label, is_train in zip(*(own[name] for name in names), strict=True):
        image = encoded(int(label) - 1, "train" if is_train == "1" else "test")
        content[f"CUB_200_2011/images/{path}"] = image
    archive(folder / "CUB_200_2011.tgz", {"attributes.txt": b"1 has_bill_shape::curved\n"} | content)


def lists(root: Path) -> None:
    species = tuple(f"{i:03}.Bird_{i}" for i in range(1, 201))
    for name, values in texts(species, *PUBLISHED).items():
        (root / f"{name}.txt").write_text(numbered(values))
