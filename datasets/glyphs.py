"""The source of the embedded pair: characters from matplotlib's fonts, drawn like the handwritten digits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .about import About
from .digits import enlarge

# A glyph is scaled to its box. Lower-case letters with the shape of their capital (c, o, s, ...) would be a
# second class of the same images. They are replaced by Greek letters and signs.
SIGNS = {
    "ampersand": "&", "percent": "%", "dollar": "$", "hash": "#", "at": "@", "question": "?", "plus": "+",
    "equals": "=", "asterisk": "*", "slash": "/", "less": "<", "greater": ">", "left-paren": "(",
    "right-paren": ")", "left-brace": "{", "right-brace": "}", "section": "§", "pilcrow": "¶", "euro": "€",
    "pound": "£", "yen": "¥", "Gamma": "Γ", "Delta": "Δ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ",
    "Omega": "Ω", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
    "theta": "θ", "lambda": "λ", "mu": "μ", "xi": "ξ", "pi": "π", "sigma": "σ", "phi": "φ", "psi": "ψ",
    "omega": "ω",
}  # fmt: skip
CHARACTERS = {c: c for c in "0123456789ABCDEFGHIJKLMNPQRSTUVWXYZabdefghijkmnqrty"} | SIGNS
CLASSES: tuple[str, ...] = tuple(CHARACTERS)
ABOUT = About(
    title="Printed letters, digits and signs",
    homepage="https://matplotlib.org",
    license="Bitstream Vera, STIX: free",
    num_classes=94,
    sizes={"train": 4700, "holdout": 940},
    source="none",
    preset="embedded",
    hflip=False,
)

# No bold fonts: the stroke width varies instead.
FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf", "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf", "STIXGeneralItalic.ttf",
)  # fmt: skip
SEED = 0
PER_CLASS = {"train": 50, "holdout": 10}
CANVAS, POINTS = 96, 56  # a rotated and slanted glyph of this size fits the canvas
SIDE, BLOCK = 8, 4  # the digits were scanned at 32x32 dots; a pixel counts the inked dots of 4x4


def draw(character: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> Image.Image:
    """Draw a glyph of random stroke width, rotation and slant, cropped to its box."""
    canvas = Image.new("L", (CANVAS, CANVAS))
    middle = CANVAS / 2
    ImageDraw.Draw(canvas).text(
        (middle, middle), character, fill=255, font=font, anchor="mm", stroke_width=rng.uniform(0.5, 2.5)
    )
    turn, slant = rng.normal(0, 0.12), rng.normal(0, 0.2)
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ [[1, slant], [0, 1]]
    shift = middle - back @ [middle, middle]  # keeps the center of the canvas fixed
    affine = np.column_stack([back, shift]).ravel().tolist()
    turned = canvas.transform(canvas.size, Image.Transform.AFFINE, affine, resample=Image.Resampling.BILINEAR)
    return turned.crop(turned.getbbox())


def scan(glyph: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Scale a glyph to the digits' box and resolution; return the ink fractions [8, 8]."""
    dots = SIDE * BLOCK
    height = dots * rng.uniform(0.92, 1.0)
    width = min(dots, glyph.width * height / glyph.height * rng.uniform(0.75, 1.1))
    size = (max(4, round(width)), max(4, round(height)))
    spare = np.array([dots, dots]) - size
    corner = np.rint(spare * rng.normal(0.5, 0.12, 2).clip(0, 1)).astype(int)
    paper = Image.new("L", (dots, dots))
    paper.paste(glyph.resize(size, Image.Resampling.BILINEAR), tuple(corner.tolist()))
    inked = np.asarray(paper) > 127
    return inked.reshape(SIDE, BLOCK, SIDE, BLOCK).mean(axis=(1, 3))


def images(per_class: Mapping[str, int] = PER_CLASS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw the glyphs; every call returns the same.

    Args:
        per_class: images per class, for each part.

    Returns:
        Part names, mapped to uint8 images [N, 16, 16] and int64 labels [N].
    """
    import matplotlib  # imported late: planning needs only the names above

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(folder / name, POINTS) for name in FONTS]
    rng = np.random.default_rng(SEED)
    parts = {}
    for name, count in per_class.items():
        labels = np.repeat(np.arange(len(CLASSES)), count)
        drawn = [draw(CHARACTERS[CLASSES[label]], fonts[rng.integers(len(fonts))], rng) for label in labels]
        shares = [scan(glyph, rng) for glyph in drawn]
        parts[name] = (enlarge(np.stack(shares)), labels.astype(np.int64))
    return parts
