"""Freely propagating premixed flame with simplified physics: one reaction, constant properties, momentum included.

    rho_in sL cp T' = (lam T')' + omega qF,    omega = A exp(-Ea/(R T)) (rho Y_F)^1.6,
    Y_F = Y_F,in + cp (T_in - T)/qF,  rho = rho_in sL/u,  u = (c - sqrt(c^2 - 4 Rg T))/2,  c = sL + Rg T_in/sL

(mass and momentum integrated; Rg = R/W). Case 1 of J. Wu et al., "FlamePINN-1D", arXiv 2406.09071. The translation is
fixed by the temperature gradient at x = 0, so the flame speed sL is the eigenvalue.
"""

import dataclasses
from typing import Any, Literal

import torch

from simengine.flame.equations.base import AbstractFlame

R = 8.3145  # J/(mol K), the rounded value of the case's definition


def _tensor(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimplifiedFlame(AbstractFlame):
    """Case 1. Every field is a float64 tensor of shape () or (b,), numbers are converted.

    Attributes:
        lam: Thermal conductivity [W/(m K)].
        cp: Specific heat [J/(kg K)].
        qF: Heat of combustion [J/kg of fuel].
        A: Pre-exponential factor [SI, order 1.6 in rho Y_F].
        Ea: Activation energy [J/mol].
        W: Molar mass of the gas [kg/mol].
        phi: Equivalence ratio; Y_F,in = phi/(phi + 4).
        p: Pressure at the inlet [Pa].
        T_in: Inlet temperature [K].
        gradient: T'(0) [K/m], which fixes where the flame is.
    """

    lam: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(2.6e-2))
    cp: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(1000.0))
    qF: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(5e7))
    A: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(1.4e8))
    Ea: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(1.214172e5))
    W: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(28.97e-3))
    phi: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(0.42))
    p: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(101325.0))
    T_in: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(298.0))
    gradient: torch.Tensor = dataclasses.field(default_factory=lambda: _tensor(1e5))

    fields = ("T",)
    order: tuple[Literal[0, 1, 2], ...] = dataclasses.field(default=(2,), init=False)
    anchor_end: Literal["left", "right", "origin"] = dataclasses.field(default="left", init=False)

    def __post_init__(self) -> None:
        for name in PARAMETERS:
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            object.__setattr__(self, name, value)
            if value.dim() > 1 or not bool((value.detach() > 0).all()):
                raise ValueError(f"{name}: expected positive numbers of shape () or (b,), got {value.tolist()}")
        sizes = {v.numel() for v in self.parameters().values() if v.dim() == 1} - {1}
        if len(sizes) > 1:
            raise ValueError(f"parameters of shape (b,) must agree in b, got sizes {sorted(sizes)}")

    @property
    def batch(self) -> int:
        """Number of conditions b."""
        return max(value.numel() for value in self.parameters().values())

    def parameters(self) -> dict[str, torch.Tensor]:
        """The ten physical parameters."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def replace(self, **parameters: torch.Tensor) -> "SimplifiedFlame":
        """The same flame with some parameters replaced."""
        if unknown := set(parameters) - set(PARAMETERS):
            raise ValueError(
                f"{', '.join(sorted(unknown))}: no parameter of this flame; known: {', '.join(PARAMETERS)}"
            )
        changed: dict[str, Any] = dict(parameters)
        return dataclasses.replace(self, **changed)

    def _all(self) -> dict[str, torch.Tensor]:
        """Parameters shaped to broadcast against one field, (b, K, n)."""
        return {name: value.reshape(-1, 1, 1) for name, value in self.parameters().items()}

    @property
    def rho_in(self) -> torch.Tensor:
        """Density at the inlet [kg/m^3]."""
        return self.p * self.W / (R * self.T_in)

    @property
    def Y_in(self) -> torch.Tensor:
        """Mass fraction of fuel at the inlet."""
        return self.phi / (self.phi + 4)

    @property
    def T_max(self) -> torch.Tensor:
        """Temperature after complete combustion [K]."""
        return self.T_in + self.qF * self.Y_in / self.cp

    def velocity(self, T: torch.Tensor, sL: torch.Tensor) -> torch.Tensor:
        """U [m/s] from mass and momentum, for T of shape (b, K, n) and sL broadcastable to it."""
        q = self._all()
        gas = R / q["W"]
        c = sL + gas * q["T_in"] / sL
        return 2 * gas * T / (c + (c * c - 4 * gas * T).sqrt())  # the smaller root, without cancellation

    def rate(self, T: torch.Tensor, sL: torch.Tensor) -> torch.Tensor:
        """Omega [kg/(m^3 s)]; 0 where the fuel is used up."""
        q = self._all()
        fuel = self.Y_in.reshape(-1, 1, 1) + q["cp"] * (q["T_in"] - T) / q["qF"]
        density = self.rho_in.reshape(-1, 1, 1) * sL / self.velocity(T, sL)
        return q["A"] * torch.exp(-q["Ea"] / (R * T)) * (density * fuel).clamp_min(0.0) ** 1.6

    def flux(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Lam T'."""
        return self.lam.reshape(-1, 1, 1, 1) * dy

    def source(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Omega qF - rho_in sL cp T'."""
        q, T, sL = self._all(), y[..., 0], z[..., 0]
        convection = self.rho_in.reshape(-1, 1, 1) * sL * q["cp"] * dy[..., 0]
        return (self.rate(T, sL) * q["qF"] - convection).unsqueeze(-1)

    def local_jacobian(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Written out."""
        q, T, slope, sL = self._all(), y[..., 0], dy[..., 0], z[..., 0]
        with torch.no_grad():
            gas, rho = R / q["W"], self.rho_in.reshape(-1, 1, 1)
            c = sL + gas * q["T_in"] / sL
            root = (c * c - 4 * gas * T).sqrt()
            u = 2 * gas * T / (c + root)
            u_T, u_s = gas / root, -u * (1 - gas * q["T_in"] / (sL * sL)) / root
            fuel = self.Y_in.reshape(-1, 1, 1) + q["cp"] * (q["T_in"] - T) / q["qF"]
            density = rho * sL / u
            partial = (density * fuel).clamp_min(0.0)
            power = q["A"] * torch.exp(-q["Ea"] / (R * T)) * partial**0.6
            rate = power * partial
            # of partial = rho sL fuel/u; 0 with it where the fuel is used up
            rate_T = rate * q["Ea"] / (R * T * T) - 1.6 * power * density * (q["cp"] / q["qF"] + fuel * u_T / u)
            rate_s = 1.6 * power * density * fuel * (1 / sL - u_s / u)
            carried = rho * q["cp"] * sL
            zero, lam = torch.zeros_like(T), q["lam"].expand_as(T)
            values = torch.stack((lam * slope, rate * q["qF"] - carried * slope), dim=-1)
            flux = torch.stack((zero, lam, zero), dim=-1)
            source = torch.stack((rate_T * q["qF"], -carried, rate_s * q["qF"] - rho * q["cp"] * slope), dim=-1)
            return values, torch.stack((flux, source), dim=-2)

    def left(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """T = T_in."""
        return y - self.T_in.reshape(-1, 1, 1, 1)

    def right(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """T' = 0, far enough behind the flame that it does not matter to it."""
        return dy

    def anchor(self, y: torch.Tensor, dy: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """T' is given."""
        return dy - self.gradient.reshape(-1, 1, 1, 1)

    def inertia(self, y: torch.Tensor) -> torch.Tensor:
        """Rho cp at the inlet."""
        return (self.rho_in * self.cp).reshape(-1, 1, 1, 1).expand_as(y)

    def drift(self, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """rho_in sL cp/lam [1/m]."""
        return (self.rho_in * self.cp / self.lam).reshape(-1, 1, 1) * z[..., 0]

    def figures(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """The flame speed [m/s]."""
        return {"flame_speed": z}

    def profiles(self, y: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        """T [K], u [m/s], rho [kg/m^3], Y_F, omega [kg/(m^3 s)] and the heat release [W/m^3]."""
        T, sL = y.permute(0, 2, 1), z[:, None, None]  # (b, 1, q): one piece of q points
        u = self.velocity(T, sL)
        fuel = self.Y_in.reshape(-1, 1, 1) + (self.cp / self.qF).reshape(-1, 1, 1) * (self.T_in.reshape(-1, 1, 1) - T)
        density = self.rho_in.reshape(-1, 1, 1) * sL / u
        rate = self.rate(T, sL)
        heat = rate * self.qF.reshape(-1, 1, 1)
        named = {"T": T, "u": u, "rho": density, "Y_F": fuel, "omega": rate, "heat": heat}
        return {name: value[:, 0] for name, value in named.items()}

    def _first_speed(self) -> torch.Tensor:
        """First guess of sL [m/s], (b,): twice that of Zeldovich and Frank-Kamenetskii, as thin flames grow easily."""
        with torch.no_grad():
            rise = self.T_max - self.T_in
            share = torch.linspace(0, 1, 101, dtype=torch.float64)
            T = self.T_in.reshape(-1, 1, 1) + rise.reshape(-1, 1, 1) * share
            heat = torch.trapezoid(self.rate(T, torch.full_like(T[..., :1], 0.4)), T)[:, 0] * self.qF
            speed = 2 * (2 * self.lam * heat).sqrt() / (self.rho_in * self.cp * rise)
            return speed.clamp(1e-2, 10.0).expand(self.batch)

    def _thickness(self) -> torch.Tensor:
        return (self.lam / (self.rho_in * self._first_speed() * self.cp)).detach()

    def edges(self) -> torch.Tensor:
        """The inlet, the flame, and its slow tail: 0 to 133 thicknesses of a flame of the first guess."""
        unit = torch.tensor([0, 2.5, 3.75, 5, 6, 7, 9, 11, 14, 19, 29, 50, 100], dtype=torch.float64)
        unit = unit * 4 / 3
        return unit * self._thickness().expand(self.batch)[:, None]

    def guess(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A heated layer of the given gradient that levels off at T_max."""
        thickness = self._thickness().expand(self.batch)[:, None, None]
        rise = (self.T_max - self.T_in).detach().reshape(-1, 1, 1)
        q = self.gradient.detach().reshape(-1, 1, 1) * thickness / rise * torch.expm1((x / thickness).clamp_max(50.0))
        T = self.T_in.detach().reshape(-1, 1, 1) + rise * q / (1 + q)
        return T.unsqueeze(-1), self._first_speed()

    def limits(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """T in (T_in/2, T_max + 200 K), sL in (1 mm/s, 20 m/s)."""
        T_in, T_max = (v.detach().expand(self.batch) for v in (self.T_in, self.T_max))
        one = torch.ones_like(T_in)
        return (
            torch.stack((T_max, one), dim=1),
            torch.stack((T_in / 2, 1e-3 * one), dim=1),
            torch.stack((T_max + 200.0, 20 * one), dim=1),
        )


PARAMETERS = ("lam", "cp", "qF", "A", "Ea", "W", "phi", "p", "T_in", "gradient")
