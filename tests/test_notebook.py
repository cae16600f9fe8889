"""The example notebooks run from top to bottom and show what they were saved with, pictures among it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell shows as text: printed, or the text form of its value."""
    texts = []
    for cell in notebook.cells:
        before = ""
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text  # a warning is a fault
            text = output.text if "text" in output else output.data["text/plain"]
            if before == output.output_type == "stream":  # where the kernel cuts what is printed is a matter of time
                texts[-1] += text
            else:
                texts.append(text)
            before = output.output_type
    return [text for text in texts if text and not text.startswith("<PIL")]  # an image's text form holds its address


def forms(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The kinds of output of each cell that has some, and how many pictures are in its HTML."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("data")]
    return [[*sorted(output.data), str(output.data.get("text/html", "").count("<img "))] for output in outputs]


def test_there_are_notebooks() -> None:
    assert {"quickstart", "prompts", "evaluation"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_with_their_pictures(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 300_000
    assert re.findall(r"data:image/jpeg;base64,|\"image/png\": \"", text)
    assert not re.findall(r"\"(?:/work|/opt|/home|/root|/tmp)/", text)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # run in order, from a fresh kernel


@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq.*", "ignore::DeprecationWarning:jupyter_client.*")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_as_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "pandas", "sklearn"):
        pytest.importorskip(module)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    notebook = nbformat.read(path, as_version=4)
    saved, shown = printed(notebook), forms(notebook)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert len(saved) >= 5
    assert printed(notebook) == saved
    assert forms(notebook) == shown
