"""Image formats that are read: their suffixes, and why other files are left out.

The suffix decides whether a file is listed as an image. The content decides how it is decoded: a PNG that is
called `.jpg` is read.
"""

import io
from contextlib import suppress
from functools import cache
from importlib.util import find_spec

from PIL import TiffImagePlugin, features

from ... import install_command
from ..files.folder_names import is_dropping

FORMATS = {  # Pillow's names; some of its other formats start programs, such as EPS
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
}
MISSING = {
    format_: reason
    for format_, is_there, reason in (
        ("AVIF", features.check("avif"), "this Pillow cannot read AVIF; `pip install --upgrade pillow`"),
        ("HEIF", find_spec("pillow_heif"), f"needs {install_command('heic')}"),
    )
    if not is_there
}
SUFFIXES = frozenset(s for format_, own in FORMATS.items() if format_ not in MISSING for s in own)
BITS, KIND = TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.SAMPLEFORMAT
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
READ = tuple(f for f in FORMATS if f not in MISSING and f != "HEIF")  # HEIF is read by a plugin
NO_IMAGE = (  # first bytes of files that are often found in place of images
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run `git lfs pull`"),
    (b"<!DOCTYPE", "a web page, not the image; download it again"),
    (b"<html", "a web page, not the image; download it again"),
    (b"<?xml", "XML, such as a drawing"),
    (b"<svg", "a drawing (SVG)"),
)
CONVERT = "convert them to PNG or JPEG"
UNREAD = {  # images that people have, in formats that are not read
    **dict.fromkeys(
        (".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".rw2", ".orf"), f"raw photos: {CONVERT}"
    ),
    **dict.fromkeys((".svg", ".eps", ".pdf", ".ai", ".wmf", ".emf"), f"drawings: {CONVERT}"),
    **dict.fromkeys((".psd", ".xcf", ".exr", ".hdr", ".pfm", ".jxl", ".tga", ".ico", ".jxr"), CONVERT),
    **dict.fromkeys((".dcm", ".nii", ".mha", ".czi", ".nd2", ".lif", ".svs"), f"scans: {CONVERT}"),
    **dict.fromkeys((".npy", ".npz", ".mat", ".h5", ".hdf5"), f"arrays: {CONVERT}"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm"), f"videos: {CONVERT}"),
}


def is_image(path: str) -> bool:
    """Return whether a path is an image, by its suffix; hidden files and known droppings are not."""
    return suffix_of(path) in SUFFIXES and not is_dropping(path)


def suffix_of(path: str) -> str:
    """Return the suffix of a path in lower case; empty if its name has none."""
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2]}".lower() if "." in name else ""


def is_of_suffix(format_: str | None, path: str) -> bool:
    """Return whether a format in Pillow's words agrees with the suffix of a path."""
    names = {"MPO": "JPEG", "DIB": "BMP"}
    expected = next((f for f, own in FORMATS.items() if suffix_of(path) in own), format_)
    return names.get(format_ or "", format_) == names.get(expected or "", expected)


def why_left_out(suffix: str) -> str:
    """Return why files with a suffix are not read as images, with what to do; empty if nothing is known."""
    suffix = suffix.lower()
    format_ = next((f for f, own in FORMATS.items() if suffix in own), "")
    return MISSING.get(format_, "") or UNREAD.get(suffix, "")


def readable_formats(data: bytes) -> tuple[str, ...]:
    """Return the names of Pillow's formats to try on these bytes."""
    return (*READ, "HEIF") if data[4:8] == b"ftyp" and _registered() else READ


def why_unread(data: bytes) -> str:
    """Return why Pillow finds no image in these bytes, if the reason is known; empty if not."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS and "HEIF" in MISSING:
        return f"HEIC: {MISSING['HEIF']}"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _about_tiff(data)
    return next((kind for start, kind in NO_IMAGE if data.startswith(start)), "" if data else "an empty file")


def _about_tiff(data: bytes) -> str:
    """Return a line on the samples of a TIFF; empty if it is damaged."""
    with suppress(Exception):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        bits, kind = tags.get(BITS, (1,)), {2: "signed", 3: "float"}.get(tags.get(KIND, (1,))[0], "unsigned")
        shape = f"{len(bits)} channel{'s'[: len(bits) > 1]} of {max(bits)} bits ({kind})"
        return f"a TIFF with {shape}, damaged or of a kind that is not read; save it with 8 or 16 bits"
    return ""


@cache
def _registered() -> bool:
    """Register the reader of HEIC with Pillow; return False if it is not installed."""
    if "HEIF" in MISSING:
        return False
    import pillow_heif  # loads a library of 20 MB: only when an image needs it

    pillow_heif.register_heif_opener()
    return True
