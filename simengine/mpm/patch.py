"""The nodes that the particles of a state reach, what holds them, and forces gathered on them.

Particles are gathered by cells that share their nodes: the 27 of one stencil, or, where a cell's mean volume counts,
the 64 around a cell of the grid. With the mean over the former a body that hardly changes its volume still locks (a
beam at nu = 0.499 sags by 16 % less than at 0.45, over cells of the grid by 2 %).
"""

import torch

from simengine.kernels.matter import contact
from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops.matter.contact_reference import distance_of
from simengine.ops.matter.mpm.transfer_reference import stencil


class Patch:
    """Nodes and cells of a state; particles that share their 27 nodes are of one cell.

    Args:
        model: The grid and what holds its nodes: faces, and bodies with a `width`.
        state: Where the particles are.
        number: Of the step at whose beginning the bodies are.
        span: Time over which they move [s].
        whole: Whether cells are those of the grid.

    Attributes:
        cell: Of each particle, (n,).
        of: Nodes of each cell among those reached, (cells, 27 or 64).
        b: Weight and its gradient of each particle's nodes, (n, 27 or 64, 4), with the gradient of the positions.
        mass: Of the nodes [kg], (m,).
        held: Which of their displacements are told, (m, 3).
        told: What they are [m], (m, 3).
        stop: Which may not fall below it (1), or rise above (-1), else 0, (m, 3).
        triples: Nodes that follow one another along an axis, (t, 3).
    """

    def __init__(
        self, model: MPMModel, state: MPMState, *, number: float = 0, span: float = 0.0, whole: bool = False
    ) -> None:
        grid, x = model.grid, state.x
        node, w, r = stencil(x, grid)
        b = torch.cat((w[..., None], (4 / grid.dx**2) * w[..., None] * r), -1)
        ids, compact = torch.unique(node, return_inverse=True)
        self.cell = torch.unique(node[:, 0], return_inverse=True)[1]
        if whole:
            b, compact, self.cell = _of_whole_cells(x.detach() / grid.dx, b, compact, grid.size)
        self.b = b
        self.of = torch.zeros(int(self.cell.max()) + 1, b.shape[1], dtype=torch.int64)
        self.of = self.of.scatter_reduce(0, self.cell[:, None].expand_as(compact), compact, "amax")
        self.count: int = len(ids)
        mass = model.body(x)[0]
        self.mass: torch.Tensor = x.new_zeros(len(ids)).index_add(
            0, compact.flatten(), (b[..., 0] * mass[:, None]).flatten()
        )
        size = grid.size
        ijk = torch.stack((ids // (size[1] * size[2]), ids // size[2] % size[1], ids % size[2]), 1)
        self.held = torch.zeros(len(ids), 3, dtype=torch.bool)
        self.stop: torch.Tensor = torch.zeros(len(ids), 3, dtype=torch.int64)
        self.told = x.new_zeros(len(ids), 3)
        self._faces(model, ijk)
        self._bodies(model, ijk, number, span)
        where = torch.full((size[0] * size[1] * size[2] + 1,), -1, dtype=torch.int64)
        where[ids] = torch.arange(len(ids))
        found = []
        for axis, stride in enumerate((size[1] * size[2], size[2], 1)):
            start = ids[ijk[:, axis] < size[axis] - 2]
            row = torch.stack((where[start], where[start + stride], where[start + 2 * stride]), 1)
            found.append(row[(row >= 0).all(1)])
        self.triples: torch.Tensor = torch.cat(found)

    def _faces(self, model: MPMModel, ijk: torch.Tensor) -> None:
        grid = model.grid
        for k, mode in enumerate(grid.faces):
            axis, side = divmod(k, 2)
            if not mode:
                continue
            i = ijk[:, axis]
            layer = i > grid.size[axis] - grid.thickness if side else i < grid.thickness
            if mode == contact.STICKY:
                self.held |= layer[:, None]
            else:
                self.stop[layer, axis] = -1 if side else 1

    def _bodies(self, model: MPMModel, ijk: torch.Tensor, number: float, span: float) -> None:
        x = ijk.to(self.told) * model.grid.dx
        rows = model.table(x, number, since=span / model.grid.dt)[0]
        for body, (kind, mode), row in zip(
            model.bodies, model.grid.kinds, rows[1 : 1 + len(model.bodies)], strict=True
        ):
            if mode != contact.STICKY:
                continue
            arm = x - row[:3]
            field = getattr(body, "field", None)
            phi, _ = distance_of(kind, arm @ row[3:12].reshape(3, 3), row[19:22], field and field.coefficients)
            inside = (phi < 0)[:, 0]
            motion = span * (row[12:15] + torch.linalg.cross(row[15:18].expand_as(arm), arm))
            self.told = torch.where(inside[:, None], motion, self.told)
            self.held |= inside[:, None]

    def motion(self, u: torch.Tensor) -> torch.Tensor:
        """What particles see of displacements u (m, 3): y = (d, G), (n, 3, 4)."""
        return torch.einsum("nia,nik->nak", u[self.of][self.cell], self.b)

    def gathered(self, s: torch.Tensor) -> torch.Tensor:
        """Forces on the nodes (m, 3) of what the particles answer (n, 3, 4)."""
        parts = torch.einsum("nak,nik->nia", s, self.b)
        return s.new_zeros(self.count, 3).index_add(0, self.of[self.cell].flatten(), parts.flatten(0, 1))

    def bent(self, u: torch.Tensor) -> torch.Tensor:
        """The sum over triples of the gradient of |u_0 - 2 u_1 + u_2|^2 / 2, (m, 3)."""
        a, b, c = self.triples.unbind(1)
        second = u[a] - 2 * u[b] + u[c]
        zero = torch.zeros_like(u)
        return zero.index_add(0, a, second).index_add(0, b, -2 * second).index_add(0, c, second)


def _of_whole_cells(
    s: torch.Tensor, b: torch.Tensor, compact: torch.Tensor, size: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for cells of the grid: their 64 nodes are those of all the particles between eight nodes."""
    own = s.floor()
    shift = ((s - 0.5).floor() - own + 1).long()  # of the 27 nodes among the 64, 0 or 1 along each axis
    offsets = torch.cartesian_prod(*(torch.arange(3),) * 3) + shift[:, None]
    place = (offsets[..., 0] * 4 + offsets[..., 1]) * 4 + offsets[..., 2]
    wide = b.new_zeros(len(b), 64, 4).scatter(1, place[..., None].expand(-1, -1, 4), b)
    nodes = torch.zeros(len(b), 64, dtype=torch.int64).scatter(1, place, compact)
    number = (own[:, 0] * size[1] + own[:, 1]) * size[2] + own[:, 2]
    return wide, nodes, torch.unique(number.long(), return_inverse=True)[1]
