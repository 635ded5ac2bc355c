"""The launches of the transfers of one thread and of their adjoints, body by body."""

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from simengine.ops import bridge
from simengine.ops.matter.mpm.grid import Workspace
from simengine.ops.matter.mpm.moments import Moments, cut


class TransferLaunches:
    """P2G, the sweep over the grid and G2P for the particles of one thread, forward and back.

    Arrays of particles have shape (slots, n), or (n,) where only the present is held; those of several bodies are cut
    into the part of each, which has nodes of its own.

    Args:
        space: The grid.
        clock: Tells the kernels which slots they work on.
        table: Frictions and poses of boundaries.
        mass: Masses of the particles [kg], shape (n,).
        volume: Their volumes at rest [m^3], shape (n,).
        first: Number of the first of them in the state.
        thread: Number of the thread.
        slots: Length of the histories.
    """

    def __init__(
        self,
        space: Workspace,
        clock: wp.array,
        table: torch.Tensor,
        *,
        mass: torch.Tensor,
        volume: torch.Tensor,
        first: int = 0,
        thread: int = 0,
        slots: int = 1,
    ) -> None:
        self.space: Workspace = space
        self.clock, self.table, self.thread = clock, bridge.array(table), thread
        self.body: list[Any] = [bridge.array(mass), bridge.array(volume)]
        self._constants, self._like = [*space.transfer, clock], volume
        last = first + len(mass)
        self._shares = space.grid.shares(first, last)
        copy = space.grid.copy_of(first, last).to(volume.device)
        self._copy = bridge.array(copy) if len(copy) else wp.zeros(0, dtype=wp.int32, device=clock.device)
        self._moments = Moments(space, volume, self._shares, thread, clock, slots) if space.between else None

    def _launch(self, kernel: Any, own: slice, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        bridge.launch(kernel, own.stop - own.start, [*self._constants, *inputs], outputs, on=self._like)

    def _bodies(self, own: slice) -> list[Any]:
        """Masses and volumes of the particles `own`, and their copies of the grid."""
        return [*(cut(array, own) for array in self.body), self._copy]

    def scatter(self, x: wp.array, v: wp.array, C: wp.array, stress: wp.array) -> None:
        """P2G: momenta and masses, and the moments of bodies, on the nodes."""
        s, i = self.space, self.thread
        for body, own in self._shares:
            nodes = [s.momentum.parts[i][body].rows, s.active_parts[i], s.flags[i * s.bodies + body]]
            inputs = [*self._bodies(own), *(cut(array, own) for array in (x, v, C, stress))]
            self._launch(s.kernels.p2g, own, inputs, nodes)
        if self._moments:
            self._moments.scatter(x)

    def sweep(self) -> None:
        """From the sums to the velocities of the nodes, for the thread's share of the grid."""
        self.space.launch_sweep(self.clock, self.table, self.thread)

    def gather(self, x: wp.array, F: wp.array, ends: Sequence[wp.array], *, final: bool = True) -> None:
        """G2P.

        Args:
            x: Positions.
            F: Deformation gradients.
            ends: Positions, velocities, velocity gradients and trial deformation gradients after the step, and what the
                grid tells of the crowd.
            final: Whether the trial deformation gradients are those of the end of the step.
        """
        for body, own in self._shares:
            inputs = [int(final), self._copy, cut(x, own), cut(F, own), self.space.velocity.parts[body].rows]
            self._launch(self.space.kernels.g2p, own, inputs, [_held(array, own) for array in ends])

    def scatter_back(self, particles: Sequence[wp.array], bars: Sequence[wp.array]) -> None:
        """P2G again beside the adjoint of G2P.

        Args:
            particles: x, v, C, F and the stress.
            bars: Cotangents of x, F, the crowd, v and C.
        """
        s, i = self.space, self.thread
        for body, own in self._shares:
            nodes = [s.momentum.parts[i][body].rows, s.bars[0].parts[i][body].rows, s.active_parts[i]]
            inputs = [*self._bodies(own), *(_held(array, own) for array in (*particles, *bars))]
            self._launch(s.adjoint.scatter_adjoint, own, inputs, nodes)
        if self._moments:
            self._moments.scatter(particles[0])

    def sweep_back(self, table_bar: wp.array) -> None:
        """The adjoint of the thread's share of the grid, which adds to `table_bar`."""
        self.space.launch_sweep_back(self.clock, self.table, table_bar, self.thread)

    def gather_back(
        self,
        particles: Sequence[wp.array],
        crowd_bar: wp.array,
        bars: Sequence[wp.array],
        stress_bar: wp.array,
        body_bar: torch.Tensor,
    ) -> None:
        """The adjoint of P2G.

        Args:
            particles: x, v, C before the step, C after it and the stress.
            crowd_bar: Cotangents of the crowd.
            bars: Those of x, v, C and F, which change to those before the step.
            stress_bar: Those of the stress, to be written.
            body_bar: Those of masses and volumes, to be added to: (n, 2), float64.
        """
        s = self.space
        for body, own in self._shares:
            nodes = [s.velocity.parts[body].rows, s.bars[1].parts[body].rows, _held(crowd_bar, own)]
            inputs = [*self._bodies(own), *(cut(array, own) for array in particles), *nodes]
            inputs += [cut(array, own) for array in bars]
            self._launch(s.adjoint.gather_adjoint, own, inputs, [cut(stress_bar, own), bridge.array(body_bar[own])])
        if self._moments:
            self._moments.pull_back(particles[0], bars[0], body_bar)


def _held(array: wp.array, own: slice) -> wp.array:
    """The particles `own`, of an array that may hold none where nobody asks for them."""
    return cut(array, own) if array.shape[-1] else array
