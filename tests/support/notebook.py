"""Runs docs/tour.ipynb, and keeps what it printed and drew in it.

python -m tests.support.notebook
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from tests.support.pages import DOCS

TOUR = DOCS / "tour.ipynb"


def run(folder):
    """The notebook with the outputs of a run in that folder, nothing of this machine in it."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.reads(TOUR.read_text("utf-8"), as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=where, record_timing=False
    ).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            # Of each picture there is a PNG, too, which is twenty times as large.
            for kind in {"image/png", "text/plain"} & output.get("data", {}).keys():
                del output.data[kind]
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main():
    """Write the notebook with new outputs."""
    import nbformat

    with TemporaryDirectory() as folder:
        text = nbformat.writes(run(folder))
    TOUR.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
