"""Residuals that raise, return NaN, are rank deficient or of a wrong shape: what the layer says of them."""

import dataclasses
from typing import Any

import pytest
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, RowWeights
from simengine.constraint.pde import Parameters, Rows
from simengine.solve.least_squares.system import ResidualError
from simengine.solve.solution import Result, SolveError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faulty(DiffusionSorption):
    """Diffusion-sorption whose residual goes wrong in one way or another."""

    fault: str = ""

    def residual(self, values: torch.Tensor, data: tuple[torch.Tensor, ...], parameters: Parameters) -> torch.Tensor:
        r = super().residual(values, data, parameters)
        if self.fault == "raises":
            raise KeyError("conductivity")
        if self.fault == "shape":
            return r[..., :-1]
        if self.fault == "scalar":
            return r.sum()
        if self.fault == "type":
            return r.float()
        if self.fault == "number":
            return 0.0  # type: ignore[return-value]
        if self.fault == "detached":
            return r.detach()
        if self.fault == "nan":
            return (values[..., 1] - 0.5).sqrt() + r  # a domain that most values are outside of
        if self.fault == "blind":
            return 0 * r
        return r

    def conditions(self) -> Rows:
        rows = super().conditions()
        return dataclasses.replace(rows, data=(0 * rows.data[0],)) if self.fault == "blind" else rows


def problem(**options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    t = torch.linspace(0, 1, 10, dtype=torch.float64)[:, None]
    x = ((torch.arange(16, dtype=torch.float64) + 0.5) / 16)[None]
    basis = torch.stack([x**0 + 0 * t, x + 0 * t, torch.exp(-6 * x) + 0 * t], dim=-1).expand(2, -1, -1, -1).clone()
    return basis, {"u0": torch.tensor([0.05, 0.15], dtype=torch.float64)}


def layer(fault: str, coupled: bool = True, **options: Any) -> HardConstraint:
    blocks = Decomposition(counts=(1, 2), coupled=coupled)
    return HardConstraint(Faulty(nt=10, nx=16, fault=fault), blocks, **options)


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "KeyError: 'conductivity'"),
        ("shape", r"Faulty.residual: expected shape \(2, 2, 56\), got \(2, 2, 55\)"),
        ("scalar", r"Faulty.residual: expected shape .* got \(\)"),
        ("type", "Faulty.residual: expected torch.float64, got torch.float32"),
        ("number", "Faulty.residual: expected a tensor, got float"),
        ("detached", "Faulty.residual: does not depend on the values it is given"),
    ],
)
def test_what_is_no_residual(fault: str, message: str, coupled: bool) -> None:
    basis, parameters = problem()
    if not coupled:
        message = message.replace(r"\(2, 2, 5", r"\(4, 1, 5")
    with pytest.raises(ResidualError, match=rf"iteration 0, problems \[0, 1.*\], y of shape .*{message}"):
        layer(fault, coupled=coupled)(basis, parameters)


def test_a_residual_that_leaves_its_domain() -> None:
    basis, parameters = problem()
    found = layer("nan")(basis, parameters)
    assert found.solution.stats["status"].tolist() == [Result.NONFINITE] * 2
    assert bool(found.field.isfinite().all())  # the last good point, and the status says so
    with pytest.raises(SolveError, match=r"problems \[0, 1\] of 2 after \[.*\] iterations: NONFINITE"):
        layer("nan", throw=True)(basis, parameters)


def test_parameters_of_another_batch_are_refused() -> None:
    basis, parameters = problem()
    for wrong in (parameters["u0"][:1].expand(len(basis) + 1, *parameters["u0"].shape[1:]), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=rf"parameters\['u0'\]: expected shape \({len(basis)}, \.\.\.\)"):
            layer("")(basis, {"u0": wrong})


def test_rows_that_see_nothing() -> None:
    basis, parameters = problem()
    found = layer("blind", weights=RowWeights(ridge=0.0))(basis.requires_grad_(), parameters)
    assert found.solution.result is Result.RANK_DEFICIENT
    with pytest.raises(SolveError, match="RANK_DEFICIENT"):
        found.field.sum().backward()


def test_one_bad_sample_leaves_the_others_alone() -> None:
    basis, parameters = problem()
    alone = layer("")(basis[:1], {"u0": parameters["u0"][:1]})
    parameters["u0"][1] = torch.nan
    found = layer("")(basis.requires_grad_(), parameters)
    assert found.solution.stats["status"].tolist() == [Result.SUCCESS, Result.NONFINITE]
    assert torch.allclose(found.field[0], alone.field[0], rtol=0, atol=1e-12)
    gradient = torch.autograd.grad(found.field[0].sum(), basis)[0]
    assert float(gradient[0].abs().max()) > 0 and bool((gradient[1] == 0).all())  # of which nothing was asked
