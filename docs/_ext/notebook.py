"""Execute the notebook of the tutorial, and show it as a page.

`python docs/_ext/notebook.py` executes it and stores the outputs, without names of this machine.
"""

import json
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "tutorial" / "python.ipynb"
SECONDS = 300  # of one cell


def executed(folder: Path) -> Any:
    """Return the notebook with new outputs; what it writes is in `folder`."""
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=SECONDS, startup_timeout=SECONDS, resources=place).execute()
    return content


def markdown() -> str:
    """Return the stored notebook as Markdown, with the outputs below each cell."""
    parts = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += map(_shown, cell.get("outputs", ()))
    return "\n\n".join(parts)


def _shown(output: Mapping[str, Any]) -> str:
    """Return one output: an image, a table, or text."""
    of_kind = {kind: "".join(lines) for kind, lines in output.get("data", {}).items()}
    if png := of_kind.get("image/png", "").replace("\n", ""):
        return f'<img alt="Accuracy of each seed" src="data:image/png;base64,{png}">'
    if html := re.sub(r"<style.*?</style>", "", of_kind.get("text/html", ""), flags=re.DOTALL):
        return "\n".join(line.strip() for line in html.splitlines() if line.strip())
    text = "".join(output.get("text", "")) or of_kind["text/plain"]
    return f"```text\n{text.rstrip()}\n```"


def _store() -> None:
    """Execute the notebook and store it."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        content = executed(Path(folder))
    for cell in content.cells:
        cell.metadata = {}  # with times
        if cell.cell_type == "code":
            streams = [o for o in cell.outputs if o.output_type == "stream"]
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream"]
            if text := "".join(o.text for o in streams if o.name == "stdout"):
                text = text.replace(f" on {socket.gethostname()}", " on this machine")
                cell.outputs.insert(0, nbformat.v4.new_output("stream", text=text))
    nbformat.write(content, NOTEBOOK)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _store()
