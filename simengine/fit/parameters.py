"""Named scalar parameters with bounds, sought in unconstrained coordinates.

A bijection turns each bounded parameter into one that an optimiser may move freely: log for a positive one, a logistic
for one bounded on both sides, a scale for a free one.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One scalar to be found.

    Attributes:
        initial: Where the search starts, in the parameter's own unit.
        lower: Exclusive lower bound; 0 makes it positive.
        upper: Exclusive upper bound.

    Raises:
        ValueError: The bounds are empty or do not contain `initial`.
    """

    initial: float
    lower: float = -math.inf
    upper: float = math.inf

    def __post_init__(self) -> None:
        if not self.lower < self.initial < self.upper:
            raise ValueError(f"initial {self.initial:g} must lie between lower {self.lower:g} and upper {self.upper:g}")

    @property
    def _kind(self) -> str:
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            return "interval"
        return "lower" if math.isfinite(self.lower) else "upper" if math.isfinite(self.upper) else "free"

    def constrain(self, z: torch.Tensor) -> torch.Tensor:
        """The parameter from its unconstrained coordinate."""
        if self._kind == "interval":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(z)
        if self._kind == "lower":
            return self.lower + (self.initial - self.lower) * torch.exp(z)
        if self._kind == "upper":
            return self.upper - (self.upper - self.initial) * torch.exp(z)
        return self.initial + max(abs(self.initial), 1e-12 if self.initial else 1.0) * z

    def unconstrain(self, value: float) -> float:
        """The unconstrained coordinate of `value`."""
        if self._kind == "interval":
            fraction = (value - self.lower) / (self.upper - self.lower)
            return math.log(fraction / (1 - fraction))
        if self._kind == "lower":
            return math.log((value - self.lower) / (self.initial - self.lower))
        if self._kind == "upper":
            return math.log((self.upper - value) / (self.upper - self.initial))
        return (value - self.initial) / max(abs(self.initial), 1e-12 if self.initial else 1.0)


class ParameterSet(nn.Module):
    """Named parameters with one float64 vector `z` of unconstrained coordinates, the only leaf.

    Args:
        parameters: By name, in the order of the entries of `z`.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        super().__init__()
        if not parameters:
            raise ValueError("a ParameterSet needs at least one parameter, got none")
        self.entries = dict(parameters)
        start = [entry.unconstrain(entry.initial) for entry in self.entries.values()]
        self.z = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    @property
    def names(self) -> list[str]:
        """The names, in the order of `z`."""
        return list(self.entries)

    def forward(self, z: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The constrained parameters by name, 0-d float64, differentiable in `z`.

        Args:
            z: Unconstrained coordinates, shape (p,); None for the current ones.
        """
        z = self.z if z is None else z
        return {name: entry.constrain(z[k]) for k, (name, entry) in enumerate(self.entries.items())}

    def values(self) -> dict[str, float]:
        """The current values as floats."""
        with torch.no_grad():
            return {name: float(value) for name, value in self().items()}

    def slopes(self) -> torch.Tensor:
        """Derivative of each parameter in its coordinate at the current point, shape (p,)."""
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            return torch.autograd.grad(torch.stack(list(self(z).values())).sum(), z)[0]
