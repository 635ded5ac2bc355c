"""Many steps of MPM with the shipped laws as one autograd node, each step a replay of captured launches.

A flight owns the buffers of one rollout and the two graphs captured on them: a step forward, and a step backward. The
time-varying arrays have a slot per held state; the clock in device memory tells a replay which slots it works on. With
checkpoints the forward flight has two slots and keeps a copy of one state in `every`; the backward runs each stretch
again on a flight of `every` + 1 slots.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels import elasticity, plasticity
from simengine.ops import bridge
from simengine.ops.constitutive import matrix, vector
from simengine.ops.mpm import Grid, Workspace

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # x, v, C, F, q


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What a rollout computes and holds.

    Attributes:
        saved: Steps after which the state is returned, ascending, the first 0, the last the end.
        every: Steps between held states; at least the number of steps to hold all of them.
        first_step: Number of the first step, for the messages of errors.
        history: Whether a law uses the history variable.
    """

    saved: tuple[int, ...]
    every: int
    first_step: int = 0
    history: bool = False


class _Flight:
    """Buffers and captured steps.

    Args:
        slots: States held at a time.
        laws: Numbers of the elastic and plastic law per particle.
        constants: mass, volume, table, elastic and plastic coefficients.
    """

    def __init__(
        self,
        grid: Grid,
        like: torch.Tensor,
        slots: int,
        laws: tuple[torch.Tensor, torch.Tensor],
        constants: Sequence[torch.Tensor],
        schedule: Schedule,
    ) -> None:
        n, real = len(like), bridge.scalar(like)
        self.n, self.slots, self.like, self.schedule = n, slots, like, schedule
        self.space = Workspace(grid, like)
        self.k, self.e, self.p = self.space.kernels, elasticity.kernels(real), plasticity.kernels(real)
        self.plastic = bool((laws[1] != plasticity.IDENTITY).any())
        self.slots_q = slots if schedule.history else 1

        def new(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

        self.states: State = (
            new(slots, n, 3), new(slots, n, 3), new(slots, n, 3, 3), new(slots, n, 3, 3), new(self.slots_q, n),
        )  # fmt: skip
        self.tau, self.trial = new(n, 3, 3), new(1, n, 3, 3)
        self.clock = torch.zeros(3, dtype=torch.int32, device=like.device)
        self.constants = [t.contiguous() for t in constants]
        self.laws = laws
        mass, volume, table, elastic, plastic = (bridge.array(t) for t in self.constants)
        clock = bridge.array(self.clock)
        self.body, self.table, self.transfer = [mass, volume], table, [*self.space.transfer, clock]
        self.stress = [clock, bridge.array(laws[0]), elastic]
        self.flow = [clock, bridge.array(laws[1]), plastic]
        x, v, C, F, q = self.states
        self.arrays = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
        self._forward: Any = None
        self._backward: Any = None
        self.bars: State | None = None

    def _launch(self, kernel: Any, dim: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        bridge.launch(kernel, dim, inputs, outputs, on=self.like)

    def _step(self) -> None:
        s, k, n = self.space, self.k, self.n
        x, v, C, F, q = self.arrays
        tau, trial = matrix(self.tau), matrix(self.trial)
        self._launch(self.e.stress, n, [*self.stress, F, q], [tau])
        self._launch(k.p2g, n, [*self.transfer, *self.body, x, v, C, tau], [s.momentum, s.active, s.flag])
        contact = s.contact(self.transfer[-1], self.table)
        self._launch(k.grid_op, s.sweep, [*s.motion, *contact, s.momentum], [s.velocity])
        target = trial if self.plastic else F
        outputs = [x, v, C, target, s.active]
        self._launch(k.g2p, n, [*self.transfer, int(not self.plastic), x, F, s.velocity], outputs)
        if self.plastic:
            self._launch(self.p.return_map, n, [*self.flow, matrix(self.trial[0]), q], [F, q])
        self._launch(k.tick, 1, [self.transfer[-1], self.slots, 1], [])

    def _step_back(self) -> None:
        s, k, n = self.space, self.k, self.n
        x, v, C, F, q = self.arrays
        tau, trial, clock = matrix(self.tau), matrix(self.trial[0]), self.transfer[-1]
        x_bar, v_bar, C_bar, F_bar, q_bar = self.bar_arrays
        body_bar, table_bar, elastic_bar, plastic_bar = (bridge.array(t) for t in self.constant_bars)
        tau_bar = matrix(self.tau_bar)
        self._launch(k.tick, 1, [clock, self.slots, -1], [])
        self._launch(self.e.stress, n, [*self.stress, F, q], [tau])
        if self.plastic:
            self._launch(s.adjoint.trial, n, [s.grid.dt, clock, C, F], [trial])
            self._launch(self.p.return_map_adjoint, n, [*self.flow, trial, q, F_bar, q_bar], [plastic_bar])
        particles = [*self.transfer, *self.body, x, v, C]
        self._launch(
            s.adjoint.scatter_adjoint,
            n,
            [*particles, F, tau, x_bar, F_bar, v_bar, C_bar],
            [s.momentum, s.bars[0], s.active],
        )
        self._launch(
            s.adjoint.grid_adjoint,
            s.sweep,
            [*s.motion, *s.contact(clock, self.table), s.momentum, s.bars[0]],
            [s.velocity, s.bars[1], table_bar],
        )
        self._launch(
            s.adjoint.gather_adjoint,
            n,
            [*particles, C, tau, s.velocity, s.bars[1], x_bar, v_bar, C_bar, F_bar],
            [tau_bar, body_bar, s.active],
        )
        self._launch(self.e.stress_adjoint, n, [*self.stress, F, q, tau_bar], [F_bar, q_bar, elastic_bar])

    def _capture(self, record: Any, using: Sequence[Any]) -> Any:
        device = wp.device_from_torch(self.like.device)
        for kernel in using:
            wp.load_module(kernel.module, device=device)  # none may load in a capture
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.like.device)) if self.like.is_cuda else None
        with wp.ScopedCapture(device=device, stream=stream) as capture:
            record()
        return capture.graph

    def load(self, state: Sequence[torch.Tensor], step: int) -> None:
        """Put a state into slot 0, as that before step `step`."""
        for buffer, tensor in zip(self.states, state, strict=True):
            buffer[0].copy_(tensor)
        self._set_clock(0, step)

    def _set_clock(self, slot: int, step: int) -> None:
        self.clock.copy_(torch.tensor([slot, (slot + 1) % self.slots, step], dtype=torch.int32))

    def state(self, slot: int) -> State:
        """Views of the state in a slot."""
        x, v, C, F, q = self.states
        slot %= self.slots
        return x[slot], v[slot], C[slot], F[slot], q[slot % self.slots_q]

    def forward(self) -> None:
        """Run one step."""
        if self._forward is None:
            self._forward = self._capture(self._step, (self.k.p2g, self.e.stress))
        wp.capture_launch(self._forward)

    def start_backward(self, slot: int, step: int, bars: State, constant_bars: Sequence[torch.Tensor]) -> None:
        """Prepare to go back from the state in `slot`, that before step `step`, with its cotangents `bars`."""
        if self._backward is None or self.bars is not bars:
            self.bars, self.constant_bars, self.tau_bar = bars, constant_bars, torch.empty_like(self.tau)
            x, v, C, F, q = bars
            self.bar_arrays = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
            self._backward = self._capture(
                self._step_back, (self.k.p2g, self.space.adjoint.gather_adjoint, self.e.stress, self.e.stress_adjoint)
            )
        self._set_clock(slot % self.slots, step)

    def backward(self) -> None:
        """Turn the cotangents of a state into those of the state one step before; add those of the constants."""
        wp.capture_launch(self._backward)

    def raise_flagged(self) -> None:
        """Raise what a step recorded, or what is wrong with the state now."""
        x, v, C, F, _ = self.arrays
        s = self.space
        constants = [s.size, s.periodic, s.grid.dx, self.transfer[-1]]
        self._launch(self.k.validate, self.n, [*constants, x, v, C, F], [s.flag])
        self.space.raise_flagged(self.schedule.first_step)


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
        with _side_stream(arguments[0]):
            return _Rollout._forward(ctx, *arguments)

    @staticmethod
    def _forward(ctx: Any, *arguments: Any) -> tuple[torch.Tensor, ...]:
        *tensors, laws, grid, schedule, wanted = arguments
        state: State = tuple(tensors[:5])
        constants = tensors[5:]
        num_steps, every = schedule.saved[-1], schedule.every
        direct = wanted and every >= num_steps
        flight = _Flight(grid, state[0], num_steps + 1 if direct else 2, laws, constants, schedule)
        flight.load(state, 0)
        held: list[tuple[torch.Tensor, ...]] = []
        outputs = tuple(t.new_empty(len(schedule.saved), *t.shape) for t in state)
        row = 0
        for step in range(num_steps + 1):
            if step == schedule.saved[row]:
                flight.raise_flagged()
                for output, tensor in zip(outputs, flight.state(step), strict=True):
                    output[row] = tensor
                row += 1
            if step < num_steps:
                if wanted and not direct and step % every == 0:
                    held.append(tuple(t.clone() for t in flight.state(step)))
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
        state, (mass, volume, table, elastic, plastic) = tensors[:5], tensors[5:]
        num_steps, every = schedule.saved[-1], schedule.every
        bars: State = tuple(torch.zeros_like(t, memory_format=torch.contiguous_format) for t in state)  # type: ignore[assignment]
        body_bar = torch.zeros(len(mass), 2, dtype=torch.float64, device=mass.device)
        table_bar = torch.zeros(table.shape, dtype=torch.float64, device=table.device)
        elastic_bar, plastic_bar = (torch.zeros(t.shape, dtype=t.dtype, device=t.device) for t in (elastic, plastic))
        constant_bars = [body_bar, table_bar, elastic_bar, plastic_bar]
        flight = ctx.flight
        if flight is None:
            slots = min(every, num_steps) + 1
            flight = _Flight(ctx.grid, state[0], slots, ctx.laws, [mass, volume, table, elastic, plastic], schedule)
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
            flight.start_backward(stop - start, stop, bars, constant_bars)
            for step in range(stop - 1, start - 1, -1):
                flight.backward()
                row = add_saved(step, row)
        if num_steps == 0:
            row = add_saved(0, row)
        return (
            *bars,  # x, v, C, F, q
            body_bar[:, 0].to(mass.dtype),  # mass
            body_bar[:, 1].to(volume.dtype),  # volume
            table_bar.to(table.dtype),  # table
            elastic_bar,  # elastic coefficients
            plastic_bar,  # plastic coefficients
            None,  # laws
            None,  # grid
            None,  # schedule
            None,  # wanted
        )


