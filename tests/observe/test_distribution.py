"""Clouds without names, drawn by numpy from a body whose motion is a formula."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.problem import Problem
from simengine.fit.twin import write_twin
from simengine.io.geometry.particles import write_ply
from simengine.io.geometry.points import read_points
from simengine.observe import Distribution
from simengine.scene import SceneError, load_scene
from simengine.scene.asks import Ask, Cloud
from simengine.scene.base import AbstractRun

SIZE = np.array([0.4, 0.3, 0.35])
TIMES = np.linspace(0, 0.5, 11)
TRUE = {"stretch": 0.6, "speed": 0.8}
UNKNOWNS = {"stretch": se.Unknown(), "speed": se.Unknown()}


class Slab(se.OwnWorld):
    """Particles of a box that flies along x and gets longer along y: a world of a test, which answers clouds."""

    parameters: ClassVar = {"stretch": se.OwnNumber(0.3, "1/s"), "speed": se.OwnNumber(0.5, "m/s")}
    answers = frozenset((Cloud,))

    def simulate(self, values: Any) -> se.OwnMotion:
        raise AssertionError("its run answers clouds alone")

    def solve(self, asks: Any, **options: Any) -> "SlabRun":
        return SlabRun(self)

    def sizes(self) -> dict[str, float]:
        return {"m": 0.4, "s": 0.5, "m/s": 1.0}


@dataclasses.dataclass(frozen=True)
class SlabRun(AbstractRun):
    """Where its particles are: 6 along each axis."""

    slab: Any

    def sample(self, ask: Ask) -> torch.Tensor:
        assert isinstance(ask, Cloud)
        one = (torch.arange(6, dtype=torch.float64) + 0.5) / 6 - 0.5
        x = torch.cartesian_prod(one, one, one) * torch.tensor(SIZE)
        t = ask.times[:, None]
        moved = [x[:, 0] + self.slab.speed * t, x[:, 1] * (1 + self.slab.stretch * t), x[:, 2] + 0 * t]
        return torch.stack(moved, -1)


def _drawn(generator: np.random.Generator, count: int, noise: float = 0.0) -> np.ndarray:
    """Points of each frame, drawn anew, (f, n, 3)."""
    frames = []
    for t in TIMES:
        x = (generator.random((count, 3)) - 0.5) * SIZE * [1, 1 + TRUE["stretch"] * t, 1] + [TRUE["speed"] * t, 0, 0]
        frames.append(x + noise * generator.standard_normal(x.shape))
    return np.stack(frames)


def _write(folder: Path, x: np.ndarray) -> None:
    lines = ["time [s],x [mm],y [mm],z [mm]"]
    lines += [",".join(f"{v:.9g}" for v in (t, *(1e3 * p))) for t, cloud in zip(TIMES, x, strict=True) for p in cloud]
    (folder / "cloud.csv").write_text("\n".join(lines) + "\n")


def _problem(folder: Path, **changes: Any) -> Problem:
    own = Distribution(directory=folder, file="cloud.csv", **changes)
    return Problem(Slab(), observations={"cloud": own}, unknowns=UNKNOWNS)


def test_bars_hold_what_was_drawn(tmp_path: Path) -> None:
    """Errors over their bars have a spread of one: 8 draws of 200 points with a noise of a tenth of the body."""
    generator = np.random.default_rng(3)
    z = []
    for _ in range(8):
        _write(tmp_path, _drawn(generator, 200, 0.02))
        found = se.identify(_problem(tmp_path, sigma=0.02), progress=False).estimates
        z.append([(found[name].value - true) / (found[name].std or 0.0) for name, true in TRUE.items()])
    spread = np.square(z).mean(0) ** 0.5  # of 8 draws: 1 +- 0.25
    assert (spread > 0.4).all() and (spread < 1.6).all(), spread


def test_means_and_covariances_are_those_of_the_matter(tmp_path: Path) -> None:
    """Of a box: its sides squared over 12, whatever the particles that stand for it."""
    _write(tmp_path, _drawn(np.random.default_rng(0), 400))
    problem = _problem(tmp_path)
    predicted = problem.predict()["cloud"].values
    assert torch.allclose(predicted[0, 3:], torch.tensor([0.16, 0, 0, 0.09, 0, 0.1225]).double() / 12, atol=1e-9)
    assert torch.allclose(predicted[-1, :3], torch.tensor([0.25, 0.0, 0.0]).double(), atol=1e-12)


def _ball(generator: np.random.Generator, count: int) -> np.ndarray:
    x = generator.standard_normal((len(TIMES), count, 3))
    return 0.2 * x / np.linalg.norm(x, axis=2, keepdims=True)


def _faces(generator: np.random.Generator, count: int) -> np.ndarray:
    x = generator.random((len(TIMES), count, 3)) - 0.5
    axis = generator.integers(3, size=(len(TIMES), count, 1))
    np.put_along_axis(x, axis, np.sign(np.take_along_axis(x, axis, 2)) / 2, 2)
    return x * SIZE


def test_a_ply_for_each_frame_is_read_and_written(tmp_path: Path) -> None:
    """The tenth comes after the ninth; the same cloud as from a table; a twin writes such files too."""
    drawn = _drawn(np.random.default_rng(0), 150)
    _write(tmp_path, drawn)
    for k, cloud in enumerate(drawn):
        write_ply(tmp_path / f"scan_{k}.ply", {"x": 1e3 * cloud})
    series = Distribution(directory=tmp_path, file="scan_*.ply", unit="mm", rate=20.0, name="scan")
    table = Distribution(directory=tmp_path, file="cloud.csv").read()
    own = series.read()
    assert own.at["time"].tolist() == pytest.approx(TIMES.tolist())
    assert len(own.files) == len(TIMES)
    assert torch.allclose(own.values, table.values, atol=1e-6)  # .ply keeps single precision
    problem = Problem(Slab(), observations={"scan": series}, unknowns=UNKNOWNS)
    planned, facing = series.planned(problem.scene.world, torch.Generator().manual_seed(0))
    made = dataclasses.replace(planned, values=1.0 + torch.arange(planned.values.numel()).reshape(planned.values.shape))
    (tmp_path / "twin").mkdir()
    facing.write(tmp_path / "twin" / "scan_*.ply", made)
    back = read_points(tmp_path / "twin" / "scan_0003.ply", "mm")[0]
    assert back[0] == pytest.approx(made.values[3 * series.count].tolist())
    with pytest.raises(SceneError, match=r"observations.scan.file: none_\*.ply: no file is like it"):
        dataclasses.replace(series, file="none_*.ply").read()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda g: _ball(g, 300), "its points lie on a surface"),
        (lambda g: _faces(g, 400), "its points lie on a surface"),
        (lambda g: np.concatenate([_ball(g, 300)[:1], _drawn(g, 300)[1:]]), "its points lie on a surface"),
        (lambda g: _faces(g, 200), "no sample of it|its points lie on a surface"),
        (lambda g: 0.5 * _drawn(g, 300), "spread over .* along a principal axis, and the body over"),
        (lambda g: _drawn(g, 300)[:, :40], '40 points in a frame; it takes 100.*type = "markers"'),
    ],
)
def test_what_is_no_sample_is_refused(made: Any, told: str, tmp_path: Path) -> None:
    _write(tmp_path, made(np.random.default_rng(1)))
    with pytest.raises(SceneError, match=told):
        _problem(tmp_path)


def test_files_without_frames_or_numbers_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "cloud.npz", x=np.zeros((3, 200)), time=np.zeros(3))
    for name, told in (("cloud.npz", "does not go with time"), ("none.csv", "no such file")):
        with pytest.raises(SceneError, match=told):
            Distribution(directory=tmp_path, file=name).read()
    (tmp_path / "cloud.csv").write_text("time,x,y\n0,1,2\n")
    with pytest.raises(SceneError, match="columns\\.z"):
        Distribution(directory=tmp_path, file="cloud.csv").read()
    for changes, told in (
        ({"place": se.observe.Place(register=True)}, "cannot be registered"),
        ({"count": 5}, "count"),
    ):
        with pytest.raises(ValueError, match=told):
            Distribution(file="cloud.csv", **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 0.02},
        {"clock_rate": 0.9},
        {"gain": 1.1},
        {"offset": 0.01},
        {"quantum": 0.05},
        {"sigma": 0.03},
        {"sigma": 0.02, "sigma_level": 2.0},
        {"loss": "huber"},
        {"hold_out": 0.3},
        {"weight": 0.5},
        {"unit": "km"},
        {"columns": {"x": "y", "y": "x"}},
        {"place": se.observe.Place(shift=(0.1, 0.0, 0.0))},
        {"within": {"time": (0.1, 0.4)}},
    ],
)
def test_every_key_counts_or_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Residuals of the same file, with and without a key."""
    _write(tmp_path, _drawn(np.random.default_rng(0), 200))
    own = {"sigma": 0.02} | changes
    before = _problem(tmp_path, sigma=0.02)
    try:
        after = _problem(tmp_path, **own)
    except SceneError as error:
        assert "in the first frame points are spread" in str(error)
        return
    a, b = before.residual(before.start()), after.residual(after.start())
    assert a.shape != b.shape or not torch.allclose(a, b)


