"""Norms of the residual that fit the operator: what the layer minimises where the plain one measures the wrong thing.

The sum of squares of an elliptic equation of order p weighs a wave of the error by its number to the power 2 p, so few
functions spend themselves on the roughest part of the residual and leave the field itself wrong by half. Measured
through an inverse of the operator, or tested with the functions themselves, the same rows give the field.
"""

import abc
import dataclasses
import math

import torch

from simengine.constraint.pde import AbstractPDE, Parameters, Rows

_ELLIPTIC = 1.5  # orders along every axis beyond which an equation without a first-order axis counts as elliptic
_ENOUGH = 8192  # rows that the response to a wave is read off


class AbstractNorm(abc.ABC):
    """A linear map M of the residuals of all rows; the layer minimises |M r|.

    Attributes:
        name: As reports say it.
    """

    name: str

    @abc.abstractmethod
    def __call__(self, r: torch.Tensor, position: torch.Tensor, tested: torch.Tensor) -> torch.Tensor:
        """M r, made of torch functions.

        Args:
            r: Residuals of all rows, shape (m,).
            position: Grid point of each, shape (m,).
            tested: Basis functions at those points, 0 where a block does not reach, shape (m, K n).

        Returns:
            Shape (p,).
        """


@dataclasses.dataclass(frozen=True)
class Galerkin(AbstractNorm):
    """The residual tested with the basis functions: for a symmetric elliptic equation the best field in its energy."""

    name = "Galerkin"

    def __call__(self, r: torch.Tensor, position: torch.Tensor, tested: torch.Tensor) -> torch.Tensor:
        """B^T r, each function scaled to length 1."""
        lengths = tested.norm(dim=0)
        floor = 1e-12 * lengths.max()
        return (tested / lengths.maximum(floor)).mT @ r


@dataclasses.dataclass(frozen=True)
class InverseLaplacian(AbstractNorm):
    """The residual through a power of the inverse Laplacian of the box, by sine, cosine or Fourier transforms.

    Attributes:
        shape: Of the grid.
        order: Of the equation: the residual is multiplied by (-Laplacian)^(-order/2).
        sides: Per axis `dirichlet`, `neumann` or `periodic`: what the transform takes for granted beyond the ends,
            which lie half a cell from the first and the last point (periodic: a cell apart).
    """

    shape: tuple[int, ...]
    order: float = 2.0
    sides: tuple[str, ...] = ()

    name = "inverse Laplacian"

    def __post_init__(self) -> None:
        sides = self.sides or ("dirichlet",) * len(self.shape)
        if len(sides) != len(self.shape) or not set(sides) <= {"dirichlet", "neumann", "periodic"}:
            raise ValueError(
                f"sides: expected dirichlet, neumann or periodic for each of {len(self.shape)} axes, got {list(sides)}"
            )
        object.__setattr__(self, "sides", sides)

    def __call__(self, r: torch.Tensor, position: torch.Tensor, tested: torch.Tensor) -> torch.Tensor:
        """Rows are added up at their points, 0 elsewhere."""
        field = r.new_zeros(math.prod(self.shape)).index_add(0, position, r).reshape(self.shape)
        total = r.new_zeros(())
        for axis, (n, side) in enumerate(zip(self.shape, self.sides, strict=True)):
            matrix, values = _modes(n, side, r)
            field = torch.tensordot(matrix, field, dims=([1], [axis])).movedim(0, axis)
            total = total + values.reshape(-1, *[1] * (len(self.shape) - 1 - axis))
        # a constant that no side holds: it counts as the longest wave does
        least = torch.where(total > 1e-12 * total.max(), total, torch.inf).min()
        return (field * total.maximum(least) ** (-self.order / 2)).flatten()


def _modes(n: int, side: str, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal modes (n, n) of -d^2/dx^2 by second differences on n cells, and their eigenvalues (n,)."""
    place = torch.arange(n, dtype=like.dtype, device=like.device)
    k = place[:, None]
    if side == "periodic":
        number = (k + 1).div(2, rounding_mode="floor")
        angle = 2 * math.pi * number * place / n
        modes = torch.where(k % 2 == 1, angle.sin(), angle.cos())
        values = 2 - 2 * (2 * math.pi * number[:, 0] / n).cos()
    elif side == "neumann":
        modes, values = (math.pi * k * (place + 0.5) / n).cos(), 2 - 2 * (math.pi * place / n).cos()
    else:
        modes, values = (math.pi * (k + 1) * (place + 0.5) / n).sin(), 2 - 2 * (math.pi * (place + 1) / n).cos()
    return modes / modes.norm(dim=1, keepdim=True), values


def constants(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Constants of one sample, each (1, ...), in the shape that residuals of rows (1, 1, m) take them in."""
    return {name: value.reshape(*value.shape, *[1] * (3 - value.ndim)) for name, value in parameters.items()}


def response(pde: AbstractPDE, rows: Rows, parameters: Parameters, axis: int, waves: int) -> tuple[float, float]:
    """What the linearised rows make of a wave along an axis: the parts in phase with it and a quarter behind."""
    n = pde.shape[axis]
    angle = 2 * math.pi * waves * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    field, behind = (
        w.reshape(-1, *[1] * (len(pde.shape) - 1 - axis)).expand(pde.shape) for w in (angle.cos(), angle.sin())
    )
    data = tuple(d[None, None] for d in rows.data)
    seen = pde.table(field.reshape(1, *pde.shape, 1))[0, :, 0][rows.index][None, None]
    named = constants(parameters)
    about = pde.reference_values(data, named).expand(seen.shape).contiguous()
    _, slopes = pde.linearised(about, data, named)
    found = (slopes * seen).sum(-1).flatten()
    here, there = field.reshape(-1)[rows.position], behind.reshape(-1)[rows.position]
    return float((found * here).sum() / here.square().sum()), float((found * there).sum() / there.square().sum())


def order(pde: AbstractPDE, parameters: Parameters) -> float | None:
    """The order of an elliptic equation, read off its response to waves; None for one that is not elliptic.

    An equation is elliptic where waves along all axes come back in phase and with one sign, growing with a power above
    1.5 of their number.
    """
    rows, found = _some(pde.rows()), []
    for axis, n in enumerate(pde.shape):
        one = max(1, n // 20)
        if n < 16:
            return None
        (a, _), (b, _), (c, turned) = (response(pde, rows, parameters, axis, k * one) for k in (1, 2, 4))
        # what grows from wave to wave; what does not is of order 0, or of rows beside the boundary
        near, far = b - a, c - b
        if near * far <= 0 or abs(turned) > abs(far) or math.log2(far / near) < _ELLIPTIC:
            return None
        found.append((far > 0, math.log2(far / near)))
    if len({sign for sign, _ in found}) > 1:
        return None
    return 2.0 * max(1, round(sum(p for _, p in found) / len(found) / 2))


def _some(rows: Rows) -> Rows:
    """Rows enough for means over them, drawn without an order that a wave could have too."""
    count = len(rows.index)
    if count <= _ENOUGH:
        return rows
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_ENOUGH]
    return dataclasses.replace(
        rows,
        index=rows.index[drawn],
        data=tuple(d[drawn] for d in rows.data),
        position=rows.position[drawn],
        group=None,
    )


def chosen(pde: AbstractPDE, parameters: Parameters) -> AbstractNorm | None:
    """The norm of an equation: Galerkin for an elliptic one, the plain sum of squares (None) for any other."""
    return None if order(pde, parameters) is None else Galerkin()
