"""Trainings that learn a law from a motion: rounds of momentum balance, then rollouts from restarts."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import nn

from simengine.fit.gradient import _flatten_optimiser, _restore_optimiser
from simengine.fit.momentum_balance import (
    Motion,
    fit_energy,
    fit_yield,
    follow,
    momentum_balance,
    record,
    trial_deformations,
)
from simengine.fit.staged import StagedTraining
from simengine.fit.training import AbstractTraining
from simengine.materials import Identity, Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.scene.base import SceneError
from simengine.scene.nclaw import NCLawScene

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

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

    From states one round is a convex problem. From positions each round follows the motion with the law of the round
    before, which gives the hidden C and F, and solves for the law that balances momentum along them.

    Args:
        model: Its one material holds the laws that learn, `EnergyNetwork` and `YieldNetwork` or `Identity`.
        motion: What was observed. Where `positions_only`, nothing but `x` and `v[0]` is read.
        positions_only: Whether C and F are hidden.
        num_iterations: Rounds.
        frames: Steps whose balance is used in a round.
    """

    def __init__(
        self, model: MPMModel, motion: Motion, *, positions_only: bool, num_iterations: int, frames: int
    ) -> None:
        self.model, self.motion, self.positions_only = model, motion, positions_only
        self.num_iterations, self.frames = num_iterations, frames
        self.iteration = 0
        energy, flow = model.materials[0].elasticity, model.materials[0].plasticity
        if not isinstance(energy, EnergyNetwork) or not isinstance(flow, nn.Module):
            raise TypeError(f"model: expected an EnergyNetwork to fit, got {type(energy).__name__}")
        self.energy, self.flow = energy, flow

    def step(self) -> dict[str, float]:
        """One round; `loss` is the part of the squared velocity changes that is left unexplained."""
        part, ridge = ROUNDS[min(self.iteration, len(ROUNDS) - 1)] if self.positions_only else (1.0, STATES_RIDGE)
        steps = max(2, round(part * len(self.motion)))
        motion = self.motion
        if self.positions_only:
            model = self.model
            if self.iteration == 0:
                model = with_material(model, Material(Stressless(), self.flow))
            motion = follow(model, self.motion.x[: steps + 1], self.motion.v[0])
        elif isinstance(self.flow, YieldNetwork):
            chosen = slice(0, None, max(1, steps // 100))
            trial = trial_deformations(motion, self.model.grid.dt)[chosen].flatten(0, 1)
            fit_yield(self.flow, trial, motion.F[1:][chosen].flatten(0, 1))
        numbers = range(0, steps, max(1, steps // self.frames))
        balance = momentum_balance(self.model, self.energy, motion, numbers)
        left = fit_energy(self.energy, balance, ridge=ridge)
        self.iteration += 1
        return {"loss": left, "part": part}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The laws and the number of the round."""
        laws = {f"laws.{name}": value.clone() for name, value in self.model.materials.state_dict().items()}
        return {**laws, "iteration": torch.tensor(self.iteration)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration = int(state["iteration"])
        _load_laws(self.model, state)


def restart_interval(epoch: int, num_epochs: int, *, first: int = 25, last: int = 200) -> int:
    """NCLaw's lambda: steps between restarts from the observed states, growing by half a cosine."""
    progress = epoch / max(num_epochs - 1, 1)
    return round(last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress)))


class RolloutTraining(AbstractTraining):
    """Adam on rollouts that restart from the observed states (NCLaw's teacher forcing); one epoch a step.

    The loss is sum_k MSE(x_k) 1e4 ceil(steps/lambda)/steps. Under `torch.distributed` each process takes every
    world-size-th stretch, and gradients are summed: the same step as with one process.

    Args:
        model: Its materials learn.
        motions: Observed trajectories with states, all of one length.
        num_iterations: Epochs.
        learning_rates: Of the elastic and of the plastic laws, falling to zero by a cosine.
        clip_norm: Largest gradient norm of each of the two.
        intervals: First and last lambda.
    """

    def __init__(
        self,
        model: MPMModel,
        motions: Sequence[Motion],
        *,
        num_iterations: int,
        learning_rates: tuple[float, float] = (1.0, 0.1),
        clip_norm: float = 0.1,
        intervals: tuple[int, int] = (25, 200),
    ) -> None:
        self.model, self.motions = model, list(motions)
        self.num_iterations, self.clip_norm, self.intervals = num_iterations, clip_norm, intervals
        self.iteration = 0
        self.rates = learning_rates
        parts: list[list[Any]] = [
            [m.elasticity for m in model.materials],
            [m.plasticity for m in model.materials],
        ]
        self.groups = [[p for law in laws for p in law.parameters() if p.requires_grad] for laws in parts]
        groups = [{"params": g, "lr": r} for g, r in zip(self.groups, learning_rates, strict=True) if g]
        if not groups:
            raise ValueError("model: no law has a parameter that requires a gradient, so there is nothing to learn")
        self.optimiser = torch.optim.Adam(groups)

    def gradient(self) -> float:
        """Set the gradient of this epoch's loss on the parameters, summed over processes; returns the loss."""
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        rank = torch.distributed.get_rank() if world > 1 else 0
        interval = restart_interval(
            self.iteration, self.num_iterations, first=self.intervals[0], last=self.intervals[1]
        )
        solver, total = MPMSolver(self.model), torch.zeros((), dtype=torch.float64)
        self.optimiser.zero_grad()
        number = 0
        for motion in self.motions:
            steps = len(motion)
            scale = 1e4 * math.ceil(steps / interval) / steps
            for start in range(0, steps, interval):
                number += 1
                if number % world != rank:
                    continue
                state = MPMState(motion.x[start], motion.v[start], motion.C[start], motion.F[start], _still(motion.x))
                loss = torch.zeros((), dtype=torch.float64)
                for k in range(start, min(start + interval, steps)):
                    state = solver.step(state, k)
                    loss = loss + scale * (state.x - motion.x[k + 1]).square().mean().double()
                loss.backward()
                total += loss.detach()
        if world > 1:
            for parameter in (p for group in self.groups for p in group):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)
            torch.distributed.all_reduce(total)
        return float(total)

    def step(self) -> dict[str, float]:
        """One epoch over all trajectories and one step of Adam."""
        fall = 0.5 * (1 + math.cos(math.pi * self.iteration / self.num_iterations))
        rates = [rate for rate, group in zip(self.rates, self.groups, strict=True) if group]
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * fall
        loss = self.gradient()
        for parameters in self.groups:
            if parameters:
                nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.optimiser.step()
        self.iteration += 1
        return {"loss": loss}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Laws, optimiser and epoch."""
        laws = {f"laws.{name}": value.clone() for name, value in self.model.materials.state_dict().items()}
        return {**laws, "iteration": torch.tensor(self.iteration), **_flatten_optimiser(self.optimiser)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration = int(state["iteration"])
        _load_laws(self.model, state)
        _restore_optimiser(self.optimiser, state)


def _still(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x[0, :, 0])


def _load_laws(model: MPMModel, state: Mapping[str, torch.Tensor]) -> None:
    prefix = "laws."
    model.materials.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def learner(scene: NCLawScene) -> Material:
    """The laws of a scene before any learning."""
    spec = scene.law
    energy = EnergyNetwork(
        width=spec.width,
        modulus=spec.modulus,
        strain_scale=spec.strain_scale,
        convexity=spec.convexity,
        seed=scene.seed,
    )
    return Material(energy, YieldNetwork(strain_scale=spec.strain_scale) if spec.plastic else Identity())


def with_material(model: MPMModel, material: Material) -> MPMModel:
    """A model like another, of one other material."""
    return MPMModel(
        num_grids=model.grid.size,
        dt=model.grid.dt,
        materials=[material],
        volume=model.volume,
        mass=model.mass,
        length=model.grid.dx * model.grid.size[0],
        gravity=model.grid.gravity,
        boundaries=list(model.boundaries),
        epsilon=model.grid.epsilon,
    )


def training(scene: NCLawScene, *, device: str | None = None) -> AbstractTraining:
    """The training of a scene.

    Args:
        scene: Makes the motion with its hidden material.
        device: Where to simulate; the CPU unless told.

    Raises:
        SceneError: Flow is to be learned from positions alone, or rollouts are to restart from states not observed.
    """
    spec = scene.learning
    positions_only = spec.observe == "positions"
    if positions_only and scene.law.plastic:
        raise SceneError('learning.observe: a yield surface is learned from observe = "states"')
    if positions_only and spec.epochs:
        raise SceneError('learning.epochs: rollouts restart from the states; use observe = "states", or epochs = 0')
    truth, start = scene.experiment().build(device=device or "cpu")
    motion = record(truth, start, scene.num_steps)
    model = with_material(truth, learner(scene)).to(device or "cpu")
    rounds = spec.iterations if positions_only else 1
    stages: list[AbstractTraining] = [
        BalanceTraining(model, motion, positions_only=positions_only, num_iterations=rounds, frames=spec.frames)
    ]
    if spec.epochs:
        rate = spec.learning_rate
        stages.append(RolloutTraining(model, [motion], num_iterations=spec.epochs, learning_rates=(rate, rate)))

    def finish(last: AbstractTraining, out: "RunDirectory") -> dict[str, Any]:
        from simengine.fit.nclaw_report import write_results

        material = model.materials[0]
        assert isinstance(material, Material)
        return write_results(scene, material, motion, out)

    return StagedTraining(stages, finish=finish)
