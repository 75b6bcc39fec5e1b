"""The notebook of the tutorial: it runs from start to end, and what is stored names no machine."""

import json
import re
import socket

import pytest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::ResourceWarning")
def test_the_notebook_runs_from_start_to_end(tmp_path):
    pytest.importorskip("nbclient")
    from notebook import executed

    done = [cell for cell in executed(tmp_path).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in done)
    assert (tmp_path / "results" / "report" / "report.html").exists()


def test_the_stored_notebook_has_outputs_and_names_no_machine():
    from notebook import NOTEBOOK, markdown

    stored = json.loads(NOTEBOOK.read_text())
    shown = [output for cell in stored["cells"] for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert markdown().count("<table") == 3
    without_images = re.sub(r"base64,[^\"]+", "", markdown())
    assert not re.search(rf"/(tmp|home|work|root)\b|\bon {re.escape(socket.gethostname())}\b", without_images)
