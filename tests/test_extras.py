"""The base works without the packages of the extras, and what needs one says in a line which extra brings it."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement

from simengine.cli import doctor
from simengine.cli.fit import DEMONSTRATIONS, Area
from simengine.scene import named_scenes

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "pyvista": "view",
    "av": "video",
    "taichi": "taichi",
    "arviz": "bayes",
    "emcee": "bayes",
    "opencv-python": "camera",
    "scikit-fem": "mesh",
    "nutpie": "bayes",
    "optuna": "search",
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
FILM = """[observations.film]
type = "pictures"
file = "seen.mp4"
camera = {field_of_view = 40.0, width = 16, height = 16}
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


def plain_name(name: str) -> str:
    """As the package index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


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
    (tmp_path / "s.toml").write_text(SCENE, encoding="utf-8")
    water = SCENE.replace('type = "jelly", E = 1e4, nu = 0.3', 'type = "water", E = 1e4, nu = 0.3')
    (tmp_path / "water.toml").write_text(water, encoding="utf-8")
    (tmp_path / "film.toml").write_text(SCENE.replace("[grid]", FILM + "[grid]"), encoding="utf-8")
    (tmp_path / "seen.mp4").write_bytes(b"not opened")
    lines = [
        "run s.toml --device cpu --out r",
        "run water.toml --device cpu --out w",
        "render r --out r/balls.png",
        "render r --style surface --out r/surface.png",  # the block's own
        "render w --style surface --out w/surface.png",  # one around particles
        "render r --style pyvista --out r/pyvista.png",
        "export r --out r/states.pvd",
        "render r --out r/film.gif",
        "render r --out r/film.mp4",
        "predict film.toml --out p",
    ]
    code = BARE.format(blocked=["vtk", "cv2", *EXTRAS], lines=lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    said = done.stderr
    assert done.returncode == 0, said
    assert re.findall(r"^> (\d)$", said, re.MULTILINE) == ["0", "0", "0", "0", "1", "0", "1", "0", "1", "2"], said
    drawn = ("balls.png", "surface.png", "film.gif", "report.html")
    assert all((tmp_path / "r" / name).stat().st_size > 0 for name in drawn)
    assert said.count("mp4 needs PyAV") == 3 and not (tmp_path / "r/video.mp4").exists()
    assert "seen.mp4: reading a video needs PyAV" in said and said.count("pip install 'simengine[video]'") == 4
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


SPDX = {
    *("0BSD", "AGPL-3.0-or-later", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause"),
    *("BSL-1.0", "CC0-1.0", "GPL-2.0-or-later", "ISC", "LGPL-2.1-or-later", "LGPL-3.0-only", "MIT", "MIT-CMU"),
    *("MPL-2.0", "PSF-2.0", "Zlib"),
}
# What packages write that give no SPDX expression -> what may stand on the page
FREE = {
    "BSD": ("BSD-2-Clause", "BSD-3-Clause"),
    "FreeBSD": ("BSD-2-Clause",),
    "MIT": ("MIT",),
    "Apache": ("Apache-2.0",),
    "Python Software Foundation": ("PSF-2.0",),
    "Mozilla Public License 2.0": ("MPL-2.0",),
    "AGPL": ("AGPL-3.0-or-later",),
}


def named_licences(text: str) -> set[str]:
    """SPDX names in a text."""
    found = re.findall(r"[A-Z0-9][\w.]*(?:-[\w.]+)+(?: WITH [\w-]+)?|\b(?:MIT|0BSD|ISC|Zlib)\b", text)
    return {name.rstrip(".") for name in found}


def stated(package: str) -> tuple[str, list[set[str]]] | None:
    """What an installed package says of its licence, and one set for each name of which the page gives one."""
    try:
        meta = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None
    if expression := meta.get("License-Expression"):
        return expression, [{part} for part in re.split(r" AND | OR |[()]", expression) if part.strip()]
    told = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier") or [] if c.startswith("License")]
    told += (meta.get("License") or "").split("\n")[:1]
    for line in told:
        for words, names in FREE.items():
            if words in line:
                return line, [set(names)]
    return None


def licences_on_the_page() -> dict[str, str]:
    """package -> the cell of its licence, of both tables of docs/dependencies.md."""
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    return {m[1]: m[2] for m in re.finditer(r"^\| ([a-z][\w-]*) \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)}


def brought(names: Iterable[str]) -> dict[str, str]:
    """Installed packages that these need, directly or not -> their versions; names as the index writes them."""
    found: dict[str, str] = {}
    todo = list(names)
    while todo:
        name = plain_name(todo.pop())
        if name in found:
            continue
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = there.version
        needs = (Requirement(line) for line in there.requires or ())
        todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def test_licences_are_those_that_the_packages_state() -> None:
    page, compared = licences_on_the_page(), 0
    for package, cell in page.items():
        if package == "package":
            continue
        names = named_licences(cell)
        assert names and names <= SPDX, f"docs/dependencies.md: {package}: {names - SPDX or cell} is no SPDX name known"
        said = stated(package)
        if said is not None:
            assert all(one & names for one in said[1]), f"docs/dependencies.md: {package}: {cell}; it says {said[0]}"
            compared += 1
    assert compared > 40


def test_what_is_brought_along_is_on_the_page_and_pinned() -> None:
    optional = PROJECT["optional-dependencies"]
    every = {name_of(line) for extra in sorted({*EXTRAS.values()}) for line in optional[extra]}
    base = {name_of(line) for line in PROJECT["dependencies"]}
    page, there = licences_on_the_page(), brought({*base, *every})
    assert len(there) > 30
    assert not {*there} - {*page}, f"docs/dependencies.md does not list {sorted({*there} - {*page})}"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain_name(line.split("==")[0]) for line in lines if "==" in line}
    wanted = brought({*base, *(name_of(line) for lines in optional.values() for line in lines)} - {"simengine"})
    assert not {*wanted} - pinned - {"setuptools"}, f"constraints.txt lacks {sorted({*wanted} - pinned)}"


def test_hashes_are_those_of_the_pinned_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    text = (ROOT / "locked.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)(?= )[^#]*?\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE))
    optional = PROJECT["optional-dependencies"]
    every = {name_of(line) for extra in sorted({*EXTRAS.values()}) for line in optional[extra]}
    wanted = {*brought({*every, *map(name_of, PROJECT["dependencies"])}), *every} - {"torch", "simengine"}
    assert not wanted - {*locked}, f"locked.txt lacks {sorted(wanted - {*locked})}; make it anew: docs/install.md"
    differ = {name for name, version in locked.items() if pinned.get(name, version) != version}
    assert len(locked) > 80 and not differ, f"locked.txt and constraints.txt differ in {sorted(differ)}"


def test_doctor_knows_the_extras() -> None:
    assert doctor._EXTRAS == EXTRAS and {*doctor._NEEDED} <= {name_of(line) for line in PROJECT["dependencies"]}


def test_demonstrations_are_scenes_that_ship() -> None:
    assert set(get_args(Area)) == set(DEMONSTRATIONS) and set(DEMONSTRATIONS.values()) <= set(named_scenes())


@pytest.mark.slow
def test_a_demonstration_ends_in_a_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simengine", "demo", "materials", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/demo-materials/report.html").is_file()
