"""Fields sought as a whole: the exact gradient, edges from few noisy views, the axis beside them, a resumed search."""

from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.fields import beside
from simengine.fit.fields.beside import profile
from simengine.fit.fields.newton import newton_step
from simengine.fit.fields.objective import FieldObjective
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
geometry = { type = "parallel", pitch = 0.05, axis_offset = 0.0 }
sigma = "estimate"
hold_out = { rows = "24:30" }
[unknowns."volume.attenuation"]
lower = 0.0
prior = { total_variation = "estimate" }
[unknowns."observations.scan.geometry.axis_offset"]
prior = { normal = 0.1 }
[inference]
iterations = 60
"""


def _two_discs(folder: Path) -> None:
    """A sinogram in closed form, of discs, with noise of 0.02 and the axis beside the detector's middle."""
    angles = np.arange(0, 360, 12.0)
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
    # an axis off by half an element; edges between cells of two elements leave a tenth of an element
    axis = result.estimates["observations.scan.geometry.axis_offset"]
    assert axis.value == pytest.approx(SHIFT, abs=0.1 * 0.05)
    assert axis.std is not None and 0 < axis.std < 0.003


def test_an_arc_of_a_beam_that_drifts_from_an_empty_field(tmp_path: Path) -> None:
    """The first 84 degrees, each view by another factor up to 6 %: told, the rows are explained to their noise of 2 %;
    untold, they are not."""
    _two_discs(tmp_path)
    arrays = dict(np.load(tmp_path / "scan.npz"))
    arrays["s"] = arrays["s"] * (1 + 0.06 * np.cos(np.arange(30)))[:, None]
    np.savez(tmp_path / "scan.npz", **arrays)
    told = SCENE.replace('rows = "24:30"', "after = 1.5").replace('sigma = "estimate"', "sigma = 0.02")
    told = told.replace('"estimate"', "0.1").replace("offset = 0.0", f"offset = {SHIFT}")
    told = told.replace('[unknowns."observations.scan.geometry.axis_offset"]\nprior = { normal = 0.1 }\n', "")
    chi = []
    for more in ("", "drifting = true\n"):
        (tmp_path / "scan.toml").write_text(told.replace("sigma = 0.02\n", f"sigma = 0.02\n{more}"))
        fit = FieldFit(Problem(load_scene(tmp_path / "scan.toml")))
        for _ in range(8):
            fit.step()
        with torch.no_grad():
            chi.append(float(fit.objective.residuals(fit.x, fit.z).square().mean()))
    assert 0.5 < chi[1] < 1.5 < chi[0] and 2.0 * chi[1] < chi[0]


