"""Materials as users see them: what small strains say, units, learnable coefficients."""

import pytest
import torch

from simengine import materials

SOLIDS = [materials.FixedCorotated, materials.Hencky, materials.NeoHookean]


@pytest.mark.parametrize("law", SOLIDS)
def test_small_strain_is_hooke(law) -> None:
    """tau = 2 mu eps + lam tr(eps) I up to O(eps^2): here eps = 1e-6, so 1e-5 of it."""
    E, nu = 2e5, 0.3
    mu, lam = E / 2.6, E * nu / (1.3 * 0.4)
    eps = 1e-6 * torch.randn(20, 3, 3, dtype=torch.float64)
    eps = (eps + eps.mT) / 2
    tau = law(E, nu)(torch.eye(3) + eps)
    trace = eps.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] * torch.eye(3)
    assert torch.allclose(tau, 2 * mu * eps + lam * trace, atol=1e-5 * E * 1e-6 * 10)


@pytest.mark.parametrize("law", SOLIDS)
def test_uniaxial_stress_gives_back_youngs_modulus_and_poissons_ratio(law) -> None:
    E, nu, strain = 2e5, 0.3, 1e-6
    F = torch.diag(torch.tensor([1 + strain, 1 - nu * strain, 1 - nu * strain], dtype=torch.float64))[None]
    tau = law(E, nu)(F)[0]
    assert float(tau[0, 0]) == pytest.approx(E * strain, rel=1e-5)
    assert abs(float(tau[1, 1])) < 1e-5 * E * strain


def test_fluids_agree_for_small_compression() -> None:
    """Both equations of state have pressure -K (J - 1) to first order, lam = K."""
    lam = 1e5 * 0.3 / (1.3 * 0.4)
    F = (1 - 1e-6) ** (1 / 3) * torch.eye(3, dtype=torch.float64)[None]
    first, second = materials.Fluid(1e5, 0.3)(F), materials.TaitFluid(lam, 7.0)(F)
    assert torch.allclose(first, second, rtol=2e-5)
    assert float(first[0, 0, 0]) == pytest.approx(-lam * 1e-6, rel=1e-5)


def test_snow_hardens_as_it_is_packed() -> None:
    law = materials.Snow(1e5, 0.2, 10.0)
    F = 0.99 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    tau = law(F, torch.log(torch.tensor([1.0, 0.9], dtype=torch.float64)))
    assert float(tau[1, 0, 0] / tau[0, 0, 0]) == pytest.approx(float(torch.tensor(1.0).double().exp()), rel=1e-12)


def test_a_parameter_learns_and_a_number_does_not() -> None:
    E = torch.nn.Parameter(torch.tensor(1e5, dtype=torch.float64))
    law = materials.FixedCorotated(E, 0.2)
    assert dict(law.named_parameters()) == {"E": E} and set(dict(law.named_buffers())) == {"nu"}
    law(1.1 * torch.eye(3)[None]).sum().backward()
    assert E.grad is not None and float(E.grad) != 0
    # tau is proportional to E
    assert float(E.grad) * 1e5 == pytest.approx(float(law(1.1 * torch.eye(3)[None]).detach().sum()), rel=1e-5)


def test_history_is_returned_where_it_is_given() -> None:
    law = materials.VonMises(1e5, 0.2, 1e3, 0.0)
    F = torch.diag_embed(torch.tensor([[1.2, 1.0, 0.9]], dtype=torch.float64))
    alone = law(F)
    both, q = law(F, torch.zeros(1, dtype=torch.float64))
    assert torch.equal(alone, both) and float(q) > 0
