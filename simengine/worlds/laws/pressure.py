"""The pressure of a fluid from positions alone, learned in one passage through the motion.

A fluid never forgets its volume: v = log J is the sum of all velocity gradients before, and those depend on the law
that is sought. The passage is that of `follow`, but it carries along the derivatives of the hidden C and v in the law's
coefficients. Every few steps the velocities missed so far correct the coefficients, and with them C and v (recursive
Gauss-Newton, an extended Kalman filter without process noise). The law is thus good at every volume that has occurred
before the motion goes on to others, and nothing is ever followed with a law far from the true one.

What is not seen is held by the expectation that the stress is smooth in v: a curvature of the order of the modulus.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from simengine.fit.training import AbstractTraining
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel
from simengine.worlds.motion.momentum_balance import Balance, Motion, Transfers, fit_energy, rounding_of_velocities

VOLUME_STRAINS = (-4.0, 1.0)  # log J over which the units of a fluid are spread: compressed to 1/55, stretched to 2.7
SMOOTH_RIDGE = 1e-13  # of scaled normal equations, float64, where smoothness is expected
LEAST_COLUMN = 1e-12  # what is not seen is held by the expectation; only the shear of a fluid counts as absent


def spread_over_volumes(law: EnergyNetwork, low: float = VOLUME_STRAINS[0], high: float = VOLUME_STRAINS[1]) -> None:
    """Make an energy one of the volume only, its units spread evenly over volume strains from low to high [1].

    The units whose weights may have either sign, or all where there are none; the others get no weight.
    """
    law.drop_shear()
    used = volume_units(law)
    kinks = torch.linspace(low, high, len(used), dtype=torch.float64)
    sharpness = (len(used) - 1) / (high - low)
    with torch.no_grad():
        law.raw_weights.zero_()
        law.directions.zero_()
        law.directions[used, 0] = float(law.strain_scale) * sharpness
        law.offsets[used] = (-sharpness * kinks).to(law.offsets)


def volume_units(law: EnergyNetwork) -> torch.Tensor:
    """Numbers of the units that make a fluid's energy."""
    return torch.nonzero(law.free if bool(law.free.any()) else torch.ones_like(law.free))[:, 0]


