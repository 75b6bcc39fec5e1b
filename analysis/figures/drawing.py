"""A finished figure with its caption, its alternative text and the data that it shows."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..tables.csv_text import csv_text

PDF_METADATA = {"CreationDate": None, "Creator": None, "Producer": None}


@dataclass(frozen=True)
class Drawing:
    """One figure, ready for the page or for files."""

    figure: Figure
    data: pd.DataFrame
    caption: str = ""
    alternative: str = ""  # the figure in words, for readers who cannot see it

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it."""
        octets = BytesIO()
        self.figure.savefig(octets, format="png", dpi=100)
        return octets.getvalue()

    def save(self, stem: Path) -> None:
        """Write the figure as PNG and PDF and its data as CSV; equal figures give equal files."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.figure.savefig(f"{stem}.png", dpi=150, metadata={"Software": None})
        with rc_context({"pdf.fonttype": 42}):
            self.figure.savefig(f"{stem}.pdf", metadata=PDF_METADATA)
        Path(f"{stem}.csv").write_text(csv_text(self.data), encoding="utf-8")
