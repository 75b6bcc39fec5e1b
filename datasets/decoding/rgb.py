"""Every image that is read becomes an upright 8-bit RGB image in sRGB, as a viewer shows it."""

from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageChops

from .levels import is_high, to_8_bits
from .profiles import BadProfile, lab_to_srgb, to_srgb
from .remarks import Remark

GROUND = (255, 255, 255)  # the color behind transparent pixels: white
ORIENTATION = int(ExifTags.Base.Orientation)
UPRIGHT = {  # what each orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TAGGED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "original_orientation"}  # in Pillow
PHOTOMETRIC, YCBCR, SUBSAMPLING, MIN_IS_WHITE = 262, 6, 530, 0  # tags and values of TIFF
BITS, PLANES, SEPARATE = 258, 284, 2


class Decoded(NamedTuple):
    """An upright 8-bit RGB image, and remarks on how it was made."""

    image: Image.Image
    remarks: list[Remark]


def upright_rgb(opened: Image.Image) -> Decoded:
    """Load an opened image and convert it to upright 8-bit RGB.

    The order is: bit depth, ICC profile, ground for transparent pixels, orientation. Of several frames, the
    first is used.

    Raises:
        Exception: of any type, from the decoder.
    """
    raw, tags = _raw_mode(opened), getattr(opened, "tag_v2", {})
    turned = tags.get(ORIENTATION, 1)  # Pillow turns a TIFF while loading it, and removes the tag
    if tags.get(PHOTOMETRIC) == YCBCR and raw == "YCbCr" and tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        raise ValueError("uncompressed TIFF with subsampled YCbCr; convert it to PNG")
    bits = tags.get(BITS, (8,))
    if tags.get(PLANES) == SEPARATE and len(bits) > 1 and max(bits) > 8:  # Pillow mixes up their bytes
        raise ValueError(f"TIFF with {max(bits)} bits in separate planes; convert it to PNG")
    inverted = tags.get(PHOTOMETRIC) == MIN_IS_WHITE  # noted now: loading may close the file
    opened.load()
    remarks: list[Remark] = []
    color, alpha = _color_and_alpha(opened, raw, inverted, remarks)
    image = _on_ground(_in_srgb(color, opened.info.get("icc_profile"), remarks), alpha, opened, remarks)
    if tags:
        remarks += [Remark.TURNED] if turned in UPRIGHT else []
        return Decoded(image, remarks)
    return Decoded(_turned(image, opened, remarks), remarks)


def has_more_frames(opened: Image.Image) -> bool:
    """Return whether an opened image has more frames or pages than the first."""
    with suppress(Exception):  # a damaged later frame does not matter
        return opened.format != "MPO" and bool(getattr(opened, "is_animated", False))
    return False


def _raw_mode(opened: Image.Image) -> str:
    """Return Pillow's name of the samples in the file, such as `RGB;16B`; empty if it has none."""
    for tile in opened.tile[:1] if hasattr(opened, "tile") else ():
        args = tile[3]
        found = args[0] if isinstance(args, tuple) and args else args
        return found if isinstance(found, str) else ""
    return ""


def _color_and_alpha(
    opened: Image.Image, raw: str, inverted: bool, remarks: list[Remark]
) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors as mode L, RGB or CMYK, and the opacity as mode L, or None if all is opaque."""
    if is_high(opened):
        gray, found = to_8_bits(opened, raw)
        remarks += found
        alpha = _opacity_of_high(opened)
        return (ImageChops.invert(gray) if inverted else gray), alpha
    if ";16" in raw:
        remarks.append(Remark.HIGH_BITS)
    if opened.mode == "CMYK":
        return _cmyk(opened, remarks), None
    if opened.mode == "LAB":
        remarks.append(Remark.LAB)
        return lab_to_srgb(opened), None
    return _split(_with_alpha(opened, raw))


def _opacity_of_high(opened: Image.Image) -> Image.Image | None:
    """Return the opacity of an image with one channel of 16 bits, in which one value is transparent."""
    value = opened.info.get("transparency")
    if not isinstance(value, int):
        return None
    return Image.fromarray((np.asarray(opened) != value) * np.uint8(255))


def _with_alpha(opened: Image.Image, raw: str) -> Image.Image:
    """Return an image of mode L, RGB, LA or RGBA."""
    image = opened
    transparency = image.info.get("transparency")
    if image.mode == "RGB" and ";16" in raw and isinstance(transparency, tuple):
        image = image.copy()  # the pixels have 8 bits now, and the transparent color 16
        image.info["transparency"] = tuple(value >> 8 for value in transparency)
    if image.mode in ("La", "RGBa"):
        return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    has_alpha = transparency is not None or image.mode == "PA" or _palette_has_alpha(image)
    if image.mode in ("LA", "RGBA") or (image.mode in ("L", "RGB") and not has_alpha):
        return image
    if has_alpha:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _palette_has_alpha(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and "A" in image.palette.mode


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split colors from opacity."""
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    return image, None


def _cmyk(opened: Image.Image, remarks: list[Remark]) -> Image.Image:
    """Return CMYK with 0 as no ink. Pillow inverts every CMYK JPEG, as Adobe writes them."""
    remarks.append(Remark.CMYK)
    if opened.format in ("JPEG", "MPO") and "adobe" not in opened.info:
        remarks.append(Remark.CMYK_PLAIN)
        return ImageChops.invert(opened)
    return opened


def _in_srgb(color: Image.Image, profile: bytes | None, remarks: list[Remark]) -> Image.Image:
    """Return colors as sRGB, mode RGB."""
    if profile and Remark.LAB not in remarks:
        try:
            converted = to_srgb(color, profile)
        except BadProfile:
            remarks.append(Remark.PROFILE_UNREAD)
        else:
            if converted is not None:
                remarks.append(Remark.PROFILE)
                return converted
    return color if color.mode == "RGB" else color.convert("RGB")


def _on_ground(
    image: Image.Image, alpha: Image.Image | None, opened: Image.Image, remarks: list[Remark]
) -> Image.Image:
    """Put an image on the ground where it is transparent."""
    if alpha is None or (bounds := alpha.getextrema()) == (255, 255):
        return image
    if bounds == (0, 0) and opened.format in ("BMP", "DIB"):
        remarks.append(Remark.ALPHA_UNUSED)  # most writers of BMP leave the fourth byte at 0
        return image
    remarks.append(Remark.TRANSPARENT)
    return Image.composite(image, Image.new("RGB", image.size, GROUND), alpha)


def _turned(image: Image.Image, opened: Image.Image, remarks: list[Remark]) -> Image.Image:
    """Turn an image upright."""
    if TAGGED.isdisjoint(opened.info):
        return image
    try:
        method = UPRIGHT.get(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged bytes cause errors of every type
        remarks.append(Remark.TAG_UNREAD)
        return image
    if opened.info.get("original_orientation") in UPRIGHT:  # of HEIC: turned by its reader
        remarks.append(Remark.TURNED)
    if method is None:
        return image
    remarks.append(Remark.TURNED)
    return image.transpose(method)
