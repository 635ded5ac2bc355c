"""Plain torch twin of `ops.constitutive`, differentiated by autograd: right where singular values are distinct."""

import torch

_MIN_STRETCH, _MIN_STRETCH_VON_MISES = 1e-4, 0.05


def _svd(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U, s, V^T with det U = det V = 1 where det F > 0, and the last s negative where det F < 0."""
    U, s, Vh = torch.linalg.svd(F)
    flip_U, flip_V = torch.linalg.det(U).sign(), torch.linalg.det(Vh).sign()
    last = torch.tensor([0, 0, 1], dtype=F.dtype, device=F.device)
    U = U * (1 - last + last * flip_U[:, None])[:, None, :]
    Vh = Vh * (1 - last + last * flip_V[:, None])[:, :, None]
    return U, s * (1 - last + last * (flip_U * flip_V)[:, None]), Vh


def stress(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """See `simengine.ops.constitutive.stress`."""
    identity = torch.eye(3, dtype=F.dtype, device=F.device).expand_as(F)
    J = torch.linalg.det(F)
    a, b = coefficients[:, 0, None, None], coefficients[:, 1, None, None]
    U, s, Vh = _svd(F)
    volume = (J * (J - 1))[:, None, None] * identity
    corotated = 2 * a * (F - U @ Vh) @ F.mT + b * volume
    log_J = J.clamp_min(_MIN_STRETCH).log()[:, None, None]
    neo_hookean = a * (F @ F.mT - identity) + b * log_J * identity
    e = s.abs().clamp_min(_MIN_STRETCH).log()
    hencky = U @ torch.diag_embed(2 * a[:, :, 0] * e + b[:, :, 0] * e.sum(1, keepdim=True)) @ U.mT
    Jc = J.clamp_min(_MIN_STRETCH)[:, None, None]
    gamma = torch.where(b == 0, 1.0, b)
    tait = a / gamma * (Jc - Jc ** (1 - gamma)) * identity
    laws = torch.stack([corotated, neo_hookean, hencky, a * volume, tait])
    return laws[kind.long(), torch.arange(len(F), device=F.device)]


def return_map(F: torch.Tensor, kind: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """See `simengine.ops.constitutive.return_map`."""
    return torch.stack([_return_one(F[i], int(kind[i]), coefficients[i]) for i in range(len(F))]) if len(F) else F


def _return_one(F: torch.Tensor, kind: int, c: torch.Tensor) -> torch.Tensor:
    if kind == 0:
        return F
    if kind == 3:
        return torch.linalg.det(F).clamp_min(_MIN_STRETCH) ** (1 / 3) * torch.eye(3, dtype=F.dtype, device=F.device)
    U, s, Vh = (part[0] for part in _svd(F[None]))
    if kind == 4:
        return U @ torch.diag(s.clamp(c[0], c[1])) @ Vh
    e = s.clamp_min(_MIN_STRETCH_VON_MISES if kind == 1 else _MIN_STRETCH).log()
    trace = e.sum()
    dev = e - trace / 3
    size = dev.norm()
    if kind == 1:
        new = e - (size - c[0]) * dev / size if size > c[0] else e
    elif trace >= c[1]:
        new = torch.ones_like(e) * c[1] / 3
    else:
        excess = size + c[0] * (trace - c[1])
        new = e - excess * dev / size if excess > 0 else e
    return U @ torch.diag(new.exp()) @ Vh
