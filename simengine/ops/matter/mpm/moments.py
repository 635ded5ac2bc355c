"""Moments of the volume of bodies on the grid, by which contact tells them apart; scattered as momentum is.

P2G of particles with a "mass" V, no velocity and C = I puts V w_ip (x_i - x_p) and V w_ip on the nodes, and its adjoint
is that of any P2G.
"""

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from simengine.ops import bridge
from simengine.ops.matter.constitutive import matrix, vector
from simengine.ops.matter.mpm.grid import Workspace


def repeated(one: wp.array, shape: tuple[int, ...]) -> wp.array:
    """An array that holds the first element of `one` everywhere."""
    return wp.array(ptr=one.ptr, dtype=one.dtype, shape=shape, strides=(0,) * len(shape), device=one.device, copy=False)


def cut(array: wp.array, own: slice) -> wp.array:
    """The particles `own` of an array of shape (n,), or (slots, n)."""
    if own == slice(0, array.shape[-1]):
        return array
    return array[own] if array.ndim == 1 else array[:, own]


class Moments:
    """The launches for the particles of one thread.

    Args:
        space: The grid, of several bodies.
        volume: Volumes at rest of the particles [m^3], shape (n,).
        shares: The bodies among them and the part of each.
        thread: Number of the thread.
        clock: Of the history of positions.
        slots: Its length.
    """

    def __init__(
        self,
        space: Workspace,
        volume: torch.Tensor,
        shares: Sequence[tuple[int, slice]],
        thread: int,
        clock: wp.array,
        slots: int,
    ) -> None:
        self.space: Workspace = space
        self.shares = shares
        self.thread: int = thread
        self.volume: Any = bridge.array(volume)
        self._transfer, n = [*space.transfer, clock], len(volume)
        self._kept = volume.new_zeros(1, 3), volume.new_zeros(1, 3, 3), torch.eye(3).to(volume)[None]
        zero, none, eye = vector(self._kept[0]), matrix(self._kept[1]), matrix(self._kept[2])
        self.still: Any = repeated(zero, (slots, n))
        self.unit: Any = repeated(eye, (slots, n))
        self.flat: Any = repeated(none, (slots, n))
        self.slack: Any = repeated(none, (n,))
        self._like, self._scratch = volume, list[Any]()
        self._none = wp.zeros(0, dtype=wp.int32, device=clock.device)  # one grid, without copies

    def scatter(self, x: wp.array) -> None:
        """Add the moments of particles at x, (slots, n)."""
        space = self.space
        for body, own in self.shares:
            volume = cut(self.volume, own)
            state = [cut(array, own) for array in (x, self.still, self.unit, self.slack)]
            nodes = [
                space.moments.parts[self.thread][body].rows,
                space.active_parts[self.thread],
                space.flags[self.thread * space.bodies + body],
            ]
            inputs = [*self._transfer, volume, volume, self._none, *state]
            bridge.launch(space.kernels.p2g, own.stop - own.start, inputs, nodes, on=self._like)

    def pull_back(self, x: wp.array, x_bar: wp.array, body_bar: torch.Tensor) -> None:
        """Add the cotangents of x, and of the volumes to the second column of `body_bar`, (n, 2), float64."""
        space, n = self.space, len(self._like)
        if not self._scratch:
            new = self._like.new_zeros
            self._tensors = new(n, 3), new(n, 3, 3), new(n, 3, 3), new(n, 3, 3), new(1, 12)
            velocity, *matrices = self._tensors[:4]
            self._scratch = [vector(velocity), *(matrix(tensor) for tensor in matrices)]
            nodes = space.velocity.parts[0].rows
            nothing = bridge.array(self._tensors[4], nodes.dtype) if nodes.dtype._length_ == 12 else None
            if nothing is None:
                nothing = bridge.array(self._tensors[4].reshape(3, 4), nodes.dtype)
            self._nothing = repeated(nothing, nodes.shape)
        second = bridge.array(body_bar)  # both columns of what the kernel writes: its own second is zero, for no stress
        second = wp.array(
            ptr=second.ptr + second.strides[1], dtype=second.dtype, shape=second.shape,
            strides=(second.strides[0], 0), device=second.device, copy=False,
        )  # fmt: skip
        for body, own in self.shares:
            volume = cut(self.volume, own)
            state = [cut(array, own) for array in (x, self.still, self.unit, self.flat, self.slack)]
            nodes = [self._nothing, space.moments_bar.parts[body].rows, space.no_crowd_bar]
            v_bar, C_bar, F_bar, tau_bar = (cut(array, own) for array in self._scratch)
            inputs = [*self._transfer, volume, volume, self._none, *state, *nodes, cut(x_bar, own), v_bar, C_bar, F_bar]
            outputs = [tau_bar, second[own]]
            bridge.launch(space.adjoint.gather_adjoint, own.stop - own.start, inputs, outputs, on=self._like)
