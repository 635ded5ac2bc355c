"""Limits of return maps and moduli against the closed forms of soil mechanics and elasticity (verification)."""

import math

import pytest
import torch

from simengine import materials


def diagonal(strains: torch.Tensor) -> torch.Tensor:
    return torch.diag(strains.exp())[None]


@pytest.mark.parametrize("angle", [20.0, 35.0, 50.0])
def test_triaxial_compression_of_sand_yields_where_mohr_coulomb_does(angle: float) -> None:
    """Sheared at constant volume from a confinement, q / p = 6 sin(phi) / (3 - sin(phi)) at yield.

    q = s_3 - s_1, p the mean, of the Kirchhoff stress; the cone of Drucker-Prager goes through the corners of
    Mohr-Coulomb's hexagon in compression.
    """
    law, flow = materials.Hencky(1e6, 0.25), materials.DruckerPrager(1e6, 0.25, angle)
    F = diagonal(torch.full((3,), -0.02, dtype=torch.float64))  # confined, then sheared at constant volume
    shear = torch.diag(torch.tensor([-1e-3, 5e-4, 5e-4], dtype=torch.float64).exp())
    for _ in range(100):
        F = flow(shear @ F)
    tau = -law(F)[0].diagonal()
    q, p = float(tau[0] - tau[1]), float(tau.mean())
    sine = math.sin(math.radians(angle))
    assert q / p == pytest.approx(6 * sine / (3 - sine), rel=1e-6)


@pytest.mark.parametrize("angle", [20.0, 45.0])
@pytest.mark.parametrize("shear", [[-10, 5, 5], [-10, 0, 10], [-8, -3, 11], [-5, -5, 10]])
def test_grains_of_mohr_coulomb_yield_at_coulombs_angle_whatever_lies_between(angle: float, shear: list[int]) -> None:
    """(s_1 - s_3) / (s_1 + s_3) = sin(phi) of the largest and smallest pressure, sheared at constant volume any way.

    The cone of Drucker-Prager of the same angle does so in triaxial compression alone (the first path).
    """
    law, flow = materials.Hencky(1e6, 0.25), materials.MohrCoulomb(1e6, 0.25, angle)
    F = diagonal(torch.full((3,), -0.02, dtype=torch.float64))
    step = torch.diag((1e-4 * torch.tensor(shear, dtype=torch.float64)).exp())
    for _ in range(100):
        F = flow(step @ F)
    pressure = -law(F)[0].diagonal()
    low, high = float(pressure.min()), float(pressure.max())
    assert (high - low) / (high + low) == pytest.approx(math.sin(math.radians(angle)), rel=1e-9)
    assert float(F[0].diagonal().log().sum()) == pytest.approx(-0.06, rel=1e-9)


def test_sand_below_its_slope_stays_elastic() -> None:
    flow = materials.DruckerPrager(1e6, 0.25, 35.0)
    F = diagonal(torch.tensor([-0.011, -0.01, -0.01], dtype=torch.float64))
    assert torch.allclose(flow(F), F, rtol=0, atol=1e-14)


def test_paste_flows_at_the_rate_that_its_stress_drives() -> None:
    """|dev tau| = yield_stress + consistency g^n after a step, g dt the deviator of strain that has flowed.

    Both moduli enter: nu is not 1/4, where Lame's two are the same.
    """
    law, dt = materials.paste(1e5, 0.4, yield_stress=200.0, consistency=50.0, exponent=0.6, dt=1e-3), 1e-3
    before = torch.tensor([0.02, -0.005, -0.012], dtype=torch.float64)
    F, _ = law.plasticity(diagonal(before), torch.zeros(1, dtype=torch.float64))
    tau, after = law.elasticity(F)[0].diagonal(), F[0].diagonal().log()
    size = (tau - tau.mean()).norm()
    flowed = (before - before.mean()).norm() - (after - after.mean()).norm()
    assert float(flowed) > 1e-3
    assert float(size) == pytest.approx(200.0 + 50.0 * float(flowed / dt) ** 0.6, rel=1e-9)
