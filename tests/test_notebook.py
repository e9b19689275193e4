"""`notebooks/finetune.ipynb` from its first cell to its last, on the embedded model with little data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge import starter

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "finetune.ipynb"
PARAMETERS = 'SETTINGS, ROWS, QUANTISATIONS = {"epochs": 1, "learning_rate": 3e-3}, 12, ["q8_0"]'
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def test_it_is_kept_without_results() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    given = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    given["source"] = [*given["source"], "\n", PARAMETERS]
    file, app = tmp_path / "finetune.ipynb", tmp_path / "notebook-app"
    file.write_text(json.dumps(notebook))
    starter.write(app)
    for name, rows in (("train.jsonl", 48), ("eval.jsonl", 12)):
        lines = (app / name).read_text().splitlines(keepends=True)
        (app / name).write_text("".join(lines[:rows]))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.dumps([cell.get("outputs") for cell in json.loads(file.read_text())["cells"]])
    assert "60 rows, 0 rejected" in said and "of 12 rows exactly right" in said
    assert "app-q8_0.gguf" in said and ("proven" in said or "degraded" in said) and "image/svg+xml" in said
