"""The shipped laws in plain torch, the same signatures as `simengine.ops.matter.constitutive`; formulas there.

Through `torch.linalg.svd`, so its derivatives hold for distinct singular values only; its values hold everywhere.
"""

import math

import torch

from simengine.kernels.matter import elasticity, plasticity


def rotation_svd(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """F = U diag(s) V^T with rotations U, V; the last singular value has the sign of det F."""
    U, s, Vh = torch.linalg.svd(F)
    du, dv = torch.linalg.det(U).detach().sign(), torch.linalg.det(Vh).detach().sign()
    one = torch.ones_like(du)
    flip_u, flip_v = torch.stack((one, one, du), -1), torch.stack((one, one, dv), -1)
    return U * flip_u[:, None], s * flip_u * flip_v, Vh * flip_v[:, :, None]


def _along_axes(c: torch.Tensor, E: torch.Tensor) -> torch.Tensor:
    """C : E in the axes of an orthotropic material, (n, 3, 3) [Pa], of its coefficients c (n, 18) and E (n, 3, 3)."""
    normal = torch.stack((c[:, 0], c[:, 5], c[:, 4], c[:, 5], c[:, 1], c[:, 3], c[:, 4], c[:, 3], c[:, 2]), 1)
    shear = torch.stack(
        (c[:, 0] * 0, c[:, 8], c[:, 7], c[:, 8], c[:, 0] * 0, c[:, 6], c[:, 7], c[:, 6], c[:, 0] * 0), 1
    )
    along = (normal.unflatten(1, (3, 3)) @ E.diagonal(dim1=1, dim2=2)[..., None])[..., 0]
    return torch.diag_embed(along) + 2 * shear.unflatten(1, (3, 3)) * E


def stress(F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """As `simengine.ops.matter.constitutive.stress`."""
    eye = torch.eye(3, dtype=F.dtype)
    tau = torch.zeros_like(F)
    for kind in law.unique().tolist():
        index = (law == kind).nonzero()[:, 0]
        G, c = F[index], coefficients[index].to(F.dtype)
        a, b = c[:, 0, None, None], c[:, 1, None, None]
        J = torch.linalg.det(G)[:, None, None]
        U, s, Vh = rotation_svd(G)
        if kind in (elasticity.FIXED_COROTATED, elasticity.SNOW):
            value = 2 * a * (G - U @ Vh) @ G.mT + b * J * (J - 1) * eye
            if kind == elasticity.SNOW:
                value = value * torch.exp(c[:, 2] * (1 - q[index].exp()))[:, None, None]
        elif kind == elasticity.HENCKY:
            e = torch.log(s.clamp(min=0.01))
            t = 2 * a[:, 0] * e + b[:, 0] * e.sum(1, keepdim=True)
            value = U @ torch.diag_embed(t) @ U.mT
        elif kind == elasticity.NEO_HOOKEAN:
            value = a * (G @ G.mT - eye) + b / 2 * (J * J - 1) * eye
        elif kind == elasticity.FLUID:
            value = a * J * (J - 1) * eye
        elif kind == elasticity.ORTHOTROPIC:
            FQ = G @ c[:, 9:].unflatten(1, (3, 3))
            value = FQ @ _along_axes(c, (FQ.mT @ FQ - eye) / 2) @ FQ.mT
        elif kind == elasticity.TAIT:
            Jc = J.clamp(min=0.1)
            value = a / b * (Jc - Jc ** (1 - b)) * eye
        else:
            continue
        tau = tau.index_copy(0, index, value)
    return tau


def _overstress_rate(excess: torch.Tensor, stiffness: torch.Tensor, k: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """The root g of stiffness g + k g^n = excess, by bisection, then one Newton step that carries the derivative."""
    low, high = torch.zeros_like(excess), excess / stiffness
    with torch.no_grad():
        for _ in range(200):
            g = 0.5 * (low + high)
            above = stiffness * g + k * g**n > excess
            low, high = torch.where(above, low, g), torch.where(above, g, high)
    g = (0.5 * (low + high)).detach()
    slope = (stiffness + k * n * g ** (n - 1)).detach()
    return g - (stiffness * g + k * g**n - excess) / slope


def _on_hexagon(d: torch.Tensor, m: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The deviators d, (n, 3), largest first, onto Mohr-Coulomb's hexagon at the mean strain m < 0 above the tip."""
    s = c[:, 2]
    k = s * (3 * c[:, 1] + 2 * c[:, 0]) / c[:, 0]
    beyond = d[:, 0] - d[:, 2] > s * d[:, 1] - k * m
    middle = torch.minimum(torch.maximum(d[:, 1], k * m / (3 + s)), -k * m / (3 - s))
    w = s * middle - k * m
    flowed = torch.stack([(w - middle) / 2, middle, -(w + middle) / 2], 1)
    return torch.where(beyond[:, None], flowed, d)


def _inertial_shear(excess: torch.Tensor, p: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The shear strain of a step, the positive root of (excess - mu g) (g + slow) = p (mu_2 - mu_s) g."""
    mu, rise, slow = c[:, 0], c[:, 3] - c[:, 2], c[:, 4] * p.sqrt()
    b = excess - mu * slow - p * rise
    root = (b.square() + 4 * mu * slow * excess).sqrt()
    return torch.where(b < 0, 2 * slow * excess / (root - b).clamp_min(1e-300), (b + root) / (2 * mu))


def return_map(
    F: torch.Tensor, q: torch.Tensor, law: torch.Tensor, coefficients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `simengine.ops.matter.constitutive.return_map`."""
    F_new, q_new = F, q
    for kind in law.unique().tolist():
        index = (law == kind).nonzero()[:, 0]
        G, h, c = F[index], q[index], coefficients[index].to(F.dtype)
        if kind in (plasticity.IDENTITY, -1):
            continue
        if kind == plasticity.FLUID:
            J = torch.linalg.det(G).clamp(min=1e-6)
            F_new = F_new.index_copy(0, index, J[:, None, None] ** (1 / 3) * torch.eye(3, dtype=F.dtype))
            continue
        U, s, Vh = rotation_svd(G)
        if kind == plasticity.SNOW:
            g = torch.minimum(torch.maximum(s, 1 - c[:, :1]), 1 + c[:, 1:2])
            h = h + torch.log(s.prod(1).clamp(min=1e-6) / g.prod(1))
        else:
            e = torch.log(s.clamp(min=0.05))
            mean, mu = e.mean(1), c[:, 0]
            d = e - mean[:, None]
            norm = d.norm(dim=1)
            if kind == plasticity.VON_MISES:
                move = ((2 * mu * norm - c[:, 1] - c[:, 2] * h) / (2 * mu + c[:, 2])).clamp(min=0)
                h = h + move
            elif kind == plasticity.HERSCHEL_BULKLEY:
                excess = (2 * mu * norm - c[:, 1]).clamp(min=0)
                move = c[:, 4] * torch.where(
                    excess > 0, _overstress_rate(excess, 2 * mu * c[:, 4], c[:, 2], c[:, 3]), 0.0
                )
                h = h + move
            else:
                corrects = c[:, 4] > 0
                tip = torch.zeros_like(mean) if kind == plasticity.INERTIAL else c[:, 3]
                mean = mean + torch.where(corrects, h / 3, 0.0)
                trace = 3 * (mean - tip)
                h = torch.where(corrects, trace.clamp(min=0.0), h)
                if kind == plasticity.MOHR_COULOMB:
                    d = _on_hexagon(d, mean - tip, c)
                    move = torch.zeros_like(norm)
                elif kind == plasticity.INERTIAL:
                    p = (-(3 * c[:, 1] + 2 * mu) * mean).clamp_min(1e-300)  # of those above the tip as of none
                    excess = math.sqrt(2) * mu * norm - c[:, 2] * p
                    flows = (excess > 0) & (trace < 0)
                    move = torch.zeros_like(norm)
                    move[flows] = _inertial_shear(excess[flows], p[flows], c[flows]) / math.sqrt(2)
                else:
                    move = (norm + (3 * c[:, 1] + 2 * mu) / (2 * mu) * c[:, 2] * trace).clamp(min=0)
                move = torch.where(trace >= 0, norm, move)
                mean = torch.where(trace >= 0, tip, mean)
            e = mean[:, None] + d * torch.where(move > 0, 1 - move / torch.where(norm > 0, norm, 1.0), 1.0)[:, None]
            g = e.exp()
        F_new = F_new.index_copy(0, index, U @ torch.diag_embed(g) @ Vh)
        q_new = q_new.index_copy(0, index, h)
    return F_new, q_new
