"""Writes a figure as an SVG element of a page."""

import re
from html import escape
from io import StringIO

from matplotlib import rc_context
from matplotlib.figure import Figure

from .style import INK, PAPER

METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def inline_svg(figure: Figure, name: str = "", alternative: str = "") -> str:
    """Return the figure as an SVG element for a page: text stays text, ink and paper take the page's colors.

    Args:
        figure: the figure to write.
        name: begins the names of the parts that other parts refer to; no two figures of a page may share it.
        alternative: the alternative text.
    """
    drawn = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"transferbench {name}"}):
        figure.savefig(drawn, format="svg", metadata=METADATA, facecolor="none")
    element = drawn.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' xmlns(:xlink)?="[^"]*"', "", element)
    element = re.sub(r' (width|height)="[\d.]+pt"', "", element, count=2)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', element))
    element = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", element)
    return (
        element.replace("<svg", f'<svg role="img" aria-label="{escape(alternative)}"', 1)
        if alternative
        else element
    )
