"""Derivatives of the residual of one small problem by plain reverse mode, where calls cost more than numbers.

Forward mode under `torch.func` maps over a batch, but one operation of it costs ten to a hundred of the plain ones. J s
comes by reverse mode twice: u -> J^T u is linear, and its own transpose is J. All functions take `r`, the residual
y (n,) -> r (m,) of a single problem, and keep a graph where `differentiable`.
"""

from collections.abc import Callable

import torch

Function = Callable[[torch.Tensor], torch.Tensor]


def _reverse(out: torch.Tensor, by: torch.Tensor, seed: torch.Tensor, *, graph: bool) -> torch.Tensor:
    """The seed times d out / d by; zero where `out` does not depend on it."""
    if not out.requires_grad:
        return torch.zeros_like(by)
    found = torch.autograd.grad(
        out, by, seed, create_graph=graph, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found[0]


def _leaf(y: torch.Tensor, differentiable: bool) -> torch.Tensor:
    """An alias of y that only the residual's own argument is."""
    return y.view_as(y) if differentiable and y.requires_grad else y.detach().requires_grad_()


def products(r: Function, y: torch.Tensor, seeds: torch.Tensor, *, differentiable: bool) -> torch.Tensor:
    """J s of every seed (c, n), shape (c, m)."""
    with torch.enable_grad():
        z = _leaf(y, differentiable)
        value = r(z)
        u = torch.zeros_like(value, requires_grad=True)
        back = _reverse(value, z, u, graph=True)
        found = torch.stack([_reverse(back, u, seed, graph=differentiable) for seed in seeds])
    return found if differentiable else found.detach()


def gradient(r: Function, y: torch.Tensor, *, differentiable: bool) -> torch.Tensor:
    """J^T r, shape (n,)."""
    with torch.enable_grad():
        z = _leaf(y, differentiable)
        value = r(z)
        found = _reverse(value, z, value, graph=differentiable)
    return found if differentiable else found.detach()


def hessian(r: Function, y: torch.Tensor, *, differentiable: bool) -> torch.Tensor:
    """J^T J + sum_i r_i Hess r_i, shape (n, n)."""
    with torch.enable_grad():
        z = _leaf(y, differentiable)
        value = r(z)
        slope = _reverse(value, z, value, graph=True)
        rows = [_reverse(slope, z, seed, graph=differentiable) for seed in torch.eye(len(y)).to(y)]
        found = torch.stack(rows)
    return found if differentiable else found.detach()


def curvature(r: Function, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """J^T r'' with r'' the second derivative of r along v (n,), shape (n,); without a graph."""
    with torch.enable_grad():
        z, s = y.detach().requires_grad_(), torch.zeros((), dtype=y.dtype, device=y.device, requires_grad=True)
        value = r(z + s * v.detach())
        u = torch.zeros_like(value, requires_grad=True)
        slope = _reverse(value, s, u, graph=True)
        bend = _reverse(slope, s, torch.ones_like(s), graph=True)
        return _reverse(value, z, _reverse(bend, u, torch.ones_like(s), graph=False), graph=False).detach()
