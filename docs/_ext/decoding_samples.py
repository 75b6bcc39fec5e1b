"""Small images of every kind that is decoded: format, samples and tag, with the values in the file.

The reference prints what becomes of each; a test compares that with an independent reading.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

ROWS, COLUMNS = 10, 12
ORIENTATION = 0x0112
RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
GRAY = np.linspace(0, 255, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint8)
DEEP = np.linspace(0, 65535, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint16)
DEEP_COLOR = RNG.integers(0, 65536, (ROWS, COLUMNS, 3), dtype=np.uint16)
SMOOTH = np.stack([GRAY, GRAY[::-1], GRAY.T.reshape(ROWS, COLUMNS)], 2)  # that lossy formats keep well
INK = np.dstack([SMOOTH // 2, np.full((ROWS, COLUMNS), 40, np.uint8)])  # C, M, Y, K


@dataclass(frozen=True)
class Sample:
    """An encoded image.

    Attributes:
        key: short and unique.
        format: name of its format.
        samples: mode and depth.
        tag: what else the file says; may be empty.
        stored: the values in the file, before they are compressed.
        encode: returns the file.
        outcome: what becomes of it, in words.
    """

    key: str
    format: str
    samples: str
    tag: str
    stored: np.ndarray
    encode: Callable[[], bytes]
    outcome: str


def saved(image: np.ndarray | Image.Image, format_: str, mode: str | None = None, **options: Any) -> bytes:
    """Encode an image by Pillow."""
    made = image if isinstance(image, Image.Image) else _image(image, mode)
    file = io.BytesIO()
    made.save(file, format_, **options)
    return file.getvalue()


def _image(array: np.ndarray, mode: str | None) -> Image.Image:
    if mode is None:
        return Image.fromarray(array)
    bands = [Image.fromarray(np.ascontiguousarray(array[..., c])) for c in range(array.shape[2])]
    return Image.merge(mode, bands)


def turned_tag(orientation: int) -> bytes:
    """Return an EXIF block with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def png(array: np.ndarray, color_type: int, chunks: Mapping[bytes, bytes] | None = None) -> bytes:
    """Write a PNG of 8 or 16 bits by hand: Pillow writes no color of 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    depth = 8 * array.itemsize
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    between = b"".join(chunk(kind, data) for kind, data in (chunks or {}).items())
    parts = (chunk(b"IHDR", head), between, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(
    data: bytes, bits: Sequence[int], photometric: int, sample_format: int = 1, order: str = "<"
) -> bytes:
    """Write an uncompressed TIFF of one strip by hand, from its bytes as they are in the file."""
    count = len(bits)
    tags: list[tuple[int, int, tuple[int, ...]]] = [  # tag, type (3: 16 bits, 4: 32 bits), values
        (256, 3, (COLUMNS,)),
        (257, 3, (ROWS,)),
        (258, 3, tuple(bits)),
        (259, 3, (1,)),
        (262, 3, (photometric,)),
        (273, 4, (0,)),
        (277, 3, (count,)),
        (278, 3, (ROWS,)),
        (279, 4, (len(data),)),
        (339, 3, (sample_format,) * count),
    ]
    after = 8 + 2 + 12 * len(tags) + 4
    extra, entries = b"", b""
    sizes = {3: "H", 4: "I"}
    long = sum(2 * len(values) for _, kind, values in tags if kind == 3 and len(values) > 2)
    for tag, kind, values in tags:
        values = (after + long,) if tag == 273 else values
        packed = struct.pack(f"{order}{len(values)}{sizes[kind]}", *values)
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack(f"{order}I", after + len(extra))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra + data


def swapped_profile() -> bytes:
    """Return the profile of sRGB with red and blue exchanged: a converted image has them exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)


