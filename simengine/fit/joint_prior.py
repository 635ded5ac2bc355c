"""Priors of vectors whose entries hang together: neighbours that are alike, tables that only rise or fall."""

import dataclasses

import torch

NUGGET = 1e-6  # of the variance: what neighbours may differ by however near they are
FIRM = 0.01  # of a standard deviation: a step the wrong way that costs one


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class JointPrior:
    """A normal prior of a vector, or of its logarithm.

    Attributes:
        mean: (n,).
        covariance: (n, n).
        logarithmic: Whether they are of the logarithm.
        rising: 1 for entries that may only rise, -1 for those that may only fall, 0 for neither.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    logarithmic: bool
    rising: int = 0

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """Residuals of values (n,), whose squares sum to minus twice the logarithm of the density."""
        u = values.log() if self.logarithmic else values
        root = torch.linalg.cholesky(self.covariance)
        rows = torch.linalg.solve_triangular(root, (u - self.mean)[:, None], upper=False)[:, 0]
        if not self.rising:
            return rows
        wrong = torch.relu(-self.rising * u.diff())
        return torch.cat([rows, wrong / (FIRM * self.covariance.diagonal().mean().sqrt())])


def alike(abscissa: torch.Tensor, length: float, sd: torch.Tensor, common: float = 0.0) -> torch.Tensor:
    """Covariance (n, n) of entries at abscissas (n,): like the nearer the more alike, about a level that is shared.

    Args:
        abscissa: Where the entries stand.
        length: Over which they are alike.
        sd: Of each entry about the level, (n,).
        common: Standard deviation of the level.
    """
    distance = (abscissa[:, None] - abscissa) / length
    covariance = torch.outer(sd, sd) * torch.exp(-0.5 * distance.square()) + common**2
    return covariance + NUGGET * torch.diag(covariance.diagonal())
