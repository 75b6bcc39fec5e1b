"""Images of every kind become the 8-bit RGB that an independent reading gives."""

import io
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from decoding_samples import (
    ALPHA,
    BY_KEY,
    COLOR,
    DEEP,
    GRAY,
    INK,
    SAMPLES,
    SMOOTH,
    Sample,
    linear_gray_profile,
    palette,
    png,
    saved,
    swapped_profile,
    tiff,
    turned_tag,
)
from PIL import Image
from transferbench import InputError
from transferbench.datasets.decoding import formats
from transferbench.datasets.decoding.formats import SUFFIXES, is_image, why_left_out
from transferbench.datasets.decoding.remarks import Remark
from transferbench.datasets.decoding.rgb import Decoded, upright_rgb
from transferbench.datasets.loading import image_folder
from transferbench.datasets.pixels import Unreadable, open_image, resize_square
from transferbench.terminal import configure_output

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # as the standard of EXIF words them
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def decoded(data: bytes) -> Decoded:
    with open_image(data) as image:
        return upright_rgb(image)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decoded(data).image).astype(int)


def plain(sample: Sample) -> np.ndarray:
    """Return the file's own samples, as Pillow reads them without any tag."""
    with Image.open(io.BytesIO(sample.encode())) as image:
        return np.asarray(image)


def stored(sample: Sample) -> np.ndarray:
    return sample.stored


def by_range(low: float, high: float) -> Callable[[Sample], np.ndarray]:
    return lambda s: np.rint(255 * (s.stored.astype(float) - low) / (high - low))


def own_range(sample: Sample) -> np.ndarray:
    return by_range(sample.stored.min(), sample.stored.max())(sample)


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    color = color if color.ndim == 3 else color[..., None]
    return color * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)


def where(color: np.ndarray, is_clear: np.ndarray) -> np.ndarray:
    return on_white(color, np.where(is_clear, 0, 255))


def from_inks(inks: np.ndarray) -> np.ndarray:
    return (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255


def gray_to_srgb(sample: Sample) -> np.ndarray:
    light = sample.stored / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def lab_to_srgb(sample: Sample) -> np.ndarray:
    tifffile = pytest.importorskip("tifffile")
    raw = tifffile.imread(io.BytesIO(sample.encode()))
    lightness = raw[..., 0] / 2.55
    a, b = raw[..., 1].astype(np.int8).astype(float), raw[..., 2].astype(np.int8).astype(float)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    to_rgb = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]  # from D50
    light = (xyz @ np.array(to_rgb).T).clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def colors(sample: Sample) -> np.ndarray:
    return COLOR.reshape(-1, 3)[sample.stored]


Reading = tuple[Callable[[Sample], np.ndarray], float]  # with the largest difference, in levels
READINGS: dict[str, Reading] = {
    "jpeg-gray": (plain, 0),
    **{f"jpeg-orientation-{n}": (lambda s, n=n: TURNS[n](plain(s)), 0) for n in TURNS},
    "jpeg-icc": (lambda s: plain(s)[..., ::-1], 3),
    "jpeg-bad-icc": (plain, 0),
    "jpeg-gray-icc": (gray_to_srgb, 12),  # JPEG's error of one level is that large in the dark
    "jpeg-cmyk-adobe": (lambda s: from_inks(INK), 4),
    "jpeg-cmyk-plain": (lambda s: from_inks(INK), 4),
    "jpeg-ycck-adobe": (lambda s: from_inks(INK), 6),
    **dict.fromkeys(("png-bit", "pbm", "tiff-min-is-white"), (by_range(0, 1), 0)),
    **dict.fromkeys(("png-gray-16", "png-gray-16-sbit", "pgm-16", "jp2-16"), (by_range(0, 65535), 0)),
    **dict.fromkeys(("tiff-16", "tiff-16-deflate", "tiff-16-big-endian"), (by_range(0, 65535), 0)),
    **dict.fromkeys(("pgm-10", "ppm-10"), (by_range(0, 1023), 0)),
    "png-gray-16-trns": (lambda s: where(by_range(0, 65535)(s), s.stored == s.stored[0, 1]), 0),
    "png-rgb-16": (by_range(0, 65535), 1),
    "tiff-rgb-16": (by_range(0, 65535), 1),
    "png-la": (lambda s: on_white(GRAY, ALPHA), 1),
    "png-la-16": (lambda s: on_white(GRAY, ALPHA), 1),
    "png-rgba": (lambda s: on_white(COLOR, ALPHA), 1),
    "tiff-rgba": (lambda s: on_white(COLOR, ALPHA), 1),
    "webp-rgba": (lambda s: on_white(COLOR, ALPHA), 1),
    "png-palette": (colors, 0),
    "tiff-palette": (colors, 0),
    "png-palette-trns": (lambda s: on_white(colors(s), np.array([0, 128, 255, 255])[s.stored]), 1),
    "png-gray-trns": (lambda s: where(GRAY, s.stored == GRAY[0, 5]), 0),
    "png-rgb-trns": (lambda s: where(COLOR, (COLOR[0, 0] == COLOR).all(-1)), 0),
    "png-icc": (lambda s: on_white(COLOR[..., ::-1], ALPHA), 3),
    **dict.fromkeys(("png-exif", "tiff-orientation", "webp-orientation"), (lambda s: TURNS[6](s.stored), 0)),
    **dict.fromkeys(
        ("png-frames", "tiff-pages", "webp-frames", "gif-frames", "bmp", "tiff-int-8"), (stored, 0)
    ),
    "tiff-8-min-is-white": (by_range(255, 0), 0),
    "tiff-16-min-is-white": (by_range(65535, 0), 0),
    "tiff-12": (by_range(0, 4095), 0),
    "tiff-int-16": (by_range(0, 65535), 0),
    **dict.fromkeys(("tiff-int-32", "tiff-unsigned-32", "tiff-signed-16", "tiff-float-own"), (own_range, 0)),
    "tiff-float-1": (by_range(0, 1), 0),
    "tiff-float-8": (by_range(0, 255), 0),
    "tiff-cmyk": (lambda s: from_inks(INK), 1),
    "tiff-lab": (lab_to_srgb, 3),
    "tiff-ycbcr": (lambda s: plain(s), 0),
    "gif-transparent": (lambda s: where(colors(s), s.stored == 1), 0),
    "avif-rgba": (lambda s: on_white(SMOOTH, GRAY), 6),
    "avif-orientation": (lambda s: TURNS[6](SMOOTH), 24),
}


