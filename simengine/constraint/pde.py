"""What the hard-constraint layer needs to know of a partial differential equation on a space-time grid."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from simengine.solve.least_squares.system import ResidualError

Parameters = Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Equations that may be sampled; each combines a few entries of the table of functionals.

    Attributes:
        index: Entries of the table, int64, shape (m, s).
        data: What else the residual of a row needs, each of shape (m, ...).
        position: Grid point a row belongs to, as a flat index; shape (m,). Its block owns the row.
        group: Rows of the same number look at entries in common and are sampled together, so that fewer entries are
            looked at; shape (m,), or None where every row is drawn by itself.
    """

    index: torch.Tensor
    data: tuple[torch.Tensor, ...]
    position: torch.Tensor
    group: torch.Tensor | None = None


class AbstractPDE(abc.ABC):
    """A partial differential equation, discretised as local residuals.

    The fields are u = b . omega with basis functions b. A residual sees u through linear functionals (values at grid
    points, derivatives), which are computed once per basis function: the table. A row combines s of its entries.

    Attributes:
        shape: Grid, time first, such as (nt, nx).
        functionals: Entries of the table per grid point.
        of_the_stitched_field: Functionals that values at all places determine (a velocity of a vorticity): coupled
            experts take them from the field stitched together from all blocks, not from their own functions alone.
    """

    shape: tuple[int, ...]
    functionals: int = 1
    of_the_stitched_field: tuple[int, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """A class with a residual of its own does not inherit the derivatives of another."""
        super().__init_subclass__(**options)
        if "residual" in vars(cls) and "linearised" not in vars(cls):
            cls.linearised = AbstractPDE.linearised  # type: ignore[method-assign]

    def table(self, basis: torch.Tensor) -> torch.Tensor:
        """The functionals of every basis function.

        Args:
            basis: Values on the grid, shape (samples, *shape, n).

        Returns:
            Shape (samples, functionals * points, n), the grid points innermost. Values at grid points come first.
        """
        return basis.flatten(1, -2)

    @abc.abstractmethod
    def rows(self) -> Rows:
        """The equations in the interior of the grid."""

    @abc.abstractmethod
    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """The residual of rows, made of torch functions, each row for itself.

        Args:
            values: Functionals of u, shape (..., m, s).
            data: From `rows`, each of shape (..., m, ...).
            parameters: Constants of the PDE per problem, broadcastable to (..., m).

        Returns:
            Shape (..., m).
        """

    def linearised(
        self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual of rows, and its derivatives by their values; arguments as of `residual`, without gradients.

        Reverse mode, unless an equation gives them in closed form, which takes fewer passes.

        Returns:
            Shapes (..., m) and (..., m, s).

        Raises:
            ResidualError: `residual` returns what is no residual.
        """
        with torch.enable_grad():
            seen = values.detach().requires_grad_()
            r = self._checked(self.residual(seen, data, parameters), seen)
            return r.detach(), torch.autograd.grad(r, seen, torch.ones_like(r))[0]

    def _checked(self, r: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        what = f"{type(self).__name__}.residual"
        if not isinstance(r, torch.Tensor):
            raise ResidualError(f"{what}: expected a tensor, got {type(r).__name__}")
        if r.shape != values.shape[:-1]:
            raise ResidualError(f"{what}: expected shape {tuple(values.shape[:-1])}, got {tuple(r.shape)}")
        if r.dtype != values.dtype:
            raise ResidualError(f"{what}: expected {values.dtype}, got {r.dtype}")
        if not r.requires_grad:
            raise ResidualError(f"{what}: does not depend on the values it is given by torch functions")
        return r

    @abc.abstractmethod
    def conditions(self) -> Rows:
        """Linear equations sum_a c_a u_a = target (initial and boundary values), all of them imposed; data = (c,)."""

    @abc.abstractmethod
    def targets(self, data: tuple[torch.Tensor, ...], position: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Right-hand sides of conditions at grid points `position` (..., m); shape (..., m)."""

    @abc.abstractmethod
    def reference_values(self, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        """Rough values of u where rows look, about which the first step linearises; broadcastable to (..., m, s)."""
