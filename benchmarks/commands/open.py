"""`open`: show the report page in a browser."""

import webbrowser
from pathlib import Path

from ...analysis.page_path import page_of
from ...analysis.report import write_report


def open_report(results: Path) -> int:
    """Open the report page of a results folder, written anew if it is missing; return the exit code.

    The path is printed, for machines without a browser.

    Raises:
        InputError: there is no page, and no run to write one of.
    """
    page = page_of(results)
    if not page.exists():
        write_report(results, page.parent)
    print(f"report: {page}")
    webbrowser.open(page.absolute().as_uri())
    return 0
