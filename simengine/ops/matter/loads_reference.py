"""Loads on parts of bodies in plain torch; formulas in `simengine.kernels.matter.loads`."""

import torch

_SYMMETRIC = (15, 16, 17, 16, 18, 19, 17, 19, 20)  # columns of the table that are H


def load_pushes(
    F: torch.Tensor, volume: torch.Tensor, part: torch.Tensor, row: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Force on each particle [N], (n, 3), and what its place takes from the stress [Pa], (n, 3, 3).

    Args:
        F: Deformation gradients [1], shape (n, 3, 3).
        volume: Volumes at rest [m^3], shape (n,).
        part: Row with the load on each particle, 0 for none, shape (n,).
        row: The table of a step, shape (rows, 23).
    """
    own = torch.where((part > 0)[:, None], row[part.long()].to(F.dtype), 0.0)
    a, b, c = F.unbind(2)
    cof = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), 2)
    force = volume[:, None] * (own[:, :3] - (cof @ own[:, 3:6, None])[..., 0])
    moment = own[:, 6:15].unflatten(1, (3, 3)) - cof @ own[:, list(_SYMMETRIC)].unflatten(1, (3, 3))
    return force, moment @ F.mT
