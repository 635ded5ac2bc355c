"""Fields sought as a whole: the exact gradient, edges from few noisy views, the axis beside them, a resumed search."""

from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.fields.prior import FieldEnergy
from simengine.fit.fields.training import FieldFit
from simengine.fit.problem import Problem
from simengine.scene import SceneError, load_scene
from simengine.worlds.objects.volume import matthews

SHIFT = 0.03

SCENE = """
kind = "volume"
[volume]
box = [[-1.0, 1.0], [-1.0, 1.0]]
cells = [32, 32]
[observations.scan]
type = "projections"
file = "scan.npz"
columns = { values = "s", angle = "a [deg]" }
geometry = { type = "parallel", pitch = 0.05, axis_offset = 0.03 }
sigma = "estimate"
hold_out = { rows = "24:30" }
[unknowns."volume.attenuation"]
lower = 0.0
prior = { total_variation = "estimate" }
[inference]
method = "lbfgs"
iterations = 60
"""


def _two_discs(folder: Path) -> None:
    """A sinogram in closed form, of discs, with noise of 0.02 and the axis beside the detector's middle."""
    angles = np.arange(0, 180, 6.0)
    u = (np.arange(60) - 29.5) * 0.05 - SHIFT
    t = np.radians(angles)[:, None]
    total = np.zeros((30, 60))
    for x, y, radius, value in ((0.1, -0.2, 0.6, 1.0), (0.3, 0.1, 0.2, -1.0)):
        b = u - (x * np.cos(t) + y * np.sin(t))
        total += value * 2 * np.sqrt(np.maximum(radius**2 - b**2, 0))
    total += 0.02 * np.random.default_rng(0).standard_normal(total.shape)
    np.savez(folder / "scan.npz", s=total, a=angles)
    (folder / "scan.toml").write_text(SCENE)


def _filled(n: int) -> torch.Tensor:
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
    big = (x[:, None] - 0.1).square() + (x[None] + 0.2).square() < 0.36
    hole = (x[:, None] - 0.3).square() + (x[None] - 0.1).square() < 0.04
    return big & ~hole


def test_a_disc_with_a_hole(tmp_path: Path) -> None:
    _two_discs(tmp_path)
    result = se.identify(load_scene(tmp_path / "scan.toml"), out=tmp_path / "out", progress=False)
    field = result.fields["volume.attenuation"]
    assert field.shape == (32, 32)
    assert float(field.min()) >= 0.0
    # whatever is wrong lies within a cell of an outline, and inside the disc has its density
    x = (torch.arange(32, dtype=torch.float64) + 0.5) / 16 - 1
    away = torch.minimum(
        ((x[:, None] - 0.1).square() + (x[None] + 0.2).square()).sqrt().sub(0.6).abs(),
        ((x[:, None] - 0.3).square() + (x[None] - 0.1).square()).sqrt().sub(0.2).abs(),
    )
    wrong = (field > 0.5) != _filled(32)
    assert float((away * wrong).max()) < 1 / 16
    assert float(field[_filled(32) & (away > 2 / 16)].mean()) == pytest.approx(1.0, abs=0.02)
    assert matthews(field > 0.5, _filled(32)) > 0.85  # 36 cells of the outlines, of 255 inside
    scan = result.summary["observations"]["scan"]
    assert scan["held_out"]["rows"] == 6 * 60
    assert scan["held_out"]["rms"]["attenuation"] < 0.06  # noise of 0.02 and cells of 0.06
    assert result.summary["fields"]["volume.attenuation"]["total_variation"] > 0


def test_the_objective_has_its_gradient(tmp_path: Path) -> None:
    _two_discs(tmp_path)
    fit = FieldFit(Problem(load_scene(tmp_path / "scan.toml", ["volume.cells=[6, 5]"])))
    g = torch.Generator().manual_seed(1)
    x = torch.rand(30, generator=g, dtype=torch.float64).numpy()
    value, slope = fit._objective(x)
    along = torch.randn(30, generator=g, dtype=torch.float64).numpy()
    ahead, behind = fit._objective(x + 1e-6 * along)[0], fit._objective(x - 1e-6 * along)[0]
    assert (ahead - behind) / 2e-6 == pytest.approx(float(slope @ along), rel=1e-5)
    assert value > 0


def test_the_total_variation_of_a_disc_and_of_a_ramp() -> None:
    """Of a ramp: slope times area; rounding off takes away little of it."""
    x = torch.linspace(0, 1, 50, dtype=torch.float64)
    ramp = (10 * x)[:, None].expand(50, 30)
    energy = FieldEnergy(sizes=(0.02, 0.1), scale=1.0, total_variation=2.0)
    exact = 2.0 * 10.0 / 0.98 * 0.02 * (50 / 49) * 49 * 0.1 * 30 * (0.98 * 49 / 50)
    assert float(energy(ramp)) == pytest.approx(exact, rel=0.02)
    smooth = FieldEnergy(sizes=(0.02, 0.1), scale=1.0, smooth=1.0, mean=3.0, length=0.0)
    assert float(smooth(torch.full((4, 5), 5.0, dtype=torch.float64))) == pytest.approx(4 * 20 * 0.002)


def test_an_interrupted_search_goes_on_bitwise(tmp_path: Path) -> None:
    _two_discs(tmp_path)

    def fresh() -> FieldFit:
        return FieldFit(Problem(load_scene(tmp_path / "scan.toml", ["volume.cells=[8, 8]", "inference.iterations=20"])))

    first = fresh()
    for _ in range(3):
        first.step()
    second = fresh()
    second.load_state_dict(first.state_dict())
    while not first.converged:
        assert first.step() == second.step()
    assert second.converged
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.z, second.z)


def test_scenes_that_cannot_be_meant(tmp_path: Path) -> None:
    _two_discs(tmp_path)
    with pytest.raises(SceneError, match='sought by "lbfgs"'):
        se.identify(load_scene(tmp_path / "scan.toml", ["inference.method=adam"]))
    with pytest.raises(SceneError, match="a field takes total_variation"):
        FieldFit(Problem(load_scene(tmp_path / "scan.toml", ['unknowns."volume.attenuation".prior={normal=1.0}'])))
    with pytest.raises(SceneError, match="no observation sees this field"):
        FieldFit(Problem(load_scene(tmp_path / "scan.toml", ["observations.scan.quantity=emission"])))
