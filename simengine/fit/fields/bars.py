"""How sure a field is, cell by cell: Laplace's approximation with the data's matrix of low rank.

With R the precision of a Gaussian prior and A the columns of the residuals by cells, the covariance is
(A'A + R)^-1 = R^-1 - R^-1 A' (1 + A R^-1 A')^-1 A R^-1, exact where the rows are few. Where they are many, A'A is known
by the directions that the data tell best beside the prior, A'A v = lambda R v, of random products (Halko, Martinsson &
Tropp 2011; Bui-Thanh, Ghattas, Martin & Stadler 2013): R^-1 - sum lambda/(1 + lambda) v v'. What is left out makes bars
wider, never narrower. Cells in units of the objective; bounds are not counted.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.fields.newton import EXACT, Linearised
from simengine.fit.fields.objective import FieldObjective

if TYPE_CHECKING:
    from simengine.fit.fields.beside import ProfiledObjective

RANK, EXTRA = 100, 20  # directions of a matrix of more rows; those drawn beyond them
WHOLE = 300  # cells, at most, of which all directions are taken
TOLD = 0.1  # eigenvalue of a direction that the data tell little of, beside the prior
QUANTILE = 1.959964


@dataclasses.dataclass(frozen=True)
class FieldBars:
    """What is uncertain of one field, in its shape, SI.

    Attributes:
        std: Standard deviation of each cell; to first order where the field is positive.
        low: 2.5 % quantile.
        high: 97.5 % quantile.
        told: Share of the prior's variance that the data took away, 0 to 1.
        figures: Name of a number that the world tells of the field -> its standard deviation, to first order.
    """

    std: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    told: torch.Tensor
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FieldPosterior:
    """What is uncertain of all cells.

    Attributes:
        moves: What the data took away is moves moves', (n, k).
        beside: How cells move with numbers beside them, times a root of their covariance, (n, p).
        prior: Variance of each cell beforehand, (n,).
        degrees: Of freedom that the data decide, by observation.
        least: Smallest eigenvalue of what was told, beside the prior; 0 where nothing is left out.
    """

    moves: torch.Tensor
    beside: torch.Tensor
    prior: torch.Tensor
    degrees: Mapping[str, float]
    least: float

    @property
    def variance(self) -> torch.Tensor:
        """Of each cell, (n,)."""
        left = self.prior - self.moves.square().sum(1) + self.beside.square().sum(1)
        return left.clamp_min(0.0)

    def variance_along(self, slope: torch.Tensor, believed: torch.Tensor) -> torch.Tensor:
        """Of a number, 0-d, by its slope in the cells (n,) and the prior's covariance times that (n,)."""
        left = slope @ believed - (self.moves.T @ slope).square().sum() + (self.beside.T @ slope).square().sum()
        return left.clamp_min(0.0)


def why_not(objective: FieldObjective) -> str:
    """Why the fields have no bars; "" where they have."""
    rough = [key for key, energy in objective.energies.items() if not energy.gaussian]
    return f"{rough[0]}: only a prior that is normal or lognormal with a length gives bars" if rough else ""


