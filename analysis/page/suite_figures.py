"""Figures of suites as pictures of the page."""

from collections.abc import Iterable

from ..figures.drawing import Drawing
from ..figures.inline_svg import inline_svg
from .page_tables import Picture, csv_address

PX = 96  # of an inch
SCROLLED = 500  # px: a wider figure is scrolled on a phone, a narrower one shrinks


def suite_pictures(name: str, drawings: Iterable[Drawing]) -> list[Picture]:
    """Return the drawings of a suite with the data behind each; `name` begins the names of the files."""
    return [_picture(f"{name}-{number}", drawing) for number, drawing in enumerate(drawings, start=1)]


def _picture(name: str, drawing: Drawing) -> Picture:
    """Return one figure for the page."""
    width = round(drawing.figure.get_figwidth() * PX)
    element = inline_svg(drawing.figure, name, drawing.alternative)
    element = element.replace("<svg", f'<svg style="max-width:{width}px"', 1)
    wide = width if width > SCROLLED else 0
    return Picture(element, drawing.caption, csv_address(drawing.data), f"{name}.csv", wide)
