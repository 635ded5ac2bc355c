"""Training of a law by rounds of momentum balance, from states or from positions alone."""

import functools
import math
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from simengine.fit.momentum_balance import (
    Motion,
    fit_energy,
    fit_yield,
    follow,
    momentum_balance,
    rounding_of_velocities,
    trial_deformations,
)
from simengine.fit.training import AbstractTraining
from simengine.materials import Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel

# Rounds of a training from positions: part of the motion, and regularisation. The hidden F is least certain late in the
# motion and with a poor law, so both grow with the law's quality; the last entry repeats.
ROUNDS = ((0.3, 1e-3), (0.3, 1e-4), (0.5, 1e-5), (0.7, 1e-6), (1.0, 1e-7))
# A fluid never forgets an error of its volume, so the law must be good before the motion is followed further.
FLUID_ROUNDS = tuple((0.3, 10.0**-k) for k in (3, 4, 5, 6, 7, 7)) + ((0.5, 1e-7), (0.7, 1e-7), (1.0, 1e-7), (1.0, 1e-8))
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
            and its result is kept only where it lowers the velocities missed on the whole motion. Of a fluid nothing
            but the flow is known.
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
        self.model, self.motions, self.positions_only = model, list(motions), positions_only
        self.num_iterations, self.frames, self.laws_known = num_iterations, frames, laws_known
        self.iteration, self.best = 0, math.inf
        self._kept, self._followed = laws_state(model), list[Motion]()  # the best laws, and the motions they give
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, nn.Module):
            raise TypeError(f"model: expected an EnergyNetwork to fit, got {type(energy).__name__}")
        self.energy, self.flow = energy, flow

    @property
    def converged(self) -> bool:
        """Whether laws that were known miss no more than the rounding of the positions."""
        return self.best <= rounding_of_velocities(self.motions[0], self.model.grid.dt)

    def step(self) -> dict[str, float]:
        """One round; `loss` is the part of the squared velocity changes that is left unexplained.

        Where the laws are known, it is the mean square of the velocity missed [m^2/s^2].
        """
        fluid = isinstance(self.flow, YieldNetwork) and self.flow.fluid
        rounds = FLUID_ROUNDS if fluid else ROUNDS
        part, ridge = rounds[min(self.iteration, len(rounds) - 1)]
        if not self.positions_only:
            if isinstance(self.flow, YieldNetwork):
                self._fit_yield(self.flow)
            loss = self._balance(self.motions, ridge=STATES_RIDGE)
        elif fluid or not self.laws_known:
            model = with_material(self.model, Material(Stressless(), self.flow)) if self.iteration == 0 else self.model
            loss = self._balance(self._follow(model, part)[0], ridge=ridge)
        else:
            if not self._followed:
                self._followed, self.best = self._follow(self.model, 1.0)
                if self.converged:
                    return {"loss": self.best, "part": 1.0}
            around = self.energy.linear()
            self._balance(self._followed, ridge=ridge, around=around, part=part)
            found, loss = self._follow(self.model, 1.0)
            if loss < self.best:
                self.best, self._followed, self._kept = loss, found, laws_state(self.model)
            else:
                load_laws(self.model, self._kept)
        self.iteration += 1
        return {"loss": loss, "part": part if self.positions_only else 1.0}

    def _follow(self, model: MPMModel, part: float) -> tuple[list[Motion], float]:
        """The hidden part of the first steps of the motions, and the mean square of the velocities missed."""
        seen, missed = [], 0.0
        for motion in self.motions:
            steps = max(2, round(part * len(motion)))
            found, left = follow(model, motion.x[: steps + 1], motion.v[0])
            seen.append(found)
            missed += float(left.double().square().mean()) / len(self.motions)
        return seen, missed

    def _balance(
        self, seen: Sequence[Motion], *, ridge: float, around: torch.Tensor | float = 0.0, part: float = 1.0
    ) -> float:
        balances = []
        for motion in seen:
            steps = max(2, round(part * len(motion)))
            balances.append(
                momentum_balance(self.model, self.energy, motion, range(0, steps, max(1, steps // self.frames)))
            )
        return fit_energy(self.energy, functools.reduce(operator.add, balances), ridge=ridge, around=around)

    def _fit_yield(self, flow: YieldNetwork) -> None:
        trials, settled = [], []
        for motion in self.motions:
            chosen = slice(0, None, max(1, len(motion) // 100))
            trials.append(trial_deformations(motion, self.model.grid.dt)[chosen].flatten(0, 1))
            settled.append(motion.F[1:][chosen].flatten(0, 1))
        fit_yield(flow, torch.cat(trials), torch.cat(settled))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The laws, those to return to, and the number of the round."""
        return {**laws_state(self.model), "iteration": torch.tensor(self.iteration)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration = int(state["iteration"])
        load_laws(self.model, state)
        self._kept, self._followed = laws_state(self.model), []  # followed again by the next step


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
