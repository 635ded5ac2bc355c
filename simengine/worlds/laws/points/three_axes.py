"""A specimen of an elastic solid with three axes, turned or not: pulled along x, with every other stress free.

Under a pull off its axes such a solid shears too, so the deformation is an upper triangular F (x stays along x,
whatever turns with it does not count) and all the stresses that the test leaves free vanish.
"""

import dataclasses
from collections.abc import Callable

import torch

from simengine.scene.base import Refused
from simengine.worlds.laws.elastic import tensor
from simengine.worlds.motion.laws.three_axes import ThreeAxes

# entries of F beside the driven one: yy and zz as logarithms, xy, xz, yz; each set free by the stress of the same place
_PLACES = ((1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_FREE = {"uniaxial": (0, 1, 2, 3, 4), "equibiaxial": (1, 2, 3, 4), "planar": (1, 2, 3, 4)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directed:
    """A law with axes at a point.

    Attributes:
        law: The table that names it; its numbers may be tensors.
    """

    law: ThreeAxes

    def stress(self, F: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress [Pa], (m, 3, 3), of deformations (m, 3, 3)."""
        numbers = {name: tensor(value) for name, value in self.law.variables().items()}
        found: torch.Tensor = self.law.make(numbers, dt=1.0).elasticity(F)
        return found

    def pulled(self, held: "Directed", test: str, stretch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Deformations and Kirchhoff stresses [Pa], (m, 3, 3) both, of a test along the axes of the specimen.

        Args:
            held: The same law with floats.
            test: uniaxial, equibiaxial or planar.
            stretch: That is driven, (m,).

        Raises:
            Refused: No such state was found.
        """
        free = list(_FREE[test])

        def deformed(along: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            rows = dict.fromkeys(range(5), torch.zeros_like(along)) | dict(zip(free, z.unbind(1), strict=True))
            yy = along if test == "equibiaxial" else rows[0].exp()
            zero = torch.zeros_like(along)
            entries = (along, rows[2], rows[3], zero, yy, rows[4], zero, zero, rows[1].exp())
            return torch.stack(entries, 1).unflatten(1, (3, 3))

        def left(law: Directed, along: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            tau = law.stress(deformed(along, z))
            return torch.stack([tau[(slice(None), *_PLACES[k])] for k in free], 1)

        still, size = stretch.detach(), held.size()
        z = torch.zeros(len(still), len(free), dtype=torch.float64)
        z[:, free.index(1)] = -0.3 * still.log()
        for _ in range(60):
            residual, slope = _with_slope(lambda y: left(held, still, y), z)
            step = torch.linalg.solve(slope, -residual[..., None])[..., 0].clamp(-0.1, 0.1)
            z = z + step
            if bool((step.abs() < 1e-13).all()):
                break
        residual, slope = _with_slope(lambda y: left(held, still, y), z)
        if not bool((residual.abs() < 1e-9 * size).all()):
            raise Refused("material: no state of the specimen leaves its sides free; it may be pressed too far")
        # the gradient of the implicit function
        z = z - torch.linalg.solve(slope, left(self, stretch, z)[..., None])[..., 0]
        F = deformed(stretch, z)
        return F, self.stress(F)

    def size(self) -> float:
        """Of its stresses [Pa]."""
        return max(float(value) for value in self.law.E)

    def sheared(self, shear: torch.Tensor) -> torch.Tensor:
        """Stress [Pa] (m, 3, 3) of a simple shear of planes y along x."""
        F = torch.eye(3, dtype=torch.float64).expand(len(shear), 3, 3).clone()
        F[:, 0, 1] = shear
        return self.stress(F)


def _with_slope(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = function(z)
        rows = [torch.autograd.grad(value[:, k].sum(), z, retain_graph=True)[0] for k in range(value.shape[1])]
    return value.detach(), torch.stack(rows, 1)
