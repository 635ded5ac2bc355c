"""`torch.func` and `torch.compile` around a solve, beside loops of plain ones."""

from typing import Any

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, vmap

from simengine.constraint import HardConstraint
from simengine.constraint.burgers import Burgers
from simengine.solve.least_squares import Dense, MatrixFree, least_squares
from simengine.solve.least_squares.adjoint import UnrolledAdjoint

D = torch.float64
T = torch.linspace(0, 2, 20, dtype=D)
DATA = torch.stack([(1 + 0.2 * k) * torch.exp(-(1 + 0.1 * k) * T) + 0.3 + 0.02 * torch.sin(7 * T) for k in range(3)])
WAYS: dict[str, dict[str, Any]] = {
    "dense": {},
    "qr": {"structure": Dense(qr=True)},
    "products": {"structure": MatrixFree()},
    "bound": {"bounds": (-9.0, torch.tensor([9.0, 9.0, 0.25], dtype=D))},
    "equality": {"equality": lambda y, args: (y[0] - y[1]).reshape(1)},
}


def decay(y: torch.Tensor, args: Any) -> torch.Tensor:
    return y[0] * torch.exp(-y[1] * args["t"]) + y[2] - args["d"]


def fitted(data: torch.Tensor, **options: Any) -> torch.Tensor:
    start = torch.tensor([1.0, 1.0, 0.0], dtype=D)
    return least_squares(decay, start, {"t": T, "d": data}, throw=True, **options).value


def rows(data: torch.Tensor, **options: Any) -> torch.Tensor:
    """The Jacobian of what is fitted, by reverse mode as ever."""
    held = data.clone().requires_grad_()
    found = fitted(held, **options)
    return torch.stack([torch.autograd.grad(value, held, retain_graph=True)[0] for value in found])


@pytest.mark.parametrize("way", WAYS)
def test_vmap_grad_and_jacrev_are_those_of_a_loop(way: str) -> None:
    options = WAYS[way]
    one = torch.stack([fitted(data, **options) for data in DATA])
    slopes = torch.stack([rows(data, **options) for data in DATA])
    close = {"rtol": 1e-6, "atol": 1e-7}  # products end where their conjugate gradients do
    torch.testing.assert_close(vmap(lambda d: fitted(d, **options))(DATA), one, **close)
    torch.testing.assert_close(grad(lambda d: fitted(d, **options)[1])(DATA[0]), slopes[0, 1], **close)
    torch.testing.assert_close(jacrev(lambda d: fitted(d, **options))(DATA[0]), slopes[0], **close)
    torch.testing.assert_close(vmap(grad(lambda d: fitted(d, **options)[1]))(DATA), slopes[:, 1], **close)


def test_the_gradient_of_a_mapped_solve_and_of_args_that_all_problems_share() -> None:
    slopes = torch.stack([rows(data) for data in DATA])
    held = DATA.clone().requires_grad_()
    vmap(fitted)(held)[:, 2].sum().backward()
    torch.testing.assert_close(held.grad, slopes[:, 2], rtol=1e-9, atol=1e-12)

    def shared(factor: torch.Tensor) -> torch.Tensor:
        start = torch.tensor([1.0, 1.0, 0.0], dtype=D).expand(3, 3)
        return least_squares(
            lambda y, a: decay(y, {"t": T, "d": a * DATA[0]}), start, factor, shared=True, throw=True
        ).value

    one = torch.ones((), dtype=D)
    expected = (slopes[0] @ DATA[0]).expand(3, 3)
    torch.testing.assert_close(jacrev(shared)(one), expected, rtol=1e-8, atol=1e-10)


def test_what_is_not_offered_is_refused_by_name() -> None:
    with pytest.raises(RuntimeError, match=r"forward mode.*jacrev"):
        jacfwd(fitted)(DATA[0])
    with pytest.raises(RuntimeError, match=r"second derivatives under torch\.func.*create_graph"):
        jacrev(jacrev(lambda d: fitted(d).sum()))(DATA[0])
    with pytest.raises(ValueError, match=r"UnrolledAdjoint: torch.func.*ImplicitAdjoint"):
        grad(lambda d: fitted(d, adjoint=UnrolledAdjoint()).sum())(DATA[0])
    pde = Burgers(nt=6, nx=8)
    members = pde.draw(2, torch.Generator().manual_seed(0))
    basis = torch.randn(2, *pde.shape, 3, generator=torch.Generator().manual_seed(1), dtype=D)
    with pytest.raises(RuntimeError, match=r"torch.func does not pass.*torch.autograd.*samples"):
        grad(lambda b: HardConstraint(pde)(b, members).field.sum())(basis)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of the compiler, at what the solve hands on
def test_compile_around_a_solve_changes_nothing() -> None:
    compiled = torch.compile(fitted, backend="eager")
    held = DATA[0].clone().requires_grad_()
    found = compiled(held)
    torch.testing.assert_close(found, fitted(DATA[0]), rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(found[1], held)[0], rows(DATA[0])[1], rtol=0, atol=0)
