"""Remarks on how an image became 8-bit RGB, for `data doctor`."""

from enum import StrEnum


class Remark(StrEnum):
    """What decoding did to an image, in words that follow the number of images."""

    TURNED = "turned upright by their orientation tag (EXIF)"
    TAG_UNREAD = "with a damaged EXIF block: not turned"
    PROFILE = "converted from their ICC profile to sRGB"
    PROFILE_UNREAD = "with an ICC profile that does not fit or is damaged: values kept as they are"
    TRANSPARENT = "with transparent pixels: put on white"
    ALPHA_UNUSED = "with an alpha channel that hides everything: ignored, as viewers do"
    HIGH_BITS = "of more than 8 bits: the whole range, such as 0 to 65535 of 16 bits, scaled to 8 bits"
    UNIT = "of floats from 0 to 1: scaled to 8 bits"
    AS_8_BITS = "of 32-bit numbers from 0 to 255: kept, as 8 bits"
    AS_16_BITS = "of 32-bit numbers from 0 to 65535: scaled as 16 bits"
    OWN_RANGE = "of 32-bit numbers with other ranges: each scaled by its own minimum and maximum"
    NOT_FINITE = "with values that are not finite: shown as black"
    CMYK = "in CMYK: converted to RGB"
    CMYK_PLAIN = "in CMYK without Adobe's marker: read as not inverted"
    LAB = "in Lab: converted to RGB"
    OTHER_FORMAT = "of another format than their suffix says: read by their content"
    FRAMES = "with several frames or pages: only the first is used"
