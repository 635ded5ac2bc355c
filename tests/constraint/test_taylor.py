"""The Taylor series of an equation: closed forms, Navier-Stokes beside its recurrence, windows of a tolerance."""

import math

import pytest
import torch

from simengine.constraint.navier_stokes import NavierStokes
from simengine.constraint.taylor import longest_window, taylor_series

D = torch.float64


def test_closed_forms() -> None:
    """u' = u^2 is 1/(1/u0 - t), u' = -2 u an exponential, and u' = exp(-u) a logarithm."""
    u0 = torch.tensor([0.5, 1.0, -2.0], dtype=D)
    found = taylor_series(lambda u: u.square(), u0, 5)
    assert torch.allclose(found, torch.stack([u0 ** (k + 1) for k in range(1, 6)]), rtol=1e-12)
    found = taylor_series(lambda u: -2 * u, u0, 4)
    assert torch.allclose(found, torch.stack([u0 * (-2.0) ** k / math.factorial(k) for k in range(1, 5)]), rtol=1e-12)
    found = taylor_series(lambda u: (-u).exp(), torch.zeros(1, dtype=D), 4)[:, 0]
    assert found.tolist() == pytest.approx([(-1.0) ** (k + 1) / k for k in range(1, 5)])  # ln(1 + t)


def test_a_flow_has_the_terms_of_its_own_recurrence() -> None:
    """Navier-Stokes written down by hand beside the terms of the shipped family, which has a recurrence of its own."""
    pde = NavierStokes(nt=9, size=12)
    n = pde.size
    w0 = pde.draw(2, torch.Generator().manual_seed(0))["w0"]
    k = torch.fft.fftfreq(n, 1 / n, dtype=D)
    ky, kx = k[:, None].expand(n, n), k[None].expand(n, n)
    scale = 2 * math.pi
    square = (kx.square() + ky.square()) * scale**2
    # of a field so smooth that the grid holds its products: nothing is aliased, whatever way they are formed
    low = (kx.abs() < n / 6) & (ky.abs() < n / 6)
    w0 = torch.fft.ifft2(torch.fft.fft2(w0) * low).real
    inverse = torch.where(square > 0, 1 / square.clamp_min(1e-300), 0.0)

    def field(hat: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(hat).real

    def rate(w: torch.Tensor) -> torch.Tensor:
        hat = torch.fft.fft2(w)
        stream = hat * inverse
        u, v = field(1j * scale * ky * stream), field(-1j * scale * kx * stream)
        return (
            -u * field(1j * scale * kx * hat) - v * field(1j * scale * ky * hat) - pde.viscosity * field(square * hat)
        )

    ours, own = taylor_series(rate, w0, 2), pde.series(w0, 2)
    assert torch.allclose(ours[0], own[0], atol=1e-10 * float(own[0].abs().max()))
    assert torch.allclose(ours[1], own[1], atol=1e-9 * float(own[1].abs().max()))


def test_windows_keep_the_tolerance() -> None:
    """The logistic equation marched by windows of the series: the answer is as good as each of them."""
    t, u, windows = 0.0, torch.tensor([0.01], dtype=D), 0
    while t < 8.0:
        terms = taylor_series(lambda u: u * (1 - u), u, 4)
        h = min(longest_window(u, terms, 1e-4), 8.0 - t)
        u = u + sum(term * h ** (k + 1) for k, term in enumerate(terms))
        t, windows = t + h, windows + 1
    exact = 1 / (1 + 99 * math.exp(-8.0))
    assert float(u) == pytest.approx(exact, rel=1e-4) and 20 < windows < 120
    assert longest_window(u, torch.zeros(3, 1, dtype=D), 1e-9) == math.inf


def test_a_gradient_goes_through_and_a_wrong_order_is_refused() -> None:
    rate = torch.tensor(0.7, dtype=D, requires_grad=True)
    third = taylor_series(lambda u: -rate * u, torch.ones(1, dtype=D), 3)[2].sum()
    (slope,) = torch.autograd.grad(third, rate)
    assert float(slope) == pytest.approx(-3 * 0.7**2 / 6)
    with pytest.raises(ValueError, match="order: expected 1 or more, got 0"):
        taylor_series(lambda u: u, torch.ones(1), 0)
