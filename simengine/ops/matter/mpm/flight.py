"""The steps of one rollout of MPM as captured launches.

A graph holds the launches of one thread. Where several share the particles, each phase of a step (scatter, sweep,
gather) has a graph per thread, replayed side by side; a thread has sums over the grid of its own, and blocks to sweep.

Laws in torch are evaluated before (stress) and after (return map) the replay of a step, for all particles at once.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp

from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, vector
from simengine.ops.matter.mpm.buffers import Buffers, State
from simengine.ops.matter.mpm.laws import LawRecord, TorchLaw
from simengine.ops.matter.mpm.part import ThreadPart


def _replay(graph: Any, stream: Any = None) -> None:
    with bridge.gate:
        wp.capture_launch(graph, stream)


class Flight:
    """Captured steps on buffers of their own.

    Args:
        buffers: Of the rollout.
        recording: Whether a backward follows, for which each slot keeps its evaluations of laws in torch.
    """

    def __init__(self, buffers: Buffers, *, recording: bool) -> None:
        self.buffers, self.recording, self.slot = buffers, recording, 0
        self.slots, self.like, self.laws = buffers.slots, buffers.like, buffers.laws
        self.records: dict[tuple[int, TorchLaw], LawRecord] = {}
        for law in self.laws.torch:
            law.bind()
        n, threads = len(self.like), buffers.threads
        bounds = [n * k // threads for k in range(threads + 1)]
        self.parts: list[ThreadPart] = [
            ThreadPart(buffers, k, *ends) for k, ends in enumerate(itertools.pairwise(bounds))
        ]
        starts = buffers.space.grid.starts
        self.offsets: list[int] = [max(first, start) for first in bounds[:-1] for start in starts]
        self._forward: list[list[Any]] = []
        self._backward: list[list[Any]] = []
        self.bars: State | None = None

    def _capture(self, phases: Sequence[Callable[[ThreadPart], None]], using: Sequence[Any]) -> list[list[Any]]:
        """A graph per phase and thread; of all phases together where there is one thread."""
        device = wp.device_from_torch(self.like.device)
        for kernel in using:
            wp.load_module(kernel.module, device=device)  # none may load in a capture
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.like.device)) if self.like.is_cuda else None
        groups = [phases] if self.buffers.threads == 1 else [[phase] for phase in phases]
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
            waiting = [_pool(self.buffers.threads).submit(_replay, graph) for graph in others]
            _replay(first, stream)
            for future in waiting:
                future.result()

    def load(self, state: Sequence[torch.Tensor], step: int) -> None:
        """Put a state into slot 0, as that before step `step`."""
        for buffer, tensor in zip(self.buffers.states, state, strict=True):
            buffer[0].copy_(tensor)
        self._set_clock(0, step)

    def _set_clock(self, slot: int, step: int) -> None:
        self.slot = slot
        self.buffers.clocks.copy_(torch.tensor([slot, (slot + 1) % self.slots, step], dtype=torch.int32))

    def forward(self) -> None:
        """Run one step."""
        if not self._forward:
            self._forward = self._capture(
                (ThreadPart.scatter, ThreadPart.sweep, ThreadPart.gather), self.buffers.kernels()
            )
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
        return self.buffers.states[3][slot], self.buffers.states[4][slot % self.buffers.slots_q]

    def _stress_in_torch(self) -> None:
        F, q = self._deformation(0)
        for law in self.laws.torch:
            if not law.plastic:
                (tau,) = self._evaluate(law, *law.pick(F, q))
                law.put(self.buffers.tau, tau)

    def _flow_in_torch(self) -> None:
        """The return maps in torch, from the trial deformation to the next slot."""
        (_, q), (F_next, q_next) = self._deformation(0), self._deformation(1)
        for law in self.laws.torch:
            if law.plastic:
                trial, *history = law.pick(self.buffers.trial[0] if self.buffers.plastic else F_next, q)
                F, *history = self._evaluate(law, trial.clone() if self.recording else trial, *history)
                law.put(F_next, F)
                if self.buffers.slots_q > 1:
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
            self.bars, self.constant_bars, self.tau_bar = bars, constant_bars, torch.empty_like(self.buffers.tau)
            for part in self.parts:
                part.start_backward(bars, constant_bars, self.tau_bar)
            phases = (ThreadPart.scatter_back, ThreadPart.sweep_back, ThreadPart.gather_back)
            self._backward = self._capture(phases, self.buffers.kernels(backward=True))
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
                law.put(self.buffers.tau, self.records[self.slot, law].outputs[0].detach())

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
        s = self.buffers.space
        if end:
            x, v, C, F, *_ = self.buffers.states
            inputs = [s.size, s.periodic, s.grid.dx, self.parts[0].clock, vector(x), vector(v), matrix(C), matrix(F)]
            bridge.launch(self.buffers.k.validate, len(self.like), inputs, [s.flags[0]], on=self.like)
        s.raise_flagged(self.buffers.schedule.first_step, self.offsets)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads beside the caller's own."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="simengine-mpm")
