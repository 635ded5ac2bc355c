"""Matrices of scikit-fem as a constraint: closed forms, orders, gradients of both orders, the nearest of functions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import eye_array

from simengine.constraint.cloud import AssembledEquation

fem = pytest.importorskip("skfem")
D = torch.float64


def _square(n: int) -> tuple[AssembledEquation, torch.Tensor, torch.Tensor]:
    """-div(k grad u) on the unit square, k in the left and the right half, known all around; x, y (2, n), load of 1."""
    from skfem.helpers import dot, grad

    line = np.linspace(0, 1, n + 1)
    basis = fem.Basis(fem.MeshTri.init_tensor(line, line), fem.ElementTriP1())

    @fem.BilinearForm
    def left(u, v, w):  # type: ignore[no-untyped-def]
        return (w.x[0] < 0.5) * dot(grad(u), grad(v))

    @fem.BilinearForm
    def right(u, v, w):  # type: ignore[no-untyped-def]
        return (w.x[0] > 0.5) * dot(grad(u), grad(v))

    mass = fem.BilinearForm(lambda u, v, w: u * v).assemble(basis)
    load = fem.LinearForm(lambda v, w: v).assemble(basis)
    parts = {"left": left.assemble(basis), "right": right.assemble(basis)}
    own = AssembledEquation(parts, mass=mass, known=basis.get_dofs().all())
    return own, torch.from_numpy(basis.doflocs), torch.from_numpy(load)


def test_known_values_and_jumps_are_exact_for_what_the_elements_hold() -> None:
    """The flux through two halves is the same: u is a straight line in each, with slopes as 1/k."""
    own, (x, _), _ = _square(6)
    exact = torch.where(x < 0.5, 3 * x, 1.5 + (x - 0.5))
    assert torch.allclose(own.solve({"left": 1.0, "right": 3.0}, values=exact), exact, atol=1e-13)


def test_poisson_and_heat_converge_at_second_order() -> None:
    errors: dict[str, list[float]] = {"still": [], "time": []}
    for n in (8, 16):
        own, (x, y), load = _square(n)
        wave = torch.sin(math.pi * x) * torch.sin(math.pi * y)
        even = {"left": 1.0, "right": 1.0}
        # the load of the wave by the mass matrix: a projection, of the same order
        found = own.solve(even, 2 * math.pi**2 * torch.from_numpy(own._mass @ wave.numpy()))  # type: ignore[operator]
        errors["still"].append(float((found - wave).abs().max()))
        run = own.march(even, wave, 0.05, n)
        errors["time"].append(float((run[-1] - wave * math.exp(-2 * math.pi**2 * 0.05)).abs().max()))
        assert len(run) == n + 1 and load.shape == x.shape
    for name, (coarse, fine) in errors.items():
        assert math.log2(coarse / fine) > 1.8, (name, errors)


def test_gradients_of_first_and_second_order() -> None:
    own, (x, y), load = _square(3)
    k = torch.tensor([1.2, 0.7], dtype=D, requires_grad=True)
    f = load.clone().requires_grad_()
    edge = (x - y).clone().requires_grad_()

    def still(k: torch.Tensor, f: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
        return own.solve({"left": k[0], "right": k[1]}, f, edge)[own.free]

    def run(k: torch.Tensor, f: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
        return own.march({"left": k[0], "right": k[1]}, 0.3, 0.1, 2, f, edge)[:, own.free]

    for function in (still, run):
        assert torch.autograd.gradcheck(function, (k, f, edge), eps=1e-5, atol=1e-9, rtol=1e-6)
    assert torch.autograd.gradgradcheck(still, (k, f, edge), eps=1e-5, atol=1e-9, rtol=1e-6)


def test_the_nearest_of_runs_of_other_numbers_and_its_error() -> None:
    own, (x, _), load = _square(8)
    load = load * x  # one that both halves do not share
    runs = [own.solve({"left": 1.0, "right": r}, load) for r in (0.3, 4.0)]
    asked = {"left": 1.0, "right": 2.0}
    truth, found = own.solve(asked, load), own.nearest(asked, torch.stack(runs, 1), load)
    off = truth - found.field
    told = math.sqrt(float(off @ own.force(asked, off)) / float(found.field @ own.force(asked, found.field)))
    assert found.error == pytest.approx(told, rel=1e-6) and 1e-3 < told < 1
    # no other combination is nearer
    for k in range(2):
        moved = off - 1e-3 * runs[k]
        assert float(moved @ own.force(asked, moved)) > float(off @ own.force(asked, off))
    assert own.nearest(asked, torch.stack([*runs, truth], 1), load).error < 1e-7


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="square matrices of one size"):
        AssembledEquation({"a": eye_array(3), "b": eye_array(4)})
    with pytest.raises(ValueError, match="entries from 0 to 2, got 1 to 3"):
        AssembledEquation({"a": eye_array(3)}, known=[1, 3])
    own, _, load = _square(3)
    with pytest.raises(ValueError, match="expected left, right, got left"):
        own.solve({"left": 1.0})
    with pytest.raises(ValueError, match="load: expected a number or shape"):
        own.solve({"left": 1.0, "right": 1.0}, load[:3])
    free = AssembledEquation({"k": own._parts["left"] + own._parts["right"]})
    with pytest.raises(ArithmeticError, match="singular"):
        free.solve({"k": 1.0}, load)


def test_from_the_file_of_a_flat_mesh_to_a_field(tmp_path: Path) -> None:
    """-lap u = 1 on a disc that another program wrote as triangles, u = 0 on its rim: (1 - r^2)/4, at second order."""
    import trimesh
    from scipy.spatial import Delaunay
    from skfem.helpers import dot, grad

    off = []
    for rings in (6, 12):
        places = [[0.0, 0.0]]
        for ring in range(1, rings + 1):
            angle = 2 * np.pi * np.arange(6 * ring) / (6 * ring)
            places.extend((ring / rings * np.stack([np.cos(angle), np.sin(angle)], 1)).tolist())
        flat = np.array(places)
        triangles = Delaunay(flat).simplices
        body = trimesh.Trimesh(np.column_stack([flat, np.zeros(len(flat))]), triangles, process=False)
        body.export(tmp_path / "part.stl")

        part = trimesh.load(tmp_path / "part.stl")
        basis = fem.Basis(fem.MeshTri(part.vertices[:, :2].T, part.faces.T), fem.ElementTriP1())
        stiffness = fem.BilinearForm(lambda u, v, w: dot(grad(u), grad(v))).assemble(basis)
        load = fem.LinearForm(lambda v, w: v).assemble(basis)
        u = AssembledEquation({"k": stiffness}, known=basis.get_dofs().all()).solve({"k": 1.0}, load).numpy()
        assert len(u) == len(flat)  # corners that triangles share are one
        off.append(np.abs(u - (1 - (basis.doflocs**2).sum(0)) / 4).max())
    assert off[1] < 2e-3 and off[0] / off[1] > 3
