"""Few parameters, many residuals: Levenberg-Marquardt, with the covariance of what it finds.

Each iteration is one accepted step, so that a fit can be shown, interrupted and resumed between two of them.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.parameters import ParameterSet
from simengine.solve.least_squares.system import load_forward_mode

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Residual = Callable[[dict[str, torch.Tensor]], torch.Tensor]
Jacobian = Callable[[ParameterSet], tuple[torch.Tensor, torch.Tensor]]

# A parameter counts as identified if the data leave less than this fraction of a coordinate's unit: a factor e of a
# positive parameter. And if the others do not stand in for it: its standard deviation is at most this many times what
# it would be were all others known. Beyond, the data tell a combination; an error of the model, however small, is
# passed on to the parameter so many times as strongly.
IDENTIFIED_STD = 0.5
LARGEST_INFLATION = 30.0
LARGEST_CONDITIONING = 1e8


def difference_jacobian(residual: Residual, *, central: bool = True, step: float | None = None) -> Jacobian:
    """Residual and Jacobian by differences in the unconstrained coordinates.

    Args:
        residual: Parameters by name -> residuals, shape (m,).
        central: Central differences, 2 p + 1 evaluations, relative error about 1e-8; else one-sided ones, p + 1
            evaluations, about 1e-5, which is enough to converge where the residual ends small.
        step: Of the differences; None for one that suits residuals computed in float64.
    """
    if step is None:
        step = 1e-4 if central else 1e-5  # truncation step^2 or step against rounding 1e-14/step, with some room

    def evaluate(parameters: ParameterSet) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            z = parameters.z.detach()
            here = residual(parameters(z)).double()
            columns = []
            for unit in torch.eye(len(z), dtype=z.dtype):
                ahead = residual(parameters(z + step * unit)).double()
                behind = residual(parameters(z - step * unit)).double() if central else here
                columns.append((ahead - behind) / (2 * step if central else step))
            return here, torch.stack(columns, dim=1)

    return evaluate


class _Remembered:
    """A residual that keeps its last value: the accepted trial of one step is the start of the next."""

    def __init__(self, residual: Residual) -> None:
        self._residual = residual
        self._key: tuple[float, ...] | None = None
        self._value = torch.empty(0)

    def __call__(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        key = tuple(float(value) for value in values.values())
        if key != self._key:
            self._key, self._value = key, self._residual(values)
        return self._value

    def forget(self) -> None:
        """The next value is computed anew."""
        self._key = None


def forward_jacobian(residual: Residual) -> Jacobian:
    """Value and Jacobian of `residual` by forward-mode differentiation, where its torch functions have it."""

    def evaluate(parameters: ParameterSet) -> tuple[torch.Tensor, torch.Tensor]:
        def of(z: torch.Tensor) -> torch.Tensor:
            return residual(parameters(z))

        load_forward_mode()
        z = parameters.z.detach()
        return of(z).detach().double(), torch.func.jacfwd(of)(z).detach().double()

    return evaluate


class LeastSquaresTraining(AbstractTraining):
    """Minimises the mean square of a residual over a few scalar parameters.

    Args:
        parameters: What is sought.
        residual: Parameters by name -> residuals, shape (m,), in the unit of the observations.
        jacobian: Gives residual and Jacobian in the unconstrained coordinates; None for differences, one-sided on the
            way and central for the uncertainty at the end.
        num_iterations: At most so many steps.
        tolerance: Converged when a step moves every coordinate by less.
        sigma: Standard deviation of the noise in the observations; None to estimate it from the residual.

    A trial step to where the residual cannot be had (a law or a scene refuses the values, the simulation fails) counts
    as a bad one; an error is raised only if every trial of a step ends so.
    """

    def __init__(
        self,
        parameters: ParameterSet,
        residual: Residual,
        *,
        jacobian: Jacobian | None = None,
        num_iterations: int = 30,
        tolerance: float = 1e-7,
        sigma: float | None = None,
    ) -> None:
        self.parameters = parameters
        self.residual = residual if jacobian else _Remembered(residual)
        self.jacobian = jacobian or difference_jacobian(self.residual, central=False)
        self._final_jacobian = jacobian or difference_jacobian(residual)
        self.num_iterations = num_iterations
        self.tolerance = tolerance
        self.sigma = sigma
        self.damping: torch.Tensor = torch.tensor(1e-3, dtype=torch.float64)
        self.last_step = torch.tensor(math.inf, dtype=torch.float64)

    @property
    def converged(self) -> bool:
        """Whether the last step was smaller than the tolerance."""
        return bool(self.last_step < self.tolerance)

    def step(self) -> dict[str, float]:
        """One Jacobian, and trials with growing damping until one lowers the sum of squares.

        Where none does, the point is a minimum to rounding: the step counts as zero. It does too where no parameter has
        any effect; `uncertainty` then says so.

        Raises:
            ValueError, RuntimeError: That of the last trial, if the residual could be had at none.
        """
        r, j = self.jacobian(self.parameters)
        while self.parameters.settle(r, j):
            r, j = self.jacobian(self.parameters)
        gram, gradient = j.T @ j, j.T @ r
        scale = gram.diagonal().clamp_min(1e-30 * gram.diagonal().max().clamp_min(1e-300))
        start, before = self.parameters.z.detach().clone(), r.square().sum()
        size, refused = 0.0, None
        for _ in range(12 if bool((scale > 0).all()) else 0):
            move = torch.linalg.solve(gram + torch.diag(self.damping * scale), -gradient)
            if float(move.abs().max()) < self.tolerance:
                size = float(move.abs().max())
                break
            trial = start + move.clamp(-2.0, 2.0)
            try:
                with torch.no_grad():
                    after = self.residual(self.parameters(trial)).double().square().sum()
                refused = None
            except (ValueError, RuntimeError) as error:
                after, refused = before + math.inf, error
            if bool(after < before):
                self.parameters.z.data.copy_(trial)
                self.damping = (self.damping / 10).clamp_min(1e-12)
                size = float((trial - start).abs().max())
                break
            self.damping = self.damping * 10
        if refused is not None:
            raise refused
        self.last_step = torch.tensor(size, dtype=torch.float64)
        mean_square = float(before) / len(r)
        return {"loss": mean_square, "step": size, "damping": float(self.damping)}

    def forget(self) -> None:
        """Compute the residual anew where it depends on more than the parameters, which has changed."""
        if isinstance(self.residual, _Remembered):
            self.residual.forget()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Coordinates, their scales, and damping."""
        return {
            "z": self.parameters.z.detach().clone(),
            "scales": self.parameters.scales(),
            "damping": self.damping,
            "last_step": self.last_step,
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.parameters.set_scales(state["scales"])
        self.parameters.z.data.copy_(state["z"])
        self.damping = state["damping"]
        self.last_step = state["last_step"]

    def estimates(self) -> dict[str, float]:
        """The parameters."""
        return self.parameters.values()

    def uncertainty(self) -> dict[str, Any]:
        """Standard deviations, correlations and identifiability at the current point.

        The covariance is sigma^2 (J^T J)^-1 in the unconstrained coordinates, taken to the parameters by their slopes;
        sigma^2 is given or |r|^2/(m - p). `conditioning` is that of J with columns of unit length: what the data leave
        undetermined even if each parameter alone is well determined. A parameter on which no residual depends is left
        out of all this: its standard deviation and its correlations are None, and the conditioning too, since a number
        would be infinite;
        `remarks` says why.
        """
        r, j = self._final_jacobian(self.parameters)
        m, p = j.shape
        variance = self.sigma**2 if self.sigma is not None else float(r.square().sum()) / max(m - p, 1)
        lengths, names = j.norm(dim=0), self.parameters.names
        seen = (lengths > 0).nonzero()[:, 0]
        blind = [name for name, length in zip(names, lengths, strict=True) if float(length) == 0]
        unit = j[:, seen] / lengths[seen]
        remarks = [f"the observations do not depend on {name}" for name in blind]
        report: dict[str, Any] = {"sigma": math.sqrt(variance)}
        inverse = torch.linalg.pinv(unit.T @ unit, hermitian=True)
        covariance = variance * inverse
        std = covariance.diagonal().clamp_min(0).sqrt()
        correlation = covariance / torch.outer(std, std).clamp_min(1e-300)
        inflation = inverse.diagonal().clamp_min(0).sqrt()  # of unit columns: 1 were all others known
        singular = torch.linalg.svdvals(unit)
        conditioning = float(singular.max() / singular.min().clamp_min(1e-300)) if len(seen) else math.inf
        slopes = self.parameters.slopes()
        full: list[list[float | None]] = [[None] * p for _ in range(p)]
        for a, row in zip(seen.tolist(), correlation.tolist(), strict=True):
            for b, value in zip(seen.tolist(), row, strict=True):
                full[a][b] = value
        stds: dict[str, float | None] = dict.fromkeys(names)
        identified = dict.fromkeys(names, False)
        for k, z_std, swollen in zip(seen.tolist(), (std / lengths[seen]).tolist(), inflation.tolist(), strict=True):
            stds[names[k]] = z_std * float(slopes[k].abs())
            together = swollen > LARGEST_INFLATION or conditioning > LARGEST_CONDITIONING
            identified[names[k]] = z_std < IDENTIFIED_STD and not together
            if together:
                remarks.append(
                    f"{names[k]} is known only in combination with others: {swollen:.3g} times less sharply than alone"
                )
        return report | {
            "std": stds,
            "correlation": full,
            "conditioning": None if blind else conditioning,
            "identified": identified,
            "remarks": remarks,
        }

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write `fit.json` with the estimates and their uncertainty."""
        summary = {"parameters": self.estimates(), **self.uncertainty()}
        out.write("fit.json", summary)
        return summary
