"""Where basis functions come from: snapshots of solutions, or networks."""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


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


class BranchTrunk(nn.Module):
    """b_n(t, x; p) = sum_m branch_nm(p) trunk_m(t, x): a small network for families with few parameters.

    The trunk is evaluated on any grid, so what is trained on a coarse one serves on a fine one. Float64.

    Args:
        parameters: Number of parameters p of the family.
        size: Number of basis functions n.
        modes: Number of trunk functions.
        width: Of both networks.
        depth: Hidden layers of both.
    """

    def __init__(self, *, parameters: int, size: int = 16, modes: int = 48, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.size, self.modes = size, modes
        self.branch = _network([parameters, *[width] * (depth - 1), modes * size])
        self.trunk = _network([4, *[width] * depth, modes])

    def forward(self, parameters: torch.Tensor, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Basis functions on the grid t x x.

        Args:
            parameters: In units of order 1, shape (samples, p).
            t: Times over the length of the domain, shape (nt,).
            x: Places over its width, shape (nx,).

        Returns:
            Shape (samples, nt, nx, n).
        """
        time, place = torch.meshgrid(t, x, indexing="ij")
        root = (time + 1e-2).sqrt()  # diffusion fronts are functions of x / sqrt(t)
        trunk = self.trunk(torch.stack([time, place, root, place / root / 4], dim=-1) * 2 - 1)
        branch = self.branch(parameters).reshape(-1, self.modes, self.size) / self.modes**0.5
        return torch.einsum("txm,smn->stxn", trunk, branch)


def _network(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, dtype=torch.float64), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], dtype=torch.float64))
