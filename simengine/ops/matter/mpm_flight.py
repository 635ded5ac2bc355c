"""The buffers of one rollout of MPM, and its steps as captured launches.

The time-varying arrays have a slot per held state; the clock in device memory tells a replay which slots it works on.

A graph holds the launches of one thread. Where several share the particles, each phase of a step (scatter, sweep,
gather) has a graph per thread, replayed side by side; a thread has sums over the grid of its own, and blocks to sweep.

Laws in torch are evaluated before (stress) and after (return map) the replay of a step, for all particles at once.
"""

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp

from simengine.kernels.matter import dissipation, elasticity, hard_contact, plasticity
from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, vector
from simengine.ops.matter.hard_contact import is_hard
from simengine.ops.matter.mpm_grid import Grid, Workspace
from simengine.ops.matter.mpm_laws import Laws, Record, TorchLaw
from simengine.ops.matter.mpm_moments import Moments, cut

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # x, v, C, F, q, A


def _replay(graph: Any, stream: Any = None) -> None:
    with bridge.gate:
        wp.capture_launch(graph, stream)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """What a rollout computes and holds.

    Attributes:
        saved: Steps after which the state is returned, ascending, the first 0, the last the end.
        every: Steps between held states; at least the number of steps to hold all of them.
        first_step: Number of the first step, for the messages of errors.
        history: Whether a law uses the history variable.
        dissipates: Whether a material has viscosity or branches.
        threads: How many threads share the particles on a CPU; the bits depend on it, and repeat.
    """

    saved: tuple[int, ...]
    every: int
    first_step: int = 0
    history: bool = False
    threads: int = 1
    dissipates: bool = False


