"""`simengine.ops.matter.isotropic` in plain torch: the eigenvalues of F F^T, no derivative where two are equal."""

import torch

from simengine.ops.matter.isotropic_units import IsotropicUnits


def stress(
    units: IsotropicUnits,
    F: torch.Tensor,
    *,
    moduli: torch.Tensor,
    layer: torch.Tensor,
    offsets: torch.Tensor,
    weighted: torch.Tensor,
) -> torch.Tensor:
    """As `simengine.ops.matter.isotropic.stress`."""
    a, eye = units.strain_scale, torch.eye(3, dtype=F.dtype, device=F.device)
    squares, U = torch.linalg.eigh(F @ F.mT)
    H = U @ torch.diag_embed(squares.sqrt().clamp_min(0.01).log()) @ U.mT
    v = H.diagonal(dim1=1, dim2=2).sum(1)
    D = H - (v / 3)[:, None, None] * eye
    q, j = (D @ D).diagonal(dim1=1, dim2=2).sum(1), (D @ D @ D).diagonal(dim1=1, dim2=2).sum(1)
    r = (q + a * a).sqrt()
    z = torch.stack((v / a, r / a - 1, j / (r.square() * a)), dim=1)
    S = units.slope(z @ layer.T + offsets) @ weighted
    mu, kappa, rest = moduli
    theta = a * S[:, 2] / r.square()
    alpha = 2 * mu + a * S[:, 1] / r - 2 * a * theta * z[:, 2]
    beta = kappa * v + a * (S[:, 0] - rest) - theta * q
    tau = alpha[:, None, None] * D + beta[:, None, None] * eye + (3 * theta)[:, None, None] * (D @ D)
    return units.modulus * tau


def volume(F: torch.Tensor) -> torch.Tensor:
    """As `simengine.ops.matter.isotropic.volume`."""
    return torch.linalg.det(F).clamp_min(1e-4).log()


def flow(F: torch.Tensor, v: torch.Tensor, excess: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """As `simengine.ops.matter.isotropic.flow`: exp(H_new - H) F, so for stretches above 0.05."""
    squares, U = torch.linalg.eigh(F @ F.mT)
    e = squares.sqrt().log()
    d = e - e.mean(1, keepdim=True)
    kept = torch.where(excess > 0, 1 - excess / torch.where(excess > 0, v, 1.0), 1.0)
    c = torch.minimum(kept, radius / d.norm(dim=1))
    change = (c - 1)[:, None] * d - excess[:, None] / 3
    return U @ torch.diag_embed(change.exp()) @ U.mT @ F
