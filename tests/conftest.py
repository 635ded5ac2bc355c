"""Fixtures that every area uses."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

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


@pytest.fixture
def table() -> Callable[[str], dict[str, NDArray[np.float64]]]:
    """Columns of a table of tests/data by its name: numbers of independent codes; see the README there."""

    def read(name: str) -> dict[str, NDArray[np.float64]]:
        rows = np.genfromtxt(Path(__file__).parent / "data" / f"{name}.csv", delimiter=",", names=True)
        return {column: rows[column] for column in rows.dtype.names}

    return read


def pytest_configure() -> None:
    """A suite started in the background of a script has SIGINT ignored, as has all it starts: tests interrupt that."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGHUP as a terminal sends it: under nohup it is ignored, here and in what is started."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
