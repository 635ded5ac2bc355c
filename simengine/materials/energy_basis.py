"""Few numbers that stand for an energy network: the combinations of its last weights that change stress the most.

Directions and offsets of an `EnergyNetwork` are random features and stay; its stress is linear in its moduli and last
weights, and of wide networks most combinations of weights change nothing that can be seen.
"""

import math
from functools import lru_cache

import torch

from simengine.materials.neural_energy import EnergyNetwork

WEIGHT = 5.0  # what weights come to; numbers are in units of it
STATES = 1000  # of strain, over which the combinations are taken


def energy_network(
    moduli: torch.Tensor, numbers: torch.Tensor, *, width: int, modulus: float, strain_scale: float, seed: int
) -> EnergyNetwork:
    """A network, float64 and without gradient, of a few numbers.

    Args:
        moduli: Shear and bulk modulus at rest in units of `modulus`, (2,).
        numbers: Of the combinations, the one that changes stress most first, (k,).
        width: Hidden units.
        modulus: Physical scale of the stress [Pa].
        strain_scale: Strains at which nonlinearity is resolved [1].
        seed: Of the features.

    Raises:
        ValueError: A modulus is not positive, or there are more numbers than combinations.
    """
    network = _features(width, modulus, strain_scale, seed)
    combinations = strongest_combinations(width, strain_scale, seed)[:, : len(numbers)]
    if combinations.shape[1] < len(numbers):
        raise ValueError(f"{len(numbers)} numbers are more than the {combinations.shape[1]} of {width} hidden units")
    network.set_linear(torch.cat((moduli.double(), combinations @ numbers.double())))
    return network.requires_grad_(False)


def _features(width: int, modulus: float, strain_scale: float, seed: int) -> EnergyNetwork:
    return EnergyNetwork(width=width, modulus=modulus, strain_scale=strain_scale, seed=seed).double()


@lru_cache(maxsize=16)
def strongest_combinations(width: int, strain_scale: float, seed: int) -> torch.Tensor:
    """Combinations of the last weights, orthogonal, that change stress most, (width, width - 2).

    None of them changes the moduli at rest, which are then those of the quadratic part alone. They are eigenvectors of
    the Gram matrix of the stress columns of the weights, without the part that the moduli explain, over Hencky strains
    in random directions of up to twice the strain scale.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    H = torch.randn(STATES, 3, 3, generator=generator, dtype=torch.float64)
    H = H + H.mT
    size = 2 * strain_scale * torch.rand(STATES, 1, 1, generator=generator, dtype=torch.float64)
    F = torch.linalg.matrix_exp(H * (size / torch.linalg.matrix_norm(H)[:, None, None]))
    network = _features(width, 1.0, strain_scale, seed)
    columns = network.stress_columns(F).flatten(1)
    gram = columns @ columns.T / columns.shape[1]
    among, across, weights = gram[:2, :2], gram[:2, 2:], gram[2:, 2:]
    beyond = weights - across.T @ torch.linalg.solve(among, across)
    silent = torch.linalg.svd(_at_rest(network)).Vh[2:].T  # combinations that leave the moduli at rest alone
    _, vectors = torch.linalg.eigh(silent.T @ beyond @ silent)
    vectors = silent @ vectors.flip(1)
    largest = vectors.abs().argmax(0)  # the sign of an eigenvector is free
    return WEIGHT * vectors * vectors[largest, torch.arange(vectors.shape[1])].sign()


def _at_rest(network: EnergyNetwork) -> torch.Tensor:
    """What each weight adds to the shear and to the bulk modulus at rest, (2, width)."""
    small = 1e-4 * float(network.strain_scale)
    eye = torch.eye(3, dtype=torch.float64)
    sides = []
    for side in (small, -small):  # of both, or a stress that bends leaves a part of it in the modulus
        shear = torch.diag(torch.tensor([side, -side, 0.0], dtype=torch.float64).exp())
        sides.append(network.stress_columns(torch.stack((shear, math.exp(side / 3) * eye)))[2:])
    columns = (sides[0] - sides[1]) / 2
    bulk = columns[:, 1].diagonal(dim1=1, dim2=2).mean(1) / small
    return torch.stack(((columns[:, 0, 0, 0] - columns[:, 0, 1, 1]) / (4 * small), bulk))
