"""Priors of coordinates as rows of a least-squares problem."""

from collections.abc import Collection, Sequence

import torch

from simengine.fit.coordinate import Coordinate


def prior_rows(
    coordinates: Sequence[Coordinate], z: torch.Tensor, without: Collection[int]
) -> tuple[torch.Tensor, list[int]]:
    """Residuals of the priors, (prior rows,), and the numbers of the coordinates of the single ones.

    Args:
        coordinates: What is sought.
        z: Their coordinates (p,).
        without: Numbers of those whose prior is counted elsewhere.
    """
    rows, which = [], []
    for index, c in enumerate(coordinates):
        if index in without:
            continue
        row = c.prior_residual(c.value(z[index]))
        if row is not None:
            rows.append(row)
            which.append(index)
    single = torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)
    return torch.cat([single, _joint_rows(coordinates, z)]), which


def prior_slopes(coordinates: Sequence[Coordinate], z: torch.Tensor, without: Collection[int]) -> torch.Tensor:
    """Derivative of `prior_rows` in z, (prior rows, p)."""
    _, which = prior_rows(coordinates, z, without)
    single = torch.zeros(len(which), len(z), dtype=torch.float64)
    for row, index in enumerate(which):
        single[row, index] = _slope(coordinates[index], z[index])
    if all(c.joint is None for c in coordinates):
        return single
    return torch.cat([single, torch.autograd.functional.jacobian(lambda own: _joint_rows(coordinates, own), z)])


def _slope(c: Coordinate, at: torch.Tensor) -> float:
    with torch.enable_grad():
        own = at.detach().requires_grad_()
        row = c.prior_residual(c.value(own))
        assert row is not None
        return float(torch.autograd.grad(row, own)[0])


def _joint_rows(coordinates: Sequence[Coordinate], z: torch.Tensor) -> torch.Tensor:
    """Residuals of the priors that tie the entries of a vector."""
    groups: dict[int, list[int]] = {}
    for index, c in enumerate(coordinates):
        if c.joint is not None:
            groups.setdefault(id(c.joint), []).append(index)
    rows = [torch.zeros(0, dtype=torch.float64)]
    for indices in groups.values():
        joint = coordinates[indices[0]].joint
        assert joint is not None
        rows.append(joint.rows(torch.stack([coordinates[k].value(z[k]) for k in indices])))
    return torch.cat(rows)
