"""The grid of MPM: its description, its errors, and the arrays that the transfer kernels work on."""

import dataclasses
import itertools
import math
import mmap
import threading
from collections.abc import Sequence
from typing import Any

import torch
import warp as wp

from simengine.kernels.matter import between_bodies, contact, mpm_adjoint, signed_distance
from simengine.kernels.matter import mpm as kernels
from simengine.kernels.matter.mpm_stencil import BLOCK
from simengine.ops import bridge

_FIELDS = {
    kernels.BAD_STRESS: ("tau", "the stress (or F)"),
    kernels.BAD_X: ("x", "the position"),
    kernels.BAD_V: ("v", "the velocity"),
    kernels.BAD_C: ("C", "the velocity gradient C"),
    kernels.BAD_F: ("F", "the deformation gradient F"),
}


class SimulationError(RuntimeError):
    """A particle left the grid or a field became non-finite.

    Attributes:
        step: Number of the step.
        particle: Index of the first particle found.
        field: `"x"`, `"v"`, `"C"`, `"F"`, `"tau"`, or `"grid"` for a particle off the grid.
    """

    def __init__(self, message: str, *, step: int, particle: int, field: str) -> None:
        super().__init__(message)
        self.step: int = step
        self.particle: int = particle
        self.field: str = field


class SignedDistance:
    """A signed distance in quadratic B-splines on a box, see `simengine.kernels.matter.contact`; equal only to itself.

    Attributes:
        coefficients: Of the nodes [m], shape (nx, ny, nz), float64.
        half_size: The nodes fill the box -half_size..half_size [m].
    """

    def __init__(self, coefficients: torch.Tensor, half_size: tuple[float, float, float]) -> None:
        self.coefficients: torch.Tensor = coefficients
        self.half_size: tuple[float, float, float] = half_size


def _error(code: int, step: int, particle: int) -> SimulationError:
    where = f"step {step}, particle {particle}"
    if code == kernels.LEFT_GRID:
        message = f"{where}: the particle left the grid; use a larger grid, a smaller dt or walls that hold it"
        return SimulationError(message, step=step, particle=particle, field="grid")
    field, what = _FIELDS[code]
    message = f"{where}: {what} is not finite; the time step is probably too large"
    return SimulationError(message, step=step, particle=particle, field=field)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a step needs besides tensors.

    Attributes:
        size: Nodes per axis.
        dx: Spacing of nodes [m].
        dt: Time step [s].
        gravity: Acceleration [m/s^2]; the table may add another, which has a gradient.
        epsilon: Added to a node's mass [kg] where momentum is divided by it.
        faces: Contact of the six faces (-x, +x, -y, ...): 0 none, 1 sticky, 2 separating.
        thickness: Nodes below this index, or above size - thickness, are in a face's layer.
        periodic: Axes that wrap around.
        kinds: Shape and contact of each rigid body, see `simengine.kernels.matter.contact`.
        fields: The signed distances of the bodies whose shape is a field, in their order.
        bodies: Particles of each deformable body that has a velocity field of its own, in their order; none where all
            share one.
        pairs: Two of them and how they touch, see `simengine.kernels.matter.pair_contact`; their frictions,
            margins [cells] and stiffnesses [Pa] stand in rows of the table after these, one after the other. Without
            pairs nobody touches anybody, and each body has a copy of the grid.
        loads: Parts of bodies that bear a load, see `simengine.kernels.matter.loads`; theirs are the last rows.
    """

    size: tuple[int, int, int]
    dx: float
    dt: float
    gravity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    epsilon: float = 0.0
    faces: tuple[int, int, int, int, int, int] = (2, 2, 2, 2, 2, 2)
    thickness: int = 3
    periodic: tuple[bool, bool, bool] = (False, False, False)
    kinds: tuple[tuple[int, int], ...] = ()
    fields: tuple[SignedDistance, ...] = ()
    bodies: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int, int], ...] = ()
    loads: int = 0

    @property
    def rows(self) -> int:
        """Rows of a step in the table: faces, rigid bodies, frictions, margins and stiffnesses of pairs, loads."""
        return 1 + len(self.kinds) + 3 * -(-len(self.pairs) // contact.COLUMNS) + self.loads

    @property
    def copies(self) -> int:
        """How many of the grid there are: one for each body where none touches another."""
        return 1 if self.pairs else max(1, len(self.bodies))

    @property
    def starts(self) -> list[int]:
        """The first particle of each body that is launched by itself."""
        return [0, *itertools.accumulate(self.bodies[:-1])] if self.pairs else [0]

    def copy_of(self, first: int, last: int) -> torch.Tensor:
        """The copy of the grid on which each of these particles is, int32; empty where there is but one."""
        if self.copies == 1:
            return torch.zeros(0, dtype=torch.int32)
        counts = torch.tensor(self.bodies)
        return torch.arange(len(counts), dtype=torch.int32).repeat_interleave(counts)[first:last].contiguous()

    def shares(self, first: int, last: int) -> list[tuple[int, slice]]:
        """The bodies among the particles from `first` to `last`, and the part of each, counted from `first`."""
        if not self.pairs:
            return [(0, slice(0, last - first))]
        ends = [*self.starts, sum(self.bodies)]
        cuts = [(max(start, first) - first, min(end, last) - first) for start, end in itertools.pairwise(ends)]
        return [(body, slice(*cut)) for body, cut in enumerate(cuts) if cut[1] > cut[0]]

    def __post_init__(self) -> None:
        if min(self.size) < 4 or self.dx <= 0 or self.dt <= 0:
            raise ValueError(
                f"a grid needs at least 4 nodes per axis, dx > 0 and dt > 0, got {self.size}, {self.dx:g}, {self.dt:g}"
            )
        for axis, periodic in enumerate(self.periodic):
            if periodic and self.size[axis] % BLOCK:
                raise ValueError(
                    f"a periodic axis needs a multiple of {BLOCK} nodes, axis {axis} has {self.size[axis]}"
                )


def rigid_bodies(grid: Grid, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The arrays `kinds` and `field` of the grid kernels."""
    kinds = torch.zeros(len(grid.kinds), signed_distance.KIND_COLUMNS, dtype=torch.int32)
    fields, start = iter(grid.fields), 0
    for row, kind in zip(kinds, grid.kinds, strict=True):
        row[:2] = torch.tensor(kind)
        if kind[0] == signed_distance.FIELD:
            shape = next(fields).coefficients.shape
            row[2:] = torch.tensor([start, *shape])
            start += shape.numel()
    coefficients = [field.coefficients.flatten() for field in grid.fields] or [torch.zeros(1)]
    return kinds.to(like.device), torch.cat(coefficients).to(like)