class Part:
    """The particles of one thread: views of a flight's buffers, and the launches of each phase of a step on them."""

    def __init__(self, flight: "Flight", thread: int, first: int, last: int) -> None:
        self.flight: Flight = weakref.proxy(flight)  # no cycle: buffers go when the flight does
        self.thread, self.n = thread, last - first
        self.particles = slice(first, last)
        self.clock = bridge.array(flight.clocks[thread])
        mass, volume, table, elastic, plastic, dissipative, stiffness = flight.constants
        self.table = bridge.array(table)
        self.body = [bridge.array(self._own(mass)), bridge.array(self._own(volume))]
        self.shares, self.moments = flight.space.grid.shares(first, last), None
        if flight.space.between:
            own = self._own(volume)
            self.moments = Moments(flight.space, own, self.shares, thread, self.clock, flight.slots)
        self.transfer = [*flight.space.transfer, self.clock]
        self.stress = [self.clock, bridge.array(self._own(flight.laws.elastic)), bridge.array(self._own(elastic))]
        self.flow = [self.clock, bridge.array(self._own(flight.laws.plastic)), bridge.array(self._own(plastic))]
        x, v, C, F, q, A = (tensor[:, self.particles] for tensor in flight.states)
        self.arrays = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
        self.tau, trial = matrix(self._own(flight.tau)), flight.trial[:, self.particles]
        self.whole = self.tau  # the stress that acts
        if flight.dissipates:
            self.loss, self.relaxed = [self.clock, bridge.array(self._own(dissipative))], _branches(A)
            self.whole = matrix(self._own(flight.whole))
        self.acting, self.sent = self.whole, self.arrays[1]  # stress and velocity that the transfers take
        if flight.hard:
            space = flight.space
            self.contact = [space.grid.dt, self.clock, *self.body, bridge.array(self._own(stiffness))]
            self.contact += [space.kinds, space.field, self.table]
            acting, sent = self._own(flight.acting), self._own(flight.sent)
            self.touched = vector(sent), matrix(acting)
            self.acting, self.sent = matrix(acting), _for_all_slots(sent, flight.slots)
        self.trial, self.trial_row = matrix(trial), matrix(trial[0])

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[self.particles]

    def _launch(self, kernel: Any, dim: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        bridge.launch(kernel, dim, inputs, outputs, on=self.flight.like)

    def scatter(self) -> None:
        """Stress, P2G."""
        f, s, i = self.flight, self.flight.space, self.thread
        x, _, C, *_ = self.arrays
        self._stress()
        for body, own in self.shares:
            nodes = [s.momentum.parts[i][body].rows, s.active_parts[i], s.flags[i * s.bodies + body]]
            inputs = [cut(array, own) for array in (*self.body, x, self.sent, C, self.acting)]
            self._transfer(f.k.p2g, own, inputs, nodes)
        if self.moments:
            self.moments.scatter(x)

    def _transfer(self, kernel: Any, own: slice, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._launch(kernel, own.stop - own.start, [*self.transfer, *inputs], outputs)

    def _stress(self) -> None:
        f, (x, v, C, F, q) = self.flight, self.arrays
        if f.elastic:
            self._launch(f.e.stress, self.n, [*self.stress, F, q], [self.tau])
        if f.dissipates:
            self._launch(f.d.dissipation, self.n, [*self.loss, F, C, self.tau, self.relaxed], [self.whole])
        if f.hard:
            self._launch(f.h.hard_contact, self.n, [*self.contact, x, v, C, F, self.whole], self.touched)

    def sweep(self) -> None:
        """The thread's share of the grid."""
        self.flight.space.launch_sweep(self.clock, self.table, self.thread)

    def gather(self) -> None:
        """G2P, return map, and on to the next step."""
        f, s = self.flight, self.flight.space
        x, v, C, F, q = self.arrays
        outputs = [x, v, C, self.trial if f.plastic else F]
        for body, own in self.shares:
            fields = [int(not f.plastic), cut(x, own), cut(F, own), s.velocity.parts[body].rows]
            self._transfer(f.k.g2p, own, fields, [cut(array, own) for array in outputs])
        if f.plastic:
            self._launch(f.p.return_map, self.n, [*self.flow, self.trial_row, q], [F, q])
        self._tick(1)

    def _tick(self, by: int) -> None:
        active = self.flight.space.active_parts[self.thread]
        self._launch(self.flight.k.tick, active.shape[0], [self.clock, self.flight.slots, by, active], [])

    def start_backward(self, bars: State, constant_bars: Sequence[torch.Tensor], tau_bar: torch.Tensor) -> None:
        """Take the thread's part of the cotangents."""
        x, v, C, F, q, A = (self._own(bar) for bar in bars)
        self.bars = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
        body, table, elastic, plastic, dissipative, stiffness = constant_bars
        if self.flight.dissipates:
            self.relaxed_bar, self.loss_bar = _branches(A), bridge.array(self._own(dissipative))
        self.body_bar_tensor = self._own(body)
        self.body_bar, self.table_bar = bridge.array(self.body_bar_tensor), bridge.array(table[self.thread])
        self.elastic_bar, self.plastic_bar = bridge.array(self._own(elastic)), bridge.array(self._own(plastic))
        self.stiffness_bar = bridge.array(self._own(stiffness))
        self.tau_bar = matrix(self._own(tau_bar))

    def scatter_back(self) -> None:
        """Back to the step before; the stress again, the return map's adjoint, P2G again beside G2P's adjoint."""
        f, s, i = self.flight, self.flight.space, self.thread
        x, _, C, F, q = self.arrays
        x_bar, v_bar, C_bar, F_bar, q_bar = self.bars
        self._tick(-1)
        self._stress()
        if f.plastic:
            self._launch(s.adjoint.trial, self.n, [s.grid.dt, self.clock, C, F], [self.trial_row])
            inputs = [*self.flow, self.trial_row, q, F_bar, q_bar]
            self._launch(f.p.return_map_adjoint, self.n, inputs, [self.plastic_bar])
        inputs = [*self.body, x, self.sent, C, F, self.acting, x_bar, F_bar, v_bar, C_bar]
        for body, own in self.shares:
            nodes = [s.momentum.parts[i][body].rows, s.bars[0].parts[i][body].rows, s.active_parts[i]]
            self._transfer(s.adjoint.scatter_adjoint, own, [cut(array, own) for array in inputs], nodes)
        if self.moments:
            self.moments.scatter(x)

    def sweep_back(self) -> None:
        """The adjoint of the thread's share of the grid."""
        self.flight.space.launch_sweep_back(self.clock, self.table, self.table_bar, self.thread)

    def gather_back(self) -> None:
        """P2G's adjoint and the stress's."""
        f, s = self.flight, self.flight.space
        x, v, C, F, q = self.arrays
        x_bar, v_bar, C_bar, F_bar, q_bar = self.bars
        inputs, bars = [*self.body, x, self.sent, C, C, self.acting], [x_bar, v_bar, C_bar, F_bar]
        for body, own in self.shares:
            nodes = [s.velocity.parts[body].rows, s.bars[1].parts[body].rows]
            both = [*(cut(array, own) for array in inputs), *nodes, *(cut(array, own) for array in bars)]
            outputs = [cut(self.tau_bar, own), self.body_bar[own] if self.moments else self.body_bar]
            self._transfer(s.adjoint.gather_adjoint, own, both, outputs)
        if self.moments:
            self.moments.pull_back(x, x_bar, self.body_bar_tensor)
        if f.hard:
            inputs = [*self.contact, x, v, C, F, self.whole, v_bar, self.tau_bar]
            outputs = [x_bar, C_bar, F_bar, self.body_bar, self.stiffness_bar, self.table_bar]
            self._launch(f.h.hard_contact_adjoint, self.n, inputs, outputs)
        if f.dissipates:
            inputs = [*self.loss, F, C, self.relaxed, self.tau, self.tau_bar, self.relaxed_bar]
            self._launch(f.d.dissipation_adjoint, self.n, inputs, [F_bar, C_bar, self.loss_bar])
        if f.elastic:
            inputs = [*self.stress, F, q, self.tau_bar]
            self._launch(f.e.stress_adjoint, self.n, inputs, [F_bar, q_bar, self.elastic_bar])


class Flight:
    """Buffers and captured steps.

    Args:
        slots: States held at a time.
        laws: The laws of the particles.
        constants: mass, volume, table, elastic, plastic and dissipative coefficients, stiffness of hard contact.
        recording: Whether a backward follows, for which each slot keeps its evaluations of laws in torch.
    """

    def __init__(
        self,
        grid: Grid,
        like: torch.Tensor,
        slots: int,
        laws: Laws,
        constants: Sequence[torch.Tensor],
        schedule: Schedule,
        *,
        recording: bool,
    ) -> None:
        n, real = len(like), bridge.scalar(like)
        self.slots, self.like, self.schedule = slots, like, schedule
        self.threads: int = 1 if like.is_cuda else max(1, min(schedule.threads, n))
        self.space: Workspace = Workspace(grid, like, self.threads)
        self.k, self.e, self.p = self.space.kernels, elasticity.kernels(real), plasticity.kernels(real)
        shipped = laws.plastic[laws.plastic >= 0]
        self.elastic: bool = bool((laws.elastic >= 0).any())
        self.plastic: bool = bool((shipped != plasticity.IDENTITY).any()) or (schedule.history and len(shipped) > 0)
        self.slots_q: int = slots if schedule.history else 1
        self.dissipates, self.d = schedule.dissipates, dissipation.kernels(real)
        self.hard, self.h = is_hard(grid), hard_contact.kernels(real)
        branches = constants[5].shape[1] // 2
        self.slots_A: int = slots if branches else 1

        def new(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=like.dtype, device=like.device)

        self.states: State = (
            new(slots, n, 3), new(slots, n, 3), new(slots, n, 3, 3), new(slots, n, 3, 3), new(self.slots_q, n),
            new(self.slots_A, n, branches, 3, 3),
        )  # fmt: skip
        self.tau, self.trial, self.whole = new(n, 3, 3), new(1, n, 3, 3), new(n if self.dissipates else 0, 3, 3)
        self.sent, self.acting = (new(n if self.hard else 0, *shape) for shape in ((3,), (3, 3)))
        self.clocks: torch.Tensor = torch.zeros(self.threads, 3, dtype=torch.int32, device=like.device)
        self.constants: list[torch.Tensor] = [t.contiguous() for t in constants]
        self.laws, self.recording, self.slot = laws, recording, 0
        self.records: dict[tuple[int, TorchLaw], Record] = {}
        for law in laws.torch:
            law.bind()
        self.bounds: list[int] = [n * k // self.threads for k in range(self.threads + 1)]
        self.parts: list[Part] = [Part(self, k, *ends) for k, ends in enumerate(itertools.pairwise(self.bounds))]
        starts = [0, *itertools.accumulate(grid.bodies[:-1])]
        self.offsets: list[int] = [max(first, start) for first in self.bounds[:-1] for start in starts]
        self._forward: list[list[Any]] = []
        self._backward: list[list[Any]] = []
        self.bars: State | None = None

    def _capture(self, phases: Sequence[Callable[[Part], None]], using: Sequence[Any]) -> list[list[Any]]:
        """A graph per phase and thread; of all phases together where there is one thread."""
        device = wp.device_from_torch(self.like.device)
        for kernel in using:
            wp.load_module(kernel.module, device=device)  # none may load in a capture
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.like.device)) if self.like.is_cuda else None
        groups = [phases] if self.threads == 1 else [[phase] for phase in phases]
        graphs: list[list[Any]] = []
        for group in groups:
            graphs.append([])
            for part in self.parts:
                with bridge.gate.alone(), wp.ScopedCapture(device=device, stream=stream) as capture:
                    for phase in group:
                        phase(part)
                graphs[-1].append(capture.graph)
        return graphs

    def _replay(self, graphs: list[list[Any]]) -> None:
        """One phase after the other, the threads of each side by side."""
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.like.device)) if self.like.is_cuda else None
        for first, *others in graphs:
            waiting = [_pool(self.threads).submit(_replay, graph) for graph in others]
            _replay(first, stream)
            for future in waiting:
                future.result()

    def load(self, state: Sequence[torch.Tensor], step: int) -> None:
        """Put a state into slot 0, as that before step `step`."""
        for buffer, tensor in zip(self.states, state, strict=True):
            buffer[0].copy_(tensor)
        self._set_clock(0, step)

    def _set_clock(self, slot: int, step: int) -> None:
        self.slot = slot
        self.clocks.copy_(torch.tensor([slot, (slot + 1) % self.slots, step], dtype=torch.int32))

    def state(self, slot: int) -> State:
        """Views of the state in a slot."""
        x, v, C, F, q, A = self.states
        slot %= self.slots
        return x[slot], v[slot], C[slot], F[slot], q[slot % self.slots_q], A[slot % self.slots_A]

    def forward(self) -> None:
        """Run one step."""
        if not self._forward:
            laws = [self.e.stress] * self.elastic + [self.p.return_map] * self.plastic
            laws += [self.d.dissipation] * self.dissipates + [self.h.hard_contact] * self.hard
            self._forward = self._capture((Part.scatter, Part.sweep, Part.gather), [self.k.p2g, *laws])
        self._stress_in_torch()
        self._replay(self._forward)
        self._flow_in_torch()
        self.slot = (self.slot + 1) % self.slots

    def _evaluate(self, law: TorchLaw, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of a law at the slot, without a graph; the record stays."""
        try:
            record = law.evaluate(arguments, record=self.recording)
        except Exception:
            self.raise_flagged()  # what it stumbled over
            raise
        if self.recording:
            self.records[self.slot, law] = record
        return tuple(output.detach() for output in record.outputs)

    def _deformation(self, ahead: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of F and q so many slots ahead."""
        slot = (self.slot + ahead) % self.slots
        return self.states[3][slot], self.states[4][slot % self.slots_q]

    def _stress_in_torch(self) -> None:
        F, q = self._deformation(0)
        for law in self.laws.torch:
            if not law.plastic:
                (tau,) = self._evaluate(law, *law.pick(F, q))
                law.put(self.tau, tau)

    def _flow_in_torch(self) -> None:
        """The return maps in torch, from the trial deformation to the next slot."""
        (_, q), (F_next, q_next) = self._deformation(0), self._deformation(1)
        for law in self.laws.torch:
            if law.plastic:
                trial, *history = law.pick(self.trial[0] if self.plastic else F_next, q)
                F, *history = self._evaluate(law, trial.clone() if self.recording else trial, *history)
                law.put(F_next, F)
                if self.slots_q > 1:
                    law.put(q_next, history[0] if history else law.own(q))

    def start_backward(
        self,
        slot: int,
        step: int,
        bars: State,
        constant_bars: Sequence[torch.Tensor],
        source_bars: Sequence[torch.Tensor],
    ) -> None:
        """Prepare to go back from the state in `slot`, that before step `step`, with its cotangents `bars`."""
        self.source_bars = source_bars
        if not self._backward or self.bars is not bars:
            self.bars, self.constant_bars, self.tau_bar = bars, constant_bars, torch.empty_like(self.tau)
            for part in self.parts:
                part.start_backward(bars, constant_bars, self.tau_bar)
            laws = [self.e.stress, self.e.stress_adjoint] * self.elastic + [self.p.return_map_adjoint] * self.plastic
            laws += [self.d.dissipation, self.d.dissipation_adjoint] * self.dissipates
            laws += [self.h.hard_contact, self.h.hard_contact_adjoint] * self.hard
            phases = (Part.scatter_back, Part.sweep_back, Part.gather_back)
            self._backward = self._capture(phases, [self.k.p2g, self.space.adjoint.gather_adjoint, *laws])
        self._set_clock(slot % self.slots, step)

    def backward(self) -> None:
        """Turn the cotangents of a state into those of the state one step before; add those of the constants."""
        self.slot = (self.slot - 1) % self.slots
        self._flow_back_in_torch()
        self._replay(self._backward)
        self._stress_back_in_torch()

    def _pull_back(self, law: TorchLaw, *cotangents: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """The cotangents of a law's inputs at the slot; those of its sources are added."""
        inputs, sources = law.pull_back(self.records[self.slot, law], cotangents)
        for row, bar in zip(law.rows, sources, strict=True):
            if bar is not None:
                self.source_bars[row] += bar
        return inputs

    def _flow_back_in_torch(self) -> None:
        """The return maps' adjoints; the stress again."""
        assert self.bars is not None
        *_, F_bar, q_bar, _ = self.bars
        for law in self.laws.torch:
            if law.plastic:
                for bar, value in zip((F_bar, q_bar), self._pull_back(law, F_bar, q_bar), strict=False):
                    law.put(bar, torch.zeros_like(law.own(bar)) if value is None else value)
            else:
                law.put(self.tau, self.records[self.slot, law].outputs[0].detach())

    def _stress_back_in_torch(self) -> None:
        assert self.bars is not None
        *_, F_bar, q_bar, _ = self.bars
        for law in self.laws.torch:
            if not law.plastic:
                for bar, value in zip((F_bar, q_bar), self._pull_back(law, self.tau_bar), strict=False):
                    if value is not None:
                        law.add(bar, value)

    def raise_flagged(self, *, end: bool = True) -> None:
        """Raise what a step recorded; at the end, where none follows, also what is wrong with the state now."""
        s = self.space
        if end:
            x, v, C, F, *_ = self.states
            inputs = [s.size, s.periodic, s.grid.dx, self.parts[0].clock, vector(x), vector(v), matrix(C), matrix(F)]
            bridge.launch(self.k.validate, len(self.like), inputs, [s.flags[0]], on=self.like)
        s.raise_flagged(self.schedule.first_step, self.offsets)


def _branches(tensor: torch.Tensor) -> wp.array:
    """A view of (..., n, branches, 3, 3), which may hold none."""
    if tensor.numel():
        return matrix(tensor)
    kind = wp.types.matrix((3, 3), bridge.scalar(tensor))
    return wp.zeros(tensor.shape[:-2], dtype=kind, device=wp.device_from_torch(tensor.device))


def _for_all_slots(tensor: torch.Tensor, slots: int) -> wp.array:
    """A view of vectors (n, 3) that looks like a history of them, the same in every slot."""
    one = vector(tensor)
    return wp.array(
        ptr=tensor.data_ptr(),
        dtype=one.dtype,
        shape=(slots, len(tensor)),
        strides=(0, *one.strides),
        device=one.device,
        copy=False,
    )


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads beside the caller's own."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="simengine-mpm")