def rollout(
    state: State,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    laws: tuple[torch.Tensor, torch.Tensor],
    coefficients: tuple[torch.Tensor, torch.Tensor],
    grid: Grid,
    schedule: Schedule,
) -> State:
    """Run steps of MPM and return the states after some of them.

    Args:
        state: x, v, C, F, q at the start, as of `simengine.ops.mpm.step`; q has shape (n,).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        table: Frictions and poses of boundaries, shape (1 or steps, 1 + bodies, 23).
        laws: Numbers of the elastic and of the plastic law per particle, shape (n,), int32.
        coefficients: Of the elastic (n, 3) and the plastic (n, 5) law, float64.
        grid: Grid, time step, gravity and boundaries.
        schedule: Which steps to return and to hold.

    Returns:
        x, v, C, F, q with a leading dimension of `len(schedule.saved)`.

    Raises:
        ValueError: A shape does not fit.
        SimulationError: A particle left the grid or a field is not finite.
    """
    n, dtype = len(state[0]), state[0].dtype
    shapes = {"x": (n, 3), "v": (n, 3), "C": (n, 3, 3), "F": (n, 3, 3), "q": (n,), "mass": (n,), "volume": (n,)}
    for (name, shape), tensor in zip(shapes.items(), (*state, mass, volume), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be {dtype} as x is, got {tensor.dtype}; convert with .to(x.dtype)")
    steps = schedule.saved[-1]
    if table.ndim != 3 or len(table) not in {1, max(steps, 1)} or table.shape[1:] != (1 + len(grid.kinds), 23):
        raise ValueError(f"table must have shape (1 or {steps}, {1 + len(grid.kinds)}, 23), got {tuple(table.shape)}")
    columns = (elasticity.NUM_COEFFICIENTS, plasticity.NUM_COEFFICIENTS)
    for tensor, law, width in zip(coefficients, laws, columns, strict=True):
        if tensor.shape != (n, width) or law.shape != (n,):
            raise ValueError(f"coefficients must be ({n}, {width}) and laws ({n},), got {tuple(tensor.shape)}")
    tensors = [*state, mass, volume, table.to(dtype), *coefficients]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return _Rollout.apply(*tensors, laws, grid, schedule, wanted)
