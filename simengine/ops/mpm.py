"""Bridge of one step of the MPM transfers: P2G, grid, G2P, from the stress to the trial deformation."""

import dataclasses
import threading
from typing import Any

import torch
import warp as wp
from torch.autograd.function import once_differentiable

from simengine.kernels import mpm as kernels
from simengine.kernels import mpm_adjoint, signed_distance
from simengine.kernels.mpm_stencil import BLOCK
from simengine.ops import bridge
from simengine.ops.constitutive import matrix, still, vector

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
        self.step, self.particle, self.field = step, particle, field


class SignedDistance:
    """A signed distance in quadratic B-splines on a box, see `simengine.kernels.contact`; equal only to itself.

    Attributes:
        coefficients: Of the nodes [m], shape (nx, ny, nz), float64.
        half_size: The nodes fill the box -half_size..half_size [m].
    """

    def __init__(self, coefficients: torch.Tensor, half_size: tuple[float, float, float]) -> None:
        self.coefficients, self.half_size = coefficients, half_size


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
        kinds: Shape and contact of each rigid body, see `simengine.kernels.contact`.
        fields: The signed distances of the bodies whose shape is a field, in their order.
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


class Workspace:
    """Grid arrays and constants of one grid on one device; between two passes the sums are zero.

    Args:
        grid: The grid.
        like: A tensor of the dtype and device to use.
    """

    def __init__(self, grid: Grid, like: torch.Tensor) -> None:
        real = bridge.scalar(like)
        nodes = grid.size[0] * grid.size[1] * grid.size[2]
        blocks = 1
        for n in grid.size:
            blocks *= -(-n // BLOCK)
        self.grid = grid
        self.kernels = kernels.kernels(real, any(grid.periodic))
        self.adjoint = mpm_adjoint.kernels(real, any(grid.periodic))
        vec4 = wp.types.vector(4, real)

        def node_array() -> wp.array:
            return bridge.array(torch.zeros(nodes, 4, dtype=like.dtype, device=like.device), vec4)

        self.momentum, self.velocity = node_array(), node_array()
        self._node_array = node_array
        self._bars: tuple[wp.array, wp.array] | None = None
        self.active = bridge.array(torch.zeros(blocks, dtype=torch.int32, device=like.device))
        self.flag_tensor = torch.zeros(3, dtype=torch.int32, device=like.device)
        self.flag = bridge.array(self.flag_tensor)
        self.faces = bridge.array(torch.tensor(grid.faces, dtype=torch.int32, device=like.device))
        kinds, field = rigid_bodies(grid, like)
        self.kinds = (
            bridge.array(kinds) if len(kinds) else wp.zeros(kinds.shape, dtype=wp.int32, device=self.faces.device)
        )
        self.field = bridge.array(field)
        self.lanes = 64 if like.is_cuda else 1
        self.size = wp.vec3i(*grid.size)
        self.periodic = wp.vec3i(*(int(p) for p in grid.periodic))
        self.sweep = (blocks, self.lanes)
        self.transfer = [self.size, self.periodic, grid.dx, grid.dt]
        self.motion = [self.size, self.lanes, grid.dx, grid.dt, grid.epsilon, wp.types.vector(3, real)(*grid.gravity)]

    @property
    def bars(self) -> tuple[wp.array, wp.array]:
        """Cotangents of the nodes' velocities, and of their momenta and masses; made on first use."""
        if self._bars is None:
            self._bars = self._node_array(), self._node_array()
        return self._bars

    def contact(self, clock: wp.array, table: wp.array) -> list[Any]:
        """Arguments of the grid kernels that describe boundaries."""
        return [clock, self.faces, self.grid.thickness, self.kinds, self.field, table, self.active]

    def raise_flagged(self, first_step: int = 0) -> None:
        """Raise what a kernel recorded, and clear the record; synchronises with the device.

        Args:
            first_step: Number of the step that the clock calls 0.

        Raises:
            SimulationError: A particle left the grid or a field became non-finite.
        """
        code, step, particle = self.flag_tensor.tolist()
        step += first_step
        if code == 0:
            return
        self.flag_tensor.zero_()
        raise _error(code, step, particle)


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


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        v: torch.Tensor,
        C: torch.Tensor,
        F: torch.Tensor,
        tau: torch.Tensor,
        mass: torch.Tensor,
        volume: torch.Tensor,
        table: torch.Tensor,
        grid: Grid,
        step: int,
    ) -> tuple[torch.Tensor, ...]:
        n, space = len(x), workspace(grid, x)
        k = space.kernels
        clock = still(x)
        clock[2] = step
        x1, v1, C1, F1 = torch.empty_like(x), torch.empty_like(v), torch.empty_like(C), torch.empty_like(F)
        constants = [*space.transfer, bridge.array(clock)]
        particles = [vector(x[None]), vector(v[None]), matrix(C[None]), matrix(tau)]
        body = [bridge.array(mass), bridge.array(volume)]
        try:
            bridge.launch(k.p2g, n, [*constants, *body, *particles], [space.momentum, space.active, space.flag], on=x)
            arguments = [*space.motion, *space.contact(bridge.array(clock), bridge.array(table)), space.momentum]
            bridge.launch(k.grid_op, space.sweep, arguments, [space.velocity], on=x)
            outputs = [vector(x1[None]), vector(v1[None]), matrix(C1[None]), matrix(F1[None]), space.active]
            arguments = [*constants, 1, vector(x[None]), matrix(F[None]), space.velocity]
            bridge.launch(k.g2p, n, arguments, outputs, on=x)
            if not x.is_cuda:
                space.raise_flagged()
        except BaseException:
            _workspaces.clear()  # its sums may not be zero
            raise
        ctx.save_for_backward(x, v, C, F, tau, mass, volume, table, C1, clock)
        ctx.grid = grid
        return x1, v1, C1, F1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, v, C, F, tau, mass, volume, table, C1, clock = ctx.saved_tensors
        n, space = len(x), workspace(ctx.grid, x)
        x_bar, v_bar, C_bar, F_bar = (c.contiguous().clone() for c in cotangents)
        tau_bar = torch.empty_like(tau)
        body_bar = torch.zeros(n, 2, dtype=torch.float64, device=x.device)
        table_bar = torch.zeros(table.shape, dtype=torch.float64, device=x.device)
        constants = [*space.transfer, bridge.array(clock)]
        body = [bridge.array(mass), bridge.array(volume)]
        xw, vw, Cw, tauw = vector(x[None]), vector(v[None]), matrix(C[None]), matrix(tau)
        bars = vector(x_bar), vector(v_bar), matrix(C_bar), matrix(F_bar)
        try:
            bridge.launch(
                space.adjoint.scatter_adjoint,
                n,
                [*constants, *body, xw, vw, Cw, matrix(F[None]), tauw, bars[0], bars[3], bars[1], bars[2]],
                [space.momentum, space.bars[0], space.active],
                on=x,
            )
            contact = space.contact(bridge.array(clock), bridge.array(table))
            bridge.launch(
                space.adjoint.grid_adjoint,
                space.sweep,
                [*space.motion, *contact, space.momentum, space.bars[0]],
                [space.velocity, space.bars[1], bridge.array(table_bar)],
                on=x,
            )
            bridge.launch(
                space.adjoint.gather_adjoint,
                n,
                [*constants, *body, xw, vw, Cw, matrix(C1[None]), tauw, space.velocity, space.bars[1], *bars],
                [matrix(tau_bar), bridge.array(body_bar), space.active],
                on=x,
            )
        except BaseException:
            _workspaces.clear()
            raise
        return (
            x_bar,  # x
            v_bar,  # v
            C_bar,  # C
            F_bar,  # F
            tau_bar,  # tau
            body_bar[:, 0].to(mass.dtype),  # mass
            body_bar[:, 1].to(volume.dtype),  # volume
            table_bar.to(table.dtype),  # table
            None,  # grid
            None,  # step
        )


