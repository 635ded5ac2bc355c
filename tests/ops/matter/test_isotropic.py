"""Isotropic laws: parity with plain torch, exact derivatives in hard cases, bad input."""

from typing import Any

import pytest
import torch

from simengine.ops.matter import isotropic, isotropic_reference
from simengine.ops.matter.isotropic_units import IsotropicUnits

WIDTH = 6


def slope(t: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(t)


def curvature(t: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(t) * (1 - torch.sigmoid(t))


UNITS = IsotropicUnits(slope, curvature, strain_scale=0.2, modulus=2.0)


def deformations(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.eye(3) + 0.15 * torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)).to(dtype)


def learned(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {"moduli": (3,), "layer": (WIDTH, 3), "offsets": (WIDTH,), "weighted": (WIDTH, 3)}
    made = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def limits(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Caps of v and radii: particles within bounds, beyond the cap (where v > 0), and beyond the radius."""
    kind, v = torch.arange(len(F)) % 3, torch.linalg.det(F).log()
    cap = torch.where((kind == 1) & (v > 0), 0.7 * v, v + 1)
    return cap, torch.where(kind == 2, 0.05, 2.0).to(F)


def flow_by(module: Any) -> Any:
    def flow(F: torch.Tensor, cap: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        v = module.volume(F)
        return module.flow(F, v, torch.relu(v - cap), radius)

    return flow


def pulled(function: Any, inputs: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The value, and the cotangents under a fixed random one."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    value = function(*inputs)
    bar = torch.randn(value.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(value)
    return value.detach(), [b.double() for b in torch.autograd.grad(value, inputs, bar)]


def stress_by(module: Any) -> Any:
    return lambda F, *rest: module.stress(UNITS, F, **dict(zip(learned(), rest, strict=True)))


# float64: the reference's eigenvalues of F F^T lose digits where they are close; float32: differences of numbers near 1
@pytest.mark.parametrize(
    ("dtype", "value_error", "bar_error"), [(torch.float64, 1e-13, 1e-9), (torch.float32, 3e-6, 2e-4)]
)
@pytest.mark.parametrize("op", ["stress", "volume", "flow"])
def test_parity(op: str, dtype: torch.dtype, value_error: float, bar_error: float) -> None:
    F = deformations(60)
    if op == "stress":
        inputs = [F, *learned().values()]
        ours, theirs = stress_by(isotropic), stress_by(isotropic_reference)
    elif op == "volume":
        inputs, ours, theirs = [F], isotropic.volume, isotropic_reference.volume
    else:
        inputs, ours, theirs = [F, *limits(F)], flow_by(isotropic), flow_by(isotropic_reference)
    value, bars = pulled(ours, [tensor.to(dtype) for tensor in inputs])
    expected, expected_bars = pulled(theirs, inputs)
    assert float((value.double() - expected).norm() / expected.norm()) < value_error
    for a, b in zip(bars, expected_bars, strict=True):
        assert float((a - b).norm()) <= bar_error * float(b.norm())
        assert float(b.norm()) > 0


HARD = {
    "rest": torch.eye(3),
    "scaled": 1.1 * torch.eye(3),
    "two equal": torch.diag(torch.tensor([1.2, 1.2, 0.8])),
    "nearly equal": torch.diag(torch.tensor([1.1, 1.1 + 1e-7, 0.9])),
    "turned": torch.tensor([[0.0, -1.05, 0.0], [1.05, 0.0, 0.0], [0.0, 0.0, 0.95]]),
    "mirrored": torch.diag(torch.tensor([1.1, 0.9, -0.7])),
    "flat along two": torch.tensor([[2.0, 0.1, 0.0], [0.0, 0.015, 0.0], [0.1, 0.0, 0.012]]),
}


@pytest.mark.parametrize("case", list(HARD))
def test_derivatives_of_the_stress_hold_at_repeated_singular_values(case: str) -> None:
    rest = list(learned().values())
    F = HARD[case].double()[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda F: stress_by(isotropic)(F, *rest), (F,), atol=1e-6)


# not at |D| = 0 with the least radius, where there is no derivative, nor where F is mirrored: det F is a limit there
@pytest.mark.parametrize(
    ("case", "cap", "radius"),
    [
        *[(case, 5.0, 2.0) for case in HARD if case != "mirrored"],
        *[(case, 5.0, 0.01) for case in ("two equal", "nearly equal", "turned", "flat along two")],
        *[(case, 0.01, 2.0) for case in ("scaled", "two equal", "nearly equal", "turned")],
    ],
)
def test_derivatives_of_the_flow_hold_at_repeated_singular_values(case: str, cap: float, radius: float) -> None:
    F, held = HARD[case].double()[None].requires_grad_(), []
    for value in (cap, radius):
        held.append(torch.tensor([value], dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(flow_by(isotropic), (F, *held), atol=1e-6)


def test_gradcheck_of_everything_learned() -> None:
    F = deformations(6).requires_grad_()
    tensors = [tensor.requires_grad_() for tensor in learned().values()]
    assert torch.autograd.gradcheck(stress_by(isotropic), (F, *tensors))
    assert torch.autograd.gradcheck(flow_by(isotropic), (F, *(t.requires_grad_() for t in limits(F.detach()))))


@pytest.mark.parametrize("n", [0, 1])
def test_few_particles(n: int) -> None:
    F = deformations(n).requires_grad_()
    tau = stress_by(isotropic)(F, *learned().values())
    after = flow_by(isotropic)(F, *limits(F.detach()))
    (bar,) = torch.autograd.grad(tau.sum() + after.sum(), F)
    assert tau.shape == after.shape == bar.shape == (n, 3, 3)


def test_commands_serve_other_tensors_and_shapes() -> None:
    """A launch recorded for one tensor, run on others of its shape and of another."""
    for n in (5, 5, 7, 5):
        F = deformations(n) + 0.01 * n
        expected = isotropic_reference.volume(F)
        torch.testing.assert_close(isotropic.volume(F), expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(isotropic.volume(F.mT), expected, rtol=1e-12, atol=1e-14)  # not contiguous


def test_bad_input() -> None:
    F, tensors = deformations(3), learned()
    with pytest.raises(ValueError, match=r"layer must have shape \(6, 3\), got \(6, 2\)"):
        isotropic.stress(UNITS, F, **{**tensors, "layer": tensors["layer"][:, :2]})
    with pytest.raises(TypeError, match="offsets must be torch"):
        isotropic.stress(UNITS, F, **{**tensors, "offsets": tensors["offsets"].float()})
    with pytest.raises(ValueError, match=r"radius must have shape \(3,\), got \(2,\)"):
        isotropic.flow(F, F[:, 0, 0], F[:, 0, 0], F[:2, 0, 0])
    with pytest.raises(TypeError, match="float16"):
        isotropic.volume(F.half())


def test_a_second_derivative_is_refused() -> None:
    F = deformations(2).requires_grad_()
    tau = stress_by(isotropic)(F, *learned().values())
    (bar,) = torch.autograd.grad(tau.square().sum(), F, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        bar.sum().backward()
