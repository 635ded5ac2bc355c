"""The notebooks run from top to bottom, and what they show is stored without anything of the machine it came from."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot as plt

    matplotlib.use("Agg")
    names: dict[str, Any] = {}
    for cell in cells(path):
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_shows_is_stored(path: Path) -> None:
    """Every cell but assertions shows something; no error, path, or count of an interactive session is in it."""
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None
            assert cell["outputs"] or "assert " in "".join(cell["source"])
            assert all(output["output_type"] != "error" for output in cell["outputs"])
    text = path.read_text(encoding="utf-8")
    assert "site-packages" not in text and "/home/" not in text and "/work/" not in text


def test_a_notebook_is_a_page_of_the_site(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("site_notebooks", ROOT / "docs" / "site" / "notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    page = (tmp_path / "notebooks" / "measured_rubber.md").read_text(encoding="utf-8")
    assert page.startswith("# A measured rubber") and "told by the data" in page
    assert len(list((tmp_path / "notebooks").glob("measured_rubber_*.png"))) == 1