@pytest.mark.parametrize("key", BY_KEY)
def test_a_row_of_the_reference_is_what_an_independent_reading_gives(key):
    read, most = READINGS[key]
    found, expected = pixels(BY_KEY[key].encode()), read(BY_KEY[key])
    expected = expected if expected.ndim == 3 else expected[..., None]
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(found - expected).max() <= most + 1e-6
    assert most == 0 or np.abs(found - expected).mean() <= max(0.6, most / 6)


def test_every_row_has_a_reading():
    assert READINGS.keys() == BY_KEY.keys()
    assert len(BY_KEY) == len(SAMPLES)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.format == "TIFF"], ids=lambda s: s.key)
def test_the_tiffs_hold_what_they_are_said_to(sample):
    tifffile = pytest.importorskip("tifffile")
    if sample.key in ("tiff-12", "tiff-min-is-white", "tiff-lab", "tiff-ycbcr", "tiff-pages"):
        pytest.skip("other codecs or several pages")
    assert np.array_equal(tifffile.imread(io.BytesIO(sample.encode())), sample.stored)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planes", ["gray", "inverted", "rgb", "tiles"])
def test_sixteen_bits_in_any_tiff(order, compression, planes):
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    options = {"byteorder": order, "compression": compression}
    values = np.repeat(DEEP[..., None], 3, 2) if planes == "rgb" else DEEP
    if planes == "inverted":
        options["photometric"] = "miniswhite"
    if planes == "tiles":
        options["tile"] = (16, 16)
    tifffile.imwrite(file, values, **options)
    if (planes, order) == ("inverted", ">"):
        with pytest.raises(Unreadable, match=r"a TIFF with 1 channel of 16 bits \(unsigned\)"):
            decoded(file.getvalue())
        return
    expected = np.rint(DEEP / 257)
    expected = 255 - expected if planes == "inverted" else expected
    assert np.abs(pixels(file.getvalue())[..., 0] - expected).max() <= (planes == "rgb")


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_sixteen_bits_in_a_compressed_tiff(compression):
    assert np.array_equal(pixels(saved(DEEP, "TIFF", compression=compression))[..., 0], np.rint(DEEP / 257))