def test_noise_and_rounding_widen_what_is_seen(tmp_path: Path) -> None:
    """Variances add: sigma over its level squared, and a step of the converter squared over 12, on the diagonal."""
    _write(tmp_path, _drawn(np.random.default_rng(0), 200))
    plain, coarse = (
        p.predict(p.start())["cloud"].values
        for p in (_problem(tmp_path, sigma=0.02), _problem(tmp_path, sigma=0.02, sigma_level=2.0, quantum=0.05))
    )
    more = 0.01**2 + 0.05**2 / 12 - 0.02**2
    expected = torch.tensor([0.0, 0.0, 0.0, more, 0.0, 0.0, more, 0.0, more], dtype=torch.float64)
    torch.testing.assert_close(coarse - plain, expected.expand_as(plain), rtol=1e-9, atol=1e-12)


SCENE = """
[grid]
num_grids = 12
num_steps = 60
time_step = 2e-3
[[bodies]]
name = "jelly"
velocity = [0.0, -2.0, 0.0]
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.3, 0.3, 0.3], counts = [6, 6, 6] }
material = { type = "jelly", E = 3e4, nu = 0.3 }
[observations.scan]
type = "distribution"
file = "scan.csv"
count = 1500
[unknowns]
"bodies.jelly.material.E" = { prior.lognormal = [3e4, 1.0] }
"""


