"""Families of problems: an equation whose members are drawn at random, solved classically, and learned by networks."""

import abc
import math

import torch

from simengine.constraint.pde import AbstractPDE, Parameters, Rows
from simengine.constraint.taylor import taylor_series


class AbstractFamily(AbstractPDE):
    """A partial differential equation with the initial values (or constants) that a network is trained for.

    Basis functions of a backbone are factor * network, and base is what their combination is added to, so that the
    initial values, and what else is simple, hold exactly: `lifting` gives both.
    """

    @abc.abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Parameters of random members, each of shape (count, ...)."""

    @abc.abstractmethod
    def reference(self, parameters: Parameters) -> torch.Tensor:
        """Solutions by the classical data generator, shape (samples, *shape)."""

    @abc.abstractmethod
    def inputs(self, parameters: Parameters) -> torch.Tensor:
        """What tells the members apart, in numbers of order 1, for a branch network; shape (samples, p)."""

    @abc.abstractmethod
    def coordinates(self) -> torch.Tensor:
        """Where a grid point lies, in numbers between -1 and 1 as the problem scales them; shape (*shape, f)."""

    def continued(self, end: torch.Tensor) -> dict[str, torch.Tensor]:
        """Parameters of the members that start from the fields `end`, shape (samples, *shape[1:]).

        Raises:
            ValueError: The family has no initial fields.
        """
        raise ValueError(f"{type(self).__name__}: its members do not start from fields, so none continues another")

    def hints(self, parameters: Parameters) -> torch.Tensor:
        """What is known of the solution beforehand, for operator networks: inputs, and functions beside theirs.

        Returns:
            Shape (samples, *shape, h); h = 0 where nothing is known.
        """
        base, _ = self.lifting(parameters)
        return base.new_zeros(*base.shape, 0)

    @abc.abstractmethod
    def lifting(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Base, shape (samples, *shape), that holds the initial values, and factor, shape (*shape), 0 at t = 0."""


class AbstractFieldFamily(AbstractFamily):
    """Families told apart by an initial field, on equal time steps.

    The parameter `field` is the initial field on the grid, shape (samples, *shape[1:]).

    Attributes:
        field: Its name.
        period: Per axis of space, whether it is periodic, with points at i/n; otherwise they are cell centres.
        sensors: Points along each axis of space at which a branch network sees the initial field.
    """

    field: str = "u0"
    period: tuple[bool, ...] = (True,)
    sensors: int = 16

    def continued(self, end: torch.Tensor) -> dict[str, torch.Tensor]:
        """Those with these initial fields."""
        return {self.field: end}

    def conditions(self) -> Rows:
        """The field at t = 0 is the initial one."""
        cells = torch.arange(math.prod(self.shape[1:]))
        return Rows(index=cells[:, None], data=(torch.ones(len(cells), 1, dtype=torch.float64),), position=cells)

    def targets(self, data: tuple[torch.Tensor, ...], position: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """The initial field at the points of the conditions."""
        return parameters[self.field].flatten(1).gather(1, position.flatten(1)).reshape(position.shape)

    def inputs(self, parameters: Parameters) -> torch.Tensor:
        """The initial field at the sensors."""
        value = parameters[self.field]
        for axis, size in enumerate(self.shape[1:], 1):
            step = max(1, size // self.sensors)
            value = value.index_select(axis, torch.arange(step // 2, size, step))
        return value.flatten(1)

    def series(self, field: torch.Tensor, order: int) -> torch.Tensor:
        """Coefficients of the Taylor series of the field in t, from the equation itself.

        Args:
            field: At t = 0, (samples, *shape[1:]).
            order: Highest power of t.

        Returns:
            Those of t, t^2, ..., t^order, (order, samples, *shape[1:]).
        """
        return taylor_series(self.rate, field, order)

    def rate(self, field: torch.Tensor) -> torch.Tensor:
        """The change of fields in time, as of the equation on its grid; both (samples, *shape[1:]).

        Raises:
            ValueError: The family does not say it.
        """
        raise ValueError(f"{type(self).__name__}: says no rate of its fields, so they have no Taylor series")

    def coordinates(self) -> torch.Tensor:
        """Time, then sine and cosine of periodic axes and the place along others."""
        axes = [[torch.linspace(-1, 1, self.shape[0], dtype=torch.float64)]]
        for size, periodic in zip(self.shape[1:], self.period, strict=True):
            place = (torch.arange(size, dtype=torch.float64) + (0.0 if periodic else 0.5)) / size
            angle = 2 * math.pi * place
            axes.append([angle.sin(), angle.cos()] if periodic else [2 * place - 1])
        ones = torch.ones(self.shape, dtype=torch.float64)
        return torch.stack(
            [
                value.reshape([-1 if k == axis else 1 for k in range(len(self.shape))]) * ones
                for axis, values in enumerate(axes)
                for value in values
            ],
            dim=-1,
        )

    def lifting(self, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The initial field at all times, and t over the duration."""
        base = parameters[self.field].unsqueeze(1).expand(-1, *self.shape)
        times = torch.linspace(0, 1, self.shape[0], dtype=torch.float64)
        return base, times.reshape(-1, *[1] * (len(self.shape) - 1)).expand(self.shape)
