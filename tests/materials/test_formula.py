"""Energies as formulas: stress against the derivative of the energy, moduli at rest, files, the shipped laws."""

from pathlib import Path

import pytest
import torch

from simengine.materials import FixedCorotated, Hencky, Identity, Material, NeoHookean
from simengine.materials.formula import TERMS, FormulaEnergy, Strain
from simengine.materials.weights import load_material, save_material

NUMBERS = {"ogden": 3.3, "gent": 5.0}


def _strains(n: int, size: float) -> torch.Tensor:
    H = size * torch.randn(n, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    H = (H + H.mT) / 2
    H[0] = torch.diag(torch.tensor([size, size, -size], dtype=torch.float64))  # two equal stretches
    H[1] = 0.0
    return H


@pytest.mark.parametrize("name", TERMS)
def test_the_stress_of_a_term_is_the_derivative_of_its_energy(name: str) -> None:
    H = _strains(20, 0.3).requires_grad_()
    number = torch.tensor(NUMBERS.get(name, 1.0), dtype=torch.float64)
    psi = TERMS[name].energy(Strain(H), number)
    (tau,) = torch.autograd.grad(psi.sum(), H)
    found = TERMS[name].stress(Strain(H.detach()), number)
    torch.testing.assert_close(found, tau, rtol=1e-10, atol=1e-12)
    assert psi[1].abs() < 1e-14 and found[1].abs().max() < 1e-14  # nothing at rest


def test_coefficients_are_moduli_at_rest() -> None:
    small = 1e-5
    shear = torch.diag(torch.tensor([small, -small, 0.0], dtype=torch.float64)).expand(1, 3, 3)
    swell = (small * torch.eye(3, dtype=torch.float64)).expand(1, 3, 3)
    higher = {"first invariant squared", "first invariant cubed", "third invariant of D", "hencky squared"}
    for name, term in TERMS.items():
        number = torch.tensor(NUMBERS.get(name, 1.0), dtype=torch.float64)
        mu = float(term.stress(Strain(shear), number)[0, 0, 0]) / (2 * small)
        kappa = float(term.stress(Strain(swell), number)[0, 0, 0]) / (3 * small)
        assert mu == pytest.approx(0.0 if term.volume or name in higher else 1.0, abs=1e-4), name
        both = {"corotated": 2 / 3, "neo-hooke": 2 / 3}  # 2 mu/3, of a body that has no lam
        assert kappa == pytest.approx(1.0 if term.volume else both.get(name, 0.0), abs=1e-4), name


@pytest.mark.parametrize(
    ("law", "terms"),
    [
        (Hencky, ("hencky", "ln J squared")),
        (FixedCorotated, ("corotated", "J - 1 squared")),
        (NeoHookean, ("neo-hooke", "J squared")),
    ],
)
def test_formulas_of_the_shipped_laws(law: type, terms: tuple[str, ...]) -> None:
    mu, lam = 1e5 / 2.4, 1e5 * 0.2 / (1.2 * 0.6)
    kappa = lam + 2 * mu / 3 if law is Hencky else lam
    F = torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(
        30, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    F = F[torch.linalg.det(F) > 0.3]
    expected = law(1e5, 0.2)(F)
    torch.testing.assert_close(FormulaEnergy(terms, [mu, kappa])(F), expected, rtol=1e-9, atol=1e-5)


def test_a_formula_is_kept_in_a_file_and_told_in_words(tmp_path: Path) -> None:
    energy = FormulaEnergy(["ogden", "J squared"], [4e4, 6e4], [3.3, 1.0])
    assert str(energy) == "4e+04 2/3.3^2 (l1^3.3 + l2^3.3 + l3^3.3 - 3) + 6e+04/4 (J^2 - 1 - 2 ln J)"
    read = load_material(save_material(tmp_path / "a.safetensors", Material(energy, Identity())))
    F = torch.eye(3).repeat(4, 1, 1) + 0.1 * torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(read.elasticity(F), energy(F), rtol=0, atol=0)
    with pytest.raises(ValueError, match="none of hencky"):
        FormulaEnergy(["hooke"])
    with pytest.raises(ValueError, match="expected 2 of each"):
        FormulaEnergy(["ogden", "J squared"], [1.0])


def test_a_formula_has_exact_gradients() -> None:
    energy = FormulaEnergy(["gent", "ogden", "ln J squared"], [1.0, 0.5, 2.0], [3.0, -2.4, 1.0])
    F = torch.matrix_exp(_strains(4, 0.2)).requires_grad_()
    assert torch.autograd.gradcheck(energy, (F,))
