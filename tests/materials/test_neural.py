"""NCLaw's networks and the admissible ones: what holds by construction, for any weights."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from simengine.materials import Material
from simengine.materials.neural import NeuralElasticity, NeuralPlasticity, nclaw
from simengine.materials.neural_energy import EnergyNetwork, hencky_strain
from simengine.materials.neural_yield import YieldNetwork

EYE = torch.eye(3, dtype=torch.float64)


def rotations(n: int) -> torch.Tensor:
    Q, _ = torch.linalg.qr(torch.randn(n, 3, 3, dtype=torch.float64))
    return Q * torch.linalg.det(Q)[:, None, None]


def deformations(n: int, size: float = 0.4) -> torch.Tensor:
    """Rotations times stretches exp(size * normal), det F > 0."""
    Q = rotations(2 * n)
    return Q[:n] @ torch.diag_embed(torch.exp(size * torch.randn(n, 3, dtype=torch.float64))) @ Q[n:]


def energy(convexity: str) -> EnergyNetwork:
    """With weights far from their start, as after a training."""
    law = EnergyNetwork(width=24, convexity=convexity).double()  # type: ignore[arg-type]
    with torch.no_grad():
        law.raw_weights.normal_(std=0.5)
    return law


def flow(cap: float = float("inf")) -> YieldNetwork:
    law = YieldNetwork(width=8, strain_scale=0.1, cap=cap).double()
    with torch.no_grad():
        law.weights.normal_(std=0.5)
    return law


ELASTIC = [NeuralElasticity().double, *(lambda c=c: energy(c) for c in ("none", "shear", "full"))]
PLASTIC = [NeuralPlasticity().double, flow, lambda: flow(0.02)]


@pytest.mark.parametrize("make", ELASTIC)
def test_stress_is_equivariant_and_zero_at_rest(make) -> None:
    law, F, Q = make(), deformations(50), rotations(50)
    tau = law(F).detach()
    # rounding of float64 through an SVD and two products
    torch.testing.assert_close(law(Q @ F), Q @ tau @ Q.mT, rtol=1e-11, atol=1e-11 * float(tau.abs().max()))
    assert float(law(Q).detach().abs().max()) < 1e-13 * float(tau.abs().max())


@pytest.mark.parametrize("make", PLASTIC)
def test_flow_is_equivariant_and_keeps_rest(make) -> None:
    law, F, Q = make(), deformations(50), rotations(50)
    torch.testing.assert_close(law(Q @ F), Q @ law(F), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(law(Q), Q, rtol=0, atol=1e-14)


@pytest.mark.parametrize("convexity", ["none", "shear", "full"])
def test_stress_is_symmetric_isotropic_and_the_derivative_of_the_energy(convexity: str) -> None:
    law, F, Q = energy(convexity), deformations(50), rotations(50)
    tau = law(F).detach()
    scale = float(tau.abs().max())
    torch.testing.assert_close(tau, tau.mT, rtol=0, atol=1e-14 * scale)
    torch.testing.assert_close(law(F @ Q), tau, rtol=0, atol=1e-11 * scale)
    leaf = F.clone().requires_grad_()
    (P,) = torch.autograd.grad(law.energy(leaf).sum(), leaf)  # P = dpsi/dF, tau = P F^T
    torch.testing.assert_close(P @ F.mT, tau, rtol=0, atol=1e-10 * scale)
    assert float(law.energy(EYE[None]).detach()) == 0.0


@pytest.mark.parametrize("convexity", ["none", "shear", "full"])
def test_energy_grows_without_bound(convexity: str) -> None:
    law = energy(convexity)
    for sign in (-1, 1):
        scales = torch.exp(sign * torch.tensor([4.0, 6.0, 8.0, 10.0], dtype=torch.float64))
        values = law.energy(scales[:, None, None] ** (1 / 3) * EYE)
        assert all(b > a + law.modulus for a, b in pairwise(values.tolist()))


def test_stress_is_linear_in_moduli_and_weights() -> None:
    law, F = energy("none"), deformations(20)
    values = torch.cat((law.log_moduli.exp(), law.raw_weights)).detach()
    tau = torch.einsum("k,knij->nij", values, law.stress_columns(F))
    torch.testing.assert_close(tau, law(F).detach(), rtol=1e-12, atol=1e-7)  # of 1e5 Pa
    other = EnergyNetwork(width=24).double()
    with torch.no_grad():
        other.directions.copy_(law.directions)
        other.offsets.copy_(law.offsets)
    other.set_linear(values)
    torch.testing.assert_close(other(F), law(F), rtol=1e-12, atol=1e-7)
    with pytest.raises(ValueError, match="positive"):
        other.set_linear(-values)


@pytest.mark.parametrize(("convexity", "cap"), [("full", float("inf")), ("full", 0.02), ("shear", float("inf"))])
def test_dissipation_is_never_negative(convexity: str, cap: float) -> None:
    elasticity, plasticity = energy(convexity).requires_grad_(False), flow(cap).requires_grad_(False)
    F = deformations(5000, size=0.3)
    F_new = plasticity(F)
    H, H_new = hencky_strain(F), hencky_strain(F_new)
    flowed = H - H_new
    assert int((flowed.norm(dim=(1, 2)) > 1e-6).sum()) > 1000  # the law does something
    work = (elasticity(F_new) * flowed).sum((1, 2))
    assert float(work.min()) > -1e-9 * float(work.max())  # rounding
    assert float((elasticity.energy(F) - elasticity.energy(F_new)).min()) > -1e-9 * float(work.max())
    assert float(torch.linalg.det(F_new).min()) > 0
    torch.testing.assert_close(plasticity(F_new), F_new, rtol=1e-9, atol=1e-9)  # admissible states stay


def test_flow_of_inverted_and_flat_elements_has_positive_volume() -> None:
    F = torch.stack((torch.diag(torch.tensor([1.0, 1.0, -0.5])), torch.diag(torch.tensor([1.0, 1.0, 0.0])))).double()
    assert float(torch.linalg.det(flow()(F).detach()).min()) > 0


@pytest.mark.parametrize("convexity", ["none", "full"])
def test_energy_gradcheck(convexity: str) -> None:
    law = energy(convexity)
    law.modulus.fill_(1.0)
    F = torch.cat((deformations(2), EYE[None])).requires_grad_()
    names = [name for name, _ in law.named_parameters()]

    def stress(F: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(law, dict(zip(names, values, strict=True)), (F,))

    values = [p.detach().clone().requires_grad_() for p in law.parameters()]
    assert torch.autograd.gradcheck(stress, (F, *values), eps=1e-6, atol=1e-6, fast_mode=True)


def test_flow_gradcheck() -> None:
    law, F = flow(0.02), deformations(4, size=0.3).requires_grad_()
    names = [name for name, _ in law.named_parameters()]

    def map_(F: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(law, dict(zip(names, values, strict=True)), (F,))

    values = [p.detach().clone().requires_grad_() for p in law.parameters()]
    assert torch.autograd.gradcheck(map_, (F, *values), eps=1e-7, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("n", [0, 1])
def test_few_particles(n: int) -> None:
    F = torch.eye(3).repeat(n, 1, 1)
    for law in (NeuralElasticity(), NeuralPlasticity(), EnergyNetwork(), YieldNetwork(), YieldNetwork(cap=0.0)):
        assert law(F).shape == (n, 3, 3)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="width"):
        EnergyNetwork(width=0)
    with pytest.raises(ValueError, match="convexity"):
        EnergyNetwork(convexity="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cap"):
        YieldNetwork(cap=-1.0)
    with pytest.raises(ValueError, match="missing"):
        nclaw({})
    names = ("layers.0.fc", "layers.1.fc", "final_layer.fc")
    flat = {f"{part}.{name}.weight": np.zeros((2, 2)) for part in ("elasticity", "plasticity") for name in names}
    with pytest.raises(ValueError, match="shape"):
        nclaw(flat)


def test_published_weights_are_loaded_in_place() -> None:
    weights = {}
    for part in ("elasticity", "plasticity"):
        for name, shape in (("layers.0.fc", (64, 13)), ("layers.1.fc", (64, 64)), ("final_layer.fc", (9, 64))):
            weights[f"{part}.{name}.weight"] = np.random.default_rng(0).normal(size=shape)
    material = nclaw(weights)
    assert isinstance(material, Material)
    assert sum(p.numel() for p in material.elasticity.parameters()) == 5504  # as published
    np.testing.assert_allclose(
        material.plasticity.last.weight.detach(), weights["plasticity.final_layer.fc.weight"], 1e-6
    )


def test_a_fluid_needs_no_shear_part_of_its_energy() -> None:
    law, J = energy("shear"), torch.tensor([0.3, 0.9, 1.2], dtype=torch.float64)
    F = J[:, None, None] ** (1 / 3) * EYE
    before = law(F).detach()
    law.drop_shear()
    torch.testing.assert_close(law(F).detach(), before, rtol=1e-12, atol=1e-6)  # of 1e5 Pa
    sheared = F @ (EYE + 0.1 * torch.eye(3).double().roll(1, 1).triu())
    mu = 1e-2 * law.modulus  # the least that is left
    D = hencky_strain(sheared) - J.log()[:, None, None] / 3 * EYE
    torch.testing.assert_close(law(sheared).detach() - before, 2 * mu * D, rtol=1e-6, atol=1e-3)


def test_the_longitudinal_modulus_is_that_of_the_moduli() -> None:
    """Without hidden units the energy is Hencky's, whose stiffness in uniaxial strain is kappa + 4/3 mu."""
    law = EnergyNetwork(width=4, modulus=2e5).double()
    law.set_linear(torch.tensor([0.3, 0.7, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert law.longitudinal_modulus() == pytest.approx(2e5 * (0.7 + 4 / 3 * 0.3), rel=1e-6)
