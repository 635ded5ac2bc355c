"""The notebooks of docs/notebooks: as pages of the site, and run anew.

`python docs/site/notebooks.py [NAME ...]` runs them from an empty kernel and stores what their cells show; it needs the
extra `notebooks`. Times, counts and what goes to stderr are left out: a difference of the file is one of the answer.
"""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def write(source: Path) -> None:
    """Write a page for each notebook, its pictures beside it.

    Args:
        source: Folder of the site's source.
    """
    (source / "notebooks").mkdir(exist_ok=True)
    for path in sorted(FOLDER.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        blocks = [block for k, cell in enumerate(cells) for block in _blocks(cell, source, f"{path.stem}_{k}")]
        (source / "notebooks" / f"{path.stem}.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
        (source / "notebooks" / path.name).unlink(missing_ok=True)


def _blocks(cell: dict[str, Any], source: Path, name: str) -> Iterator[str]:
    """A cell and what it showed, as Markdown: pictures and tables rather than their text."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    for k, output in enumerate(cell["outputs"]):
        shown = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in shown:
            file = source / "notebooks" / f"{name}_{k}.png"
            file.write_bytes(base64.b64decode("".join(shown["image/png"])))
            yield f"![what the cell draws]({file.name})"
        elif "text/html" in shown:
            yield f"```{{raw}} html\n{''.join(shown['text/html'])}\n```"
        else:
            yield f"```text\n{''.join(shown['text/plain']).rstrip()}\n```"


def run(path: Path) -> None:
    """Run a notebook from an empty kernel and write it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in book.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.execution_count = None
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = None
    nbformat.write(book, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        run(FOLDER / f"{name}.ipynb")
