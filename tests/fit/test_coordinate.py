"""A number within its bounds, as a coordinate without any."""

import math

import pytest
import torch

from simengine.fit.coordinate import Coordinate


@pytest.mark.parametrize(("lower", "upper"), [(2.0, 5.0), (2.0, math.inf), (-math.inf, 5.0), (-math.inf, math.inf)])
def test_a_coordinate_and_its_value_undo_each_other(lower: float, upper: float) -> None:
    one = Coordinate(name="E", targets=(), start=3.0, lower=lower, upper=upper, scale=0.7)
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)
    values = one.value(z)
    assert float(values[3]) == pytest.approx(3.0, rel=1e-14)
    assert bool(((values > lower) & (values < upper)).all())
    assert [one.coordinate(float(v)) for v in values] == pytest.approx(z.tolist(), abs=1e-12)
    h = 1e-6
    slope = (one.value(z[5] + h) - one.value(z[5] - h)) / (2 * h)
    assert one.rate(z[5]) == pytest.approx(float(slope), rel=1e-7)
