"""Light of a flame: Planck's law, where the light of reaction is, and gradients through a whole flame."""

import pytest
import torch

from simengine.flame import Emission, SimplifiedFlame, SpectralSolver


def test_thermal_part_is_plancks_law() -> None:
    e = Emission(kappa=2.0, efficiency=0.0)
    T = torch.tensor([1500.0, 2000.0], dtype=torch.float64)
    h, c, k = 6.62607015e-34, 299792458.0, 1.380649e-23
    for channel, wavelength in enumerate(e.wavelengths):
        black = 2 * h * c**2 / wavelength**5 / torch.expm1(h * c / (wavelength * k * T)) * e.bandwidth
        assert torch.allclose(e(T, torch.zeros_like(T))[:, channel], 2 * black, rtol=1e-12)
    assert bool(e.planck(T.float()).isfinite().all())


def test_light_of_reaction_goes_all_ways_alike() -> None:
    """Over the whole sphere a volume gives off its share of the heat it releases, divided over three colours."""
    e = Emission(kappa=0.0, efficiency=1e-5, shares=(0.2, 0.3, 0.5))
    heat = torch.tensor([0.0, 2e9], dtype=torch.float64)
    radiance = e(torch.full_like(heat, 1800.0), heat)  # W/(m^3 sr), the same in every direction
    polar = torch.linspace(0, torch.pi, 20001, dtype=torch.float64)
    sphere = 2 * torch.pi * float(torch.trapezoid(polar.sin(), polar))
    assert torch.allclose(sphere * radiance.sum(-1), 1e-5 * heat, rtol=1e-7)
    assert torch.allclose(radiance[1] / radiance[1].sum(), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))


def test_light_has_the_gradient_of_the_flame() -> None:
    x = torch.tensor([3e-4, 5e-4, 7e-4], dtype=torch.float64)

    def light(phi: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
        flame = SpectralSolver().solve(SimplifiedFlame(phi=phi, lam=lam)).value
        profiles = flame.profiles(x)
        return Emission()(profiles["T"], profiles["heat"]).log().sum()

    phi, lam = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.42, 2.6e-2))
    light(phi, lam).backward()
    for leaf, other, order in ((phi, lam, 0), (lam, phi, 1)):
        steps = []
        for sign in (1, -1):
            pair = [leaf.detach() * (1 + sign * 1e-4), other.detach()]
            steps.append(float(light(*(pair if order == 0 else reversed(pair)))))
        difference = (steps[0] - steps[1]) / 2e-4
        assert float(leaf.grad * leaf.detach()) == pytest.approx(difference, rel=1e-4)  # flames resolved to 1e-7