class Nodes:
    """Four numbers per node: as one array, and as what the transfer kernels read and write.

    Attributes:
        tensor: Shape (nodes + 2, 4): the last row of three nodes ends beyond the grid.
        array: The same for the sweep over the grid.
        rows: The same for the transfers: where `packed`, overlapping rows of three nodes along z.
    """

    def __init__(self, tensor: torch.Tensor, *, packed: bool) -> None:
        real = bridge.scalar(tensor)
        self.tensor = tensor
        self.array = self.rows = bridge.array(tensor, wp.types.vector(4, real))
        if packed:
            self.rows = wp.array(
                ptr=tensor.data_ptr(),
                dtype=wp.types.vector(12, real),
                shape=(len(tensor) - 2,),
                strides=(4 * tensor.element_size(),),
                device=self.array.device,
                copy=False,
            )


def _untouched(*shape: int, like: torch.Tensor) -> torch.Tensor:
    """Zeros; on a CPU pages that nothing writes take no memory, as those of `torch.zeros` do."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    size = math.prod(shape) * like.element_size()
    own = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not a child's too
    return torch.frombuffer(mmap.mmap(-1, size, **own), dtype=like.dtype).view(shape)


class Sums:
    """Four numbers per node for each thread that shares the particles and each body, zero between two passes.

    Attributes:
        array: Shape (threads, nodes + 2), or (threads, bodies, nodes + 2) for several bodies.
        parts: The nodes of each thread and body.
    """

    def __init__(self, like: torch.Tensor, threads: int, bodies: int, nodes: int, *, packed: bool) -> None:
        tensor = _untouched(threads, bodies, nodes + 2, 4, like=like)
        whole = tensor[:, 0] if bodies == 1 else tensor
        self.array: Any = bridge.array(whole, wp.types.vector(4, bridge.scalar(like)))
        self.parts: list[list[Nodes]] = [[Nodes(own, packed=packed) for own in part] for part in tensor]


class NodeFields:
    """Four numbers per node for each body.

    Attributes:
        array: Shape (nodes + 2,), or (bodies, nodes + 2) for several bodies.
        parts: The nodes of each body.
    """

    def __init__(self, like: torch.Tensor, bodies: int, nodes: int, *, packed: bool) -> None:
        tensor = _untouched(bodies, nodes + 2, 4, like=like)
        self.array: Any = bridge.array(tensor[0] if bodies == 1 else tensor, wp.types.vector(4, bridge.scalar(like)))
        self.parts: list[Nodes] = [Nodes(own, packed=packed) for own in tensor]


class Workspace:
    """Grid arrays and constants of one grid on one device; between two passes the sums are zero.

    Args:
        grid: The grid.
        like: A tensor of the dtype and device to use.
        threads: How many threads share the particles, on a CPU.
    """

    def __init__(self, grid: Grid, like: torch.Tensor, threads: int = 1) -> None:
        real = bridge.scalar(like)
        whole = (grid.copies * grid.size[0], *grid.size[1:])
        self.nodes: int = math.prod(whole)
        blocks = math.prod(-(-n // BLOCK) for n in whole)
        self.grid: Grid = grid
        self.threads: int = threads
        self.blocks: int = blocks
        self._like = like[:0]
        self._packed = not like.is_cuda and not any(grid.periodic)
        variant = real, any(grid.periodic), self._packed, grid.copies > 1
        self.kernels, self.adjoint = kernels.kernels(*variant), mpm_adjoint.kernels(*variant)
        self.bodies: int = len(grid.starts)
        self.between = between_bodies.kernels(real) if self.bodies > 1 else None
        self.momentum: Sums = self._sums()
        self.velocity: NodeFields = self._fields()
        if self.between:
            self.moments: Sums = self._sums()
            pairs = torch.tensor(grid.pairs, dtype=torch.int32, device=like.device)
            self.pairs: Any = bridge.array(pairs)
        self._bars: tuple[Sums, NodeFields] | None = None
        self._moments_bar: NodeFields | None = None
        self.active_tensor: torch.Tensor = torch.zeros(threads, blocks, dtype=torch.int32, device=like.device)
        self.active: Any = bridge.array(self.active_tensor)
        self.active_parts: list[Any] = [bridge.array(part) for part in self.active_tensor]
        self.flag_tensor: torch.Tensor = torch.zeros(threads * self.bodies, 3, dtype=torch.int32, device=like.device)
        self.flags: list[Any] = [bridge.array(part) for part in self.flag_tensor]  # of a thread and a body
        self.faces: Any = bridge.array(torch.tensor(grid.faces, dtype=torch.int32, device=like.device))
        kinds, field = rigid_bodies(grid, like)
        self.kinds: Any = (
            bridge.array(kinds) if len(kinds) else wp.zeros(kinds.shape, dtype=wp.int32, device=self.faces.device)
        )
        self.field: Any = bridge.array(field)
        self.lanes = 64 if like.is_cuda else 1
        self.size = wp.vec3i(*grid.size)
        self.periodic = wp.vec3i(*(int(p) for p in grid.periodic))
        self.transfer: list[Any] = [self.size, self.periodic, grid.dx, grid.dt]
        self._gravity = wp.types.vector(3, real)(*grid.gravity)
        four, device = wp.types.vector(4, real), self.faces.device
        self.no_crowd: Any = wp.zeros((0, 0), dtype=four, device=device)  # where no law asks for the packing
        self.no_crowd_bar: Any = wp.zeros(0, dtype=four, device=device)

    def _sums(self) -> Sums:
        return Sums(self._like, self.threads, self.bodies, self.nodes, packed=self._packed)

    def _fields(self) -> NodeFields:
        return NodeFields(self._like, self.bodies, self.nodes, packed=self._packed)

    @property
    def bars(self) -> tuple[Sums, NodeFields]:
        """Cotangents of the nodes' velocities, and of their momenta and masses; made on first use."""
        if self._bars is None:
            self._bars = self._sums(), self._fields()
        return self._bars

    @property
    def moments_bar(self) -> NodeFields:
        """Cotangents of the moments of the bodies' volumes; made on first use."""
        if self._moments_bar is None:
            self._moments_bar = self._fields()
        return self._moments_bar

    def launch_sweep(self, clock: wp.array, table: wp.array, thread: int = 0) -> None:
        """From the sums to the nodes' velocities, for the blocks of a thread."""
        motion, kernel = self.motion(clock, table, thread), self.kernels.grid_op
        inputs = [*motion, self.grid.copies, self.momentum.array]
        if self.between:
            kernel, inputs = self.between.grid_op, [*motion, self.pairs, self.momentum.array, self.moments.array]
        bridge.launch(kernel, self.sweep(thread), inputs, [self.velocity.array], on=self._like)

    def launch_sweep_back(self, clock: wp.array, table: wp.array, table_bar: wp.array, thread: int = 0) -> None:
        """The same again, and from the cotangents of the velocities to those of the sums."""
        motion, bars = self.motion(clock, table, thread), self.bars
        inputs = [*motion, self.grid.copies, self.momentum.array, bars[0].array]
        outputs, kernel = [self.velocity.array, bars[1].array, table_bar], self.adjoint.grid_adjoint
        if self.between:
            kernel = self.between.grid_adjoint
            inputs = [*motion, self.pairs, self.momentum.array, self.moments.array, bars[0].array]
            outputs = [*outputs[:2], self.moments_bar.array, table_bar]
        bridge.launch(kernel, self.sweep(thread), inputs, outputs, on=self._like)

    def sweep(self, thread: int = 0) -> tuple[int, int]:
        """The dimensions of a launch over the blocks of a thread: every so many, from its number."""
        return -(-(self.blocks - thread) // self.threads), self.lanes

    def motion(self, clock: wp.array, table: wp.array, thread: int = 0) -> list[Any]:
        """The first arguments of the grid kernels, for the blocks of a thread."""
        grid = self.grid
        constants = [self.size, self.lanes, thread, self.threads, grid.dx, grid.dt, grid.epsilon, self._gravity]
        return [*constants, clock, self.faces, grid.thickness, self.kinds, self.field, table, self.active]

    def raise_flagged(self, first_step: int = 0, offsets: Sequence[int] = (0,)) -> None:
        """Raise what a kernel recorded first, and clear the record; synchronises with the device.

        Args:
            first_step: Number of the step that the clock calls 0.
            offsets: First particle of each thread and body, for all that have a flag.

        Raises:
            SimulationError: A particle left the grid or a field became non-finite.
        """
        flags = zip(self.flag_tensor.tolist(), offsets, strict=True)
        found = [(step, offset + particle, code) for (code, step, particle), offset in flags if code]
        if found:
            self.flag_tensor.zero_()
            step, particle, code = min(found)
            raise _error(code, first_step + step, particle)


_workspaces: dict[tuple[Any, ...], Workspace] = {}


def workspace(grid: Grid, like: torch.Tensor) -> Workspace:
    """The workspace for single steps on `grid`, made once per thread, dtype and device (the last four are kept)."""
    key = (grid, like.dtype, like.device, threading.get_ident())
    found = _workspaces.get(key)
    if found is None:
        while len(_workspaces) >= 4:
            _workspaces.pop(next(iter(_workspaces)))
        found = _workspaces[key] = Workspace(grid, like)
    return found


def forget_workspaces() -> None:
    """Make new ones from here on: after an interruption the sums may not be zero."""
    _workspaces.clear()


def raise_invalid(x: torch.Tensor, v: torch.Tensor, C: torch.Tensor, tau: torch.Tensor, grid: Grid, step: int) -> None:
    """Raise what the kernels of Warp record, for those that do not look.

    Raises:
        SimulationError: A particle left the grid or a field is not finite.
    """
    size, periodic = (torch.tensor(value, device=x.device) for value in (grid.size, grid.periodic))
    t = x.detach() / grid.dx - 0.5
    inside = ((t >= 0) & (t < size - 2) | periodic & (t.abs() < 1e6)).all(1)
    wrong = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    wrong[~inside] = kernels.LEFT_GRID
    for code, tensor in (
        (kernels.BAD_X, x),
        (kernels.BAD_C, C),
        (kernels.BAD_V, v),
        (kernels.BAD_STRESS, tau),
    ):
        wrong[~torch.isfinite(tensor.detach()).flatten(1).all(1)] = code
    found = wrong.nonzero()
    if len(found):
        raise _error(int(wrong[found[0, 0]]), step, int(found[0, 0]))
