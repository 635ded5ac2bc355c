"""Training of a law by rounds of momentum balance, from states or from positions alone."""

import functools
import math
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from simengine.fit.training import AbstractTraining
from simengine.materials import Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, SimulationError
from simengine.worlds.laws.pressure import LEAST_COLUMN, SMOOTH_RIDGE, expected_smoothness, spread_over_volumes
from simengine.worlds.motion.momentum_balance import (
    Balance,
    Motion,
    fit_energy,
    fit_yield,
    follow,
    momentum_balance,
    rounding_of_velocities,
    trial_deformations,
)

# Rounds of a training from positions: part of the motion, and regularisation. The hidden F is least certain late in the
# motion and with a poor law, so both grow with the law's quality; the last entry repeats.
ROUNDS = ((0.3, 1e-3), (0.3, 1e-4), (0.5, 1e-5), (0.7, 1e-6), (1.0, 1e-7))
FIRST_RIDGE, LARGEST_RIDGE = 1e-3, 1.0
FLOAT32_STEP = 1e-3  # of differences of residuals in float32: truncation 1e-3, rounding 1e-7 / 1e-3
STATES_RIDGE = 1e-9  # the states are known to rounding


class Stressless(nn.Module):
    """No stress: what is known of a law before the first round."""

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """Zeros (n, 3, 3) [Pa]."""
        return torch.zeros_like(F)


