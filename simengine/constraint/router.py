"""A router that learns where the residual is, and cuts the domain there."""

from collections.abc import Sequence

import torch
from torch import nn

from simengine.constraint.blocks import uniform_cuts


class Router(nn.Module):
    """Learns the share of the residual along every axis of a grid, and gives each expert the same share of it.

    The density along an axis is a small network of the place, so it fills in between places that a sample missed, and
    carries over to other grids. A part of every cell's share is uniform, so that no expert grows without bound.

    Args:
        counts: Blocks along each axis of the grid, time first.
        width: Of the networks.
        uniform: Share of the density that is uniform.
        learning_rate: Of Adam.
        seed: Of the first weights.
    """

    def __init__(
        self,
        counts: Sequence[int],
        *,
        width: int = 16,
        uniform: float = 0.2,
        learning_rate: float = 0.03,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < uniform <= 1:
            raise ValueError(f"uniform: expected a share above 0 and at most 1, got {uniform}")
        self.counts: tuple[int, ...] = tuple(counts)
        self.uniform: float = uniform
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.axes: nn.ModuleList = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(1, width, dtype=torch.float64),
                    nn.Tanh(),
                    nn.Linear(width, width, dtype=torch.float64),
                    nn.Tanh(),
                    nn.Linear(width, 1, dtype=torch.float64),
                )
                for _ in counts
            )
        self.learning_rate = learning_rate

    def density(self, axis: int, size: int) -> torch.Tensor:
        """Share of every cell of an axis of `size` points, shape (size,), sums to 1."""
        place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
        learned = self.axes[axis](place[:, None])[:, 0].softmax(dim=0)
        return (1 - self.uniform) * learned + self.uniform / size

    def update(self, squares: torch.Tensor, *, steps: int = 100) -> float:
        """Learn from squared residuals.

        Args:
            squares: At every grid point, shape (..., *shape); sums over what stands before the grid.
            steps: Of gradient descent on the cross entropy of the observed shares.

        Returns:
            The cross entropy after it.

        Raises:
            ValueError: There is a negative or non-finite entry, or nothing but zeros.
        """
        grid = squares.detach().reshape(-1, *squares.shape[squares.ndim - len(self.counts) :]).sum(dim=0)
        if not bool(grid.isfinite().all()) or bool((grid < 0).any()) or float(grid.sum()) <= 0:
            raise ValueError("squares: expected finite numbers, none negative and not all zero")
        # the root of the density: a cell's error grows more slowly than its squared residual
        roots = [grid.sum(dim=[k for k in range(grid.ndim) if k != axis]).sqrt() for axis in range(grid.ndim)]
        optimiser = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        loss = torch.zeros((), dtype=torch.float64)
        for _ in range(steps):
            optimiser.zero_grad()
            with torch.enable_grad():
                entropies = [
                    -(root / root.sum() * self.density(axis, len(root)).log()).sum()
                    for axis, root in enumerate(roots)
                    if self.counts[axis] > 1
                ]
                if not entropies:
                    return 0.0
                loss = torch.stack(entropies).sum()
                loss.backward()
            optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def cuts(self, shape: Sequence[int], *, least: int = 4) -> list[list[int]]:
        """Boundaries of the blocks along each axis, for `Decomposition(cuts=)`.

        Args:
            shape: Of the grid.
            least: Points that every block has at least.

        Raises:
            ValueError: An axis is too short.
        """
        result = []
        for axis, (size, count) in enumerate(zip(shape, self.counts, strict=True)):
            if count == 1:
                result.append(uniform_cuts(size, 1))
                continue
            if count * least > size:
                raise ValueError(f"counts: {count} blocks of at least {least} points do not fit an axis of {size}")
            cumulated = self.density(axis, size).cumsum(0)
            wanted = torch.arange(1, count, dtype=torch.float64) / count
            cuts = (torch.searchsorted(cumulated, wanted) + 1).tolist()
            for k in range(len(cuts)):  # room for the blocks before, and for those after
                before = cuts[k - 1] if k else 0
                cuts[k] = min(max(cuts[k], before + least), size - least * (count - 1 - k))
            result.append([0, *cuts, size])
        return result


def squared_residuals(shape: Sequence[int], position: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Squares of residuals (samples, m) summed at their grid points, positions (m,); shape (samples, *shape)."""
    points = int(torch.tensor(tuple(shape)).prod())
    grid = torch.zeros(len(residual), points, dtype=residual.dtype)
    return grid.index_add_(1, position, residual.detach().square()).reshape(-1, *shape)
