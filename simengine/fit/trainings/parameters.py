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
        scale: Of a parameter without bounds, the size of a change that matters, in its unit: one step of its
            coordinate. None for |initial|; where that is 0, for what the observations say (`ParameterSet.settle`).

    Raises:
        ValueError: The bounds are empty or do not contain `initial`, or the scale is not positive.
    """

    initial: float
    lower: float = -math.inf
    upper: float = math.inf
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale:g}")
        if not self.lower < self.initial < self.upper:
            raise ValueError(f"initial {self.initial:g} must lie between lower {self.lower:g} and upper {self.upper:g}")

    @property
    def _kind(self) -> str:
        if math.isfinite(self.lower) and math.isfinite(self.upper):
            return "interval"
        return "lower" if math.isfinite(self.lower) else "upper" if math.isfinite(self.upper) else "free"

    @property
    def unsettled(self) -> bool:
        """Whether nothing tells how large this parameter is: without bounds, from 0, and no scale given."""
        return self._kind == "free" and self.initial == 0 and self.scale is None

    @property
    def _unit(self) -> float:
        return self.scale or abs(self.initial) or 1.0

    def constrain(self, z: torch.Tensor) -> torch.Tensor:
        """The parameter from its unconstrained coordinate."""
        if self._kind == "interval":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(z)
        if self._kind == "lower":
            return self.lower + (self.initial - self.lower) * torch.exp(z)
        if self._kind == "upper":
            return self.upper - (self.upper - self.initial) * torch.exp(z)
        return self.initial + self._unit * z

    def unconstrain(self, value: float) -> float:
        """The unconstrained coordinate of `value`."""
        if self._kind == "interval":
            fraction = (value - self.lower) / (self.upper - self.lower)
            return math.log(fraction / (1 - fraction))
        if self._kind == "lower":
            return math.log((value - self.lower) / (self.initial - self.lower))
        if self._kind == "upper":
            return math.log((self.upper - value) / (self.upper - self.initial))
        return (value - self.initial) / self._unit


class ParameterSet(nn.Module):
    """Named parameters with one float64 vector `z` of unconstrained coordinates, the only leaf.

    Args:
        parameters: By name, in the order of the entries of `z`.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        super().__init__()
        if not parameters:
            raise ValueError("a ParameterSet needs at least one parameter, got none")
        self.entries: dict[str, Parameter] = dict(parameters)
        self._provisional: dict[str, float] = {}  # whose scale may still shrink: the one before
        start = [entry.unconstrain(entry.initial) for entry in self.entries.values()]
        self.z: nn.Parameter = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def settle(self, r: torch.Tensor, j: torch.Tensor) -> bool:
        """Give a scale to every parameter that has none, from a residual and its Jacobian at the start.

        The scale is the change of the parameter that would change the residual by as much as it is: |r| / |dr/dp|, but
        no more than 1, the unit itself. The coordinate is 0 there and stays so. Where the scale shrinks so far that
        the differences behind the Jacobian were taken over a good part of it, it is not yet final.

        Args:
            r: Residuals, shape (m,).
            j: In the coordinates, shape (m, p).

        Returns:
            Whether a scale changed: the Jacobian is then another, to be taken, and this called, once more.
        """
        changed = False
        for k, (name, entry) in enumerate(self.entries.items()):
            before = self._provisional.pop(name, None)
            if not (entry.unsettled or before) or float(self.z[k].detach()) != 0:
                continue
            length, unit = float(j[:, k].norm()), entry.scale or 1.0
            if length == 0 or float(r.norm()) == 0:  # no effect; or none that is left above rounding at this scale
                self.entries[name] = dataclasses.replace(entry, scale=before)
                continue
            scale = min(1.0, unit * float(r.norm()) / length)
            shrinks = scale < 0.1 * unit
            if shrinks:
                self._provisional[name] = unit
            changed = changed or shrinks
            self.entries[name] = dataclasses.replace(entry, scale=scale if shrinks else unit)
        return changed

    def scales(self) -> torch.Tensor:
        """The scales, shape (p,), NaN where a parameter has none; `set_scales` takes them back."""
        found = [math.nan if entry.scale is None else entry.scale for entry in self.entries.values()]
        return torch.tensor(found, dtype=torch.float64)

    def set_scales(self, scales: torch.Tensor) -> None:
        """Take the scales that `scales` told."""
        for (name, entry), scale in zip(list(self.entries.items()), scales.tolist(), strict=True):
            self.entries[name] = dataclasses.replace(entry, scale=None if math.isnan(scale) else scale)

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
