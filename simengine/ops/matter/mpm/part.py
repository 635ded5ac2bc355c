"""The share of one thread in the steps of a rollout."""

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, vector
from simengine.ops.matter.mpm.buffers import Buffers, State
from simengine.ops.matter.mpm.launches import TransferLaunches


class ThreadPart:
    """The particles of one thread: views of the buffers, and the launches of each phase of a step on them."""

    def __init__(self, buffers: Buffers, thread: int, first: int, last: int) -> None:
        self.buffers = buffers
        self.thread, self.n = thread, last - first
        self.particles = slice(first, last)
        self.clock = bridge.array(buffers.clocks[thread])
        mass, volume, table, elastic, plastic, dissipative, stiffness = buffers.constants
        self.transfers = TransferLaunches(
            buffers.space,
            self.clock,
            table,
            mass=self._own(mass),
            volume=self._own(volume),
            first=first,
            thread=thread,
            slots=buffers.slots,
        )
        self.stress = [self.clock, bridge.array(self._own(buffers.laws.elastic)), bridge.array(self._own(elastic))]
        self.flow = [self.clock, bridge.array(self._own(buffers.laws.plastic)), bridge.array(self._own(plastic))]
        x, v, C, F, q, A = (tensor[:, self.particles] for tensor in buffers.states)
        self.arrays = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
        self.tau, trial = matrix(self._own(buffers.tau)), buffers.trial[:, self.particles]
        self.whole = self.tau  # the stress that acts
        if buffers.dissipates:
            self.loss, self.relaxed = [self.clock, bridge.array(self._own(dissipative))], _branches(A)
            self.whole = matrix(self._own(buffers.whole))
        self.acting, self.moving, self.sheared = self.whole, self.arrays[1], self.arrays[2]
        if buffers.schedule.slows:
            slowed_v, slowed_C = (self._own(tensor) for tensor in buffers.slowed)
            self.slowed = vector(slowed_v), matrix(slowed_C)
            self.moving, self.sheared = (_for_all_slots(array, buffers.slots) for array in self.slowed)
        self.sent = self.moving  # with `acting` and `sheared` what the transfers take
        if buffers.hard:
            space = buffers.space
            self.contact = [space.grid.dt, self.clock, *self.transfers.body, bridge.array(self._own(stiffness))]
            self.contact += [space.kinds, space.field, self.transfers.table]
            acting, sent = self._own(buffers.acting), self._own(buffers.sent)
            self.touched = vector(sent), matrix(acting)
            self.acting, self.sent = matrix(acting), _for_all_slots(vector(sent), buffers.slots)
        if buffers.part is not None:
            self.load = [buffers.space.grid.dt, self.clock, *self.transfers.body, bridge.array(self._own(buffers.part))]
            self.load += [self.transfers.table]
            moving, acting = (self._own(tensor) for tensor in buffers.pulled)
            self.borne, self.pulled = (self.sent, self.acting), (vector(moving), matrix(acting))
            self.sent, self.acting = _for_all_slots(self.pulled[0], buffers.slots), self.pulled[1]
        self.trial, self.trial_row = matrix(trial), matrix(trial[0])
        self.crowd, self.crowd_bar = buffers.space.no_crowd, buffers.space.no_crowd_bar
        if buffers.packs and buffers.critical is not None:
            four = wp.types.vector(4, bridge.scalar(buffers.like))
            self.packing = [self.clock, *self.transfers.body, bridge.array(self._own(buffers.critical))]
            self.crowd = bridge.array(buffers.crowd[:, self.particles], four)
            self.crowd_bar = bridge.array(self._own(buffers.crowd_bar), four)

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor[self.particles]

    def _launch(self, kernel: Any, dim: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        bridge.launch(kernel, dim, inputs, outputs, on=self.buffers.like)

    def scatter(self) -> None:
        """Stress, P2G."""
        self._stress()
        self.transfers.scatter(self.arrays[0], self.sent, self.sheared, self.acting)

    def _stress(self) -> None:
        b, (x, v, C, F, q) = self.buffers, self.arrays
        if b.elastic:
            self._launch(b.e.stress, self.n, [*self.stress, F, q], [self.tau])
        if b.dissipates:
            self._launch(b.d.dissipation, self.n, [*self.loss, F, C, self.tau, self.relaxed], [self.whole])
        if b.schedule.slows:
            self._launch(b.d.slow, self.n, [*self.loss, v, C], self.slowed)
        if b.hard:
            inputs = [*self.contact, x, self.moving, self.sheared, F, self.whole]
            self._launch(b.h.hard_contact, self.n, inputs, self.touched)
        if b.loaded:
            self._launch(b.l.load, self.n, [*self.load, F, *self.borne], self.pulled)

    def sweep(self) -> None:
        """The thread's share of the grid."""
        self.transfers.sweep()

    def gather(self) -> None:
        """G2P, return map, and on to the next step."""
        b, s = self.buffers, self.buffers.space
        x, v, C, F, q = self.arrays
        ends = [x, v, C, self.trial if b.plastic else F, self.crowd]
        self.transfers.gather(x, F, ends, final=not b.plastic)
        if b.plastic:
            self._launch(b.p.return_map, self.n, [*self.flow, self.trial_row, q], [F, q])
        if b.packs:
            self._launch(b.c.pack, self.n, [s.grid.dx, *self.packing], [self.crowd, q])
        self._tick(1)

    def _tick(self, by: int) -> None:
        active = self.buffers.space.active_parts[self.thread]
        self._launch(self.buffers.k.tick, active.shape[0], [self.clock, self.buffers.slots, by, active], [])

    def start_backward(self, bars: State, constant_bars: Sequence[torch.Tensor], tau_bar: torch.Tensor) -> None:
        """Take the thread's part of the cotangents."""
        x, v, C, F, q, A = (self._own(bar) for bar in bars)
        self.bars = vector(x), vector(v), matrix(C), matrix(F), bridge.array(q)
        body, table, elastic, plastic, dissipative, stiffness = constant_bars
        if self.buffers.dissipates:
            self.relaxed_bar, self.loss_bar = _branches(A), bridge.array(self._own(dissipative))
        self.body_bar_tensor = self._own(body)
        self.body_bar, self.table_bar = bridge.array(self.body_bar_tensor), bridge.array(table[self.thread])
        self.elastic_bar, self.plastic_bar = bridge.array(self._own(elastic)), bridge.array(self._own(plastic))
        self.stiffness_bar = bridge.array(self._own(stiffness))
        self.tau_bar = matrix(self._own(tau_bar))

    def scatter_back(self) -> None:
        """Back to the step before; the stress again, the return map's adjoint, P2G again beside G2P's adjoint."""
        b, s = self.buffers, self.buffers.space
        x, _, C, F, q = self.arrays
        x_bar, v_bar, C_bar, F_bar, q_bar = self.bars
        self._tick(-1)
        self._stress()
        if b.packs:
            outputs = [q_bar, self.crowd_bar, self.body_bar]
            self._launch(b.c.pack_adjoint, self.n, [*self.packing, self.crowd, q], outputs)
        if b.plastic:
            self._launch(s.adjoint.trial, self.n, [s.grid.dt, self.clock, C, F], [self.trial_row])
            inputs = [*self.flow, self.trial_row, q, F_bar, q_bar]
            self._launch(b.p.return_map_adjoint, self.n, inputs, [self.plastic_bar])
        bars = [x_bar, F_bar, self.crowd_bar, v_bar, C_bar]
        self.transfers.scatter_back([x, self.sent, self.sheared, F, self.acting], bars)

    def sweep_back(self) -> None:
        """The adjoint of the thread's share of the grid."""
        self.transfers.sweep_back(self.table_bar)

    def gather_back(self) -> None:
        """P2G's adjoint and the stress's."""
        b = self.buffers
        x, v, C, F, q = self.arrays
        x_bar, v_bar, C_bar, F_bar, q_bar = self.bars
        particles, bars = [x, self.sent, self.sheared, C, self.acting], [x_bar, v_bar, C_bar, F_bar]
        self.transfers.gather_back(particles, self.crowd_bar, bars, self.tau_bar, self.body_bar_tensor)
        if b.loaded:
            outputs = [F_bar, self.body_bar, self.table_bar]
            self._launch(b.l.load_adjoint, self.n, [*self.load, F, v_bar, self.tau_bar], outputs)
        if b.hard:
            inputs = [*self.contact, x, self.moving, self.sheared, F, self.whole, v_bar, self.tau_bar]
            outputs = [x_bar, C_bar, F_bar, self.body_bar, self.stiffness_bar, self.table_bar]
            self._launch(b.h.hard_contact_adjoint, self.n, inputs, outputs)
        if b.schedule.slows:
            self._launch(b.d.slow_adjoint, self.n, [*self.loss, v, C, v_bar, C_bar], [self.loss_bar])
        if b.dissipates:
            inputs = [*self.loss, F, C, self.relaxed, self.tau, self.tau_bar, self.relaxed_bar]
            self._launch(b.d.dissipation_adjoint, self.n, inputs, [F_bar, C_bar, self.loss_bar])
        if b.elastic:
            inputs = [*self.stress, F, q, self.tau_bar]
            self._launch(b.e.stress_adjoint, self.n, inputs, [F_bar, q_bar, self.elastic_bar])


def _branches(tensor: torch.Tensor) -> wp.array:
    """A view of (..., n, branches, 3, 3), which may hold none."""
    if tensor.numel():
        return matrix(tensor)
    kind = wp.types.matrix((3, 3), bridge.scalar(tensor))
    return wp.zeros(tensor.shape[:-2], dtype=kind, device=wp.device_from_torch(tensor.device))


def _for_all_slots(one: wp.array, slots: int) -> wp.array:
    """A view of vectors or matrices (n,) that looks like a history of them, the same in every slot."""
    return wp.array(
        ptr=one.ptr,
        dtype=one.dtype,
        shape=(slots, *one.shape),
        strides=(0, *one.strides),
        device=one.device,
        copy=False,
    )
