"""Line integrals in plain torch: all crossings of a line with the planes between cells, sorted (Siddon 1985)."""

import torch


def line_integrals(field: torch.Tensor, points: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """As the kernel: lines p + t v in units of cells, (q,)."""
    crossings = []
    for axis, n in enumerate(field.shape):
        planes = torch.arange(n + 1, dtype=torch.float64, device=points.device)
        t = (planes - points[:, axis, None]) / steps[:, axis, None]
        crossings.append(torch.where(steps[:, axis, None] == 0, torch.inf, t))
    t = torch.cat(crossings, 1).sort(1).values
    t = torch.where(t.isfinite(), t, t.where(t.isfinite(), -torch.inf).max(1, keepdim=True).values)
    middle, length = (t[:, 1:] + t[:, :-1]) / 2, t.diff(dim=1)
    cell = (points[:, None] + middle[..., None] * steps[:, None]).floor()
    size = torch.tensor(field.shape, dtype=torch.float64, device=points.device)
    inside = ((cell >= 0) & (cell < size)).all(-1)
    i, j, k = torch.where(inside[..., None], cell, torch.zeros_like(cell)).long().unbind(-1)
    return (torch.where(inside, length, 0.0) * field[i, j, k]).sum(1).to(field.dtype)
