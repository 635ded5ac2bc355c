"""An adiabatic closed reactor of an ideal gas, at constant volume or constant pressure.

    dY_k/dt = W_k w_k/rho,    c dT/dt = -sum_k e_k w_k/rho

with the specific heat c and the molar energies e_k at constant volume, or the heat at constant pressure and molar
enthalpies (R. J. Kee, M. E. Coltrin, P. Glarborg, "Chemically Reacting Flow", Wiley 2003, chapter 9).
"""

import dataclasses
from typing import Literal

import torch

from simengine.flame.gas.thermochemistry import Gas, RateParameters
from simengine.flame.gas.units import R
from simengine.ops.fields import gas as gas_op
from simengine.ops.fields import gas_reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClosedReactor:
    """A closed reactor and its first state. Every tensor may require a gradient.

    Attributes:
        gas: Mechanism and properties.
        T: First temperature [K], ().
        p: First pressure [Pa], ().
        Y: First mass fractions, (K,).
        hold: What stays as it is.
        rates: Rate parameters; None for the mechanism's.
    """

    gas: Gas
    T: torch.Tensor
    p: torch.Tensor
    Y: torch.Tensor
    hold: Literal["volume", "pressure"] = "volume"
    rates: RateParameters | None = None

    def __post_init__(self) -> None:
        if self.hold not in ("volume", "pressure"):
            raise ValueError(f"hold={self.hold!r}: expected volume or pressure")
        for name in ("T", "p", "Y"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        for name, least in (("T", 200.0), ("p", 0.0)):
            value = getattr(self, name)
            if value.dim() or not float(value.detach()) > least:
                raise ValueError(f"{name}: expected one number above {least:g}, got {value.tolist()}")
        count = len(self.gas.W)
        if self.Y.shape != (count,) or abs(float(self.Y.detach().sum()) - 1) > 1e-6:
            raise ValueError(f"Y: expected {count} mass fractions that sum to 1")

    @property
    def start(self) -> torch.Tensor:
        """The first state: T, then Y; (K + 1,)."""
        return torch.cat((self.T[None], self.Y))

    def detached(self) -> "ClosedReactor":
        """The same without gradients."""
        rates = None if self.rates is None else self.rates.detached()
        return dataclasses.replace(self, T=self.T.detach(), p=self.p.detach(), Y=self.Y.detach(), rates=rates)

    def density(self, T: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Rho [kg/m^3], (...): what it was, or that of the pressure."""
        if self.hold == "volume":
            return self.gas.density(self.p, self.T, self.Y).expand(T.shape)
        return self.gas.density(self.p, T, Y)

    @property
    def _work(self) -> float:
        """What a mole of gas spends on its surroundings, over R: 1 is taken off enthalpies where it spends nothing."""
        return 1.0 if self.hold == "volume" else 0.0

    def rate(self, y: torch.Tensor, *, plain: bool = False) -> torch.Tensor:
        """dy/dt of states (..., K + 1), with gradients.

        Args:
            y: States.
            plain: In plain torch, which can be differentiated twice.
        """
        gas, T, Y = self.gas, y[..., 0], y[..., 1:]
        rho = self.density(T, Y)
        C, rates = rho.unsqueeze(-1) * Y / gas.W, self.rates or gas.rate_parameters
        made = gas_reference.production(gas.kinetics, T, C, rates) if plain else gas.production(T, C, rates)
        e = (gas.h_over_RT(T) - self._work) * (R * T).unsqueeze(-1)
        c = ((gas.cp_over_R(T) - self._work) * R / gas.W * Y).sum(-1)
        return torch.cat((-((e * made).sum(-1) / (rho * c)).unsqueeze(-1), gas.W * made / rho.unsqueeze(-1)), -1)

    def linearised(self, y: torch.Tensor, density: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """dy/dt and its exact derivative in y, (..., K + 1, K + 1), row by row; without gradients.

        Args:
            y: States (..., K + 1).
            density: Theirs (...), where they are of several reactors that differ in nothing else; None for its own.
        """
        gas, T, Y = self.gas, y[..., 0], y[..., 1:]
        with torch.no_grad():
            rho = (self.density(T, Y) if density is None else density).unsqueeze(-1)
            C = rho * Y / gas.W
            made, of_T, of_C = gas.production_jacobian(T, C, self.rates)
            cp, h, _, cp_T = gas_op.thermo(gas.kinetics, T)
            e = (h - self._work) * (R * T).unsqueeze(-1)
            heats = (cp - self._work) * R / gas.W
            c, c_T = (heats * Y).sum(-1, keepdim=True), cp_T * R / gas.W
            made_Y = of_C * (rho / gas.W).unsqueeze(-2)
            log_T, log_Y = torch.zeros_like(rho), torch.zeros_like(Y)  # derivatives of ln rho
            if self.hold == "pressure":
                log_T, log_Y = -1 / T.unsqueeze(-1), -gas.mean_W(Y).unsqueeze(-1) / gas.W
                along = (of_C @ C.unsqueeze(-1)).squeeze(-1)
                of_T, made_Y = of_T + along * log_T, made_Y + along.unsqueeze(-1) * log_Y.unsqueeze(-2)
            f_Y, f_T = gas.W * made / rho, -(e * made).sum(-1, keepdim=True) / (rho * c)
            slope = c_T * Y
            hot_T = -((heats * gas.W * made).sum(-1, keepdim=True) + (e * of_T).sum(-1, keepdim=True)) / (rho * c)
            hot_T = hot_T - f_T * (slope.sum(-1, keepdim=True) / c + log_T)
            hot_Y = -(e.unsqueeze(-2) @ made_Y).squeeze(-2) / (rho * c) - f_T * (heats / c + log_Y)
            own_T = gas.W * of_T / rho - f_Y * log_T
            own_Y = made_Y * (gas.W / rho).unsqueeze(-1) - f_Y.unsqueeze(-1) * log_Y.unsqueeze(-2)
            upper = torch.cat((hot_T, hot_Y), -1).unsqueeze(-2)
            return torch.cat((f_T, f_Y), -1), torch.cat((upper, torch.cat((own_T.unsqueeze(-1), own_Y), -1)), -2)
