"""Bars that go with what was found into another scene, beside those of regression in closed form."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import simengine as se
from simengine.fit.carry import carried, found_in
from simengine.fit.problem import Problem
from simengine.fit.spread import Spread, read_spread
from simengine.observe import Curve
from simengine.scene import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.loader import make_scene

SIGMA = 0.01


class Decay(se.OwnWorld):
    """y = amplitude exp(-rate t) from a level below 3."""

    parameters: ClassVar = {
        "amplitude": se.OwnNumber(1.0, "m", gt=0),
        "rate": se.OwnNumber(1.0, "1/s", gt=0),
        "level": se.OwnNumber(0.0, "m", lt=3.0),
        "idle": se.OwnNumber(1.0, gt=0),
    }

    def simulate(self, values: dict[str, torch.Tensor]) -> se.OwnMotion:
        t = torch.linspace(0.0, 6.0, 1201, dtype=torch.float64)
        y = values["level"] + values["amplitude"] * torch.exp(-values["rate"] * t)
        return se.OwnMotion(t, scalars={"y": y})


def curve(folder: Path, name: str, times: torch.Tensor, noise: float = SIGMA) -> Curve:
    generator = torch.Generator().manual_seed(0)
    y = 0.1 + 2.0 * torch.exp(-0.7 * times) + noise * torch.randn(len(times), generator=generator, dtype=torch.float64)
    rows = [f"{float(a)},{float(b)}" for a, b in zip(times, y, strict=True)]
    (folder / f"{name}.csv").write_text("\n".join(["time [s],y [m]", *rows]) + "\n")
    return Curve(name=name, directory=folder, file=f"{name}.csv", columns={"time": "time", "y": "y"}, sigma=SIGMA)


SEEN = torch.linspace(0.02, 2.9, 60, dtype=torch.float64)
LATER = torch.tensor([0.5, 3.5, 5.5], dtype=torch.float64)


def slopes(a: float, r: float, t: torch.Tensor) -> torch.Tensor:
    """dy/d(amplitude, rate, level), (m, 3)."""
    fall = torch.exp(-r * t)
    return torch.stack((fall, -a * t * fall, torch.ones_like(t)), 1)


def there(folder: Path) -> Scene:
    return se.scene_of(Decay(idle=2.0), observations={"later": curve(folder, "later", LATER)})


def test_bars_are_those_of_regression(tmp_path: Path) -> None:
    """Verification: J (X^T X / sigma^2)^-1 J^T at times that the fit never saw; in Python, and from the run's files."""
    unknowns = {name: se.Unknown(scale=1.0) for name in ("amplitude", "rate", "level")}
    problem = Problem(Decay(), observations={"seen": curve(tmp_path, "seen", SEEN, noise=0.0)}, unknowns=unknowns)
    result = se.identify(problem, out=tmp_path / "run", progress=False)
    a, r, _ = (result.estimates[name].value for name in ("amplitude", "rate", "level"))
    x, ahead = slopes(a, r, SEEN), slopes(a, r, LATER)
    covariance = SIGMA**2 * torch.linalg.inv(x.T @ x)
    expected = (ahead @ covariance @ ahead.T).diagonal().sqrt()
    prediction = result.predict(there(tmp_path))["later"]
    assert prediction.std is not None
    # no noise in the data, so that chi-square widens nothing; derivatives are differences: 2 %
    torch.testing.assert_close(prediction.std[:, 0], expected, rtol=0.02, atol=0)
    spread = read_spread(tmp_path / "run")
    assert spread is not None and spread.draws is None
    torch.testing.assert_close(spread.covariance, covariance, rtol=0.02, atol=1e-9)
    assert float(spread.covariance[0, 2]) < 0  # a level with an upper bound moves against its coordinate
    again = carried(found_in(tmp_path / "run"), there(tmp_path)).bars(spread)
    torch.testing.assert_close(again["later"], prediction.std, rtol=1e-3, atol=0)
    told = se.predict(there(tmp_path), found=tmp_path / "run")["later"]
    torch.testing.assert_close(told.values, prediction.values)
    torch.testing.assert_close(told.std, prediction.std, rtol=1e-3, atol=0)
    torch.testing.assert_close(se.predict(there(tmp_path), found=result)["later"].values, prediction.values)
    # samples that scatter so tell the same within what 40 of them can
    g = torch.Generator().manual_seed(3)
    noise = torch.randn(200, 3, generator=g, dtype=torch.float64) @ torch.linalg.cholesky(spread.covariance).T
    center = torch.tensor([result.estimates[name].value for name in spread.names], dtype=torch.float64)
    drawn = carried(found_in(tmp_path / "run"), there(tmp_path)).bars(dataclasses.replace(spread, draws=center + noise))
    assert float((drawn["later"][:, 0] / expected).log().abs().max()) < math.log(1.5)


def test_a_run_without_a_covariance_has_no_bars(tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text('{"covariance": [[1.0]]}')
    assert read_spread(tmp_path) is None
    made = carried({"rate": 0.7}, there(tmp_path))
    with pytest.raises(SceneError, match="tells no covariance"):
        made.bars(None)
    elsewhere = Spread(("other",), torch.eye(1, dtype=torch.float64))
    assert made.bars(elsewhere) == {}


def test_predictions_with_the_numbers_as_they_stand(tmp_path: Path) -> None:
    """Of the world's own law; a scene that observes nothing, and a folder without a fit, are told in one line."""
    told = se.predict(there(tmp_path))["later"]
    torch.testing.assert_close(told.values[:, 0], torch.exp(-LATER), rtol=0, atol=2e-6)  # linear between steps of 5 ms
    assert told.std is None
    with pytest.raises(SceneError, match="no \\[observations\\] to predict"):
        se.predict(se.scene_of(Decay()))
    with pytest.raises(ValueError, match="holds neither a model nor a finished fit"):
        se.predict(there(tmp_path), found=tmp_path)


def test_an_entry_that_the_new_scene_lacks_is_left_and_named() -> None:
    data = {"kind": "specimen", "test": {"type": "uniaxial"}, "material": {"type": "ogden", "nu": 0.49}}
    data["material"] |= {"mu": [1e5], "alpha": [2.0]}
    world = make_scene(data, directory=Path(), locate=lambda key: "scene")
    made = carried({"material.mu 0": 2e5, "material.mu 1": 3e4}, se.scene_of(world))
    assert made.values == {"material.mu 0": 2e5}
    assert made.left == {"material.mu 1": "material.mu: has 1 entries here"}