def linear_gray_profile() -> bytes:
    """Return a profile of linear light for gray images."""

    def xyz(*values: float) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))

    tags = {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": b"curv" + bytes(8)}
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    total = start + len(body)
    head = struct.pack(">I4sI4s4s4s", total, b"\0\0\0\0", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def cmyk_jpeg(stored: np.ndarray, transform: int | None) -> bytes:
    """Encode four channels exactly as given, with Adobe's marker of a transform, or without the marker."""
    data = saved(255 - stored, "JPEG", "CMYK", quality=100, subsampling=0)  # Pillow inverts when it writes
    at = data.index(b"\xff\xee")
    if transform is None:
        return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    return data[: at + 15] + bytes([transform]) + data[at + 16 :]


def ycck() -> np.ndarray:
    """Return Adobe's YCCK of INK: the inks as if they were RGB, as YCbCr, and inverted black."""
    return np.dstack([np.asarray(Image.fromarray(INK[..., :3]).convert("YCbCr")), 255 - INK[..., 3]])


def twelve_bits() -> bytes:
    """Pack DEEP, as 12 bits, into a TIFF."""
    first, second = (DEEP >> 4).reshape(-1, 2).T.astype(np.uint32)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8)
    return tiff(packed.tobytes(), (12,), 1)


def palette(num_transparent: int) -> Image.Image:
    """Return an image with a palette, whose first colors are transparent."""
    image = Image.fromarray(GRAY // 64, "P")
    image.putpalette(COLOR.ravel()[:12].tolist())
    if num_transparent:
        image.info["transparency"] = bytes([0, 128, 255, 255][:num_transparent])
    return image


def frames(format_: str, **options: Any) -> bytes:
    """Encode two frames; the second is inverted."""
    first, second = Image.fromarray(SMOOTH), Image.fromarray(255 - SMOOTH)
    return saved(first, format_, save_all=True, append_images=[second], **options)


def pnm(kind: bytes, maximum: int, values: np.ndarray) -> bytes:
    """Write a PGM or PPM of 16-bit samples."""
    head = b"%s %d %d %d\n" % (kind, COLUMNS, ROWS, maximum)
    return head + values.astype(">u2").tobytes()


def floats(low: float, high: float) -> np.ndarray:
    """Return a ramp of floats."""
    return np.linspace(low, high, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)


TURN = "turned upright"
ON_WHITE = "put on white"
ROUND = "v / 257, rounded"
FIRST = "the first frame"
RGBA = np.dstack([COLOR, ALPHA])
LA = np.dstack([GRAY, ALPHA])
WIDE = DEEP.astype(np.int32) * 1000 - 7_000_000
TAG_6 = {"exif": turned_tag(6)}
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
SAMPLES = (
    Sample("jpeg-gray", "JPEG", "gray, 8 bits", "", GRAY, lambda: saved(GRAY, "JPEG"), "kept"),
    *(
        Sample(
            f"jpeg-orientation-{n}",
            "JPEG",
            "RGB, 8 bits",
            f"EXIF orientation {n}",
            SMOOTH,
            lambda n=n: saved(SMOOTH, "JPEG", quality=95, exif=turned_tag(n)),  # type: ignore[misc]
            TURN,
        )
        for n in range(2, 9)
    ),
    Sample(
        "jpeg-icc", "JPEG", "RGB, 8 bits", "ICC profile", SMOOTH,
        lambda: saved(SMOOTH, "JPEG", quality=100, subsampling=0, icc_profile=swapped_profile()),
        "converted to sRGB",
    ),
    Sample(
        "jpeg-bad-icc", "JPEG", "RGB, 8 bits", "ICC profile, damaged or of gray", SMOOTH,
        lambda: saved(SMOOTH, "JPEG", quality=100, subsampling=0, icc_profile=linear_gray_profile()),
        "values kept",
    ),
    Sample(
        "jpeg-gray-icc", "JPEG", "gray, 8 bits", "ICC profile", GRAY,
        lambda: saved(GRAY, "JPEG", quality=100, icc_profile=linear_gray_profile()),
        "converted to sRGB",
    ),
    Sample(
        "jpeg-cmyk-adobe", "JPEG", "CMYK, 8 bits", "Adobe marker", 255 - INK,
        lambda: cmyk_jpeg(255 - INK, 0), "inverted; (255 - C) (255 - K) / 255",
    ),
    Sample(
        "jpeg-cmyk-plain", "JPEG", "CMYK, 8 bits", "no Adobe marker", INK,
        lambda: cmyk_jpeg(INK, None), "not inverted; (255 - C) (255 - K) / 255",
    ),
    Sample(
        "jpeg-ycck-adobe", "JPEG", "YCCK, 8 bits", "Adobe marker", ycck(),
        lambda: cmyk_jpeg(ycck(), 2), "inverted; (255 - C) (255 - K) / 255",
    ),
    Sample("png-bit", "PNG", "gray, 1 bit", "", GRAY > 127, lambda: saved(GRAY > 127, "PNG"), "0 or 255"),
    Sample("png-gray-16", "PNG", "gray, 16 bits", "", DEEP, lambda: saved(DEEP, "PNG"), ROUND),
    Sample(
        "png-gray-16-sbit", "PNG", "gray, 16 bits", "sBIT", DEEP,
        lambda: png(DEEP, 0, {b"sBIT": b"\x0c"}), f"{ROUND}: samples fill 16 bits",
    ),
    Sample(
        "png-gray-16-trns", "PNG", "gray, 16 bits", "tRNS", DEEP,
        lambda: png(DEEP, 0, {b"tRNS": struct.pack(">H", int(DEEP[0, 1]))}), f"{ROUND}; {ON_WHITE}",
    ),
    Sample("png-rgb-16", "PNG", "RGB, 16 bits", "", DEEP_COLOR, lambda: png(DEEP_COLOR, 2), "the upper 8 bits"),
    Sample("png-la", "PNG", "gray and alpha, 8 bits", "", LA, lambda: saved(LA, "PNG", "LA"), ON_WHITE),
    Sample(
        "png-la-16", "PNG", "gray and alpha, 16 bits", "", LA.astype(np.uint16) * 257,
        lambda: png(LA.astype(np.uint16) * 257, 4), f"the upper 8 bits; {ON_WHITE}",
    ),
    Sample("png-rgba", "PNG", "RGBA, 8 bits", "", RGBA, lambda: saved(RGBA, "PNG"), ON_WHITE),
    Sample(
        "png-palette", "PNG", "palette", "", GRAY // 64, lambda: saved(palette(0), "PNG"), "the palette's colors"
    ),
    Sample(
        "png-palette-trns", "PNG", "palette", "tRNS", GRAY // 64,
        lambda: saved(palette(4), "PNG", transparency=bytes([0, 128, 255, 255])), ON_WHITE,
    ),
    Sample(
        "png-gray-trns", "PNG", "gray, 8 bits", "tRNS", GRAY,
        lambda: saved(GRAY, "PNG", transparency=int(GRAY[0, 5])), ON_WHITE,
    ),
    Sample(
        "png-rgb-trns", "PNG", "RGB, 8 bits", "tRNS", COLOR,
        lambda: saved(COLOR, "PNG", transparency=tuple(map(int, COLOR[0, 0]))), ON_WHITE,
    ),
    Sample("png-exif", "PNG", "RGB, 8 bits", "eXIf orientation 6", COLOR, lambda: saved(COLOR, "PNG", **TAG_6), TURN),
    Sample(
        "png-icc", "PNG", "RGBA, 8 bits", "iCCP", RGBA,
        lambda: saved(RGBA, "PNG", icc_profile=swapped_profile()), f"converted to sRGB; {ON_WHITE}",
    ),
    Sample("png-frames", "PNG", "RGB, 8 bits", "several frames (APNG)", SMOOTH, lambda: frames("PNG"), FIRST),
    Sample("pbm", "PBM", "1 bit", "", GRAY > 127, lambda: saved(GRAY > 127, "PPM"), "0 or 255"),
    Sample("pgm-16", "PGM", "gray, 16 bits", "maximum 65535", DEEP, lambda: pnm(b"P5", 65535, DEEP), ROUND),
    Sample(
        "pgm-10", "PGM", "gray, 10 bits", "maximum 1023", DEEP >> 6,
        lambda: pnm(b"P5", 1023, DEEP >> 6), "255 v / maximum, rounded",
    ),
    Sample(
        "ppm-10", "PPM", "RGB, 10 bits", "maximum 1023", DEEP_COLOR >> 6,
        lambda: pnm(b"P6", 1023, DEEP_COLOR >> 6), "255 v / maximum, rounded",
    ),
    Sample(
        "tiff-min-is-white", "TIFF", "1 bit", "MinIsWhite", GRAY > 127,
        lambda: saved(GRAY > 127, "TIFF", tiffinfo={262: 0}, compression="group4"), "0 or 255, 0 is white",
    ),
    Sample(
        "tiff-8-min-is-white", "TIFF", "gray, 8 bits", "MinIsWhite", GRAY,
        lambda: tiff(GRAY.tobytes(), (8,), 0), "255 - v",
    ),
    Sample("tiff-12", "TIFF", "gray, 12 bits", "", DEEP >> 4, twelve_bits, "255 v / 4095, rounded"),
    Sample("tiff-16", "TIFF", "gray, 16 bits", "", DEEP, lambda: tiff(DEEP.tobytes(), (16,), 1), ROUND),
    Sample(
        "tiff-16-deflate", "TIFF", "gray, 16 bits", "compressed", DEEP,
        lambda: saved(DEEP, "TIFF", compression="tiff_adobe_deflate"), ROUND,
    ),
    Sample(
        "tiff-16-big-endian", "TIFF", "gray, 16 bits", "big-endian", DEEP,
        lambda: tiff(DEEP.astype(">u2").tobytes(), (16,), 1, order=">"), ROUND,
    ),
    Sample(
        "tiff-16-min-is-white", "TIFF", "gray, 16 bits", "MinIsWhite", DEEP,
        lambda: tiff(DEEP.tobytes(), (16,), 0), "255 - v / 257, rounded",
    ),
    Sample(
        "tiff-rgb-16", "TIFF", "RGB, 16 bits", "", DEEP_COLOR,
        lambda: tiff(DEEP_COLOR.tobytes(), (16, 16, 16), 2), "the upper 8 bits",
    ),
    Sample(
        "tiff-int-8", "TIFF", "32-bit integers", "0 to 255", GRAY.astype(np.int32),
        lambda: saved(GRAY.astype(np.int32), "TIFF"), "kept",
    ),
    Sample(
        "tiff-int-16", "TIFF", "32-bit integers", "0 to 65535", DEEP.astype(np.int32),
        lambda: saved(DEEP.astype(np.int32), "TIFF"), ROUND,
    ),
    Sample(
        "tiff-int-32", "TIFF", "32-bit integers", "any other range", WIDE,
        lambda: saved(WIDE, "TIFF"), "scaled by the image's minimum and maximum",
    ),
    Sample(
        "tiff-unsigned-32", "TIFF", "32-bit integers, unsigned", "any other range", DEEP.astype(np.uint32) << 16,
        lambda: tiff((DEEP.astype("<u4") << 16).tobytes(), (32,), 1),
        "scaled by the image's minimum and maximum",
    ),
    Sample(
        "tiff-signed-16", "TIFF", "16-bit integers, signed", "some below 0", (DEEP >> 4).astype(np.int16) - 1024,
        lambda: tiff(((DEEP >> 4).astype("<i2") - 1024).tobytes(), (16,), 1, sample_format=2),
        "scaled by the image's minimum and maximum",
    ),
    Sample(
        "tiff-float-1", "TIFF", "floats", "0 to 1", floats(0, 1), lambda: saved(floats(0, 1), "TIFF"),
        "255 v, rounded",
    ),
    Sample(
        "tiff-float-8", "TIFF", "floats", "0 to 255", floats(0, 255), lambda: saved(floats(0, 255), "TIFF"),
        "rounded",
    ),
    Sample(
        "tiff-float-own", "TIFF", "floats", "any other range", floats(-3, 5),
        lambda: saved(floats(-3, 5), "TIFF"), "scaled by the image's minimum and maximum",
    ),
    Sample("tiff-palette", "TIFF", "palette", "", GRAY // 64, lambda: saved(palette(0), "TIFF"), "the palette's colors"),
    Sample("tiff-rgba", "TIFF", "RGBA, 8 bits", "", RGBA, lambda: saved(RGBA, "TIFF"), ON_WHITE),
    Sample(
        "tiff-cmyk", "TIFF", "CMYK, 8 bits", "", INK, lambda: saved(INK, "TIFF", "CMYK"),
        "(255 - C) (255 - K) / 255",
    ),
    Sample(
        "tiff-lab", "TIFF", "Lab, 8 bits", "", np.asarray(Image.fromarray(SMOOTH)),
        lambda: saved(Image.fromarray(SMOOTH).convert("LAB"), "TIFF"), "converted to sRGB",
    ),
    Sample(
        "tiff-ycbcr", "TIFF", "YCbCr, 8 bits", "JPEG inside", SMOOTH,
        lambda: saved(Image.fromarray(SMOOTH).convert("YCbCr"), "TIFF", compression="jpeg", quality=95),
        "converted to RGB",
    ),
    Sample(
        "tiff-orientation", "TIFF", "RGB, 8 bits", "orientation 6", COLOR,
        lambda: saved(COLOR, "TIFF", tiffinfo={ORIENTATION: 6}), TURN,
    ),
    Sample("tiff-pages", "TIFF", "RGB, 8 bits", "several pages", SMOOTH, lambda: frames("TIFF"), "the first page"),
    Sample(
        "webp-rgba", "WebP", "RGBA, 8 bits", "", RGBA, lambda: saved(RGBA, "WEBP", **LOSSLESS["WEBP"]), ON_WHITE
    ),
    Sample(
        "webp-orientation", "WebP", "RGB, 8 bits", "EXIF orientation 6", COLOR,
        lambda: saved(COLOR, "WEBP", **LOSSLESS["WEBP"], **TAG_6), TURN,
    ),
    Sample(
        "webp-frames", "WebP", "RGB, 8 bits", "several frames", SMOOTH,
        lambda: frames("WEBP", lossless=True), FIRST,
    ),
    Sample(
        "gif-transparent", "GIF", "palette", "transparent color", GRAY // 64,
        lambda: saved(palette(0), "GIF", transparency=1), ON_WHITE,
    ),
    Sample("gif-frames", "GIF", "palette", "several frames", SMOOTH, lambda: frames("GIF"), FIRST),
    Sample(
        "avif-rgba", "AVIF", "RGBA, 8 bits", "", np.dstack([SMOOTH, GRAY]),
        lambda: saved(np.dstack([SMOOTH, GRAY]), "AVIF", **LOSSLESS["AVIF"]), ON_WHITE,
    ),
    Sample(
        "avif-orientation", "AVIF", "RGB, 8 bits", "orientation 6", SMOOTH,
        lambda: saved(SMOOTH, "AVIF", **LOSSLESS["AVIF"], **TAG_6), TURN,
    ),
    Sample("bmp", "BMP", "RGB, 8 bits", "", COLOR, lambda: saved(COLOR, "BMP"), "kept"),
    Sample(
        "jp2-16", "JPEG 2000", "gray, 16 bits", "", DEEP,
        lambda: saved(DEEP, "JPEG2000", irreversible=False), ROUND,
    ),
)  # fmt: skip
BY_KEY = {sample.key: sample for sample in SAMPLES}