@pytest.mark.parametrize(
    "said",
    [
        'file = "scan.csv"\ncolumns = { time = "t (ms)", x = "Xpos [cm]", y = "Ypos [cm]", z = "Zpos [cm]" }',
        'file = "scan.csv"\nunit = "mm"',
        'file = "scan.npz"\nunit = "mm"',
    ],
)
def test_a_twin_takes_the_headers_units_and_kind_of_the_file_of_its_scene(said: str, tmp_path: Path) -> None:
    frames = {}
    for own in ('file = "scan.csv"', said):
        folder = tmp_path / str(len(frames))
        folder.mkdir()
        (folder / "s.toml").write_text(SCENE.replace('file = "scan.csv"', own))
        scene = load_scene(folder / "s.toml")
        write_twin(scene, scene, folder, refine=1.0, seed=4)
        frames[own] = load_scene(folder / "s.toml").observations["scan"].read()
    plain, other = frames.values()
    torch.testing.assert_close(other.values, plain.values, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(other.at["time"], plain.at["time"], rtol=1e-8, atol=1e-12)


def test_a_twin_of_a_jelly_is_read_back(tmp_path: Path) -> None:
    """Drawn of the same motion: E within three of its bars, which are below a tenth of it."""
    (tmp_path / "s.toml").write_text(SCENE)
    hidden = load_scene(tmp_path / "s.toml", ["bodies.jelly.material.E=2e4"])
    write_twin(load_scene(tmp_path / "s.toml"), hidden, tmp_path, refine=1.0, seed=4)
    e = se.identify(Problem(load_scene(tmp_path / "s.toml")), progress=False).estimates["bodies.jelly.material.E"]
    assert e.std is not None and e.std < 2e3 and abs(e.value - 2e4) < 3 * e.std