def test_numbers_that_are_not_finite_are_black():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    values[0] = [np.nan, np.inf, -np.inf, 0.5]
    image, remarks = decoded(saved(values, "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 0, 128]
    assert remarks == [Remark.NOT_FINITE, Remark.UNIT]
    blank = decoded(saved(np.full((3, 4), np.nan, np.float32), "TIFF"))
    assert blank.image.getextrema() == ((0, 0),) * 3


def test_a_constant_image_of_numbers_is_decoded():
    assert decoded(saved(np.full((3, 4), -7, np.int32), "TIFF")).image.getextrema() == ((0, 0),) * 3
    assert decoded(saved(np.full((3, 4), 7, np.int32), "TIFF")).image.getextrema() == ((7, 7),) * 3


def test_opaque_alpha_changes_nothing_and_is_not_remarked():
    opaque = np.dstack([COLOR, np.full(GRAY.shape, 255, np.uint8)])
    image, remarks = decoded(saved(opaque, "PNG"))
    assert np.array_equal(np.asarray(image), COLOR)
    assert not remarks


def test_a_bmp_that_hides_everything_is_shown():
    hidden = np.dstack([COLOR, np.zeros_like(GRAY)])
    image, remarks = decoded(bmp_with_alpha(hidden))
    assert np.array_equal(np.asarray(image), COLOR)
    assert remarks == [Remark.ALPHA_UNUSED]
    assert np.asarray(decoded(saved(hidden, "PNG")).image).min() == 255


def bmp_with_alpha(pixels: np.ndarray) -> bytes:
    """Write a BMP of four channels with a header of version 4, which names a mask of alpha."""
    height, width = pixels.shape[:2]
    data = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = b"".join(n.to_bytes(4, "little") for n in (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    head = b"".join(n.to_bytes(4, "little") for n in (108, width, height))
    head += (1).to_bytes(2, "little") + (32).to_bytes(2, "little") + (3).to_bytes(4, "little")
    head += len(data).to_bytes(4, "little") + bytes(16) + masks
    head = head.ljust(108, b"\0")
    start = 14 + len(head)
    return (
        b"BM"
        + (start + len(data)).to_bytes(4, "little")
        + bytes(4)
        + start.to_bytes(4, "little")
        + head
        + data
    )


@pytest.mark.parametrize("profile", [b"", b"junk", swapped_profile()[:200], bytes(500)])
def test_a_damaged_profile_keeps_the_values(profile):
    image, remarks = decoded(saved(COLOR, "PNG", icc_profile=profile or b"\0"))
    assert np.array_equal(np.asarray(image), COLOR)
    assert remarks == [Remark.PROFILE_UNREAD]


def test_the_profile_of_srgb_changes_nothing_and_is_not_remarked():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image, remarks = decoded(saved(COLOR, "PNG", icc_profile=profile))
    assert np.array_equal(np.asarray(image), COLOR)
    assert not remarks


def test_a_gray_image_may_have_a_profile_of_color():
    image, remarks = decoded(saved(GRAY, "PNG", icc_profile=swapped_profile()))
    assert remarks == [Remark.PROFILE]
    assert np.abs(np.asarray(image).astype(int) - GRAY[..., None]).max() <= 1  # grays stay as they are
    assert decoded(saved(GRAY, "PNG", icc_profile=linear_gray_profile())).remarks == [Remark.PROFILE]


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", turned_tag(6)[:12], turned_tag(9), turned_tag(0), b""])
def test_a_damaged_orientation_turns_nothing(exif):
    image, remarks = decoded(saved(COLOR, "PNG", exif=exif))
    assert np.array_equal(np.asarray(image), COLOR)
    assert set(remarks) <= {Remark.TAG_UNREAD}


def test_what_pillow_says_of_damaged_metadata_is_not_shown():
    data = saved(COLOR, "JPEG", exif=turned_tag(6)[:-6])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        decoded(data)
        assert shown
        shown.clear()
        configure_output()
        decoded(data)
    assert not shown


@pytest.mark.parametrize("key", ["jpeg-orientation-6", "png-exif", "tiff-orientation", "webp-orientation"])
def test_the_aspect_ratio_is_that_of_the_upright_image(key):
    with open_image(BY_KEY[key].encode()) as image:
        square, aspect = resize_square(image, 8)
    assert aspect == 10 / 12
    assert square.shape == (8, 8, 3)


def test_a_premultiplied_tiff_is_put_on_white():
    alpha = ALPHA.astype(int)[..., None]
    premultiplied = np.dstack([(COLOR * alpha // 255).astype(np.uint8), ALPHA])
    data = bytearray(saved(premultiplied, "TIFF"))
    with Image.open(io.BytesIO(bytes(data))) as image:
        assert image.tag_v2[338] == (2,)
    at = data.index(b"\x52\x01\x03\x00\x01\x00\x00\x00\x02\x00")
    data[at + 8] = 1  # associated
    assert np.abs(pixels(bytes(data)) - (premultiplied[..., :3].astype(int) + 255 - alpha)).max() <= 8


def test_what_pillow_cannot_read_is_said_in_a_line():
    wide = tiff(np.zeros((10, 12), np.float64).tobytes(), (64,), 1, sample_format=3)
    subsampled = tiff(bytes(10 * 12 * 3), (8, 8, 8), 6)
    with pytest.raises(Unreadable, match=r"a TIFF with 1 channel of 64 bits \(float\)"):
        decoded(wide)
    with pytest.raises(Unreadable, match="subsampled YCbCr; convert it to PNG"):
        decoded(subsampled)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.key)
def test_a_cut_file_is_an_error(sample):
    data = sample.encode()
    with pytest.raises(Unreadable):
        decoded(data[: len(data) // 3])


# --- files ----------------------------------------------------------------------------------------


def test_the_list_of_suffixes():
    for name in (
        "a.jpg",
        "a.JPEG",
        "b/a.jfif",
        "a.jpe",
        "a.apng",
        "a.dib",
        "a.pbm",
        "a.pnm",
        "a.tiff",
        "a.jp2",
    ):
        assert is_image(name)
    for name in (
        "a.txt",
        "a",
        "jpg",
        ".jpg",
        "b/.a.jpg",
        ".b/a.jpg",
        "a.jpg.part",
        "a.svg",
        "a.npy",
        "c.d/jpg",
    ):
        assert not is_image(name)
    assert (".avif" in SUFFIXES) == ("AVIF" not in formats.MISSING)
    assert (".heic" in SUFFIXES) == ("HEIF" not in formats.MISSING)
    assert "convert" in why_left_out(".DNG")
    assert not why_left_out(".jpg")
    assert not why_left_out(".xyz")


def tree(root: Path) -> Path:
    """Write each sample into a folder of all parts, under the suffix of another format."""
    for n, sample in enumerate(SAMPLES):
        for part in ("train", "val", "test"):
            place = root / part / "ab"[n % 2]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{n:02}{('.jpg', '.png', '.tif')[n % 3]}").write_bytes(sample.encode())
    return root


def test_trees_and_tars_decode_alike_and_by_content(tmp_path):
    root = tree(tmp_path / "set")
    with tarfile.open(tmp_path / "packed.tar", "w") as tar:
        tar.add(root, ".")
    of_tree, of_tar = (image_folder.load(p).parts["train"].images for p in (root, tmp_path / "packed.tar"))
    assert len(of_tree) == len(of_tar) == len(SAMPLES)
    for i in range(len(SAMPLES)):
        sample = SAMPLES[int(Path(of_tree.path(i)).stem)]
        with open_image(sample.encode()) as image:
            expected, aspect = resize_square(image, 16)
        for images in (of_tree, of_tar):
            found = images.decode(i, 16)
            assert np.array_equal(found[0], expected)
            assert found[1] == aspect


def heic(**options: bytes) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return saved(SMOOTH, "HEIF", quality=100, chroma=444, **options)


def test_an_heic_is_decoded_upright():
    image, remarks = decoded(heic(exif=turned_tag(6)))
    assert remarks == [Remark.TURNED]
    assert np.abs(np.asarray(image).astype(int) - TURNS[6](SMOOTH)).mean() < 4
    assert decoded(heic()).remarks == []


def test_an_heic_without_its_reader_is_said_to_need_it(monkeypatch):
    data = heic()
    monkeypatch.setitem(formats.MISSING, "HEIF", "needs `pip install -e '.[heic]'`")
    formats._registered.cache_clear()
    with pytest.raises(Unreadable, match=r"HEIC: needs `pip install -e '\.\[heic\]'`"):
        decoded(data)
    formats._registered.cache_clear()


def test_an_image_of_a_set_is_named_when_it_cannot_be_read(tmp_path):
    root = tree(tmp_path / "set")
    (root / "train" / "a" / "00.jpg").write_bytes(png(COLOR, 2)[:60])
    images = image_folder.load(root).parts["train"].images
    with pytest.raises(InputError, match=r"train/a/00\.jpg: not a readable image"):
        images.decode(0, 8)


def test_a_palette_with_one_clear_color_is_put_on_white():
    data = saved(palette(0), "PNG", transparency=2)
    clear = GRAY // 64 == 2
    assert (pixels(data)[clear] == 255).all()
    assert np.array_equal(pixels(data)[~clear], COLOR.reshape(-1, 3)[GRAY // 64][~clear])


def test_sixteen_bits_in_separate_planes_are_refused():
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    planes = np.repeat(DEEP[None], 3, 0)
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(Unreadable, match="TIFF with 16 bits in separate planes; convert it to PNG"):
        pixels(file.getvalue())
    file = io.BytesIO()
    tifffile.imwrite(file, (planes >> 8).astype(np.uint8), photometric="rgb", planarconfig="separate")
    assert np.array_equal(pixels(file.getvalue())[..., 0], DEEP >> 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer, not the image; run `git lfs pull`",
        ),
        (b"<!DOCTYPE html><p>404</p>", "a web page, not the image; download it again"),
        (b"", "an empty file"),
    ],
)
def test_files_in_place_of_images_are_named(content, reason):
    with pytest.raises(Unreadable, match=reason):
        pixels(content)
