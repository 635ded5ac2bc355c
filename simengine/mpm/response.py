"""What a particle answers to a displacement around it: twelve forces to twelve displacements, and their derivative.

A particle sees of the nodes' displacements u its own, d = sum_i w_i u_i, and their gradient, G = sum_i u_i g_i with
g_i = 4 / h^2 w_i (x_i - x_p) (MLS-MPM, Hu et al. 2018). Its deformation becomes (I + G) F, and it answers with a force
f and S = V tau (I + G)^-T, so that the virtual work is f . dd + S : dG. Laws, return maps and hard contact are those of
the explicit step; their derivatives come from twelve backward passes, exact for a law of one's own too.

Against locking the volume is that of a cell (F-bar: de Souza Neto et al. 1996): tau is taken at F (Jbar / J)^(1/3), and
virtual work makes its pressure the cell's, tau_eff = dev tau + pbar J / Jbar, with Jbar and pbar means over the volume
at rest of the particles that share their nodes.
"""

import dataclasses
import math

import torch

from simengine.kernels.matter.hard_contact import GRIP
from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops.matter import dissipation_reference, hard_contact_reference, loads_reference


@dataclasses.dataclass(frozen=True)
class Tangent:
    """Derivatives of `Response`, of (force, mean volume, mean pressure) in (motion, Jbar, pbar).

    Attributes:
        motion: Of s in y, (n, 12, 12), both as (3, 4) flattened.
        by_volume: Of s in Jbar, (n, 12).
        by_pressure: Of s in pbar, (n, 12).
        volume: Of J in y, (n, 12).
        pressure: Of p in y, (n, 12).
        pressure_by_volume: Of p in Jbar, (n,).
    """

    motion: torch.Tensor
    by_volume: torch.Tensor | None = None
    by_pressure: torch.Tensor | None = None
    volume: torch.Tensor | None = None
    pressure: torch.Tensor | None = None
    pressure_by_volume: torch.Tensor | None = None