class Laplace:
    """The data's matrix about the best cells, for covariances with any weights of the observations.

    Args:
        objective: With Gaussian priors of every field.
        x: Cells (n,).
        z: Numbers beside them (p,).
    """

    def __init__(self, objective: FieldObjective, x: torch.Tensor, z: torch.Tensor) -> None:
        self.objective: FieldObjective = objective
        self.z: torch.Tensor = z
        self._here = Linearised(objective, x, z)
        with torch.no_grad():
            self.lengths: dict[str, int] = {name: len(part) for name, part in objective.parts(x, z).items()}
        self._rows: torch.Tensor | None = None
        if len(self._here.r) <= EXACT:
            self._rows = self._here.rows()

    def posterior(self, factors: Mapping[str, float], profile: "ProfiledObjective | None" = None) -> FieldPosterior:
        """The posterior of the cells.

        Args:
            factors: Observation -> by how much its rows count less; 1 where it is not named.
            profile: How cells move with the numbers; None where there are none.
        """
        own = self.objective
        weight = torch.cat([torch.full((n,), factors.get(k, 1.0)).double().rsqrt() for k, n in self.lengths.items()])
        if self._rows is not None:
            rows = self._rows * weight[:, None]
            moved = own.prior_covariance(rows)  # (rows, n)
            gram = rows @ moved.T
            root = torch.linalg.cholesky(torch.eye(len(rows), dtype=torch.float64) + (gram + gram.T) / 2)
            moves, least = torch.linalg.solve_triangular(root, moved, upper=False).T, 0.0
            # of 1 - (1 + G)^-1
            shares = 1 - torch.cholesky_inverse(root).diagonal()
        else:
            values, vectors = self._best_told(weight.square())
            moves, least = vectors * (values / (1 + values)).sqrt(), float(values[-1])
            seen = torch.stack([weight * self._here.across(v) for v in vectors.T])
            shares = (seen.square() / (1 + values)[:, None]).sum(0)
        parts = dict(zip(self.lengths, shares.split(list(self.lengths.values())), strict=True))
        beside = torch.zeros(len(moves), 0, dtype=torch.float64)
        if profile is not None:
            beside = profile.along.T @ torch.linalg.cholesky(profile.covariance(factors))
        degrees = {name: float(part.sum()) for name, part in parts.items()}
        return FieldPosterior(moves, beside, own.prior_variance(), degrees, least)

    def _best_told(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Largest eigenvalues (k,) and vectors (n, k), v'R v = 1, of A'WA v = lambda R v, by two passes of products."""
        here, own = self._here, self.objective
        few = len(here.x) <= WHOLE
        rank, count = (len(here.x),) * 2 if few else (RANK, min(RANK + EXTRA, len(here.x)))

        def product(v: torch.Tensor) -> torch.Tensor:
            return torch.stack([here.back(weight * here.across(each)) for each in v])

        g = torch.Generator().manual_seed(0)
        seen = product(own.prior_covariance(torch.randn(count, len(here.x), generator=g, dtype=torch.float64)))
        q = _orthonormal(own.prior_covariance(seen), own.stiffness(here.x))
        small = q @ product(q).T
        values, turn = torch.linalg.eigh((small + small.T) / 2)
        kept = [k for k in reversed(range(len(values))) if float(values[k]) > 0][:rank]
        return values[kept].clone(), (turn[:, kept].T @ q).T


def _orthonormal(v: torch.Tensor, precision: Any) -> torch.Tensor:
    """Rows (k, n) that span those of v, with v R v' = 1 of a sparse precision R; twice, since once leaves rounding."""
    v = torch.linalg.qr(v.T)[0].T
    for _ in range(2):
        gram = v @ torch.from_numpy(precision @ v.T.numpy())
        v = torch.linalg.solve_triangular(torch.linalg.cholesky((gram + gram.T) / 2), v, upper=False)
    return v


def bars_of(objective: FieldObjective, x: torch.Tensor, found: FieldPosterior) -> dict[str, FieldBars]:
    """Field -> its bars."""
    std, before = found.variance.sqrt(), found.prior
    bars, at = {}, 0
    for key, field in objective.fields(x).items():
        own = slice(at, at + field.numel())
        at += field.numel()
        spread = (std[own] * objective.scales[key]).reshape(field.shape)
        told = (1 - found.variance[own] / before[own]).clamp(0.0, 1.0).reshape(field.shape)
        if key in objective.logarithmic:
            by = (QUANTILE * spread).exp()
            bars[key] = FieldBars(field * spread, field / by, field * by, told, _figures(objective, x, found, key))
        else:
            by = QUANTILE * spread
            bars[key] = FieldBars(spread, field - by, field + by, told, _figures(objective, x, found, key))
    return bars


def _figures(objective: FieldObjective, x: torch.Tensor, found: FieldPosterior, key: str) -> dict[str, float]:
    """Standard deviations of what the world tells of a field, where that has a gradient."""
    cells = x.detach().clone().requires_grad_()
    stds = {}
    for name, value in objective.world.measures(key, objective.fields(cells)[key]).items():
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value, cells, retain_graph=True)
            stds[name] = float(found.variance_along(slope, objective.prior_covariance(slope[None])[0]).sqrt())
    return stds
