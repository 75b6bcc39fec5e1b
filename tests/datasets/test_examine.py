"""What `data doctor` learns from decoding each image once."""

from pathlib import Path

import numpy as np
import pytest
from decoding_samples import BY_KEY, saved, turned_tag
from PIL import Image
from transferbench.benchmarks.commands.doctor import doctor
from transferbench.datasets.loading import image_folder
from transferbench.datasets.pixels import ArrayImages
from transferbench.datasets.reading.examine import Examined, examine
from trees import tree

Pixels = np.ndarray
RNG = np.random.default_rng(0)


def noise(low: int = 0, high: int = 256, side: int = 20) -> Pixels:
    return RNG.integers(low, high, (side, side, 3), dtype=np.uint8)


def examined(*images: Pixels) -> Examined:
    return examine(ArrayImages(np.stack(images)), "train")


def test_ordinary_images_need_no_remark():
    assert examined(*(noise() for _ in range(6))) == Examined()


@pytest.mark.parametrize(
    ("most", "fault"),
    [
        (lambda i: np.full((20, 20, 3), 40 * i, np.uint8), "of a single color"),
        (lambda i: noise(0, 12), "almost black"),
        (lambda i: noise(245, 256), "almost white"),
    ],
)
def test_a_part_that_shows_nothing_is_at_fault(most, fault):
    found = examined(*(most(1 + i) for i in range(4)), noise())
    assert len(found.faults) == 1
    assert found.faults[0].startswith("train: 4 of 5 images")
    assert fault in found.faults[0]
    few = examined(*(noise() for _ in range(4)), most(1))
    assert not few.faults
    assert fault in few.remarks[0]


def test_images_that_are_all_alike_are_a_fault():
    same = noise()
    assert examined(same, same, same).faults == ["train: all 3 images decode to the same pixels"]
    assert not examined(same, same, noise()).faults
    assert not examined(same).faults


def test_digits_and_drawings_are_no_fault():
    """Most of their pixels are black or white, and yet they show something."""
    images = [np.zeros((28, 28), np.uint8) for _ in range(5)]
    for n, image in enumerate(images):
        image[10:16, 5 + n : 12] = 255
    assert examine(ArrayImages(np.stack(images)), "train") == Examined()
    thin = [np.full((100, 100), 255, np.uint8) for _ in range(5)]
    for n, image in enumerate(thin):
        image[10 + n, 20:35] = 0
    found = examine(ArrayImages(np.stack(thin)), "train")
    assert not found.faults
    assert "5 of 5 images that are white in 99% of their pixels or more" in found.remarks[0]


def test_the_embedded_sets_have_no_remark(capsys):
    assert doctor("digits") == 0
    assert "note: train:" not in capsys.readouterr().out


def of_files(root: Path, files: dict[str, bytes]) -> Examined:
    tree(root)
    for name, data in files.items():
        (root / "train" / "cat" / name).write_bytes(data)
    return examine(image_folder.load(root).parts["train"].images, "train")


def test_each_thing_that_decoding_did_is_counted_with_an_example(tmp_path):
    keys = (
        "png-frames",
        "gif-frames",
        "png-rgba",
        "jpeg-cmyk-adobe",
        "png-icc",
        "tiff-float-own",
        "tiff-pages",
    )
    files = {f"{key}.png": BY_KEY[key].encode() for key in keys}
    files["odd.mpo"] = saved(noise(), "JPEG")
    files["turned.jpg"] = saved(noise(), "JPEG", exif=turned_tag(8))
    found = of_files(tmp_path / "set", files)
    assert not found.faults
    assert not found.errors
    lines = "\n".join(found.remarks)
    for line in (
        "train: 3 of 17 images with several frames or pages: only the first is used, such as train/cat/gif-",
        "train: 2 of 17 images with transparent pixels: put on white",
        "train: 1 of 17 images in CMYK",
        "train: 1 of 17 images converted from their ICC profile to sRGB, such as train/cat/png-icc.png",
        "train: 1 of 17 images turned upright by their orientation tag (EXIF), such as train/cat/turned.jpg",
        "train: 4 of 17 images of another format than their suffix says: read by their content, such as",
        "each scaled by its own minimum and maximum",
    ):
        assert line in lines


def test_twelve_bits_in_sixteen_are_a_fault(tmp_path):
    """Nothing in the file says that the values end at 4095: the images decode almost black."""
    files = {f"deep{n}.png": saved(RNG.integers(0, 4096, (9, 9)).astype(np.uint16), "PNG") for n in range(12)}
    found = of_files(tmp_path / "set", files)
    assert len(found.faults) == 1
    assert "12 of 20 images of more than 8 bits that are almost black: scale their values" in found.faults[0]


def test_all_unreadable_images_are_listed(tmp_path):
    found = of_files(tmp_path / "set", {"5.png": b"junk", "6.png": b""})
    assert [error.partition(": ")[0][-5:] for error in found.errors] == ["5.png", "6.png"]
    assert not found.faults


def test_the_doctor_prints_remarks_and_counts_faults(tmp_path, capsys):
    root = tree(tmp_path / "set")
    for n, file in enumerate(sorted((root / "test").rglob("*.png"))):
        Image.fromarray(np.full((8, 8, 3), n, np.uint8)).save(file)
    for file in (root / "train" / "cat").glob("*.png"):
        file.write_bytes(saved(noise(), "PNG", exif=turned_tag(3)))
    assert doctor(str(root)) == 1
    out = capsys.readouterr().out
    assert "note: train: 4 of 8 images turned upright" in out
    assert "fault: test: 8 of 8 images that are almost black" in out
    assert "1 faults" in out or "1 fault" in out
