"""Trainings that learn a law from motions: a search of the flow, rounds of momentum balance, rollouts from restarts."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch import nn

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.gradient import _flatten_optimiser, _restore_optimiser
from simengine.fit.trainings.staged import StagedTraining
from simengine.materials import Material
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.mpm.captured import CapturedSolver
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.solve.rollout import AbstractSolver, rollout
from simengine.worlds.laws import recorded
from simengine.worlds.laws.balance import laws_state, load_laws, with_material
from simengine.worlds.laws.stages import learner, stages_of
from simengine.worlds.laws.world import LawLearner, NCLawWorld
from simengine.worlds.motion.momentum_balance import Motion, record

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


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
        self.model: MPMModel = model
        self.motions: list[Motion] = list(motions)
        self.num_iterations = num_iterations
        self.clip_norm: float = clip_norm
        self.intervals: tuple[int, int] = intervals
        self.iteration: int = 0
        self.rates = learning_rates
        self._captured: CapturedSolver | None = None
        parts: list[list[Any]] = [
            [m.elasticity for m in model.materials],
            [m.plasticity for m in model.materials],
        ]
        self.groups: list[list[Any]] = [
            [p for law in laws for p in law.parameters() if p.requires_grad] for laws in parts
        ]
        groups = [{"params": g, "lr": r} for g, r in zip(self.groups, learning_rates, strict=True) if g]
        if not groups:
            raise ValueError("model: no law has a parameter that requires a gradient, so there is nothing to learn")
        self.optimiser: torch.optim.Adam = torch.optim.Adam(groups)

    def _solver(self) -> AbstractSolver:
        """Steps: captured in one graph where the device has such."""
        solver, motion = MPMSolver(self.model), self.motions[0]
        if not motion.x.is_cuda or any(b.moving for b in self.model.bodies):
            return solver
        if self._captured is None:
            start = MPMState(motion.x[0], motion.v[0], motion.C[0], motion.F[0], _still(motion.x))
            self._captured = CapturedSolver(solver, start)
        return self._captured

    def gradient(self) -> float:
        """Set the gradient of this epoch's loss on the parameters, summed over processes; returns the loss."""
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        rank = torch.distributed.get_rank() if world > 1 else 0
        interval = restart_interval(
            self.iteration, self.num_iterations, first=self.intervals[0], last=self.intervals[1]
        )
        device = self.motions[0].x.device
        solver, total = self._solver(), torch.zeros((), dtype=torch.float64, device=device)
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
                count = min(interval, steps - start)
                x = rollout(solver, state, count, first_step=start).states.x
                off = (x[1:] - motion.x[start + 1 : start + count + 1]).square().mean((1, 2))
                loss = scale * off.double().sum()
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
        return {
            **laws_state(self.model),
            "iteration": torch.tensor(self.iteration),
            **_flatten_optimiser(self.optimiser),
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.iteration = int(state["iteration"])
        load_laws(self.model, state)
        _restore_optimiser(self.optimiser, state)


def _still(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(x[0, :, 0])


def training_of(scene: Scene, *, device: str | None = None) -> AbstractTraining:
    """The training of a scene with `[model] type = "law"`."""
    assert isinstance(scene.learner, LawLearner)
    if not isinstance(scene.world, NCLawWorld):
        return recorded.training(scene, scene.learner)
    return training(scene.world, scene.learner, device=device)


def training(scene: NCLawWorld, spec: LawLearner, *, device: str | None = None) -> AbstractTraining:
    """The learning of a law.

    Args:
        scene: Makes the motion with its hidden material.
        spec: What learns, and how.
        device: Where to simulate; the CPU unless told.

    Raises:
        SceneError: Rollouts are to restart from states that are not observed.
    """
    positions_only = spec.observe == "positions"
    if positions_only and spec.epochs:
        raise SceneError('training.epochs: rollouts restart from the states; use observe = "states", or epochs = 0')
    truth, start = scene.experiment().build(device=device or "cpu")
    motions = [record(truth, start, scene.num_steps)]
    for velocity, spin in spec.further_throws:
        other = scene.experiment(velocity=velocity, angular_velocity=spin)
        motions.append(record(truth, other.build(device=device or "cpu")[1], scene.num_steps))
    model = with_material(truth, learner(spec, seed=scene.seed)).to(device or "cpu")
    stages = stages_of(model, motions, spec)
    if spec.epochs:
        rate = spec.learning_rate
        stages.append(RolloutTraining(model, motions, num_iterations=spec.epochs, learning_rates=(rate, rate)))

    def finish(last: AbstractTraining, out: "RunDirectory") -> dict[str, Any]:
        from simengine.worlds.laws.formula.read_out import read_out
        from simengine.worlds.laws.report import write_results

        material = model.materials[0]
        assert isinstance(material, Material)
        formula = read_out(model, motions) if spec.read_out else None
        return write_results(scene, spec, material, motions[0], out, formula)

    return StagedTraining(stages, finish=finish)