class Response:
    """The particles of a state that are moved on.

    Args:
        model: Laws, bodies, masses.
        state: From which they move.
        number: Of the step at whose beginning rigid bodies are.
        span: Time that the increment takes [s], 0 for a state of rest.
        share: Of gravity and loads that acts.
        mean: Number of the cell of each particle whose mean volume counts, (n,); None for its own.
        relaxed: Whether branches have relaxed, and there is no viscosity.
    """

    def __init__(
        self,
        model: MPMModel,
        state: MPMState,
        *,
        number: float = 0,
        span: float = 0.0,
        share: float = 1.0,
        mean: torch.Tensor | None = None,
        relaxed: bool = True,
    ) -> None:
        self.model: MPMModel = model
        self.state: MPMState = state
        self.mean: torch.Tensor | None = mean
        self.span: float = span
        self.mass, self.volume = model.body(state.x)
        table = model.table(state.x, number, since=span / model.grid.dt, ahead=math.ceil(number) - number)
        gravity = torch.tensor(model.grid.gravity, dtype=state.x.dtype) + table[0, 0, 6:9]
        self.weight: torch.Tensor = share * self.mass[:, None] * gravity
        self.part: torch.Tensor | None = model.loaded(state.x)
        self.load: torch.Tensor = share * table[0]
        self.stiffness: torch.Tensor = model.stiffness(state.x)
        turns = torch.ones(table.shape[-1], dtype=table.dtype)
        turns[12:18] = span  # velocities of bodies become displacements
        self.table: torch.Tensor = table * turns
        self.losses: torch.Tensor | None = (
            model.losses(len(state.x), span=span) if model.dissipates and not relaxed else None
        )

    def average(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of the cell of each particle, weighed with the volume at rest, (n,)."""
        assert self.mean is not None
        count = int(self.mean.max()) + 1
        whole = torch.zeros(count, dtype=value.dtype).index_add(0, self.mean, self.volume)
        return (torch.zeros_like(whole).index_add(0, self.mean, self.volume * value) / whole)[self.mean]

    def forces(self, y: torch.Tensor) -> torch.Tensor:
        """What the particles answer to y = (d, G), (n, 3, 4), as its conjugate (f, S), (n, 3, 4)."""
        if self.mean is None:
            return self._answer(y, None, None)[0]
        bar = self.average(torch.linalg.det(self._deformed(y)))
        pressure = self.average(self._answer(y, bar, bar)[2])
        return self._answer(y, bar, pressure)[0]

    def tangent(self, y: torch.Tensor) -> Tangent:
        """The derivative of `forces` there, particle by particle."""
        y = y.detach().requires_grad_()
        if self.mean is None:
            s = self._answer(y, None, None)[0]
            rows = [torch.autograd.grad(s.flatten(1)[:, k].sum(), y, retain_graph=True)[0] for k in range(12)]
            return Tangent(torch.stack(rows, 1).flatten(2))
        with torch.no_grad():
            bar = self.average(torch.linalg.det(self._deformed(y)))
            pressure = self.average(self._answer(y, bar, bar)[2])
        bar, pressure = bar.requires_grad_(), pressure.requires_grad_()
        s, J, p = self._answer(y, bar, pressure)
        inputs = (y, bar, pressure)
        found = [torch.autograd.grad(s.flatten(1)[:, k].sum(), inputs, retain_graph=True) for k in range(12)]
        p_y, p_bar = torch.autograd.grad(p.sum(), (y, bar), retain_graph=True)
        return Tangent(
            torch.stack([row[0] for row in found], 1).flatten(2),
            torch.stack([row[1] for row in found], 1),
            torch.stack([row[2] for row in found], 1),
            torch.autograd.grad(J.sum(), y)[0].flatten(1),
            p_y.flatten(1),
            p_bar,
        )

    def moved(self, y: torch.Tensor) -> MPMState:
        """The state after the increment, at rest."""
        state, d, G = self.state, y[..., 0], y[..., 1:]
        F, q = self.model.return_map(self._deformed(y), state.q)
        A = state.A
        if A.shape[1]:
            tau = self.model.stress(F, q)
            if self.losses is not None and self.span > 0:
                A = dissipation_reference.dissipation(tau, F, torch.zeros_like(G), A, self.losses)[1]
            elif self.losses is None:
                inverse = torch.linalg.inv(F)
                A = (inverse @ tau @ inverse.mT)[:, None].expand_as(A)
        return MPMState(state.x + d, torch.zeros_like(d), torch.zeros_like(G), F, q, A)

    def kept(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Deformation (n, 3, 3) with the volume of its cell and stress (n, 3, 3) [Pa], as they balance in the state."""
        J = torch.linalg.det(self.state.F)
        bar = self.average(J)
        F = self.state.F * (bar / J).pow(1 / 3)[:, None, None]
        tau = self.model.stress(F, self.state.q)
        p = tau.diagonal(dim1=1, dim2=2).sum(1) / 3
        return F, tau + (self.average(p) * J / bar - p)[:, None, None] * torch.eye(3).to(F)

    def _deformed(self, y: torch.Tensor) -> torch.Tensor:
        return (torch.eye(3).to(y) + y[..., 1:]) @ self.state.F

    def _answer(
        self, y: torch.Tensor, bar: torch.Tensor | None, pressure: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Force (n, 3, 4), volume ratio (n,) and mean stress (n,) [Pa]."""
        model, state, eye = self.model, self.state, torch.eye(3).to(y)
        d, G = y[..., 0], y[..., 1:]
        F, q = self._deformed(y), state.q
        J = torch.linalg.det(F)
        back = torch.linalg.inv(eye + G)
        if bar is not None:
            F = F * (bar / J).pow(1 / 3)[:, None, None]
        F, q = model.return_map(F, q)
        tau = model.stress(F, q)
        p = tau.diagonal(dim1=1, dim2=2).sum(1) / 3
        if bar is not None and pressure is not None:
            tau = tau + (pressure * J / bar - p)[:, None, None] * eye
        if self.losses is not None:
            rate = G @ back / self.span if self.span > 0 else torch.zeros_like(G)
            tau = dissipation_reference.dissipation(tau, F, rate, state.A, self.losses)[0]
        force = self.weight
        if model.is_hard:
            push, arm = hard_contact_reference.pushes(
                state.x + d,
                d,
                G @ back,
                F,
                tau,
                mass=self.stiffness * model.grid.dt / GRIP,  # what slips is held by the spring's stiffness
                volume=self.volume,
                stiffness=self.stiffness,
                table=self.table,
                grid=model.grid,
            )
            force = force + push.sum(0)
            tau = tau - torch.einsum("bpi,bpj->pij", push, arm) / self.volume[:, None, None]
        if self.part is not None:
            push, moment = loads_reference.load_pushes(self._deformed(y), self.volume, self.part, self.load)
            force, tau = force + push, tau - moment
        S = self.volume[:, None, None] * tau @ back.mT
        return torch.cat((-force[..., None], S), -1), J, p
