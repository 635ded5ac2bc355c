"""Training of a law by rounds of momentum balance, from states or from positions alone."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from simengine.fit.momentum_balance import (
    Balance,
    Motion,
    fit_energy,
    fit_yield,
    follow,
    momentum_balance,
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
        laws_known: Whether the laws are good already (`FlowSearch`): all rounds are on the whole motion, and end with
            the first that does not lower the velocities missed; its laws are those of the round before.
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
        self.iteration, self.best, self.done = 0, math.inf, False
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, nn.Module):
            raise TypeError(f"model: expected an EnergyNetwork to fit, got {type(energy).__name__}")
        self.energy, self.flow = energy, flow
        self._kept = laws_state(model)

    @property
    def converged(self) -> bool:
        """Whether a round changed nothing for the better."""
        return self.done

    def step(self) -> dict[str, float]:
        """One round; `loss` is the part of the squared velocity changes that is left unexplained."""
        if not self.positions_only:
            part, ridge, seen = 1.0, STATES_RIDGE, self.motions
            if isinstance(self.flow, YieldNetwork):
                self._fit_yield(self.flow)
        else:
            part, ridge = ROUNDS[-1 if self.laws_known else min(self.iteration, len(ROUNDS) - 1)]
            model = self.model
            if self.iteration == 0 and not self.laws_known:
                model = with_material(model, Material(Stressless(), self.flow))
            seen, missed = [], 0.0
            for motion in self.motions:
                steps = max(2, round(part * len(motion)))
                found, left = follow(model, motion.x[: steps + 1], motion.v[0])
                seen.append(found)
                missed += float(left.double().square().mean()) / len(self.motions)
            if self.laws_known and self._ends(missed):
                return {"loss": self.best, "part": part}
        total: Balance | None = None
        for motion in seen:
            numbers = range(0, len(motion), max(1, len(motion) // self.frames))
            balance = momentum_balance(self.model, self.energy, motion, numbers)
            total = balance if total is None else total + balance
        assert total is not None
        unexplained = fit_energy(self.energy, total, ridge=ridge)
        self.iteration += 1
        return {"loss": unexplained, "part": part} if not self.laws_known else {"loss": self.best, "part": part}

    def _ends(self, missed: float) -> bool:
        """Keep the laws if they miss less than those kept, else return to these; whether the training is over."""
        if missed < self.best:
            self.best, self._kept = missed, laws_state(self.model)
            self.done = self.iteration == self.num_iterations - 1
        else:
            load_laws(self.model, self._kept)
            self.done = True
        self.iteration += int(self.done)
        return self.done

    def _fit_yield(self, flow: YieldNetwork) -> None:
        trials, settled = [], []
        for motion in self.motions:
            chosen = slice(0, None, max(1, len(motion) // 100))
            trials.append(trial_deformations(motion, self.model.grid.dt)[chosen].flatten(0, 1))
            settled.append(motion.F[1:][chosen].flatten(0, 1))
        fit_yield(flow, torch.cat(trials), torch.cat(settled))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The laws, those to return to, and the number of the round."""
        kept = {f"kept.{name}": value for name, value in self._kept.items()}
        best = torch.tensor(self.best, dtype=torch.float64)
        return {**laws_state(self.model), **kept, "iteration": torch.tensor(self.iteration), "best": best}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration, self.best = int(state["iteration"]), float(state["best"])
        self._kept = {k.removeprefix("kept."): v for k, v in state.items() if k.startswith("kept.")}
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
