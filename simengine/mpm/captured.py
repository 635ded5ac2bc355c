"""A step with a learned law on a CUDA device as one captured graph: networks and kernels in one stream, no Python.

On the CPU a law stays a batched product between kernels, which is faster there than a network inside a kernel.
"""

from typing import cast

import torch
from torch import nn

from simengine.mpm.solver import MPMSolver
from simengine.mpm.state import MPMState
from simengine.ops.matter import mpm
from simengine.solve.rollout import AbstractSolver


class _CapturedStep(nn.Module):
    """A step as a module of tensors, whose parameters are those of the laws."""

    def __init__(self, solver: MPMSolver, constants: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.laws = solver.model.materials
        self._solver, self._constants = solver, constants

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        after = self._solver.advance(MPMState(*tensors), 0, *self._constants)
        return after.x, after.v, after.C, after.F, after.q


class CapturedSolver(AbstractSolver):
    """Steps of an MPM model, forward and backward replayed from CUDA graphs.

    Args:
        solver: Of a model whose boundaries do not move, since what is captured does not know the time, and whose
            boundaries, mass, volume and gravity want no gradient.
        state: A state of the shape, dtype and device to be used.

    Raises:
        ValueError: The state is not on a CUDA device, a body moves, or something besides the laws wants a gradient.
    """

    def __init__(self, solver: MPMSolver, state: MPMState) -> None:
        model = solver.model
        if not state.x.is_cuda:
            raise ValueError(f"state: on {state.x.device}; a step is captured on a CUDA device only")
        if any(body.moving for body in model.bodies):
            raise ValueError("solver: captured steps need boundaries that stand still")
        if model.is_hard:
            raise ValueError("solver: captured steps know no hard contact; give the rigid bodies a width")
        constants = solver.constants(state.x)
        if any(tensor.requires_grad for tensor in constants):
            raise ValueError("solver: captured steps give gradients of laws only, not of boundaries, mass or volume")
        self._grid = model.grid
        if model.loads is not None or model.tilt is not None:
            raise ValueError("solver: captured steps know no loads and no gravity that changes")
        if model.dissipates:
            raise ValueError("solver: captured steps know no viscosity, branches or damping")
        self._names = ["x", "v", "C", "F", "q"]
        sample = tuple(getattr(state, name).detach().clone().requires_grad_() for name in self._names)
        step = _CapturedStep(solver, constants)
        step(*(t.detach() for t in sample))  # loads kernels and makes the workspace before the capture
        self._replay = torch.cuda.make_graphed_callables(step, sample, allow_unused_input=True)

    def step(self, state: MPMState, number: int = 0) -> MPMState:
        """The state one step later, differentiable in the state and in the parameters of the laws."""
        tensors = [getattr(state, name) for name in self._names]
        inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        return MPMState(*(t.clone() for t in cast("tuple[torch.Tensor, ...]", self._replay(*inputs))))

    def raise_flagged(self, state: MPMState) -> None:
        """Raise what a kernel recorded since the last call; synchronises with the device.

        Raises:
            SimulationError: A particle left the grid or a field became non-finite.
        """
        mpm.workspace(self._grid, state.x).raise_flagged()
