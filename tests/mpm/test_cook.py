"""Cook's membrane (verification): a tapered panel, held at one end and sheared at the other, nearly incompressible.

Cook (1974): corners (0, 0), (48, 44), (48, 60), (0, 44); plane strain, small displacements. The answer is that of
mixed finite elements of scikit-fem, another program, at the same corner.
"""

import numpy as np
import pytest
import torch

from simengine import materials, mpm
from simengine.worlds.motion.supports import held_depth

HEIGHT, FORCE = 17.0, 0.05  # deflection of the corner times E over the force is near the first; aimed at the second


def by_elements(nu: float, n: int) -> float:
    """Rise of the upper corner for E = 1 and a force of 1: Taylor and Hood's elements on n x n quadrilaterals."""
    fem = pytest.importorskip("skfem")
    from scipy.sparse import bmat
    from skfem.helpers import ddot, div, sym_grad

    line = np.linspace(0, 1, n + 1)
    mesh = fem.MeshQuad.init_tensor(line, line)
    u, v = mesh.p
    mesh = fem.MeshQuad(np.stack([48 * u, 44 * u + v * (44 - 28 * u)]), mesh.t)
    mu, lam = 0.5 / (1 + nu), nu / (1 + nu) / (1 - 2 * nu)
    moved = fem.Basis(mesh, fem.ElementVector(fem.ElementQuad2()), intorder=5)
    pressed = fem.Basis(mesh, fem.ElementQuad1(), intorder=5)
    stiff = fem.BilinearForm(lambda u, v, w: 2 * mu * ddot(sym_grad(u), sym_grad(v))).assemble(moved)
    volume = fem.BilinearForm(lambda u, q, w: -div(u) * q).assemble(moved, pressed)
    yields = fem.BilinearForm(lambda p, q, w: -p * q / lam).assemble(pressed)
    edge = fem.FacetBasis(mesh, moved.elem, facets=mesh.facets_satisfying(lambda x: np.isclose(x[0], 48)), intorder=5)
    pull = fem.LinearForm(lambda v, w: v[1] / 16).assemble(edge)
    whole = bmat([[stiff, volume.T], [volume, yields]]).tocsr()
    held = moved.get_dofs(mesh.facets_satisfying(lambda x: np.isclose(x[0], 0))).all()
    x = fem.solve(*fem.condense(whole, np.concatenate([pull, np.zeros(pressed.N)]), D=held))
    corner = int(np.argmin((mesh.p[0] - 48) ** 2 + (mesh.p[1] - 60) ** 2))
    return float(x[moved.nodal_dofs[1, corner]])


def by_particles(nu: float, h: float, *, cells: bool) -> float:
    """The same on a grid of spacing h, of particles two to a cell along x that fill the panel evenly.

    The force acts on the edge itself, in particles without volume that stand there: in the last of the panel's own,
    half a spacing before it, it bends a panel 8 cells long by 7 % less.
    """
    double, depth = torch.float64, held_depth(2) * h
    counts = round(96 / h), round(88 / h), 8
    u, v, z = torch.meshgrid(*((torch.arange(n, dtype=double) + 0.5) / n for n in counts), indexing="ij")

    def place(u: torch.Tensor) -> torch.Tensor:
        return torch.stack([48 * u, 44 * u + v * (44 - 28 * u), 4 * h * z], -1)

    x, edge = place(u).reshape(-1, 3), place(torch.ones_like(u))[-1].reshape(-1, 3)
    volume = (48 / counts[0] * (44 - 28 * u) / counts[1] * 4 * h / counts[2]).reshape(-1)
    pull = FORCE / HEIGHT * 1e6 * 4 * h  # [N], at E = 1e6 Pa, as the weight of 1 kg
    mass = torch.cat((1e-6 * volume / volume.sum(), torch.full((len(edge),), 1 / len(edge), dtype=double)))
    origin = torch.tensor([-3 * h + depth, -2.63 * h, 0.0], dtype=double)  # the last held nodes lie inside the panel
    size = (round(48 / h) + 8, round(60 / h) + 8, 4)
    wall = mpm.Box(
        center=(2.5 * h - 9 * h, 30.0, 0.0),
        half_size=(10 * h, 200.0, 200.0),
        surface=mpm.Surface("sticky", width=1e-3 * h),
    )
    faces = dict.fromkeys(("-x", "+x", "-y", "+y"), "open") | dict.fromkeys(("-z", "+z"), "periodic")
    model = mpm.MPMModel(
        num_grids=size, dt=1.0, materials=[materials.rubber(E=1e6, nu=nu)],
        volume=torch.cat((volume, torch.full((len(edge),), 1e-9 * float(volume.mean()), dtype=double))),
        mass=mass, length=h * size[0], gravity=(0.0, pull, 0.0), boundaries=[mpm.Walls(faces), wall],
    )  # fmt: skip
    state = mpm.MPMState.at_rest(torch.cat((x, edge)) - origin)
    rest = mpm.equilibrium(model, state, cells=cells).check().value
    near = (x - torch.tensor([48.0, 60.0, 0.0]))[:, :2].norm(dim=1).topk(8, largest=False).indices
    arm = torch.tensor([48.0, 60.0, 0.0], dtype=double) - x[near]
    arm[:, 2] = 0.0
    moved = (rest.x - state.x)[near] + ((rest.F[near] - torch.eye(3)) @ arm[..., None])[..., 0]
    return float(moved[:, 1].mean()) * 1e6 / (pull / (4 * h))


@pytest.mark.slow
def test_cooks_membrane_does_not_lock() -> None:
    """At nu = 0.4999 and 8 cells along: within 2 % with the volume kept by cells, a third less without."""
    coarse, answer = by_elements(0.4999, 8), by_elements(0.4999, 24)
    assert abs(coarse / answer - 1) < 0.01
    assert by_particles(0.4999, 6.0, cells=True) == pytest.approx(answer, rel=0.02)  # -1.2 %
    assert by_particles(0.4999, 6.0, cells=False) < 0.7 * answer


@pytest.mark.slow
def test_cooks_membrane_compressible() -> None:
    """At nu = 1/3 within 3 % at 8 cells along, and half as far off at 16."""
    answer = by_elements(1 / 3, 24)
    coarse, fine = (by_particles(1 / 3, h, cells=False) / answer - 1 for h in (6.0, 3.0))
    assert abs(coarse) < 0.03  # -2.3 %
    assert abs(fine) < 0.012  # -1.1 %
