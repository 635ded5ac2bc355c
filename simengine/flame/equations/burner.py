"""Burner-stabilised premixed flames: a porous plug holds the flame, at a mass flux below that of the free flame.

Where the temperature was measured it may be imposed: the energy equation, with all heat that the burner and the
surroundings take, is then replaced by T = T(x), linear between the places where it is known, as is usual for flat
flames under low pressure (R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, chapter 16).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.equations.free import FreeFlame


def piecewise_linear(at: torch.Tensor, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Values (n,) at growing places (n,) as a function of x (...), constant beyond the ends."""
    if len(at) == 1:
        return values.expand(*x.shape, 1)[..., 0]
    k = torch.searchsorted(at[1:-1].contiguous(), x.detach().contiguous())
    share = ((x - at[k]) / (at[k + 1] - at[k])).clamp(0.0, 1.0)
    return values[k] + (values[k + 1] - values[k]) * share


@dataclasses.dataclass(frozen=True, kw_only=True)
class BurnerFlame(FreeFlame):
    """A flame above a burner at x = 0. Fields T and Y; the eigenvalue is the given mass flux.

    The burner holds its surface at T_in and lets no species through but by convection: M Y_k + j_k = M Y_k,in. A mass
    flux above that of the free flame blows the flame off: nothing burns then, and the solver says so.

    Attributes:
        mass_flux: M [kg/(m^2 s)], () or (b,).
        length: End of the domain [m].
        temperature: Imposed where `temperature_at` says, (n,) [K]; empty for the energy equation.
        temperature_at: Growing heights above the burner, (n,) [m]; beyond them the first and the last value hold.
    """

    mass_flux: torch.Tensor = dataclasses.field(default_factory=lambda: torch.tensor(0.2, dtype=torch.float64))
    length: float = 0.02
    temperature: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    temperature_at: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    anchor_end: Literal["left", "right", "origin"] = dataclasses.field(default="origin", init=False)
    affine: bool = dataclasses.field(default=False, init=False)

    @staticmethod
    def _own() -> tuple[str, ...]:
        return ("mass_flux", "temperature")

    def __post_init__(self) -> None:
        super().__post_init__()
        given, at = self.temperature.detach(), self.temperature_at
        if given.shape != at.shape or given.dim() != 1 or not bool((at.diff() > 0).all() and (given > 0).all()):
            raise ValueError(
                f"temperature: expected positive values (n,) at growing places, got shapes {tuple(given.shape)} and "
                f"{tuple(at.shape)} at {at.tolist()[:8]}"
            )

    def imposed(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """The temperature, where it was measured."""
        if not len(self.temperature):
            return {}
        return {0: piecewise_linear(self.temperature_at, self.temperature, x)}

    @property
    def inflow(self) -> tuple[int, ...]:  # type: ignore[override]
        """Every species: the burner fixes their flux, not their fraction."""
        return tuple(range(1, 1 + len(self.gas.W)))

    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """T = T_in, and the flux of each species."""
        b, T, Y = y.shape[0], y[..., 0], y[..., 1:]
        _, j = self.diffusive_flux(T, Y, dy[..., 0], dy[..., 1:])
        species = z * (Y - self.Y_in.expand(b, -1)[:, None, None]) + j
        species[..., self.closing] = Y.sum(-1) - 1
        return torch.cat(((T - self.T_in.expand(b)[:, None, None]).unsqueeze(-1), species), dim=-1)

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The mass flux is given."""
        return z - self.mass_flux.reshape(-1, 1, 1, 1)

    def first_flux(self) -> torch.Tensor:
        """The given mass flux."""
        return self.mass_flux.detach().expand(self.batch)

    def settled(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The given mass flux."""
        return z

    def alternatives(self) -> list[AbstractFlame]:
        """Flames that stand nearer to the burner and farther from it."""
        return [dataclasses.replace(self, hurry=self.hurry * f) for f in (0.5, 2.0, 4.0)]

    def extent(self, z: torch.Tensor) -> torch.Tensor | None:  # type: ignore[override]
        """The domain begins at the burner."""
        return None

    def tail(self, z: torch.Tensor) -> torch.Tensor | None:  # type: ignore[override]
        """The domain has a given end."""
        return None

    def edges(self) -> torch.Tensor:
        """Finer towards the burner."""
        unit = torch.tensor([0, 0.5, 1, 1.6, 2.3, 3.1, 4, 5, 6.5, 8.5, 11, 14, 18, 23, 30, 40, 55, 75, 100])
        return (unit.to(torch.float64) / 100 * self.length).expand(self.batch, -1)

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From the fresh gas to the burnt within a few thicknesses."""
        T_burnt, Y_burnt = self.burnt()
        width = (1.5 * self.hurry * self.thickness(self.first_flux()))[:, None, None]
        step = (1 - torch.exp(-((x / width) ** 2))).unsqueeze(-1)
        T_in = self.T_in.detach().expand(self.batch)[:, None, None, None]
        T = T_in + (T_burnt[:, None, None, None] - T_in) * step
        if given := self.imposed(x.flatten(1)):
            T = given[0].detach().reshape(*x.shape, 1)
        Y_in = self.Y_in.detach()[:, None, None]
        return torch.cat((T, Y_in + (Y_burnt[:, None, None] - Y_in) * step), dim=-1), self.first_flux()

    def burning(self, y: torch.Tensor) -> torch.Tensor:
        """Half of the way to the burnt temperature at least; taken as given where the temperature is."""
        if len(self.temperature):
            return super().burning(y)
        T_in, T_burnt = self.T_in.detach().expand(self.batch), self.burnt()[0]
        return y[..., 0].amax(1) > T_in + 0.5 * (T_burnt - T_in)

    def faster(self) -> list[AbstractFlame]:
        """None: the mass flux is given."""
        return []

    def obstacle(self, solve: Callable[..., Any]) -> str | None:
        """A mass flux above that of the free flame, which blows the flame off unless its temperature is given."""
        if len(self.temperature):
            return None
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(FreeFlame) if f.init}
        free = FreeFlame(**shared)
        given = self.mass_flux.expand(self.batch)
        if (obstacle := free.obstacle(solve)) or bool((given < 0.1 * free.first_flux()).all()):
            return obstacle
        found = solve(free, throw=False)
        blown = [k for k in range(self.batch) if bool(given[k] > found.value.eigenvalue[k])]
        if not found.success or not blown:
            return None
        k = blown[0]
        return (
            f"conditions {blown}: blown off: mass_flux = {float(given[k]):.4g} kg/(m^2 s) is above that of the free "
            f"flame, {float(found.value.eigenvalue[k]):.4g}; lower mass_flux"
        )

    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of the free flame; a temperature that is given is within them."""
        scale, lower, upper = super().limits()
        if len(self.temperature):
            given = self.temperature.detach()
            lower[:, 0] = lower[:, 0].clamp_max(0.9 * float(given.min()))
            upper[:, 0] = upper[:, 0].clamp_min(1.1 * float(given.max()))
        return scale, lower, upper

    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mass flux [kg/(m^2 s)]."""
        return {"mass_flux": z}
