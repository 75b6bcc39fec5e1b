"""Three zips: training images in tracks by class, test images, and the list with their labels."""

from pathlib import Path

from .pictures import archive, encoded

DRAWN = True
FRAMES = 3
TRACKS = {0: 5, 1: 16, 7: 24}  # of some classes; the others have 2
SMALL = {"train": 240, "holdout": 135, "test": 43}
TEST_COLUMNS = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;"
PUBLISHED = (
    5, 50, 50, 32, 44, 42, 10, 32, 32, 33, 45, 30, 47, 48, 18, 14, 10, 25, 27, 5, 8, 8, 9, 12, 6, 34, 14, 6,
    12, 6, 10, 18, 6, 16, 10, 27, 9, 5, 46, 7, 8, 6, 6,
)  # fmt: skip


def labels(size: int) -> str:
    rows = [f"{i:05}.ppm;12;8;1;1;11;7;{i * 7 % 43}\r\n" for i in range(size)]
    return f"{TEST_COLUMNS}ClassId\r\n" + "".join(rows)


def write(folder: Path) -> None:
    training = {}
    for label in range(43):
        place = f"GTSRB/Training/{label:05}"
        frames = [f"{t:05}_{f:05}.ppm" for t in range(TRACKS.get(label, 2)) for f in range(FRAMES)]
        training[f"{place}/GT-{label:05}.csv"] = f"{TEST_COLUMNS}ClassId\r\n".encode()
        training |= {f"{place}/{frame}": encoded(label, "train", ".ppm") for frame in frames}
    images = "GTSRB/Final_Test/Images"
    test = {f"{images}/{i:05}.ppm": encoded(i * 7 % 43, "test", ".ppm") for i in range(43)}
    test[f"{images}/GT-final_test.test.csv"] = f"{TEST_COLUMNS[:-1]}\r\n".encode()
    archive(folder / "GTSRB-Training_fixed.zip", training)
    archive(folder / "GTSRB_Final_Test_Images.zip", test)
    archive(folder / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": labels(43).encode()})


def lists(root: Path) -> None:
    for label, tracks in enumerate(PUBLISHED):
        place = root / f"GTSRB/Training/{label:05}"
        place.mkdir(parents=True)
        for i in range(tracks * 30):
            (place / f"{i // 30:05}_{i % 30:05}.ppm").touch()
    (root / "GT-final_test.csv").write_text(labels(12_630))