def step(
    x: torch.Tensor,
    v: torch.Tensor,
    C: torch.Tensor,
    F: torch.Tensor,
    tau: torch.Tensor,
    *,
    mass: torch.Tensor,
    volume: torch.Tensor,
    table: torch.Tensor,
    grid: Grid,
    number: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of MLS-MPM from the stress to the trial deformation gradient; see `simengine.kernels.mpm`.

    Args:
        x: Positions [m], shape (n, 3), float32 or float64; all other floats have its dtype.
        v: Velocities [m/s], shape (n, 3).
        C: Velocity gradients of APIC [1/s], shape (n, 3, 3).
        F: Deformation gradients [1], shape (n, 3, 3).
        tau: Kirchhoff stresses [Pa], shape (n, 3, 3).
        mass: Masses [kg], shape (n,).
        volume: Volumes at rest [m^3], shape (n,).
        table: Frictions and poses of boundaries, shape (rows, 1 + bodies, 23), see `simengine.kernels.contact`.
        grid: The rest.
        number: Number of the step: the row of `table`, and what an error names.

    Returns:
        x, v, C at the end of the step and F_trial = (I + dt C) F. On CUDA a flagged error is raised by the caller
        (`workspace(grid, x).raise_flagged()`), since reading it synchronises.

    Raises:
        ValueError: A shape does not fit.
        SimulationError: A particle left the grid or a field is not finite (CPU).
        RuntimeError: Taichi is to run and is not installed.
    """
    n = len(x)
    expected = {
        "x": (n, 3),
        "v": (n, 3),
        "C": (n, 3, 3),
        "F": (n, 3, 3),
        "tau": (n, 3, 3),
        "mass": (n,),
        "volume": (n,),
    }
    for (name, shape), tensor in zip(expected.items(), (x, v, C, F, tau, mass, volume), strict=True):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} as x is, got {tensor.dtype}; convert with .to(x.dtype)")
    if table.ndim != 3 or table.shape[1] != 1 + len(grid.kinds) or table.shape[2] != 23 or not len(table):
        raise ValueError(f"table must have shape (rows, {1 + len(grid.kinds)}, 23), got {tuple(table.shape)}")
    x, v, C, F, tau, mass, volume = (t.contiguous() for t in (x, v, C, F, tau, mass, volume))
    table = table.to(x.dtype).contiguous()
    chosen = bridge.backend("warp", "taichi", on=x)
    if chosen == "warp":
        return _Step.apply(x, v, C, F, tau, mass, volume, table, grid, number)
    _raise_invalid(x, v, C, tau, grid, number)
    if chosen == "taichi" and n:
        from simengine.ops import mpm_taichi

        return mpm_taichi.step(x, v, C, F, tau, mass=mass, volume=volume, table=table, grid=grid, number=number)
    from simengine.ops import mpm_reference

    return mpm_reference.step(x, v, C, F, tau, mass=mass, volume=volume, table=table, grid=grid, number=number)


def _raise_invalid(x: torch.Tensor, v: torch.Tensor, C: torch.Tensor, tau: torch.Tensor, grid: Grid, step: int) -> None:
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
