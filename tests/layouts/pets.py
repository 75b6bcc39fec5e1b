"""images.tar.gz and annotations.tar.gz: lists of `image breed kind breed-of-its-kind`, numbered from 1."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .pictures import archive, encoded

DRAWN = True
SMALL = {
    "train": 28,
    "holdout": 8,
    "test": 6,
}  # of the official training list, so the committed holdout is met
USUAL = "10-18 100-190"
TRAINVAL = {  # the official training list: the numbers of each breed's images
    "Abyssinian": "1 10-19 100-146 148-161 164-170 172-185 190-193 195-197",
    "american_bulldog": "10-16 18-19 100-144 146-153 158 161 164 166-169 171-194 196-202",
    "american_pit_bull_terrier": USUAL,
    "basset_hound": USUAL,
    "beagle": "10 12-18 100-105 107-131 133-158 160-194",
    "Bengal": "10-18 100-180 182-191",
    "Birman": USUAL,
    "Bombay": "1 10 12-16 18-19 100-123 125-141 143-146 148 150-164 166-186 188 191 193-194 198",
    "boxer": USUAL,
    "British_Shorthair": "10 15-18 100-130 133-137 139-141 144-145 148-149 151 153-170 172-190 193 195-201 "
    "203-205 207 209-210",
    "chihuahua": USUAL,
    "Egyptian_Mau": "10-16 18 100-128 130-134 136 138 140-144 146-157 160-165 168 170-176 178-182 184-190 "
    "192-197",
    "english_cocker_spaniel": "10-18 100-161 165-178 180-190",
    "english_setter": USUAL,
    "german_shorthaired": USUAL,
    "great_pyrenees": USUAL,
    "havanese": USUAL,
    "japanese_chin": USUAL,
    "keeshond": USUAL,
    "leonberger": USUAL,
    "Maine_Coon": "1 10 13-14 16-19 100-112 115-117 119 121 123-124 126-129 131-155 157-164 167-171 173-176 "
    "180 182 184 186-187 189 191-197 201 203-208 210-211 213-214 217 219",
    "miniature_pinscher": USUAL,
    "newfoundland": "10-18 100-151 156-190",
    "Persian": "1 10-20 100-108 111-112 114-118 120-123 125-126 128-129 131-141 143-145 147 149-150 152-153 "
    "155-156 158-166 168-176 179-197 200-202 206 213 217",
    "pomeranian": USUAL,
    "pug": "10-18 100-112 114-151 153-192",
    "Ragdoll": "1 10 12-13 16 18 100-101 103-107 110-119 121-122 124-143 145-156 158-166 168-199 201-202",
    "Russian_Blue": "1 10 12-14 16-19 100-104 106-120 122-125 127-133 135-137 139-140 142-162 164-166 "
    "168-188 191-200",
    "saint_bernard": USUAL,
    "samoyed": USUAL,
    "scottish_terrier": USUAL,
    "shiba_inu": "10-16 18-19 100-137 139-147 150 152-166 168 170-183 185-187 189-196 198-199",
    "Siamese": "14 17-19 100-104 106 108-117 119-120 122 125-131 133 135-165 167-176 178-189 191 193-196 "
    "198-202 204-208",
    "Sphynx": "1 11-12 14-15 17-19 102-105 107-108 110-112 114-117 119 121-122 124-134 136-139 141-146 148 "
    "150-153 155-160 162 164-206",
    "staffordshire_bull_terrier": "1 10-19 100-141 143-145 147 149-152 154-156 158-160 162-163 165-177 "
    "179-181 183-186 188-192 194-199",
    "wheaten_terrier": USUAL,
    "yorkshire_terrier": USUAL,
}
BREEDS = tuple(TRAINVAL)


def numbers(ranges: str) -> Iterator[int]:
    """Go through numbers that are written as ranges."""
    for first, _, last in (r.partition("-") for r in ranges.split()):
        yield from range(int(first), int(last or first) + 1)


def text(images: Mapping[str, Iterable[int]]) -> str:
    """Give a list of images, by breed; names of cats begin with a capital."""
    lines = []
    for breed, own in images.items():
        place = BREEDS.index(breed)
        of_kind = sum(b[0].isupper() == breed[0].isupper() for b in BREEDS[: place + 1])
        lines += [f"{breed}_{n} {place + 1} {1 if breed[0].isupper() else 2} {of_kind}\n" for n in own]
    return "".join(lines)


def write(folder: Path) -> None:
    images = {"images/Abyssinian_34.jpg": b"on no list", "images/Abyssinian_100.mat": b""}
    lists = {"annotations/list.txt": b"#Image CLASS-ID SPECIES BREED ID\n"}
    for name, part, own in (("trainval", "train", range(120, 132)), ("test", "test", range(3, 5))):
        lines = text(dict.fromkeys(BREEDS[:3], own))
        lists[f"annotations/{name}.txt"] = lines.encode()
        for image, breed, *_ in map(str.split, lines.splitlines()):
            images[f"images/{image}.jpg"] = encoded(int(breed) - 1, part)
    archive(folder / "images.tar.gz", images)
    archive(folder / "annotations.tar.gz", lists)


def lists(root: Path) -> None:
    """The training list is the official one, the test list is made."""
    (root / "annotations").mkdir()
    trainval = {breed: numbers(ranges) for breed, ranges in TRAINVAL.items()}
    test = {breed: range(300, 400 if i < 6 else 399) for i, breed in enumerate(BREEDS)}
    (root / "annotations/trainval.txt").write_text(text(trainval))
    (root / "annotations/test.txt").write_text(text(test))
