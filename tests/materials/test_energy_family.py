"""Families of energies and splines: admissible for every parameter, and learned by one linear solve."""

import pytest
import torch

from simengine.materials import jelly
from simengine.materials.energy_family import EnergyFamily
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.spline_energy import SplineEnergy
from simengine.worlds.laws.world import NCLawWorld
from simengine.worlds.motion.materials import Jelly
from simengine.worlds.motion.momentum_balance import fit_energy, momentum_balance, record


def deformations(n: int) -> torch.Tensor:
    Q, _ = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64))
    return torch.diag_embed(torch.exp(0.3 * torch.randn(n, 3, dtype=torch.float64))) @ Q


@pytest.mark.parametrize("convexity", ["none", "full"])
def test_spline_stress_is_the_derivative_of_its_energy(convexity: str) -> None:
    law = SplineEnergy(width=12, convexity=convexity).double()  # type: ignore[arg-type]
    with torch.no_grad():
        law.raw_weights.normal_(std=0.5)
    F = deformations(20).requires_grad_()
    (P,) = torch.autograd.grad(law.energy(F).sum(), F)
    tau = law(F).detach()
    torch.testing.assert_close(P @ F.detach().mT, tau, rtol=0, atol=1e-10 * float(tau.abs().max()))
    assert float(law(torch.eye(3, dtype=torch.float64)[None]).detach().abs().max()) < 1e-9 * float(tau.abs().max())


def test_a_family_is_a_combination_of_admissible_laws() -> None:
    family = EnergyFamily(EnergyNetwork(width=6, convexity="full"), degrees=(2, 1))
    for p in ([0.0, 0.0], [0.3, 0.9], [1.0, 1.0]):
        basis = family.basis(p)
        assert float(basis.sum()) == pytest.approx(1.0)
        assert float(basis.min()) >= 0
    values = torch.rand(6 * 8, dtype=torch.float64) + 0.05
    family.set_linear(values)
    law = family.at([0.25, 0.5])
    torch.testing.assert_close(law.linear(), family.basis([0.25, 0.5]) @ values.view(6, 8), rtol=1e-6, atol=1e-6)
    assert bool((law.linear() >= law.lower_bounds()).all())
    with pytest.raises(ValueError, match="between 0 and 1"):
        family.basis([0.5, 1.5])
    with pytest.raises(ValueError, match="below its bound"):
        family.set_linear(-values)
    with pytest.raises(ValueError, match="degrees"):
        EnergyFamily(EnergyNetwork(), degrees=())
    with pytest.raises(ValueError, match="degrees"):
        EnergyFamily(EnergyNetwork(), degrees=(2, -1))


def test_a_family_is_learned_from_motions_of_three_members() -> None:
    """Jellies of E = (1 + p) 1e5 Pa: p = 0, 0.5 and 1 are seen, p = 0.25 and 0.75 are asked for."""
    family = EnergyFamily(EnergyNetwork(width=16, modulus=1e5, strain_scale=0.3), degrees=(2,))
    total = None
    for p in (0.0, 0.5, 1.0):
        truth, state = NCLawWorld(material=Jelly(E=(1 + p) * 1e5, nu=0.2)).experiment().build(device="cpu")
        motion = record(truth, state, 240)
        balance = momentum_balance(truth, family.network, motion, range(140, 240, 12)).of_family(family.basis([p]))
        total = balance if total is None else total + balance
    assert total is not None
    assert fit_energy(family, total) < 1e-3
    F = motion.F[160:240:20].flatten(0, 1)
    for p in (0.25, 0.75):
        exact = jelly(E=(1 + p) * 1e5, nu=0.2).elasticity(F)
        with torch.no_grad():
            learned = family.at([p])(F)
        assert (
            float((learned - exact).norm() / exact.norm()) < 0.04
        )  # what 16 hidden units leave: 0.010 to 0.025 over six seeds


def test_splines_are_as_wide_as_their_knots_lie_apart() -> None:
    """Half of 9 units on -reach to reach, the rest on 0 to reach; each rises over one distance on both sides."""
    energy = SplineEnergy(width=9, reach=2.0)
    slopes = energy.directions.detach()
    assert not bool(slopes[:4, 1].any()) and not bool(slopes[4:, 0].any())
    for own, first, distance in ((slopes[:4, 0], -2.0, 4 / 3), (slopes[4:, 1], 0.0, 0.5)):
        torch.testing.assert_close(own, torch.full_like(own, 1 / distance))
        offsets = energy.offsets.detach()[:4] if first else energy.offsets.detach()[4:]
        torch.testing.assert_close(-offsets / own, first + distance * torch.arange(len(own)))
