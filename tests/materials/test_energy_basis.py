"""A law of few numbers: it is the energy network that it stands for, and its first numbers count the most."""

import pytest
import torch

from simengine.materials.energy_basis import WEIGHT, energy_network, strongest_combinations
from simengine.materials.neural_energy import EnergyNetwork

MODULI = torch.tensor([0.5, 0.8], dtype=torch.float64)
FEATURES = {"width": 12, "modulus": 2e4, "strain_scale": 0.3, "seed": 3}


def strains(count: int, size: float) -> torch.Tensor:
    H = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.matrix_exp(size * (H + H.mT) / torch.linalg.matrix_norm(H + H.mT)[:, None, None])


def test_it_is_the_network_with_the_combined_weights() -> None:
    numbers = torch.tensor([0.3, -0.2], dtype=torch.float64)
    network = EnergyNetwork(**FEATURES).double()  # type: ignore[arg-type]
    network.set_linear(torch.cat((MODULI, strongest_combinations(12, 0.3, 3)[:, :2] @ numbers)))
    F = strains(20, 0.4)
    torch.testing.assert_close(energy_network(MODULI, numbers, **FEATURES)(F), network(F))  # type: ignore[arg-type]


def test_the_first_numbers_change_stress_the_most() -> None:
    """Beyond what moduli do, over strains that the combinations were not taken from."""
    combinations = strongest_combinations(12, 0.3, 3)
    torch.testing.assert_close(combinations.T @ combinations, WEIGHT**2 * torch.eye(10, dtype=torch.float64))
    F = strains(500, 0.4)

    def stress(numbers: list[float]) -> torch.Tensor:
        law = energy_network(MODULI, torch.tensor(numbers, dtype=torch.float64), **FEATURES)  # type: ignore[arg-type]
        return law(F).flatten() / FEATURES["modulus"]

    rest = stress([0.0])
    none = torch.zeros(0)
    alone = [energy_network(m, none, **FEATURES)(F).flatten() for m in torch.eye(2) + 1e-9]  # type: ignore[arg-type]
    by_moduli = torch.stack(alone, 1)
    basis = torch.linalg.qr(by_moduli).Q
    changes = [stress([0.0] * k + [0.1]) - rest for k in range(6)]
    beyond = [float((change - basis @ (basis.T @ change)).norm()) for change in changes]
    assert beyond[0] > 2 * beyond[2] > 4 * beyond[5] > 0  # measured 2.99 and more


def test_moduli_at_rest_are_the_numbers_of_that_name() -> None:
    """Whatever the other numbers are: 2 mu of a shear, kappa of a swelling, by Hooke's law at strains of +-1e-5."""
    law = energy_network(MODULI, torch.tensor([0.3, -0.5, 0.2, 0.1], dtype=torch.float64), **FEATURES)  # type: ignore[arg-type]
    eps = 1e-5
    H = torch.zeros(2, 3, 3, dtype=torch.float64)
    H[0, 0, 1] = H[0, 1, 0] = eps
    H[1] = eps / 3 * torch.eye(3, dtype=torch.float64)
    tau = (law(torch.matrix_exp(H)) - law(torch.matrix_exp(-H))) / 2
    assert float(tau[0, 0, 1]) / (2 * eps) == pytest.approx(0.5 * 2e4, rel=1e-6)
    assert float(tau[1].diagonal().mean()) / eps == pytest.approx(0.8 * 2e4, rel=1e-6)


def test_more_numbers_than_features() -> None:
    with pytest.raises(ValueError, match="11 numbers are more than the 10"):
        energy_network(MODULI, torch.zeros(11), **FEATURES)  # type: ignore[arg-type]
