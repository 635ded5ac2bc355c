"""Fixtures that every area uses."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # two workers share two cores; and the same bits on any machine
torch.set_warn_always(True)  # a warning that comes once a process would fail whichever test runs first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device is at hand"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data made by independent codes; not part of the project."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the reference data of independent codes (../shared/reference) is not at hand")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