class _Pressure:
    """tau = t(v) I of a law and its derivatives in kappa and the weights of its units, float64.

    Args:
        law: An energy of the volume only.
    """

    def __init__(self, law: EnergyNetwork) -> None:
        self.law, self.a, self.modulus = law, float(law.strain_scale), float(law.modulus)
        units = volume_units(law)
        self.places = torch.cat((torch.tensor([1]), 2 + units.cpu()))  # among (mu, kappa, w)
        self.slopes = law.directions.detach()[units, 0].double().cpu()
        self.offsets = law.offsets.detach()[units].double().cpu()

    def __len__(self) -> int:
        return len(self.places)

    def coefficients(self) -> torch.Tensor:
        """Coefficients: kappa and weights [1], shape (k,)."""
        return self.law.linear()[self.places]

    def columns(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of t [Pa] in the coefficients, and theirs in v; v (n,), both (n, k)."""
        t = (v[:, None] / self.a * self.slopes + self.offsets).requires_grad_()
        with torch.enable_grad():
            slope = self.law.unit_slope(t)
            (curvature,) = torch.autograd.grad(slope.sum(), t)
        slope = slope.detach()
        rise = self.a * (slope - self.law.unit_slope(self.offsets)) * self.slopes
        return (
            self.modulus * torch.cat((v[:, None], rise), dim=1),
            self.modulus * torch.cat((torch.ones_like(v)[:, None], curvature * self.slopes.square()), dim=1),
        )

    def among_all(self, own: torch.Tensor) -> torch.Tensor:
        """A matrix (k, k) or vector (k,) of these coefficients as one of all (mu, kappa, w), zeros elsewhere."""
        whole = torch.zeros((2 + len(self.law.offsets),) * own.ndim, dtype=torch.float64)
        whole[torch.meshgrid(*[self.places] * own.ndim, indexing="ij")] = own
        return whole


def expected_smoothness(law: EnergyNetwork, noise: float) -> Balance:
    """What is thought of a fluid before anything is seen: int (t''/M)^2 dv is of order one.

    Args:
        law: An energy of the volume only.
        noise: Mean square error [m^2/s^2] of the velocities whose balance this is to be added to.
    """
    low, high = VOLUME_STRAINS
    pressure = _Pressure(law)
    v = torch.linspace(low, high, 401, dtype=torch.float64)
    bends = torch.gradient(pressure.columns(v)[1] / pressure.modulus, spacing=(v,), dim=0)[0]
    # what has no curvature is held by its own size, a thousand
    precision = bends.T @ bends * float(v[1] - v[0]) + 1e-6 * torch.eye(len(pressure), dtype=torch.float64)
    matrix = noise * pressure.among_all(precision)
    return Balance(matrix, torch.zeros(len(matrix), dtype=torch.float64), 0.0, 0)


class PressureTraining(AbstractTraining):
    """Learns the energy of a fluid; each iteration is a stretch of a motion. `loss` is the mean square velocity missed.

    Args:
        model: Its one material holds an `EnergyNetwork` and a `YieldNetwork`. Where that flow is not a fluid's there is
            nothing to do: the training has converged.
        motions: What was observed: nothing but `x` and `v[0]` is read.
        stretch: Steps of an iteration.
        every: Steps between corrections of the law.
        passes: Through the motions, at most; one that misses no more than the rounding of the positions is the last.

    Raises:
        ValueError: The grid has other walls than slip walls, or there are bodies: contact with them is not derived.
    """

    def __init__(
        self, model: MPMModel, motions: Sequence[Motion], *, stretch: int = 50, every: int = 5, passes: int = 2
    ) -> None:
        if set(model.walls.kinds.values()) != {"slip"} or model.bodies:
            raise ValueError("model: a fluid is learned from positions between slip walls only, without bodies")
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, YieldNetwork):
            raise TypeError(f"model: expected an EnergyNetwork and a YieldNetwork, got {energy} and {flow}")
        self.model: MPMModel = model
        self.motions: list[Motion] = list(motions)
        self.energy: EnergyNetwork = energy
        self.flow: YieldNetwork = flow
        self.stretch: int = stretch
        self.every: int = every
        self._parts = [(m, start) for m in range(len(motions)) for start in range(0, len(motions[m]), stretch)]
        self.num_iterations: int = passes * len(self._parts)
        self.iteration: int = 0
        self.missed: float = 0.0
        self.noise: float = rounding_of_velocities(motions[0], model.grid.dt)
        self._state = dict[str, torch.Tensor]()

    @property
    def converged(self) -> bool:
        """Whether the material is no fluid, or a whole pass has missed no more than the positions' rounding."""
        over = self.iteration > 0 and self.iteration % len(self._parts) == 0
        return not self.flow.fluid or (over and self.missed <= len(self._parts) * self.noise)

    def step(self) -> dict[str, float]:
        """Follow a stretch, correcting the law on the way."""
        place = self.iteration % len(self._parts)
        if self.iteration == 0:
            spread_over_volumes(self.energy)
        pressure = _Pressure(self.energy)
        if place == 0:
            size, self.missed = len(pressure), 0.0
            self._state["G"], self._state["g"] = torch.zeros(size, size).double(), torch.zeros(size).double()
        number, start = self._parts[place]
        motion = self.motions[number]
        if start == 0:
            n, size = motion.x.shape[1], len(pressure)
            # each a value, then its derivatives in the coefficients
            self._state["C"] = torch.zeros(n, 3, 3, 1 + size, dtype=torch.float64)
            self._state["v"] = torch.zeros(n, 1 + size, dtype=torch.float64)
        end = min(start + self.stretch, len(motion))
        total = sum(self._follow(pressure, motion, k) for k in range(start, end))
        self.missed += total / (end - start)
        self.iteration += 1
        return {"loss": total / (end - start), "part": (place + 1) / len(self._parts)}

    def _follow(self, pressure: _Pressure, motion: Motion, k: int) -> float:
        """One step, and the mean square velocity it misses [m^2/s^2]."""
        grid, s = self.model.grid, self._state
        dt, scale = grid.dt, 4 / grid.dx**2
        places = motion.x[max(k - 1, 0) : k + 2].cpu().double()
        moves = (places[1:] - places[:-1]) / dt
        before, after = (motion.v[0].cpu().double() if k == 0 else moves[0]), moves[-1]
        at = Transfers(self.model, motion.x[k].cpu().double())
        columns, bends = pressure.columns(s["v"][:, 0])
        coefficients = pressure.coefficients()
        n, size = columns.shape
        # value and derivatives together: to the grid,
        tau = (bends @ coefficients)[:, None] * s["v"]
        tau[:, 0] = columns @ coefficients
        tau[:, 1:] += columns
        spread = at.mass[..., None, None] * s["C"]
        spread.diagonal(dim1=1, dim2=2).sub_((dt * scale * at.volume * tau)[..., None])
        sides = [spread[:, :, a].reshape(n, -1).numpy() for a in range(3)]
        nodal = sum(arms @ side for arms, side in zip(at.spread_arms, sides, strict=True)) / at.nodal_mass
        nodal = nodal.reshape(len(at.nodes), 3, 1 + size)
        nodal[..., 0] += at.gather.T @ (at.mass * before).numpy() / at.nodal_mass + np.array(grid.gravity) * dt
        # against the walls,
        low, high = grid.thickness, np.array(grid.size) - grid.thickness
        stopped = ((at.nodes < low) & (nodal[..., 0] < 0)) | ((at.nodes > high) & (nodal[..., 0] > 0))
        nodal[stopped] = 0.0
        # and back
        nodal = nodal.reshape(len(at.nodes), -1)
        u = torch.from_numpy(at.gather @ nodal).view(n, 3, 1 + size)
        C = [torch.from_numpy(arms.T @ nodal).view(n, 3, 1 + size) for arms in at.spread_arms]
        s["C"] = scale * torch.stack(C, dim=2)
        growth = torch.eye(3, dtype=torch.float64) + dt * s["C"][..., 0]
        rates = dt * torch.einsum("nab,nbak->nk", torch.linalg.inv(growth), s["C"])
        rates[:, 0] = torch.linalg.det(growth).log()
        s["v"] = s["v"] + rates
        left, rows = (after - u[..., 0]).flatten(), u[..., 1:].reshape(3 * n, size)
        s["G"], s["g"] = s["G"] + rows.T @ rows, s["g"] + rows.T @ left
        if (k + 1) % self.every == 0 or k + 1 == len(motion):
            self._correct(pressure, coefficients)
        return float(left.square().mean())

    def _correct(self, pressure: _Pressure, coefficients: torch.Tensor) -> None:
        """Gauss-Newton for the coefficients, within their bounds; C, v and the slope g follow linearly."""
        s, around = self._state, self.energy.linear()
        matrix = pressure.among_all(s["G"])
        seen = Balance(matrix, matrix @ around + pressure.among_all(s["g"]), 1.0, 1)
        fit_energy(
            self.energy,
            seen + expected_smoothness(self.energy, self.noise),
            ridge=SMOOTH_RIDGE,
            around=around,
            least_column=LEAST_COLUMN,
        )
        change = pressure.coefficients() - coefficients
        s["g"] = s["g"] - s["G"] @ change
        for name in ("C", "v"):
            s[name][..., 0] += s[name][..., 1:] @ change

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The law, what has been seen, and the hidden state with its derivatives."""
        laws = {f"energy.{name}": value.clone() for name, value in self.energy.state_dict().items()}
        flow = {f"flow.{name}": value.clone() for name, value in self.flow.state_dict().items()}
        place = torch.tensor([self.iteration, self.missed], dtype=torch.float64)
        return {**laws, **flow, **{k: v.clone() for k, v in self._state.items()}, "place": place}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        iteration, self.missed = state["place"].tolist()
        self.iteration = int(iteration)
        for prefix, law in (("energy.", self.energy), ("flow.", self.flow)):
            law.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._state = {name: state[name] for name in ("G", "g", "C", "v") if name in state}
