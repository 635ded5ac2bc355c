"""Unknowns in dicts, and complex ones, beside the same problem in real vectors."""

import math
from typing import Any

import pytest
import torch

from simengine.solve.least_squares import Nest, least_squares

T = torch.linspace(0.0, 1.0, 40, dtype=torch.float64)
TRUE = torch.tensor([0.7 + 0.4j, -0.2 + 1.1j], dtype=torch.complex128)


def decays(y: dict[str, torch.Tensor], args: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Two modes of an oscillation with decay, seen as a complex signal, and what is believed of the decay."""
    signal = (y["modes"][:, None] * torch.exp((-y["decay"] + 2j * math.pi * args["turns"])[:, None] * T)).sum(0)
    return {"signal": signal - args["data"], "prior": 0.1 * (y["decay"] - 1.0)}


def data() -> dict[str, torch.Tensor]:
    turns = torch.tensor([1.0, 3.0], dtype=torch.float64)
    start = {"modes": TRUE, "decay": torch.full((), 1.3, dtype=torch.float64)}
    zero = {"turns": turns, "data": torch.zeros(40, dtype=torch.complex128)}
    return {"turns": turns, "data": decays(start, zero)["signal"]}


def test_complex_unknowns_in_a_dict_are_found_with_their_gradient() -> None:
    nest = Nest({"modes": torch.ones(2, dtype=torch.complex128), "decay": torch.zeros((), dtype=torch.float64)})
    args = data()
    args["turns"].requires_grad_()
    solution = least_squares(nest.flattened(decays), nest.flat, args, throw=True)
    found = nest.unflat(solution.value)
    assert found["modes"].dtype == torch.complex128 and found["modes"].shape == (2,) and found["decay"].shape == ()
    assert float((found["modes"] - TRUE).detach().abs().max()) < 2e-2  # the prior pulls the decay from 1.3
    assert float(found["decay"].detach()) == pytest.approx(1.3, abs=2e-2)
    found["modes"][1].imag.backward()
    slope, h = float(args["turns"].grad[1]), 1e-5
    ends = []
    for sign in (1, -1):
        moved = {**data(), "turns": args["turns"].detach() + sign * h * torch.tensor([0.0, 1.0]).double()}
        moved["data"] = data()["data"]
        ends.append(nest.unflat(least_squares(nest.flattened(decays), nest.flat, moved).value)["modes"][1].imag)
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_a_batch_and_bounds() -> None:
    nest = Nest([torch.zeros(2, dtype=torch.float64), {"c": torch.zeros(1, 1, dtype=torch.complex128)}])
    assert nest.flat.shape == (4,)
    whole = nest.unflat(torch.arange(8.0).reshape(2, 4).double())
    assert whole[0].tolist() == [[0, 1], [4, 5]] and whole[1]["c"].tolist() == [[[2 + 3j]], [[6 + 7j]]]
    one = nest.unflat(torch.arange(4.0).double())
    assert nest.flatten(one).tolist() == [0, 1, 2, 3]
    upper = nest.flatten([torch.ones(2).double(), {"c": torch.full((1, 1), 0.5 + 9j, dtype=torch.complex128)}])
    far = nest.flattened(lambda y, args: [y[0] - 3.0, y[1]["c"] - (3 + 3j)])
    assert least_squares(far, nest.flat, bounds=(-1.0, upper)).value.tolist() == pytest.approx([1, 1, 0.5, 3])


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, "one precision"),
        ({"a": torch.zeros(2, dtype=torch.long)}, "got one of torch.int64"),
        ({"a": torch.zeros(2), "b": 1.0}, "got one float"),
        ([torch.zeros(2), torch.zeros(2).double()], "one precision"),
    ],
)
def test_what_is_no_nest_of_unknowns(start: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Nest(start)
    with pytest.raises(ValueError, match="the form and the shapes"):
        Nest({"a": torch.zeros(2)}).flatten({"a": torch.zeros(3)})
