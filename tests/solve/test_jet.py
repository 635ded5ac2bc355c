"""Arithmetic of truncated series beside derivatives taken one after another, and closed forms of high order."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.func import jvp

from simengine.solve.jet import Jet
from simengine.solve.least_squares.system import load_forward_mode

D = torch.float64
ORDER = 5
A = torch.tensor([[0.3, -1.0, 0.2], [0.7, 0.1, 0.4], [-0.6, 0.5, 0.9]], dtype=D)
C = torch.tensor([0.2, 0.75, 0.5], dtype=D)

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "polynomials": lambda x, s: 3 * x - 2 + x * x / 2 - x**3 + torch.pow(x, 2),
    "quotients": lambda x, s: (1 + x) / (2 + x * x) + 0.1 / x - C / x + x.reciprocal(),
    "powers": lambda x, s: x**1.3 + x.pow(-2) + x**C + x**x + 2**x,
    "roots": lambda x, s: x.sqrt() + torch.rsqrt(x) + x.square(),
    "exponentials": lambda x, s: torch.exp(-x * x) + torch.expm1(x) + torch.log(x) + torch.log1p(x),
    "circular": lambda x, s: torch.sin(x) * torch.cos(x) + torch.tan(x) + torch.atan(x) + torch.asin(x / 9),
    "hyperbolic": lambda x, s: torch.sinh(x) - torch.cosh(x) + torch.tanh(x),
    "sigmoids": lambda x, s: torch.sigmoid(x) + torch.nn.functional.softplus(x) + torch.erf(x) + torch.erfc(x),
    "decisions": lambda x, s: torch.where(x > 0.8, x * x, C) + torch.maximum(x, C) + torch.minimum(2 * x, C),
    "limits": lambda x, s: x.clamp(0.5, 0.9) + x.clamp_min(0.7) + x.clamp(max=C) + torch.relu(x - 0.8) + abs(0.7 - x),
    "linear maps": lambda x, s: A @ x + torch.roll(x, 1) + x[[1, 2, 0]] + x.sum() + x.flip(0) + (C @ x),
    "joined": lambda x, s: torch.cat((x[:2], C[2:])) + torch.stack([x, C])[0] + torch.stack([x, C])[1],
    "of the moment": lambda x, s: torch.sin(4 * s) * x + s * s + C * s + torch.add(C, x, alpha=2),
    "waves": lambda x, s: torch.fft.irfft(torch.fft.rfft(x) * torch.arange(2), n=3),
    "outer": lambda x, s: (x[:, None] * x[None]).sum(1) + C.expand_as(x) * x.expand(3) + torch.zeros_like(x),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_parity_with_derivatives_one_after_another(name: str) -> None:
    """Each costs twice the one before; nothing of this arithmetic is in them."""
    load_forward_mode()
    function, generator = FUNCTIONS[name], torch.Generator().manual_seed(0)
    terms = [torch.tensor([0.61, 0.85, 1.4], dtype=D)]
    terms += [torch.randn(3, generator=generator, dtype=D) for _ in range(ORDER)]

    def along(s: torch.Tensor) -> torch.Tensor:
        total = terms[-1]
        for term in reversed(terms[:-1]):
            total = term + s * total
        return function(total, s)

    zero, one = torch.zeros((), dtype=D), torch.ones((), dtype=D)
    found = function(Jet(terms), Jet([zero, one, *[zero] * (ORDER - 1)])).coefficients
    assert len(found) == ORDER + 1
    for k in range(ORDER + 1):
        expected = along(zero) / math.factorial(k)
        assert torch.allclose(found[k], expected, rtol=1e-13, atol=1e-13 * (1 + float(expected.abs().max())))
        along = (lambda before: lambda s: jvp(before, (s,), (torch.ones_like(s),))[1])(along)


def test_thirty_terms_of_closed_forms() -> None:
    """1/(1 - s) and exp(2 s): 1 and 2^k/k! for every k."""
    s = Jet([torch.tensor(float(k == 1), dtype=D) for k in range(31)])
    assert [float(c) for c in (1 / (1 - s)).coefficients] == [1.0] * 31
    for k, c in enumerate(torch.exp(2 * s).coefficients):
        assert float(c) == pytest.approx(2.0**k / math.factorial(k), rel=1e-13)


def test_gradients_pass_through_the_coefficients() -> None:
    def third(x: torch.Tensor) -> torch.Tensor:
        jet = Jet([x, x * x, torch.ones_like(x), torch.zeros_like(x)])
        return (torch.exp(jet) / (1 + jet * jet)).coefficients[3]

    assert torch.autograd.gradcheck(third, (torch.tensor([0.3, 0.9], dtype=D, requires_grad=True),))


def test_a_function_without_a_rule_is_named() -> None:
    with pytest.raises(TypeError, match="lgamma: no rule for its Taylor series; write it in sums"):
        torch.lgamma(Jet([torch.ones(2)]))
    with pytest.raises(AttributeError, match="colour"):
        _ = Jet([torch.ones(2)]).colour
