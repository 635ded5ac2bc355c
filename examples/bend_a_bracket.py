"""A bracket meshed by scikit-fem (`simengine[mesh]`): its matrices as a constraint, its stiffness from five marks."""

import math

import numpy as np
import torch
from matplotlib import pyplot as plt
from skfem import Basis, BilinearForm, ElementTriP2, ElementVector, FacetBasis, LinearForm, MeshTri
from skfem.helpers import ddot, div, sym_grad

from simengine.constraint.cloud import AssembledEquation
from simengine.solve.least_squares import covariance, least_squares


def meshed(refined: int) -> tuple[Basis, AssembledEquation, np.ndarray]:
    """An L in plane strain, its top clamped, its right end pulled down; matrices by Lame's two numbers."""
    basis = Basis(MeshTri.init_lshaped().refined(refined), ElementVector(ElementTriP2()))
    parts = {
        "lam": BilinearForm(lambda u, v, w: div(u) * div(v)).assemble(basis),
        "mu": BilinearForm(lambda u, v, w: 2 * ddot(sym_grad(u), sym_grad(v))).assemble(basis),
    }
    edge = FacetBasis(basis.mesh, basis.elem, facets=basis.mesh.facets_satisfying(lambda x: x[0] == 1.0))
    load = LinearForm(lambda v, w: -0.002 * v[1]).assemble(edge)
    clamp = basis.get_dofs(lambda x: x[1] == 1.0).all()
    return basis, AssembledEquation(parts, known=clamp), load


def lame(z: torch.Tensor) -> dict[str, torch.Tensor]:
    young, poisson = z[0].exp(), z[1]
    return {"lam": young * poisson / ((1 + poisson) * (1 - 2 * poisson)), "mu": young / (2 * (1 + poisson))}


def main() -> dict[str, float]:
    marks = np.array([[-0.4, -0.1, 0.7, 0.9, 0.2], [0.5, 0.1, -0.2, -0.8, -0.7]])
    true = torch.tensor([math.log(2.0), 0.3], dtype=torch.float64)
    fine, body, load = meshed(4)  # the measurement: a finer mesh, and noise
    noise = 5e-5 * torch.randn(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = torch.from_numpy(fine.probes(marks) @ body.solve(lame(true), load).numpy()) + noise
    basis, body, load = meshed(3)
    probes = torch.from_numpy(basis.probes(marks).toarray())

    def off(z: torch.Tensor, _: None) -> torch.Tensor:
        return (probes @ body.solve(lame(z), load) - seen) / 5e-5

    start = torch.tensor([0.0, 0.2], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian
    found = least_squares(off, start, jacobian=lambda z, a: jacobian(lambda y: off(y, a), z), throw=True).value
    spread = covariance(jacobian(lambda y: off(y, None), found), off(found, None), sigma=1.0).diagonal().sqrt()
    with torch.no_grad():
        u = body.solve(lame(found), load).numpy()
    moved = basis.mesh.p + 3 * u[basis.nodal_dofs]
    plt.triplot(*basis.mesh.p, basis.mesh.t.T, color="0.85")
    plt.tripcolor(*moved, basis.mesh.t.T, -u[basis.nodal_dofs[1]])
    plt.plot(*marks, "k+")
    plt.gca().set(aspect="equal", xlabel="x", ylabel="y", title="a bracket, moved three times as far")
    plt.colorbar(label="sinks by")
    assert bool(((found - true).abs() < 4 * spread).all())
    return {"E": math.exp(found[0]), "nu": float(found[1]), "E_by": math.exp(found[0]) * float(spread[0])}


if __name__ == "__main__":
    print(main())
    plt.savefig("bend_a_bracket.png")
