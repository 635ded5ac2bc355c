"""Trials of a global search: where in the priors further fits begin, for problems whose gradients mislead.

Half are drawn from the priors, the others proposed by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)
in the quantiles of the priors. A trial that is better than all of its nearest neighbours is taken to lie in a basin of
its own (Torn & Viitanen 1992); a fit from there tells whether it does.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from simengine.extras import extra
from simengine.fit.coordinate import Coordinate
from simengine.scene.base import Refused, SceneError

EDGE = 1e-3  # quantile of a prior beyond which nothing is tried


class Trials:
    """Places in the priors and how well they explain the data.

    Args:
        coordinates: That move, with their places among all.
        count: Of the trials.
        start: All coordinates (p,), for those that do not move.
        height: -2 log posterior at coordinates (p,); raises where there is no run.
        seed: Of the first trial; each has its own, so that a search that goes on ends where a whole one does.

    Raises:
        SceneError: Optuna is not installed.
    """

    def __init__(
        self,
        coordinates: Mapping[int, Coordinate],
        count: int,
        start: torch.Tensor,
        height: Callable[[torch.Tensor], float],
        *,
        seed: int,
    ) -> None:
        self._coordinates = dict(coordinates)
        self._count = count
        self._start = start
        self._height = height
        self._seed = seed
        self._quantiles = torch.zeros(0, len(self._coordinates), dtype=torch.float64)
        self._heights = torch.zeros(0, dtype=torch.float64)  # inf where there is no run
        try:
            self._optuna = extra("optuna", of="search", what="inference.search:")
        except RuntimeError as missing:
            raise SceneError(str(missing)) from None
        self._study = self._begun()

    def __len__(self) -> int:
        return len(self._heights)

    @property
    def done(self) -> bool:
        """Whether all were made."""
        return len(self) >= self._count

    @property
    def least(self) -> float:
        """The least height so far, inf before one has run."""
        return float(self._heights.min()) if len(self) else math.inf

    def step(self) -> None:
        """One trial.

        Raises:
            SceneError: The last one was made, and the world has no run at any.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            self._study.sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=(self._count + 1) // 2, multivariate=True, seed=(self._seed + len(self)) % 2**32
            )
        trial = self._study.ask(self._room())
        quantiles = torch.tensor([trial.params[c.name] for c in self._coordinates.values()], dtype=torch.float64)
        try:
            height = self._height(self._placed(quantiles))
        except (Refused, SceneError):
            height = math.inf
        height = height if math.isfinite(height) else math.inf
        self._study.tell(trial, *self._told(height))
        self._quantiles = torch.cat([self._quantiles, quantiles[None]])
        self._heights = torch.cat([self._heights, torch.tensor([height], dtype=torch.float64)])
        if self.done and not bool(self._heights.isfinite().any()):
            raise SceneError(
                f"inference.search: the world has no run at {self._count} places in the priors; narrow them"
            )

    def best(self, count: int) -> list[torch.Tensor]:
        """Coordinates (p,) of at most so many trials that lie in basins of their own, the best first."""
        ran = self._heights.isfinite()
        quantiles, heights = self._quantiles[ran], self._heights[ran]
        return [self._placed(quantiles[k]) for k in basins(quantiles, heights)[:count]]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What was tried."""
        return {"quantiles": self._quantiles, "heights": self._heights}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self._quantiles, self._heights = state["quantiles"], state["heights"]
        self._study = self._begun()

    def _begun(self) -> Any:
        """A study that knows the trials so far."""
        optuna = self._optuna
        said = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study()
        optuna.logging.set_verbosity(said)
        names = [c.name for c in self._coordinates.values()]
        for quantiles, height in zip(self._quantiles.tolist(), self._heights.tolist(), strict=True):
            value, state = self._told(height)
            params = dict(zip(names, quantiles, strict=True))
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=self._room(), value=value, state=state)
            )
        return study

    def _room(self) -> dict[str, Any]:
        one = self._optuna.distributions.FloatDistribution(EDGE, 1 - EDGE)
        return {c.name: one for c in self._coordinates.values()}

    def _told(self, height: float) -> tuple[float | None, Any]:
        states = self._optuna.trial.TrialState
        return (height, states.COMPLETE) if math.isfinite(height) else (None, states.FAIL)

    def _placed(self, quantiles: torch.Tensor) -> torch.Tensor:
        z = self._start.clone()
        for (k, c), noise in zip(self._coordinates.items(), torch.special.ndtri(quantiles).tolist(), strict=True):
            z[k] = c.coordinate(c.believed(noise))
        return z


def basins(places: torch.Tensor, heights: torch.Tensor) -> list[int]:
    """Which of the places (n, d) are no higher than any of their 2 d + 1 nearest, the lowest of heights (n,) first."""
    distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    near = distance.topk(min(2 * places.shape[1] + 2, len(places)), largest=False).indices
    lowest = (heights[:, None] <= heights[near]).all(1)
    return [k for k in heights.argsort().tolist() if bool(lowest[k])]
