"""Modified Cam-clay in the tests of a soils laboratory, against its closed forms (Wood 1990)."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.grammar import make_world

M, LINE, BACK, PC, REFERENCE = 1.1, 0.12, 0.03, 2e5, 1e4
CLAY: dict[str, Any] = {
    "type": "cam_clay", "M": M, "compression": LINE, "swelling": BACK, "G": 4e6, "preconsolidation": PC,
    "reference": REFERENCE,
}  # fmt: skip
RATIO = 1 - BACK / LINE


def specimen(test: dict[str, Any], **more: Any) -> Any:
    data = {"kind": "specimen", "material": CLAY | more, "test": test}
    return make_world(data, directory=Path(), locate=lambda key: "scene.toml")


def answers(world: Any, against: str, values: Any, *names: str) -> np.ndarray:
    ask = Series(names=names, against=against, values=torch.as_tensor(values, dtype=torch.float64))
    return world.solve((ask,)).sample(ask).numpy()


def test_pressed_all_round_it_goes_along_its_lines() -> None:
    """Swelling line up to p_c, normal consolidation line from there, and back along a swelling line of its own."""
    p = np.array([2e4, 1e5, 2e5, 4e5, 1e6, 2e5])
    found = np.log(answers(specimen({"type": "isotropic"}), "pressure", p, "volume_ratio")[:, 0])
    first = -BACK * np.log(p[:3] / REFERENCE)
    line = -BACK * np.log(PC / REFERENCE) - LINE * np.log(p[3:5] / PC)
    np.testing.assert_allclose(found, [*first, *line, line[-1] - BACK * np.log(2e5 / 1e6)], atol=1e-10)


@pytest.mark.parametrize("pressure", [5e4, 1.5e5, 4e5])
def test_drained_it_comes_to_its_critical_state(pressure: float) -> None:
    """q = 3 (p - side) and q = M p: p = 3 side / (3 - M), the volume that of the critical state line, and no more."""
    strain = np.linspace(-0.005, -1.5, 600)
    names = ("deviator_stress", "mean_effective_stress", "volume_ratio", "pore_pressure")
    q, p, volume, pore = answers(specimen({"type": "triaxial", "pressure": pressure}), "true_strain", strain, *names).T
    np.testing.assert_allclose(q, 3 * (p - pressure), rtol=1e-9)
    np.testing.assert_allclose(pore, 0.0, atol=1e-6 * pressure)
    critical = 3 * pressure / (3 - M)
    assert p[-1] == pytest.approx(critical, rel=1e-4) and q[-1] == pytest.approx(M * critical, rel=1e-4)
    end = -BACK * math.log(critical / REFERENCE) - (LINE - BACK) * math.log(2 * critical / PC)  # p_c = 2 p there
    assert math.log(volume[-1]) == pytest.approx(end, abs=2e-5)


def test_undrained_it_follows_the_path_of_constant_volume() -> None:
    """Normally consolidated: p0 / p = ((M^2 + (q / p)^2) / M^2)^(1 - swelling / compression)."""
    p0, strain = 4e5, np.linspace(-2e-4, -0.4, 2000)
    world = specimen({"type": "triaxial", "pressure": p0, "drained": False})
    names = ("deviator_stress", "mean_effective_stress", "volume_ratio", "pore_pressure", "cauchy_stress")
    q, p, volume, pore, total = answers(world, "true_strain", strain, *names).T
    np.testing.assert_allclose(np.log(volume), -BACK * math.log(PC / REFERENCE) - LINE * math.log(p0 / PC), atol=1e-9)
    np.testing.assert_allclose(p, p0 * ((M**2 + (q / p) ** 2) / M**2) ** -RATIO, rtol=2e-3)  # implicit in the step
    assert p[-1] == pytest.approx(p0 * 2**-RATIO, rel=2e-3) and q[-1] == pytest.approx(M * p[-1], rel=1e-3)
    np.testing.assert_allclose(pore, p0 + q / 3 - p, rtol=1e-9)  # what the water bears of the total pressure
    np.testing.assert_allclose(-total, p0 + q, rtol=1e-9)


def test_overconsolidated_and_undrained_it_yields_on_its_ellipse() -> None:
    """Elastic at constant p up to q = M sqrt(p (p_c - p)); from there p_c falls as p grows, to the critical state."""
    p0, strain = 5e4, np.concatenate([np.linspace(-1e-5, -0.02, 1000), np.linspace(-0.021, -0.6, 500)])
    world = specimen({"type": "triaxial", "pressure": p0, "drained": False})
    q, p = answers(world, "true_strain", strain, "deviator_stress", "mean_effective_stress").T
    top = M * math.sqrt(p0 * (PC - p0))
    first = int(np.argmax(-3 * 4e6 * strain > top))
    np.testing.assert_allclose(p[:first], p0, rtol=1e-9)
    np.testing.assert_allclose(q[:first], -3 * 4e6 * strain[:first], rtol=1e-9)  # 3 G times the strain
    bound = PC * (p[first:] / p0) ** (-BACK / (LINE - BACK))  # at constant volume the flow gives what swelling takes
    np.testing.assert_allclose(q[first:], M * np.sqrt(p[first:] * (bound - p[first:])), rtol=1e-6)
    assert p[-1] == pytest.approx(p0 * (PC / p0 / 2) ** RATIO, rel=2e-3) and q[-1] == pytest.approx(M * p[-1], rel=1e-3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"swelling": 0.2}, "swelling: must lie below compression, 0.12, got 0.2"),
        ({"reference": 3e5}, "reference: must not lie above preconsolidation"),
        ({"M": 3.0}, "M"),
    ],
)
def test_bad_numbers_are_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(SceneError, match=words):
        specimen({"type": "triaxial", "pressure": 1e5}, **more)
