"""How uncertain the numbers of a fit are, together: what it takes to put bars on predictions elsewhere."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.posterior import bands
from simengine.fit.problem import Problem
from simengine.io.arrays import read_json
from simengine.scene.base import Refused, SceneError
from simengine.scene.grammar import Scene
from simengine.scene.sought import Unknown

if TYPE_CHECKING:
    from simengine.fit.posterior import Posterior

DRAWS = 200  # that are kept of samples
TRIED = 40  # of them, that are predicted with


@dataclasses.dataclass(frozen=True)
class Spread:
    """Numbers and how they vary together, SI.

    Attributes:
        names: Of the numbers that have bars.
        covariance: Of their values, (n, n).
        draws: From the posterior, (k, n), where the bars rest on samples; else None.
    """

    names: tuple[str, ...]
    covariance: torch.Tensor
    draws: torch.Tensor | None = None

    def plain(self) -> dict[str, Any]:
        """As it stands in fit.json."""
        draws = {} if self.draws is None else {"draws": self.draws}
        return {"names": list(self.names), "covariance": self.covariance, **draws}


def spread_of(problem: Problem, z: torch.Tensor, found: "Posterior") -> Spread:
    """Of a finished fit: bars as they are told, correlations as the covariance of its coordinates has them.

    Args:
        problem: That was solved.
        z: Its answer (p,).
        found: What is known of it.
    """
    told = {n: e.std for n, e in found.estimates.items() if e.std is not None and e.std > 0}
    own = [k for k, c in enumerate(problem.coordinates) if c.chosen and c.name in told and found.covariance[k, k] > 0]
    names = tuple(problem.coordinates[k].name for k in own)
    rising = torch.stack([_slope(problem, z, k).sign() for k in own]) if own else torch.zeros(0, dtype=torch.float64)
    covariance = found.covariance[own][:, own]
    size = covariance.diagonal().sqrt()
    std = torch.tensor([told[name] for name in names], dtype=torch.float64) * rising
    draws = None
    if found.samples is not None and found.samples.converged and all(name in found.samples.values for name in names):
        columns = [torch.from_numpy(found.samples.values[name].copy()).flatten() for name in names]
        every = max(1, len(columns[0]) // DRAWS) if columns else 1
        draws = torch.stack([column[::every][:DRAWS] for column in columns], 1) if columns else None
    return Spread(names, covariance / (size[:, None] * size) * (std[:, None] * std), draws)


def _slope(problem: Problem, z: torch.Tensor, index: int) -> torch.Tensor:
    """dv/dz of the value of a coordinate."""
    c, step = problem.coordinates[index], 1e-5
    return (c.value(z[index] + step) - c.value(z[index] - step)) / (2 * step)


def read_spread(run: Path) -> Spread | None:
    """What `fit.json` of a run tells; None where it tells nothing, as that of an earlier version."""
    try:
        told: Any = read_json(run / "fit.json")
        own = told["spread"]
        names = tuple(str(name) for name in own["names"])
        covariance = torch.tensor(own["covariance"], dtype=torch.float64).reshape(len(names), len(names))
        draws = torch.tensor(own["draws"], dtype=torch.float64) if "draws" in own else None
    except (ValueError, KeyError, TypeError):
        return None
    return Spread(names, covariance, draws)


def predicted_bars(scene: Scene, places: Mapping[str, tuple[str, ...]], spread: Spread) -> dict[str, torch.Tensor]:
    """Standard deviations of what the observations of another scene show, (rows, columns) each.

    To first order in the numbers, J C J^T; by the samples themselves where there are some.

    Args:
        scene: With the numbers that were found in their places, and nothing sought.
        places: Name of a number -> the keys that hold it there.
        spread: How the numbers vary.

    Raises:
        SceneError: The numbers cannot vary there.
        Refused: A world has no run where they vary.
    """
    kept = [k for k, name in enumerate(spread.names) if name in places]
    size = spread.covariance.diagonal().sqrt()
    sought = {spread.names[k]: Unknown(sets=places[spread.names[k]], scale=float(size[k])) for k in kept}
    if not sought:
        return {}
    problem = Problem(dataclasses.replace(scene, unknowns=sought))
    z = problem.start()
    problem.settle(z)
    column = {spread.names[k]: k for k in kept}
    order = [column[c.name] for c in problem.coordinates]
    if spread.draws is not None:
        return _by_draws(problem, spread.draws[:, order])
    slopes = torch.stack([_slope(problem, z, index) for index in range(len(z))])
    moving = slopes != 0  # at the edge of its bounds a number stays
    inverse = torch.where(moving, 1 / torch.where(moving, slopes, 1.0), 0.0)
    covariance = spread.covariance[order][:, order] * (inverse[:, None] * inverse)
    return bands(problem, z, covariance, list(problem.instruments))


def _by_draws(problem: Problem, draws: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, list[torch.Tensor]] = {}
    for row in draws[:: max(1, len(draws) // TRIED)]:
        try:
            coordinates = zip(problem.coordinates, row.tolist(), strict=True)
            z = torch.tensor([c.coordinate(value) for c, value in coordinates], dtype=torch.float64)
            for name, prediction in problem.predict(z).items():
                seen.setdefault(name, []).append(prediction.values)
        except (Refused, ValueError):  # a draw at an edge has no run
            continue
    if not seen or min(len(own) for own in seen.values()) < TRIED // 2:
        raise SceneError("most of the fit's samples have no run in the new scene, so its predictions have no bars")
    return {name: torch.stack(own).std(0) for name, own in seen.items()}
