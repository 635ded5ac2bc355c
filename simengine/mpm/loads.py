"""Forces that are told, on parts of bodies: dead loads and pressures that follow a face; numbers may be tensors."""

from collections.abc import Sequence

import torch
from torch import nn

from simengine.mpm.boundaries import Vector, keep
from simengine.mpm.recorded_path import RecordedPath


class Load(nn.Module):
    """A force, a pressure on a face, or both, on some particles.

    The force is spread over the particles by their volume at rest and keeps its direction. The pressure acts on the
    face as it is deformed, against its normal: on each particle p cof(F) n V / depth, F its deformation gradient. With
    a `normal` both act on the face, half of `depth` before the particles' centres, otherwise at the centres.

    Args:
        part: The particles, (n,), bool.
        force: Of all of them together [N], (3,).
        pressure: On the face [Pa].
        normal: Of the face, outward, as it lies where F = I [1], (3,); none for a part that is no face.
        depth: Of the layer of particles under the face [m].
        begins: When it sets in [s], with its share of that step.
        path: What is added over time: forces [N], or with `presses` pressures [Pa] in the first column.
        presses: Whether the path is one of pressures.

    Raises:
        ValueError: No particle is meant, a value is not finite, or a pressure has no face.
    """

    part: torch.Tensor
    force: torch.Tensor
    pressure: torch.Tensor
    normal: torch.Tensor
    begins: torch.Tensor

    def __init__(
        self,
        part: torch.Tensor,
        *,
        force: Vector = (0.0, 0.0, 0.0),
        pressure: float | torch.Tensor = 0.0,
        normal: Vector = (0.0, 0.0, 0.0),
        depth: float = 1.0,
        begins: float | torch.Tensor = 0.0,
        path: RecordedPath | None = None,
        presses: bool = False,
    ) -> None:
        super().__init__()
        if part.dtype != torch.bool or part.ndim != 1 or not bool(part.any()):
            raise ValueError("part must be bool of shape (n,) with one particle at least")
        self.register_buffer("part", part)
        keep(self, "force", force, ((3,),))
        keep(self, "pressure", pressure, ((),))
        keep(self, "normal", normal, ((3,),))
        keep(self, "begins", begins, ((),))
        self.path: RecordedPath | None = path
        self.presses = presses
        self.depth = depth
        if (presses or float(self.pressure.detach())) and not bool(self.normal.any()):
            raise ValueError("a pressure needs the normal of the face that it acts on")
        if not depth > 0:
            raise ValueError(f"depth must be positive [m], got {depth:g}")

    @property
    def changes(self) -> bool:
        """Whether it hangs on the time."""
        return self.path is not None or float(self.begins.detach()) > 0

    def densities(self, steps: torch.Tensor, dt: float, ahead: float, volume: torch.Tensor) -> torch.Tensor:
        """Columns of the table (`simengine.kernels.matter.loads`) at times steps * dt, (m, 23).

        Args:
            steps: Numbers of steps at whose beginnings it is asked for, (m,), float64.
            dt: Their length [s].
            ahead: Share of a step from there to its end, of which a load that begins then has its share.
            volume: Of all particles at rest [m^3], (n,).
        """
        force = self.force.to(steps).expand(len(steps), 3)
        pressure = self.pressure.to(steps).expand(len(steps))
        if self.path is not None:
            more = self.path.shift(steps * dt)
            force, pressure = (force, pressure + more[:, 0]) if self.presses else (force + more, pressure)
        part = self.part.to(volume.device)
        normal = self.normal.to(steps)
        g, h, r = force / volume[part].sum(), pressure[:, None] * normal / self.depth, normal * self.depth / 2
        at_face = (g[:, :, None] * r).flatten(1), (h[:, :, None] * r)[:, *torch.triu_indices(3, 3)]
        found = torch.cat((g, h, *at_face, g.new_zeros(len(g), 2)), 1)
        if float(self.begins.detach()) > 0:
            found = found * (steps + ahead - self.begins.to(steps) / dt).clamp(0.0, 1.0)[:, None]
        return found


class Loads(nn.Module):
    """The loads of a model; particles that bear the same ones share a row of the table.

    Args:
        loads: At least one, on the same particles.

    Raises:
        ValueError: They are on different numbers of particles.
    """

    number: torch.Tensor
    members: torch.Tensor

    def __init__(self, loads: Sequence[Load]) -> None:
        super().__init__()
        self.loads = nn.ModuleList(loads)
        counts = {len(load.part) for load in loads}
        if len(counts) != 1:
            raise ValueError(f"loads must be on the same particles, got parts of {sorted(counts)}")
        held = torch.stack([load.part for load in loads], 1)
        some = held.any(1)
        members, number = torch.unique(held[some], dim=0, return_inverse=True)
        self.register_buffer("members", members)  # (rows, loads)
        self.register_buffer("number", torch.zeros(len(held), dtype=torch.int32))
        self.number[some] = number.to(torch.int32) + 1

    def _each(self) -> list[Load]:
        return list(self.loads)  # type: ignore[arg-type]

    @property
    def changes(self) -> bool:
        """Whether one hangs on the time."""
        return any(load.changes for load in self._each())

    def row_of(self, like: torch.Tensor, first: int) -> torch.Tensor:
        """Row of the table with the load on each particle, (n,), int32, 0 for none; theirs begin at `first`.

        Raises:
            ValueError: They are on another number of particles than `like`.
        """
        number = self.number.to(like.device)
        if len(number) != len(like):
            raise ValueError(f"loads are on {len(number)} particles, the state has {len(like)}")
        return torch.where(number > 0, number + (first - 1), 0).to(torch.int32)

    def rows(self, steps: torch.Tensor, dt: float, ahead: float, volume: torch.Tensor) -> torch.Tensor:
        """Rows of the table, (m, rows, 23); arguments as of `Load.densities`, volume a number too."""
        volume = volume.expand(len(self.number))
        each = torch.stack([load.densities(steps, dt, ahead, volume) for load in self._each()], 1)
        return torch.einsum("gl,mlk->mgk", self.members.to(each), each)
