"""A body that starts elsewhere, a floor that lies elsewhere: found where sought, told where not (recovery, twin data).

The marks are written by `simengine observe` at the resolution of the fit, with noise and gaps: these tests are of the
search and of what is told, not of the physics.
"""

import json
from pathlib import Path

import pytest

import simengine as se
from simengine.cli import main
from simengine.fit.result import FitResult
from simengine.fit.twin import write_twin

SCENE = """
kind = "mpm"
gravity = [0.0, -9.81, 0.0]
[grid]
lower = [-0.1, 0.0, -0.1]
upper = [0.1, 0.24, 0.1]
spacing = 0.02
time_step = 1e-3
num_steps = 60
[output]
save_every = 10
[[bodies]]
name = "block"
shape = { type = "box", center = [0.0, 0.12, 0.0], size = [0.1, 0.1, 0.1], counts = [6, 6, 6] }
material = { type = "jelly", E = 3e4, nu = 0.25 }
velocity = [0.2, -3.0, 0.1]
angular_velocity = [3.0, 1.0, 5.0]
[[colliders]]
name = "floor"
type = "plane"
kind = "slip"
point = [0.0, 0.05, 0.0]
normal = [0.0, 1.0, 0.0]
[observations.marks]
type = "markers"
file = "marks.csv"
on = "block"
points = { on = "block", surface = true, count = 12 }
times = { rate = 200.0, jitter = 1e-3 }
gaps = 0.1
sigma = 2e-4
[unknowns]
"bodies.block.material.E" = {}
"bodies.block.material.nu" = {}
"""
TRUE = ["bodies.block.material.E=42000.0", "bodies.block.material.nu=0.33"]
ELSEWHERE = {
    "bodies.block.shape.center 1": ("bodies.block.shape.center=[0.0,0.125,0.0]", 0.125),
    "colliders.floor.point 1": ("colliders.floor.point=[0.0,0.055,0.0]", 0.055),
}


def fitted(folder: Path, hidden: list[str], *unknowns: str) -> FitResult:
    """The answer to marks of a world with these hidden numbers."""
    (folder / "scene.toml").write_text(SCENE + "\n".join(unknowns))
    scene = se.load_scene(folder / "scene.toml")
    write_twin(scene, se.load_scene(folder / "scene.toml", [*TRUE, *hidden]), folder, refine=1.0, seed=2)
    return se.identify(scene, progress=False)


@pytest.mark.slow
def test_the_block_is_found_from_its_marks(tmp_path: Path) -> None:
    result = fitted(tmp_path, [])
    for name, true in (("E", 42000.0), ("nu", 0.33)):
        e = result.estimates[f"bodies.block.material.{name}"]
        assert e.std is not None and abs(e.value - true) < 3 * e.std < 0.1 * true
    assert result.summary["explained"] is True


@pytest.mark.slow
@pytest.mark.parametrize("key", list(ELSEWHERE))
def test_what_lies_elsewhere_is_found_or_told(key: str, tmp_path: Path) -> None:
    hidden, place = ELSEWHERE[key]
    blind = fitted(tmp_path, [hidden])
    assert blind.summary["explained"] is False  # 5 mm off, noise 0.2 mm
    vector = key.removesuffix(" 1")
    seeing = fitted(tmp_path, [hidden], f'"{vector}" = {{ prior = {{ normal = [0.0, 0.01, 0.0] }} }}')
    assert seeing.summary["explained"] is True
    found = seeing.estimates[key]
    assert found.std is not None and abs(found.value - place) < 4 * found.std < 2e-3
    e = seeing.estimates["bodies.block.material.E"]
    assert e.std is not None and abs(e.value - 42000.0) < 4 * e.std < 0.2 * 42000.0


def test_marks_that_are_not_there_yet_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A scene that seeks nothing may come before its files; one that seeks, or that cannot be observed, may not."""
    file = tmp_path / "scene.toml"
    plain = SCENE.partition("[unknowns]")[0].replace("num_steps = 60", "num_steps = 10")
    plain = plain.replace("rate = 200", "rate = 500")
    file.write_text(plain)
    assert main(["check", str(file), "--device", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["observations"]["marks"]
    assert told.startswith("marks.csv is not there yet; `simengine observe` would write ")
    for wrong in (SCENE, plain.replace("points = ", "# points = ").replace("gaps = ", "# gaps = ")):
        file.write_text(wrong)
        assert main(["check", str(file), "--device", "cpu"]) == 2
        assert "observations.marks.file: marks.csv: no such file" in capsys.readouterr().err


def test_a_twin_without_noise_says_so(tmp_path: Path) -> None:
    """Where sigma is to be estimated nobody knows how much to add, and an exact file must not pass for another."""
    (tmp_path / "scene.toml").write_text(SCENE)
    short = ["grid.num_steps=10", "observations.marks.times={ rate = 500.0 }"]
    quiet = se.load_scene(tmp_path / "scene.toml", [*short, 'observations.marks.sigma="estimate"'])
    told = write_twin(quiet, quiet, tmp_path, refine=1.0)
    assert "--set observations.marks.sigma=VALUE" in told["notes"][0]
    loud = se.load_scene(tmp_path / "scene.toml", short)
    assert "notes" not in write_twin(loud, loud, tmp_path, refine=1.0)