class BalanceTraining(AbstractTraining):
    """Fits the linear part of an energy (and a yield surface) to the momentum balance; no rollout, no gradient.

    From states one round is a convex problem. From positions each round follows the motions with the law of the round
    before, which gives the hidden C and F, and solves for the law that balances momentum along them.

    Args:
        model: Its one material holds the laws that learn, `EnergyNetwork` and `YieldNetwork` or `Identity`.
        motions: What was observed. Where `positions_only`, nothing but `x` and `v[0]` is read.
        positions_only: Whether C and F are hidden.
        num_iterations: Rounds.
        frames: Steps of each motion whose balance is used in a round.
        laws_known: Whether the laws are good already (`FlowSearch`). A round then starts from them, is drawn to them,
            and its result is kept only where it lowers the velocities missed; by that the regularisation follows, as in
            Levenberg-Marquardt. A fluid's law leaves nothing to do (`PressureTraining`).
    """

    def __init__(
        self,
        model: MPMModel,
        motions: Sequence[Motion],
        *,
        positions_only: bool,
        num_iterations: int,
        frames: int,
        laws_known: bool = False,
    ) -> None:
        self.model: MPMModel = model
        self.motions: list[Motion] = list(motions)
        self.positions_only: bool = positions_only
        self.num_iterations = num_iterations
        self.frames: int = frames
        self.laws_known: bool = laws_known
        self.iteration: int = 0
        self.best: float = math.inf
        self.ridge: float = FIRST_RIDGE
        self._followed = list[Motion]()  # the motions that the laws give
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, nn.Module):
            raise TypeError(f"model: expected an EnergyNetwork to fit, got {type(energy).__name__}")
        self.energy: EnergyNetwork = energy
        self.flow: nn.Module = flow

    @property
    def converged(self) -> bool:
        """Whether its rounds are over, or laws that were known miss no more than the positions' rounding."""
        if self.iteration >= self.num_iterations:
            return True
        floor = rounding_of_velocities(self.motions[0], self.model.grid.dt)
        return self.best <= floor or self.ridge >= LARGEST_RIDGE or (self.laws_known and self._fluid)

    def step(self) -> dict[str, float]:
        """One round; `loss` is the part of the squared velocity changes that is left unexplained.

        Where the laws are known, it is the mean square of the velocity missed [m^2/s^2].
        """
        part, ridge = ROUNDS[min(self.iteration, len(ROUNDS) - 1)]
        if not self.positions_only and isinstance(self.flow, YieldNetwork):
            self._fit_yield(self.flow)
        if not self.positions_only:
            part, loss = 1.0, self._balance_states()
        elif self.laws_known:
            part, loss = 1.0, self._improve()
        else:
            model = with_material(self.model, Material(Stressless(), self.flow)) if self.iteration == 0 else self.model
            loss = self._balance(self._follow(model, part)[0], ridge=ridge)
        self.iteration += 1
        return {"loss": loss, "part": part}

    def _balance_states(self) -> float:
        if not self._fluid:
            return self._balance(self.motions, ridge=STATES_RIDGE)
        spread_over_volumes(self.energy)
        v = self.motions[0].v
        rounding = float(v.double().square().mean()) * torch.finfo(v.dtype).eps ** 2
        balance = self._normal_equations(self.motions) + expected_smoothness(self.energy, rounding)
        return fit_energy(self.energy, balance, ridge=SMOOTH_RIDGE, least_column=LEAST_COLUMN)

    @property
    def _fluid(self) -> bool:
        """Whether the flow leaves no shear."""
        return isinstance(self.flow, YieldNetwork) and self.flow.fluid

    def _improve(self) -> float:
        """A round that is kept if it misses less of the velocities; what is missed then."""
        around = self.energy.linear()
        if not self._followed:
            self._followed, self.best = self._follow(self.model, 1.0)
            if self.converged:
                return self.best
        kept = laws_state(self.model)
        self._balance(self._followed, ridge=self.ridge, around=around)
        found, loss = self._follow(self.model, 1.0)
        if loss < self.best:
            self.best = loss
            self._followed = found
            self.ridge = self.ridge / 10
        else:
            load_laws(self.model, kept)
            self.ridge = min(10 * self.ridge, LARGEST_RIDGE)
        return self.best

    def _follow(self, model: MPMModel, part: float) -> tuple[list[Motion], float]:
        """The hidden part of the first steps of the motions, and the mean square of the velocities missed."""
        seen, missed = [], 0.0
        for motion in self.motions:
            steps = max(2, round(part * len(motion)))
            try:
                found, left = follow(model, motion.x[: steps + 1], motion.v[0])
            except SimulationError:  # a law that no motion can bear
                return [], math.inf
            seen.append(found)
            missed += float(left.double().square().mean()) / len(self.motions)
        return seen, missed

    def _normal_equations(self, seen: Sequence[Motion]) -> Balance:
        balances = []
        for motion in seen:
            numbers = range(0, len(motion), max(1, len(motion) // self.frames))
            balances.append(momentum_balance(self.model, self.energy, motion, numbers))
        return functools.reduce(operator.add, balances)

    def _balance(self, seen: Sequence[Motion], *, ridge: float, around: torch.Tensor | float = 0.0) -> float:
        return fit_energy(self.energy, self._normal_equations(seen), ridge=ridge, around=around)

    def _fit_yield(self, flow: YieldNetwork) -> None:
        trials, settled = [], []
        for motion in self.motions:
            chosen = slice(0, None, max(1, len(motion) // 100))
            trials.append(trial_deformations(motion, self.model.grid.dt)[chosen].flatten(0, 1))
            settled.append(motion.F[1:][chosen].flatten(0, 1))
        fit_yield(flow, torch.cat(trials), torch.cat(settled))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The laws, those to return to, and the number of the round."""
        place = torch.tensor([self.iteration, self.ridge], dtype=torch.float64)
        return {**laws_state(self.model), "place": place}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        iteration, self.ridge = state["place"].tolist()
        self.iteration = int(iteration)
        self._followed = []  # followed again by the next step
        load_laws(self.model, state)


def laws_state(model: MPMModel) -> dict[str, torch.Tensor]:
    """A copy of all tensors of a model's materials."""
    return {f"laws.{name}": value.clone() for name, value in model.materials.state_dict().items()}


def load_laws(model: MPMModel, state: Mapping[str, torch.Tensor]) -> None:
    """Set what `laws_state` returned."""
    prefix = "laws."
    model.materials.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def with_material(model: MPMModel, *materials: Material) -> MPMModel:
    """A model like another, of other materials: one for all particles, or one in place of each."""
    return MPMModel(
        num_grids=model.grid.size,
        dt=model.grid.dt,
        materials=materials,
        volume=model.volume,
        mass=model.mass,
        material_ids=model.material_ids if len(materials) > 1 else None,
        length=model.grid.dx * model.grid.size[0],
        gravity=model.grid.gravity,
        boundaries=list(model.boundaries),
        epsilon=model.grid.epsilon,
    )
