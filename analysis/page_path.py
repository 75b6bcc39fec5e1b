"""Where the page of a results folder lies. Nothing is imported, so a command can name it at once."""

from pathlib import Path


def page_of(results: Path) -> Path:
    """Return the path of the report page of a results folder."""
    return results / "report" / "report.html"
