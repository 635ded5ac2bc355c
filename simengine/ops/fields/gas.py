"""Thermodynamics and kinetics of gas mixtures by fused kernels: values, gradients, and whole Jacobians at once.

The kernels are the default for `production_jacobian`, where they are many times faster than reverse sweeps, and for
everything on CUDA; on a CPU `production` by torch's vectorised functions is as fast and differentiable any number of
times, so it is the default there (docs/performance/flame.md has the figures).
"""

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from simengine.kernels.fields import gas as kernel_module
from simengine.ops import bridge
from simengine.ops.fields import gas_reference
from simengine.ops.fields.gas_reference import Kinetics, Rates
from simengine.ops.fields.pressure_rates import R


@dataclasses.dataclass(frozen=True)
class _Lists:
    """Non-zeros of a mechanism as compressed rows, on one device and in one dtype."""

    kind: torch.Tensor
    tabled: torch.Tensor
    mixed: torch.Tensor
    troe: torch.Tensor
    nasa: torch.Tensor
    breaks: torch.Tensor
    colliders: tuple[torch.Tensor, ...]
    forward: tuple[torch.Tensor, ...]
    reverse: tuple[torch.Tensor, ...]
    change: tuple[torch.Tensor, ...]
    made: tuple[torch.Tensor, ...]


_cache: "weakref.WeakKeyDictionary[Kinetics, dict[Any, _Lists]]" = weakref.WeakKeyDictionary()


