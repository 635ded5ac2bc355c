"""The log posterior of a problem in its free coordinates, and its gradient where the world is traced.

The likelihood of each observation counts as Laplace's approximation counts it: divided by the factor by which its rows
are worth less (`posterior.Worth.factor`). A standard deviation that is estimated, one for the columns of a quantity, is
integrated over with the prior 1/sigma. Priors are densities in the number itself (normal, uniform) or in its logarithm
(lognormal); a number between two bounds without a prior is equally likely in between, any other without a prior in its
coordinate. What an instrument seeks by itself, as where its marks sit, is integrated out: residuals are linear in it
and its priors normal.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from simengine.fit.certainty.worth import inverse
from simengine.fit.coordinate import Coordinate
from simengine.fit.problem import Problem
from simengine.fit.problem.prediction import Prediction
from simengine.scene.address import replaced
from simengine.scene.base import Refused, SceneError

MOST = 20_000  # rows of data that are kept of where the density was looked at
KEPT = 2_000  # such places
FAR = 50.0  # of a coordinate: beyond it exp and the logistic have no room left


class LogPosterior:
    """log p(z | data) + constant of a problem, at the standard deviations that the problem holds.

    Args:
        problem: At its last stage.
        z: Where the coordinates that do not move stand, (p,).
        free: Numbers of those that move.
        factors: Observation -> what its log likelihood is divided by; 1 where it is not named.
        without: Numbers of coordinates of instruments that are integrated out, linear at z.
    """

    def __init__(
        self,
        problem: Problem,
        z: torch.Tensor,
        free: Sequence[int],
        factors: Mapping[str, float] | None = None,
        *,
        without: Sequence[int] = (),
    ) -> None:
        self.problem: Problem = problem
        self.z: torch.Tensor = z.clone()
        self.free: list[int] = list(free)
        self.factors: dict[str, float] = dict(factors or {})
        self.names: list[str] = [name for name in problem.instruments if bool(problem.rows(name).any())]
        self.evaluations: int = 0
        self.rows_at: dict[bytes, torch.Tensor] = {}  # where it was looked at last -> its rows over sigma there
        self._without = list(without)
        self._out: tuple[torch.Tensor, torch.Tensor] | None = None  # how rows move with them, and they with rows
        if without:
            _, j = problem.linearise(self.z, without)
            weighed = j * self._weights(len(j))[:, None]
            self._out = j, torch.linalg.solve(weighed.T @ j, weighed.T)

    def _weights(self, rows: int) -> torch.Tensor:
        """What each row counts for, (rows,), those of the priors last."""
        weights = torch.ones(rows, dtype=torch.float64)
        end = 0
        for name in self.names:
            begin, end = end, end + int(self.problem.rows(name).sum())
            weights[begin:end] /= self.factors.get(name, 1.0)
        return weights

    def ellipse(self, slopes: torch.Tensor) -> torch.Tensor:
        """Covariance (k, k) of the free coordinates by the curvature of this density.

        Args:
            slopes: Jacobian of all rows at z by all coordinates, (rows, p).
        """
        told = sorted({*self.free, *self._without})
        own = slopes[:, told]
        precision = own.T @ (own * self._weights(len(own))[:, None])
        free = torch.tensor([told.index(k) for k in self.free])
        return inverse(precision)[free[:, None], free]

    @property
    def traced(self) -> bool:
        """Whether every number that moves has a gradient: those of worlds are traced, none is an instrument's."""
        places = [target for k in self.free for target in self.problem.coordinates[k].targets]
        worlds = self.problem.worlds
        return all(place == "run" and (run not in worlds or key in worlds[run].traced()) for place, run, key in places)

    def placed(self, part: torch.Tensor) -> torch.Tensor:
        """All coordinates (p,) with these in the free ones."""
        return self.z.index_put((torch.tensor(self.free),), part)

    def __call__(self, part: torch.Tensor) -> float:
        """At the free coordinates (k,); -inf where there is no run."""
        if not bool((part.abs() < FAR).all()):
            return -math.inf
        self.evaluations += 1
        z = self.placed(part)
        try:
            value = float(self._height(self.problem.predict(z, self.names), z, part))
        except (Refused, SceneError):
            return -math.inf
        return value if math.isfinite(value) else -math.inf

    def with_gradient(self, part: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Value and gradient (k,).

        Raises:
            Refused: There is no run here, or what moves is not traced.
        """
        if not self.traced:
            raise Refused("a number that moves is not traced; use the posterior `ensemble`")
        self.evaluations += 1
        with torch.enable_grad():
            own = part.detach().clone().requires_grad_()
            z = self.placed(own)
            value = self._height(self._predicted(z), z, part)
            (gradient,) = torch.autograd.grad(value, own)
        if not (bool(value.isfinite()) and bool(gradient.isfinite().all())):
            raise Refused("the log posterior is not finite")
        return float(value.detach()), gradient

    def _predicted(self, z: torch.Tensor) -> dict[str, Prediction]:
        problem, found = self.problem, {}
        instruments = problem.instruments_at(z)
        numbers = dict(enumerate(problem.values(z)))
        for run in problem.worlds:
            tensors = {
                key: numbers[k]
                for k, c in enumerate(problem.coordinates)
                for place, name, key in c.targets
                if place == "run" and name == run
            }
            names = [name for name in self.names if instruments[name].run == run]
            asks = [a for name in names for a in instruments[name].asks(problem.measured[name])]
            solved = replaced(problem.runs.prepared(run), tensors).solve(asks, gradient=True)
            problem.runs.solves += 1
            for name in names:
                own, measured = instruments[name], problem.measured[name]
                found[name] = Prediction(
                    name=name, values=own.predict(solved, measured), measured=measured, sigma=problem.sigma(name, own)
                )
        return found

    def _keep(self, part: torch.Tensor, rows: torch.Tensor) -> None:
        if len(rows) <= MOST:
            self.rows_at[part.numpy().tobytes()] = rows.detach().float()
            if len(self.rows_at) > KEPT:
                self.rows_at.pop(next(iter(self.rows_at)))

    def _height(self, predictions: Mapping[str, Prediction], z: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """The log posterior up to a constant, at predictions in the order of names."""
        blocks = [self.problem.residual_of(prediction) for prediction in predictions.values()]
        rows = torch.cat([*blocks, self.problem.prior_rows(z)[0]])
        if self._out is not None:
            slopes, gain = self._out
            rows = rows - slopes @ (gain @ rows)
        self._keep(part.detach(), rows[: sum(map(len, blocks))])
        *shares, prior = rows.split([*map(len, blocks), len(rows) - sum(map(len, blocks))])
        total = -0.5 * prior.square().sum()
        for (name, prediction), share in zip(predictions.items(), shares, strict=True):
            total = total + self._likelihood(name, prediction, share.square())
        for k in self.free:
            total = total + _log_volume(self.problem.coordinates[k], z[k])
        return total

    def _likelihood(self, name: str, prediction: Prediction, square: torch.Tensor) -> torch.Tensor:
        """Of one observation, from its squared rows (m,)."""
        total = torch.zeros((), dtype=torch.float64)
        factor = self.factors.get(name, 1.0)
        if name in self.problem.sigmas and not self.problem.sigma_is_sought(name):
            rows = self.problem.rows(name)
            noise = prediction.measured.noises.expand_as(rows)[rows]
            free = self.problem.instruments[name].noise(prediction.measured).isnan()[rows]
            for k in noise[free].unique():
                own = square[free & (noise == k)]
                # the rows less what the fit took from them would be Student's; n is what 1/sigma leaves
                total = total - 0.5 * len(own) / factor * own.sum().clamp_min(1e-300).log()
            square = square[~free]
        return total - 0.5 * square.sum() / factor


def _log_volume(c: Coordinate, z: torch.Tensor) -> torch.Tensor:
    """Log of the change of what the prior is a density in, per z, up to a constant."""
    bounded = math.isfinite(c.lower) and math.isfinite(c.upper)
    if bounded:
        share = (c.start - c.lower) / (c.upper - c.lower)
        moved = z + math.log(share / (1 - share))
        log_slope = torch.nn.functional.logsigmoid(moved) + torch.nn.functional.logsigmoid(-moved)
    elif math.isnan(c.sd):
        return torch.zeros((), dtype=z.dtype)
    elif math.isfinite(c.lower) or math.isfinite(c.upper):
        log_slope = z
    else:
        log_slope = torch.zeros((), dtype=z.dtype)
    return log_slope - c.value(z).log() if c.logarithmic else log_slope
