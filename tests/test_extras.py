"""The base works without the packages of the extras, and what needs one says in a line which extra brings it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from simengine.cli.fit import DEMONSTRATIONS, Area
from simengine.scene import named_scenes

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "pyvista": "view",
    "taichi": "taichi",
    "arviz": "bayes",
    "emcee": "bayes",
    "opencv-python": "camera",
    "scikit-fem": "mesh",
    "nutpie": "bayes",
    "onnxruntime": "onnx",
    "distributed": "cluster",
    "h5netcdf": "tables",
    "pandas": "tables",
    "pyarrow": "tables",
    "xarray": "tables",
}
SCENE = """kind = "mpm"
camera = {width = 16, height = 16}
[grid]
num_grids = 16
num_steps = 4
[output]
save_every = 2
[[bodies]]
shape = {type = "box", center = [0.5, 0.5, 0.5], size = [0.2, 0.2, 0.2], counts = [4, 4, 4]}
material = {type = "jelly", E = 1e4, nu = 0.3, density = 1e3}
"""
BARE = """
import sys
for name in {blocked}:
    sys.modules[name] = None
from simengine.cli import main
for line in {lines}:
    print(">", main(line.split()), file=sys.stderr)
"""


def name_of(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0].lower()


def test_extras_are_no_dependencies_of_the_base() -> None:
    base = {name_of(line) for line in PROJECT["dependencies"]}
    optional = PROJECT["optional-dependencies"]
    assert not base & {*EXTRAS, "vtk"}
    for package, extra in EXTRAS.items():
        assert package in {name_of(line) for line in optional[extra]}
    assert optional["all"] == [f"simengine[{','.join(sorted({*EXTRAS.values()}))}]"]


def test_every_requirement_has_a_tested_upper_bound() -> None:
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *optional["view"], *optional["taichi"]]
    assert len(lines) >= 17 and all("<" in line.split(";")[0] for line in lines)


def test_the_base_runs_and_each_feature_names_its_extra(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(SCENE)
    lines = [
        "run s.toml --device cpu --out r",
        "render r --out r/balls.png",
        "render r --style surface --out r/surface.png",
        "render r --style pyvista --out r/pyvista.png",
        "export r --out r/states.pvd",
    ]
    code = BARE.format(blocked=["vtk", "cv2", *EXTRAS], lines=lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    said = done.stderr
    assert done.returncode == 0, said
    assert re.findall(r"^> (\d)$", said, re.MULTILINE) == ["0", "0", "1", "0", "1"], said
    assert (tmp_path / "r/video.mp4").stat().st_size > 0 and (tmp_path / "r/balls.png").is_file()
    assert "simengine: a surface of particles needs pyvista: pip install 'simengine[view]'" in said
    assert "pyvista cannot draw here (it is not installed; pip install 'simengine[view]'); drawing balls" in said
    assert "simengine: .vtp needs pyvista: pip install 'simengine[view]'" in said
    assert "Traceback" not in said


def test_taichi_is_asked_for_by_name() -> None:
    code = """
import sys
sys.modules["taichi"] = None
from simengine.ops.taichi_bridge import start
try:
    start()
except RuntimeError as error:
    print(error)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ})
    assert "pip install 'simengine[taichi]'" in done.stdout


def test_every_dependency_has_its_licence_on_the_page() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    optional = PROJECT["optional-dependencies"]
    wanted = {name_of(line) for lines in (PROJECT["dependencies"], *optional.values()) for line in lines} - {
        "simengine"
    }
    missing = [name for name in sorted(wanted) if f"| {name} |" not in page]
    assert len(wanted) > 25 and not missing, f"docs/dependencies.md does not list {missing}"


def test_demonstrations_are_scenes_that_ship() -> None:
    assert set(get_args(Area)) == set(DEMONSTRATIONS) and set(DEMONSTRATIONS.values()) <= set(named_scenes())


@pytest.mark.slow
def test_a_demonstration_ends_in_a_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simengine", "demo", "materials", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/demo-materials/report.html").is_file()