def _rows(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Starts, columns and values of the non-zeros of each row."""
    where = torch.nonzero(matrix)
    counts = torch.bincount(where[:, 0], minlength=matrix.shape[0])
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return starts.int(), where[:, 1].int().contiguous(), matrix[where[:, 0], where[:, 1]].contiguous()


def _lists(kinetics: Kinetics, like: torch.Tensor) -> _Lists:
    stored = _cache.setdefault(kinetics, {})
    key = (like.device, like.dtype)
    if key not in stored:
        k = kinetics
        kind = k.reversible * 1 + k.third_body * 2 + k.falloff * 4 + k.troe * 8
        tabled = gas_reference.tabled(k)
        places = torch.where(tabled, tabled.cumsum(0) - 1, -1)
        mixed = torch.full_like(places, -1)
        if k.mixtures is not None:
            mixed[k.mixtures.which] = torch.arange(len(k.mixtures.which))
        needs = (k.third_body | k.falloff | tabled)[:, None]
        backwards = k.reversible[:, None]

        def move(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return tuple(t.to(like.device, like.dtype if t.is_floating_point() else t.dtype) for t in rows)

        dense = move((k.troe_parameters.clamp_max(1e35), k.nasa.contiguous(), k.breaks.clamp_max(1e35)))
        stored[key] = _Lists(
            kind.to(torch.int32).to(like.device),
            places.to(torch.int32).to(like.device),
            mixed.to(torch.int32).to(like.device),
            dense[0],
            dense[1],
            dense[2],
            move(_rows(torch.where(needs, k.efficiencies, 0.0))),
            move(_rows(k.rates.orders.detach())),
            move(_rows(torch.where(backwards, k.products, 0.0))),
            move(_rows(k.change)),
            move(_rows(k.change.T)),
        )
    return stored[key]


def _check(kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor | None, rates: Rates | None) -> None:
    count = kinetics.nasa.shape[0]
    bridge.scalar(T)
    if T.dim() != 1:
        raise ValueError(f"T: expected shape (n,), got {tuple(T.shape)}")
    if C is not None and (C.shape != (len(T), count) or C.dtype != T.dtype):
        raise ValueError(f"C: expected shape {(len(T), count)} and {T.dtype}, got {tuple(C.shape)} and {C.dtype}")
    if not bool((T > 0).all()):
        raise ValueError(f"T: expected temperatures above 0 K, got {float(T.min()):g}")
    if rates is not None and (rates.orders.requires_grad or not torch.equal(rates.orders, kinetics.rates.orders)):
        raise ValueError("orders: the kernels take the mechanism's orders, without gradient; use gas_reference")


def thermo(kinetics: Kinetics, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """cp/R, h/(R T), s/R and d(cp/R)/dT of each species, (n, K) each, for T (n,); without gradients.

    Raises:
        ValueError: T is not positive or has another shape.
        TypeError: T is neither float32 nor float64.
    """
    _check(kinetics, T, None, None)
    if bridge.backend("warp") == "reference":
        r = gas_reference
        return (
            r.cp_over_R(kinetics, T),
            r.h_over_RT(kinetics, T),
            r.s_over_R(kinetics, T),
            r.cp_slope_over_R(kinetics, T),
        )
    lists, count = _lists(kinetics, T), kinetics.nasa.shape[0]
    out = [T.new_empty(len(T), count) for _ in range(4)]
    kernel = kernel_module.kernels(bridge.scalar(T)).thermo
    bridge.call(kernel, (len(T), count), T.contiguous(), lists.nasa, lists.breaks, *out)
    return out[0], out[1], out[2], out[3]


def _progress(
    kinetics: Kinetics,
    T: torch.Tensor,
    C: torch.Tensor,
    A: torch.Tensor,
    b: torch.Tensor,
    Ea: torch.Tensor,
    low: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Rates of progress and their derivatives; see the kernel."""
    lists, count = _lists(kinetics, T), len(A)
    _, h, s, _ = thermo(kinetics, T)
    table, mixture = gas_reference.table_factors(kinetics, T, C, A, b, Ea, low)
    shapes = [count, count, count, *(len(rows[1]) for rows in (lists.colliders, lists.forward, lists.reverse))]
    out = tuple(T.new_empty(len(T), width) for width in shapes)
    tensors = [T, C, h, s, A, b, Ea, lists.kind, low, lists.troe, lists.tabled, table, lists.mixed, mixture]
    tensors += [*lists.colliders, *lists.forward, *lists.reverse, *lists.change]
    tensors = [t.contiguous() for t in tensors]
    kernel = kernel_module.kernels(bridge.scalar(T)).progress
    bridge.call(kernel, (len(T), count), kinetics.smoothing, kinetics.p_ref, *tensors, *out)
    return out


def _gather(kinetics: Kinetics, q: torch.Tensor) -> torch.Tensor:
    lists, count = _lists(kinetics, q), kinetics.nasa.shape[0]
    w = q.new_empty(len(q), count)
    kernel = kernel_module.kernels(bridge.scalar(q)).gather
    bridge.call(kernel, (len(q), count), q, *lists.made, w)
    return w


class _Production(torch.autograd.Function):
    @staticmethod
    def forward(
        T: torch.Tensor,
        C: torch.Tensor,
        A: torch.Tensor,
        b: torch.Tensor,
        Ea: torch.Tensor,
        low: torch.Tensor,
        kinetics: Kinetics,
    ) -> torch.Tensor:
        return _gather(kinetics, _progress(kinetics, T, C, A, b, Ea, low)[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        *tensors, ctx.kinetics = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w_bar: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        T, C, A, b, Ea, low = ctx.saved_tensors
        lists = _lists(ctx.kinetics, T)
        q, T_slope, k_slope, *slopes = _progress(ctx.kinetics, T, C, A, b, Ea, low)
        q_bar, T_bar, C_bar = torch.empty_like(T_slope), torch.empty_like(T), torch.zeros_like(C)
        tensors = [w_bar.contiguous(), T_slope, *slopes, *lists.change, *lists.colliders[:2]]
        tensors += [*lists.forward[:2], *lists.reverse[:2]]
        kernel = kernel_module.kernels(bridge.scalar(T)).pull
        bridge.call(kernel, len(T), *tensors, q_bar, T_bar, C_bar)
        of_high = _arrhenius(q_bar * k_slope, T, A)
        of_low = _arrhenius(q_bar * (q - k_slope), T, low[:, 0])  # doubling both limits doubles q
        return (
            T_bar,  # T
            C_bar,  # C
            of_high[0].to(A.dtype),  # A
            of_high[1].to(b.dtype),  # b
            of_high[2].to(Ea.dtype),  # Ea
            torch.stack(of_low, dim=1).to(low.dtype),  # low
            None,  # kinetics
        )


def _arrhenius(of_log_k: torch.Tensor, T: torch.Tensor, A: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Derivatives in A, b and Ea, (R,) each, from those in ln k at every point, (n, R); summed in float64."""
    of_log_k = of_log_k.double()
    of_b, of_Ea = (of_log_k * T.log()[:, None]).sum(0), -(of_log_k / (R * T)[:, None]).sum(0)
    return of_log_k.sum(0) / A, of_b, of_Ea


def production(kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates | None = None) -> torch.Tensor:
    """Net molar production of each species [mol/(m^3 s)], shape (n, K), by kernels; differentiable once.

    Args:
        kinetics: The mechanism.
        T: Temperatures [K], shape (n,), float32 or float64.
        C: Concentrations [mol/m^3], shape (n, K).
        rates: Rate parameters, all but the orders with gradients; None for the mechanism's.

    Raises:
        ValueError: A shape does not fit, T is not positive, or the orders are not the mechanism's.
        TypeError: A dtype does not fit.
    """
    rates = rates or kinetics.rates
    _check(kinetics, T, C, rates)
    if bridge.backend("warp") == "reference":
        return gas_reference.production(kinetics, T, C, rates)
    parameters = (t.to(T.device, T.dtype) for t in (rates.A, rates.b, rates.Ea, rates.low))
    return _Production.apply(T, C, *parameters, kinetics)


def production_jacobian(
    kinetics: Kinetics, T: torch.Tensor, C: torch.Tensor, rates: Rates | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Production (n, K) and its derivatives in T at constant C (n, K) and in C (n, K, K), without gradients.

    Arguments and errors as for `production`.
    """
    rates = (rates or kinetics.rates).detached()
    T, C = T.detach(), C.detach()
    _check(kinetics, T, C, None)
    fixed = torch.equal(rates.orders, kinetics.rates.orders)
    if bridge.backend("warp") == "reference" or not fixed:
        return gas_reference.production_jacobian(kinetics, T, C, rates)
    parameters = (t.to(T.device, T.dtype) for t in (rates.A, rates.b, rates.Ea, rates.low))
    q, T_slope, _, *slopes = _progress(kinetics, T, C, *parameters)
    lists, count = _lists(kinetics, T), kinetics.nasa.shape[0]
    of_T, of_C = T.new_empty(len(T), count), T.new_zeros(len(T), count, count)
    tensors = [T_slope, *slopes, *lists.made, *lists.colliders[:2], *lists.forward[:2], *lists.reverse[:2]]
    kernel = kernel_module.kernels(bridge.scalar(T)).jacobian
    bridge.call(kernel, (len(T), count), *tensors, of_T, of_C)
    return _gather(kinetics, q), of_T, of_C