def test_the_objective_has_its_gradient(tmp_path: Path) -> None:
    _two_discs(tmp_path)
    fit = FieldObjective(Problem(load_scene(tmp_path / "scan.toml", ["volume.cells=[6, 5]"])))
    z = torch.tensor([0.2], dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    x = torch.rand(30, generator=g, dtype=torch.float64)
    value, slope = fit.value_and_gradient(x, z)
    along = torch.randn(30, generator=g, dtype=torch.float64)
    ahead, behind = (fit.value_and_gradient(x + step * along, z)[0] for step in (1e-6, -1e-6))
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


def _blocks(folder: Path, seed: int, level: float = 0.0) -> None:
    """A sinogram in closed form of squares that are whole cells of 12 x 12, over 150 degrees, its axis 0.03 off.

    The chord through an axis-aligned square of half side h at angle t is a trapezoid: 2 h / max(|cos|, |sin|) high,
    level for h (max - min) and zero beyond h (max + min) of the ray's distance from the middle.
    """
    angles = np.arange(20) * 7.5 + 3.0
    t = np.radians(angles)[:, None]
    big, small = np.maximum(abs(np.cos(t)), abs(np.sin(t))), np.minimum(abs(np.cos(t)), abs(np.sin(t)))
    u = (np.arange(30) - 14.5) * 0.1 - SHIFT
    total = np.zeros((20, 30))
    for x, y, h, value in (
        (-1 / 6, 0, 2 / 3, 1.0),
        (0, 0, 1 / 3, -1.0),
        (1 / 2, 1 / 2, 1 / 6, 1.0),
        (0, 0, 1, level),  # all of the box
    ):
        b = abs(u - (x * np.cos(t) + y * np.sin(t)))
        total += value * 2 * h / big * np.clip((h * (big + small) - b) / (2 * h * small), 0, 1)
    total += 0.02 * np.random.default_rng(seed).standard_normal(total.shape)
    np.savez(folder / "scan.npz", s=total, a=angles)
    scene = SCENE.replace("pitch = 0.05", "pitch = 0.1").replace('hold_out = { rows = "24:30" }', "")
    scene = scene.replace('sigma = "estimate"', "sigma = 0.02").replace('"estimate"', "5.0")
    (folder / "scan.toml").write_text(scene.replace("cells = [32, 32]", "cells = [12, 12]"))


def test_the_bars_of_a_number_beside_a_field(tmp_path: Path) -> None:
    """Verification against a closed form: over noise, what is found scatters about the truth as its bars say."""
    pulls = []
    for seed in range(4):
        _blocks(tmp_path, seed)
        fit = FieldFit(Problem(load_scene(tmp_path / "scan.toml")))
        while not fit.converged:
            fit.step()
        assert fit.profile is not None
        bar = 0.1 * float(fit.profile.covariance().sqrt())
        assert 2e-4 < bar < 1e-3  # by the columns alone, as if the cells stood still, 1e-4
        pulls.append((fit.estimates()["observations.scan.geometry.axis_offset"] - SHIFT) / bar)
    assert max(map(abs, pulls)) < 4
    assert 0.2 < np.sqrt(np.mean(np.square(pulls))) < 2  # of 4: 99.8 % lie below, 99.99 % above


def test_the_profile_is_that_of_a_quadratic(tmp_path: Path) -> None:
    """Verification: away from bounds and edges the profile is linear least squares, solved here by dense matrices."""
    _blocks(tmp_path, 0, level=2.0)
    smooth = ['unknowns."volume.attenuation".prior={normal=1.0, length=0.2}']
    objective = FieldObjective(Problem(load_scene(tmp_path / "scan.toml", smooth)))
    z, width = torch.tensor([0.25], dtype=torch.float64), torch.tensor([0.01], dtype=torch.float64)
    zero = torch.zeros(144, dtype=torch.float64)
    a = torch.autograd.functional.jacobian(lambda x: objective.residuals(x, z), zero)
    stiff = torch.autograd.functional.hessian(objective.energy, zero)
    slope = objective.value_and_gradient(zero, z)[1]
    best = -torch.linalg.solve(a.T @ a + stiff, slope)
    assert float(best.min()) > 0
    found = profile(objective, best, z, width)
    unit = width * torch.ones(1, dtype=torch.float64)
    c = (objective.residuals(best, z + unit) - objective.residuals(best, z - unit)) / (2 * width)
    taken_up = torch.linalg.solve(a.T @ a + stiff, a.T @ c)
    exact = c @ c - (a.T @ c) @ taken_up
    assert float(found.information["scan"] + found.stiffness) == pytest.approx(float(exact), rel=2e-3)
    assert float(found.gradient) == pytest.approx(float(c @ objective.residuals(best, z)), rel=1e-3)


def test_a_number_whose_column_cannot_be_solved_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cells take up is unknown then; taking it for nothing would print a bar that is too small."""
    _blocks(tmp_path, 0, level=2.0)
    objective = FieldObjective(Problem(load_scene(tmp_path / "scan.toml")))
    x, z = torch.full((144,), 1.0, dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    width = torch.tensor([0.01], dtype=torch.float64)
    assert float(profile(objective, x, z, width).information["scan"]) > 1.0
    monkeypatch.setattr(beside, "conjugate_gradients", lambda product, b, **_: torch.full_like(b, torch.nan))
    found = profile(objective, x, z, width)
    assert float(found.information["scan"]) == 0.0
    assert bool(found.gradient.isfinite().all()) and bool(found.covariance().isfinite().all())


def test_an_interrupted_search_goes_on_bitwise(tmp_path: Path) -> None:
    _two_discs(tmp_path)

    def fresh() -> FieldFit:
        small = [
            "volume.cells=[8, 8]",
            "inference.iterations=20",
            "observations.scan.every=5",
            "observations.scan.hold_out=false",
        ]
        return FieldFit(Problem(load_scene(tmp_path / "scan.toml", small)))

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
    with pytest.raises(SceneError, match='a field is sought by "least_squares"'):
        se.identify(load_scene(tmp_path / "scan.toml", ["inference.method=adam"]))
    with pytest.raises(SceneError, match="a field takes total_variation"):
        FieldFit(Problem(load_scene(tmp_path / "scan.toml", ['unknowns."volume.attenuation".prior={normal=1.0}'])))
    with pytest.raises(SceneError, match="no observation sees this field"):
        FieldFit(Problem(load_scene(tmp_path / "scan.toml", ["observations.scan.quantity=emission"])))


def test_a_step_solves_a_quadratic_within_bounds(tmp_path: Path) -> None:
    """Verification: of a smooth field the first steps reach what non-negative least squares by dense matrices gives."""
    from scipy.optimize import nnls

    _blocks(tmp_path, 0)
    smooth = ['unknowns."volume.attenuation".prior={normal=1.0, length=0.2}']
    objective = FieldObjective(Problem(load_scene(tmp_path / "scan.toml", smooth)))
    z, x = torch.zeros(1, dtype=torch.float64), objective.start
    zero = torch.zeros_like(x)
    a = torch.autograd.functional.jacobian(lambda v: objective.residuals(v, z), zero)
    stiff = torch.autograd.functional.hessian(objective.energy, zero)
    assert np.allclose(stiff.numpy(), objective.stiffness(x).toarray(), rtol=1e-9, atol=1e-9 * float(stiff.max()))
    root = torch.linalg.cholesky(a.T @ a + stiff)
    slope = objective.value_and_gradient(zero, z)[1]
    best, _ = nnls(root.T.numpy(), -torch.linalg.solve_triangular(root, slope[:, None], upper=False)[:, 0].numpy())
    least = objective.value_and_gradient(torch.from_numpy(best), z)[0]
    for _ in range(12):
        x, value, _ = newton_step(objective, x, z)
    assert float(x.min()) >= 0
    assert value == pytest.approx(least, rel=1e-6)


def test_the_majorant_touches_a_total_variation_from_above() -> None:
    """Verification: equal slopes at the field, and no other field has more energy than the quadratic says."""
    g = torch.Generator().manual_seed(0)
    energy = FieldEnergy(sizes=(0.1, 0.2), scale=1.0, total_variation=3.0)
    field = torch.randn(6, 5, generator=g, dtype=torch.float64).requires_grad_()
    matrix = torch.from_numpy(energy.stiffness(field.detach()).toarray())
    (slope,) = torch.autograd.grad(energy(field), field)
    assert torch.allclose(matrix @ field.detach().reshape(-1), slope.reshape(-1), rtol=1e-9, atol=1e-9)
    here = field.detach()
    for size in (0.01, 0.3, 3.0):
        step = size * torch.randn(6, 5, generator=g, dtype=torch.float64)
        flat = step.reshape(-1)
        above = float(energy(here) + flat @ slope.reshape(-1) + flat @ matrix @ flat / 2)
        assert float(energy(here + step)) <= above
