"""Many steps of MPM as one autograd node, each step a replay of captured launches, with laws in torch between them.

A flight (`simengine.ops.matter.mpm.flight`) owns the buffers of a rollout and the graphs captured on them. With
checkpoints the forward flight has two slots and keeps a copy of one state in `every`; the backward runs each stretch
again on a flight of `every` + 1 slots.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.matter import elasticity, plasticity
from simengine.ops.matter.mpm.buffers import Buffers, RolloutSchedule, State
from simengine.ops.matter.mpm.flight import Flight
from simengine.ops.matter.mpm.grid import Grid
from simengine.ops.matter.mpm.laws import Laws, TorchLaw, find_sources

__all__ = ["Laws", "RolloutSchedule", "State", "TorchLaw", "rollout"]


@contextlib.contextmanager
def _side_stream(like: torch.Tensor) -> Iterator[None]:
    """On CUDA a stream that can be captured (the default one cannot), ordered after and before the current one."""
    if not like.is_cuda:
        yield
        return
    current, side = torch.cuda.current_stream(like.device), torch.cuda.Stream(like.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        yield
    current.wait_stream(side)
    side.synchronize()  # once a rollout: its buffers may be freed from here on


class _Rollout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        with _side_stream(arguments[4]):
            return _Rollout._forward(ctx, *arguments)

    @staticmethod
    def _forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        laws, grid, schedule, wanted, *tensors = arguments
        state: State = tuple(tensors[:6])
        constants = tensors[6:13]
        num_steps, every = schedule.saved[-1], schedule.every
        direct = wanted and every >= num_steps
        slots = num_steps + 1 if direct else 2
        flight = Flight(Buffers(grid, state[0], slots, laws, constants, schedule), recording=direct)
        flight.load(state, 0)
        held: list[tuple[torch.Tensor, ...]] = []
        outputs = tuple(t.new_empty(len(schedule.saved), *t.shape) for t in state)
        row = 0
        for step in range(num_steps + 1):
            if step == schedule.saved[row]:
                flight.raise_flagged(end=step == num_steps)
                for output, tensor in zip(outputs, flight.buffers.state(step), strict=True):
                    output[row] = tensor
                row += 1
            if step < num_steps:
                if wanted and not direct and step % every == 0:
                    held.append(tuple(t.clone() for t in flight.buffers.state(step)))
                flight.forward()
        ctx.save_for_backward(*tensors)
        ctx.laws, ctx.grid, ctx.schedule, ctx.held = laws, grid, schedule, held
        ctx.flight = flight if direct else None
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        with _side_stream(ctx.saved_tensors[0]):
            return _Rollout._backward(ctx, *cotangents)

    @staticmethod
    def _backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        tensors, schedule = ctx.saved_tensors, ctx.schedule
        state, constants, sources = tensors[:6], tensors[6:13], tensors[13:]
        mass, volume, table, *coefficients, stiffness = constants
        num_steps, every = schedule.saved[-1], schedule.every
        bars: State = tuple(torch.zeros_like(t, memory_format=torch.contiguous_format) for t in state)  # type: ignore[assignment]
        body_bar = torch.zeros(len(mass), 2, dtype=torch.float64, device=mass.device)
        table_bar = torch.zeros(schedule.threads, *table.shape, dtype=torch.float64, device=table.device)
        coefficient_bars = [torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in coefficients]
        stiffness_bar = torch.zeros(len(stiffness), dtype=torch.float64, device=mass.device)
        constant_bars = [body_bar, table_bar, *coefficient_bars, stiffness_bar]
        source_bars = [torch.zeros_like(t) for t in sources]
        flight = ctx.flight
        if flight is None:
            slots = min(every, num_steps) + 1
            flight = Flight(Buffers(ctx.grid, state[0], slots, ctx.laws, constants, schedule), recording=True)
        row = len(schedule.saved) - 1

        def add_saved(step: int, row: int) -> int:
            """Add the cotangents of the state saved after `step`, if it was; the row to look at next."""
            if row < 0 or schedule.saved[row] != step:
                return row
            for bar, cotangent in zip(bars, cotangents, strict=True):
                if cotangent is not None:
                    bar += cotangent[row]
            return row - 1

        row = add_saved(num_steps, row)
        start = num_steps
        while start > 0:
            stop = start
            start = 0 if ctx.held == [] else (stop - 1) // every * every
            if ctx.held:
                flight.load(ctx.held[start // every], start)
                for _ in range(start, stop):
                    flight.forward()
            flight.start_backward(stop - start, stop, bars, constant_bars, source_bars)
            for step in range(stop - 1, start - 1, -1):
                flight.backward()
                row = add_saved(step, row)
        if num_steps == 0:
            row = add_saved(0, row)
        return (
            None,  # laws
            None,  # grid
            None,  # schedule
            None,  # wanted
            *bars,  # x, v, C, F, q, A
            body_bar[:, 0].to(mass.dtype),  # mass
            body_bar[:, 1].to(volume.dtype),  # volume
            table_bar.sum(0).to(table.dtype),  # table
            *coefficient_bars,  # elastic, plastic, dissipative
            stiffness_bar.to(stiffness.dtype),  # stiffness
            *source_bars,  # what laws in torch depend on
        )


def rollout(
    state: State,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    stiffness: torch.Tensor,
    table: torch.Tensor,
    laws: Laws,
    coefficients: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    grid: Grid,
    schedule: RolloutSchedule,
) -> State:
    """Run steps of MPM and return the states after some of them.

    Args:
        state: x, v, C, F, q, A at the start, as of `simengine.ops.matter.mpm.step`; q has shape (n,), A (n, branches,
            3, 3).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        stiffness: Of hard contact [N/m], shape (n,), see `simengine.ops.matter.hard_contact`.
        table: Frictions and poses of boundaries, shape (1 or steps, 1 + bodies, 23).
        laws: The laws of the particles.
        coefficients: Of the shipped elastic (n, 3) and plastic (n, 5) laws and of the losses (n, 1 + 2 branches),
            float64.
        grid: Grid, time step, gravity and boundaries.
        schedule: Which steps to return and to hold.

    Returns:
        x, v, C, F, q, A with a leading dimension of `len(schedule.saved)`.

    Raises:
        ValueError: A shape does not fit.
        SimulationError: A particle left the grid or a field is not finite.
    """
    n, dtype = len(state[0]), state[0].dtype
    shapes = {"x": (n, 3), "v": (n, 3), "C": (n, 3, 3), "F": (n, 3, 3), "q": (n,), "mass": (n,), "volume": (n,)}
    shapes["stiffness"] = (n,)
    for (name, shape), tensor in zip(shapes.items(), (*state[:5], mass, volume, stiffness), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be {dtype} as x is, got {tensor.dtype}; convert with .to(x.dtype)")
    steps = schedule.saved[-1]
    if table.ndim != 3 or len(table) not in {1, max(steps, 1)} or table.shape[1:] != (grid.rows, 23):
        raise ValueError(f"table must have shape (1 or {steps}, {grid.rows}, 23), got {tuple(table.shape)}")
    if grid.bodies and sum(grid.bodies) != n:
        raise ValueError(f"grid: its bodies have {sum(grid.bodies)} particles together, the state has {n}")
    columns = (elasticity.NUM_COEFFICIENTS, plasticity.NUM_COEFFICIENTS)
    for tensor, law, width in zip(coefficients[:2], (laws.elastic, laws.plastic), columns, strict=True):
        if tensor.shape != (n, width) or law.shape != (n,):
            raise ValueError(f"coefficients must be ({n}, {width}) and laws ({n},), got {tuple(tensor.shape)}")
    branches = state[5].shape[1]
    if state[5].shape != (n, branches, 3, 3) or coefficients[2].shape != (n, 1 + 2 * branches):
        raise ValueError(
            f"A must be (n, branches, 3, 3) and the losses (n, 1 + 2 branches), got {tuple(state[5].shape)} and "
            f"{tuple(coefficients[2].shape)}"
        )
    sources = find_sources(laws.torch, state[3], state[4])
    tensors = [*state, mass, volume, table.to(dtype), *coefficients, stiffness, *sources]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return _Rollout.apply(laws, grid, schedule, wanted, *tensors)
