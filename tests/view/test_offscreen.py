"""The probe for a usable GL: it cannot be led astray, and says in words what a child process died of."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from simengine.view import offscreen
from simengine.view.offscreen import missing_gl, pyvista_frames


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    missing_gl.cache_clear()
    yield
    missing_gl.cache_clear()


def frames() -> object:
    place = {"eye": [0, 0, 3], "target": [0, 0, 0], "up": [0, 1, 0], "background": [1, 1, 1]}
    return pyvista_frames([[[0, 0, 0]]], [[[0, 0, 0]]], radius=0.1, fov_y=40.0, size=(8, 8), **place)  # type: ignore[arg-type]


def test_a_child_that_dies_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """VTK without a GL aborts; the process that asked lives on and says so, once."""
    monkeypatch.setattr(offscreen, "_PROBE", "import os; os.abort()")
    reason = missing_gl()
    assert reason is not None and reason.startswith("VTK ended with -") and "apt-get install libegl1" in reason
    monkeypatch.setattr(offscreen, "_PROBE", "pass")
    assert missing_gl() == reason  # asked once a process
    with pytest.raises(RuntimeError, match="pyvista cannot draw here: VTK ended with -"):
        frames()


def test_a_child_that_hangs_or_cannot_start_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(offscreen, "run_python", late)
    assert missing_gl() == "TimeoutExpired while it was tried"
    missing_gl.cache_clear()

    def none(*_: object, **__: object) -> None:
        raise FileNotFoundError("python")

    monkeypatch.setattr(offscreen, "run_python", none)
    assert missing_gl() == "FileNotFoundError while it was tried"


def test_the_probe_imports_nothing_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyvista.py beside the scene is not executed, whatever PYTHONPATH says of that folder; EGL is asked for."""
    (tmp_path / "pyvista.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w'); raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "pyvista.py"))
    asks = "import os, importlib.util as u\nassert os.environ['VTK_DEFAULT_OPENGL_WINDOW'] == 'vtkEGLRenderWindow'\n"
    asks += f"found = u.find_spec('pyvista')\nassert found is None or {str(tmp_path)!r} not in str(found.origin)\n"
    asks += "assert 'PYTHONSTARTUP' not in os.environ\n"
    monkeypatch.setattr(offscreen, "_PROBE", asks)
    assert missing_gl() is None
    assert not (tmp_path / "executed").exists()
