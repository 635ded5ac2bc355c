"""Where basis functions come from: snapshots of solutions, or networks."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from simengine.constraint.family import AbstractFamily
from simengine.constraint.fno import FNO
from simengine.constraint.pde import Parameters


def principal_basis(snapshots: torch.Tensor, size: int) -> torch.Tensor:
    """The first principal components of solutions: the best basis of its size for them.

    Args:
        snapshots: Solutions on a grid, shape (count, *shape).
        size: Number of basis functions n.

    Returns:
        Shape (1, *shape, n), orthogonal, with a mean square of 1.

    Raises:
        ValueError: There are fewer snapshots than basis functions.
    """
    if len(snapshots) < size:
        raise ValueError(f"size: {size} principal components need as many snapshots, got {len(snapshots)}")
    flat = snapshots.double().flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.mT)  # the small side of the singular value decomposition
    modes = vectors.flip(1)[:, :size].mT @ flat
    modes, _ = torch.linalg.qr(modes.mT)  # eigenvectors of small eigenvalues are orthogonal only to their rounding
    return (modes * flat.shape[1] ** 0.5).reshape(1, *snapshots.shape[1:], size)


class Backbone(nn.Module):
    """Basis functions of a family, as networks of its coordinates, that leave initial values as they are.

    Args:
        network: `network(family, parameters)` -> shape (samples or 1, *shape, n).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, family: AbstractFamily, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Basis functions, shape (samples, *shape, n), and the base they are added to, shape (samples, *shape).

        Args:
            family: The problem on any grid; what is trained on one serves on others.
            parameters: Of its members, each of shape (samples, ...).
        """
        base, factor = family.lifting(parameters)
        basis = self.network(family, parameters) * factor.unsqueeze(-1)
        return basis.expand(len(base), *basis.shape[1:]), base


class BranchTrunk(nn.Module):
    """b_n(z; p) = sum_m branch_mn(p) trunk_m(z): a small network for families with few parameters. Float64.

    Args:
        inputs: Numbers p that tell members apart; 0 for a trunk alone, whose functions serve all members alike.
        coordinates: Of a grid point, f.
        size: Number of basis functions n.
        modes: Number of trunk functions, where there is a branch.
        width: Of both networks.
        depth: Hidden layers of the trunk; the branch has one fewer.
    """

    def __init__(
        self, *, inputs: int, coordinates: int, size: int = 16, modes: int = 48, width: int = 64, depth: int = 3
    ) -> None:
        super().__init__()
        self.size: int = size
        self.modes: int = modes
        self.branch: nn.Sequential | None = _network([inputs, *[width] * (depth - 1), modes * size]) if inputs else None
        self.trunk: nn.Sequential = _network([coordinates, *[width] * depth, modes if inputs else size])

    def forward(self, family: AbstractFamily, parameters: Parameters) -> torch.Tensor:
        """Shape (samples, *shape, n); (1, *shape, n) without a branch."""
        trunk: torch.Tensor = self.trunk(family.coordinates())
        if self.branch is None:
            return trunk.unsqueeze(0)
        weights = self.branch(family.inputs(parameters)).reshape(-1, self.modes, self.size) / self.modes**0.5
        return torch.einsum("...m,smn->s...n", trunk, weights)


class OperatorBasis(nn.Module):
    """Basis functions by a Fourier neural operator of the base (the initial field), the hints and the coordinates.

    The hints of the family are the last basis functions.

    Args:
        hints: Their number.
        coordinates: Of a grid point.
        size: Number of basis functions n.
        modes: Frequencies kept per axis of the grid, time first.
        width: Hidden channels.
        depth: Spectral layers.
    """

    def __init__(
        self, *, coordinates: int, size: int, modes: Sequence[int], width: int = 32, depth: int = 4, hints: int = 0
    ) -> None:
        super().__init__()
        own = max(size - hints, 1)
        self.kept: int = size - own
        self.operator: FNO = FNO(inputs=coordinates + 1 + hints, outputs=own, modes=modes, width=width, depth=depth)

    def forward(self, family: AbstractFamily, parameters: Parameters) -> torch.Tensor:
        """Shape (samples, *shape, n)."""
        base, _ = family.lifting(parameters)
        place = family.coordinates().expand(len(base), *[-1] * (base.ndim))
        hints = family.hints(parameters)
        fields = self.operator(torch.cat([base.unsqueeze(-1), hints, place], dim=-1))
        return torch.cat([fields, hints[..., : self.kept]], dim=-1)


def _network(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, dtype=torch.float64), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], dtype=torch.float64))
