"""Training of networks for flames, and the check of what they found."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol

import torch

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.network.field_network import FieldNetwork, spread, spread_cells
from simengine.flame.network.integral_residual import IntegralResidual
from simengine.flame.network.soap import Soap
from simengine.flame.solver.solution import FlameSolution

Optimiser = Literal["lm", "adam", "lbfgs", "soap"]
Data = tuple[torch.Tensor, Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]
# Of a standard deviation of the data, in units of what the equations turn over. At first data draw the flame to its
# place; in the end the equations hold far better than the data are known.
FIRST_WEIGHT, LAST_WEIGHT, LIGHTER = 0.1, 3e-4, 0.4
SMALL_GAIN = 0.02  # of the loss in one step: the fields are as good as their units allow
SMALL_GAIN_WITH_DATA = 2e-3  # what is sought creeps on along valleys that gain little: by .3 of its bar at 0.02
CERTIFIED = 1e-3  # largest imbalance over a fine mesh, of what the equation turns over; fields err by about as much


class Trained(Protocol):
    """What a training of any network found."""

    @property
    def flame(self) -> AbstractFlame:
        """The flame with the parameters that were found."""

    @property
    def eigenvalue(self) -> torch.Tensor:
        """z, shape (1,)."""

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The sought parameters by name."""

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""

    def check(self) -> dict[str, Any]:
        """Whether this is the flame: `ok`, and why."""


@dataclasses.dataclass(frozen=True)
class TrainedFields:
    """A trained network.

    Attributes:
        network: Its form.
        theta: Its unknowns.
    """

    network: FieldNetwork
    theta: torch.Tensor

    @property
    def flame(self) -> AbstractFlame:
        """The flame with the parameters that were found."""
        return self.network.physics(self.theta)

    @property
    def eigenvalue(self) -> torch.Tensor:
        """z, shape (1,)."""
        return self.network.eigenvalue(self.theta)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The sought parameters by name."""
        return self.network.parameters(self.theta)

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""
        y, _ = self.network.fields(self.theta, self.network.at(x))
        return self.flame.profiles(y[None], self.eigenvalue)

    def check(self, cells: int = 400) -> dict[str, Any]:
        """Whether this is the flame: it burns, within the physical range, and the equations hold on a fine mesh.

        `burning` refuses what was blown out or has not caught fire, `within` what flashed back to the inlet or left the
        range, and `imbalance` (the largest residual up to any x, of what its equation turns over in all) what merely
        has a small loss at the training points.
        """
        network, theta = self.network, self.theta
        edges = spread_cells(network, theta, cells)
        with torch.no_grad():
            r = IntegralResidual.of_turnover(network, theta, edges)(theta)
            y, dy = network.fields(theta, network.at(edges))
        flame = network.flame
        _, least, most = (limit[0, :-1] for limit in flame.limits())
        where = flame.fields.index("T")
        T, slope = y[:, where], dy[:, where].abs()
        burning = bool(flame.burning(y[None])[0])
        if not network.held_right:  # burnt completely at the open end
            burnt = flame.guess(edges[None, None, -1:])[0][0, 0, 0, where]
            burning = burning and abs(float(T[-1] / burnt) - 1) < 0.02
        within = bool(((y > least) & (y < most)).all()) and float(slope[0]) < 0.1 * float(slope.max())
        imbalance = float(r.abs().max())
        ok = burning and within and imbalance < CERTIFIED
        return {"burning": burning, "within": within, "imbalance": imbalance, "ok": ok}


class AbstractTrainer(abc.ABC):
    """Levenberg-Marquardt steps on the equations and, where there are data, on these; forward or inverse.

    Data draw on the fields with a weight that begins large, which moves the flame to its place, and falls each time
    they are fitted to their noise and the training has settled.

    Attributes:
        light: Weight of the data at which the covariance is taken: the equations count as exact, as far as the cells
            (more rows than weights) let the weights follow.
        theta: Unknowns, (P,): weights, the logarithm of the eigenvalue, and those of the sought parameters.
        num_weights: Of the unknowns.
        data: x (q,), name of a profile -> values (q,), and their standard deviations () or (q,); None for none.
        loss: Sum of squares before the last step.
        gain: Share of it that the last step removed.
        starts: How often the training has begun: again where a start was lost.
    """

    light: float = LAST_WEIGHT
    theta: torch.Tensor
    num_weights: int
    data: Data | None
    starts: int = 1

    def __init__(self) -> None:
        self.damping: float = 1e-6
        self.iteration: int = 0
        self.loss: float = math.inf
        self.gain: float = math.inf
        self.weight: float = FIRST_WEIGHT

    @abc.abstractmethod
    def found(self, theta: torch.Tensor) -> Trained:
        """The network with these unknowns."""

    @abc.abstractmethod
    def physics(self, theta: torch.Tensor) -> torch.Tensor:
        """Scaled residuals of the equations, (rows,)."""

    @abc.abstractmethod
    def linearised_physics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`physics` at the present unknowns and its Jacobian, (rows,) and (rows, P)."""

    @abc.abstractmethod
    def step(self) -> float:
        """One step; returns the loss before it."""

    @abc.abstractmethod
    def domain(self) -> torch.Tensor:
        """Positions over the whole domain in rising order [m], (n,)."""

    @property
    def result(self) -> Trained:
        """The network as it is now."""
        return self.found(self.theta)

    def misfit(self, theta: torch.Tensor) -> torch.Tensor:
        """Data less fields over the standard deviations; (rows,)."""
        if self.data is None:
            return theta.new_zeros(0)
        x, values, deviation = self.data
        profiles = self.found(theta).profiles(x)
        return torch.cat([(profiles[name][0] - value) / deviation[name] for name, value in values.items()])

    def linearise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Physics, then weighted data, and their Jacobian at the present unknowns, (rows,) and (rows, P)."""
        r, j = self.linearised_physics()
        if self.data is not None:
            misfit, rows = by_autograd(self.misfit, self.theta)
            r, j = torch.cat((r, self.weight * misfit)), torch.cat((j, self.weight * rows))
        return r, j

    def _lighten(self) -> None:
        if self.data is not None and self.gain < 0.5 and bool(self.misfit(self.theta).square().mean() < 1.2**2):
            self.weight = max(LIGHTER * self.weight, LAST_WEIGHT)

    def second_order(self) -> float:
        """One Levenberg-Marquardt step; returns the loss before it, the sum of squares."""
        self._lighten()
        r, j = self.linearise()
        before = float(r.square().sum())
        gram, right = j.T @ j, j.T @ r
        damped = torch.ones_like(right)
        damped[self.num_weights :] = 1e-4  # eigenvalue and parameters act on every row: damped less
        self.loss = before
        self.gain = 0.0
        for _ in range(12):
            factor, info = torch.linalg.cholesky_ex(gram + torch.diag(self.damping * damped))
            if int(info) == 0:
                trial = self.theta - torch.cholesky_solve(right[:, None], factor)[:, 0]
                with torch.no_grad():
                    rows = torch.cat((self.physics(trial), self.weight * self.misfit(trial)))
                after = float(rows.square().sum())
                if after < before:
                    self.theta, self.gain = trial, 1 - after / before
                    self.damping = max(self.damping / 5, 1e-13)
                    break
            self.damping = min(self.damping * 5, 1e6)
        return self.loss

    @property
    def converged(self) -> bool:
        """Whether the last Levenberg-Marquardt step gained next to nothing, with the equations at their full weight."""
        if self.data is None:
            return self.gain < SMALL_GAIN
        return self.gain < SMALL_GAIN_WITH_DATA and self.weight == LAST_WEIGHT

    def covariance(self) -> torch.Tensor:
        """Of zeta and the logarithms of the sought parameters, given the noise of the data; (1 + p, 1 + p).

        What the weights can take up is taken from the columns of the Jacobian, and what is left is what the data say.
        Over cells the equations are a little soft, which widens what only they determine (the pressure curvature) and
        hardly what the data do.
        """
        if self.data is None:
            raise ValueError("data: there are none, so they have no noise; train with data")
        _, j = self.linearised_physics()
        j = torch.cat((j, self.light * by_autograd(self.misfit, self.theta)[1]))
        weights, rest = j[:, : self.num_weights], j[:, self.num_weights :]
        explained = torch.linalg.lstsq(weights, rest, rcond=1e-12, driver="gelsd").solution
        left = rest - weights @ explained
        return self.light**2 * torch.linalg.pinv(left.T @ left, hermitian=True)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything the next step depends on."""
        scalars = [self.damping, self.iteration, self.gain, self.weight]
        return {"theta": self.theta.clone(), "scalars": torch.tensor(scalars, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        self.theta = state["theta"].clone()
        self.damping, iteration, self.gain, self.weight = state["scalars"].tolist()
        self.iteration = int(iteration)


class NetworkTrainer(AbstractTrainer):
    """Trains the fields of any flame. It begins at the flame's own first guess, or where `warm_start` puts it.

    Args:
        network: The fields.
        cells: Number of cells the equations are taken over.
        optimiser: Levenberg-Marquardt, or a first-order method; these keep the cells and the weight of the data.
        seed: Of the first weights.
        adapt: Steps between two spreadings of the cells, and of the units where the flame has moved; 0 for never.
        data: x (q,), name of a profile -> values (q,), and their standard deviations; None for none.
    """

    def __init__(
        self,
        network: FieldNetwork,
        *,
        cells: int = 110,
        optimiser: Optimiser = "lm",
        seed: int = 0,
        adapt: int = 4,
        data: Data | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.cells: int = cells
        self.optimiser = optimiser
        self.seed: int = seed
        self.adapt: int = adapt
        self.data = data
        self.num_weights: int = network.num_weights
        self._first: torch.optim.Optimizer | None = None
        x = network.samples()
        with torch.no_grad():
            self._begin(x, network.flame.guess(x[None, None])[0][0, 0])

    def warm_start(self, solution: FlameSolution) -> None:
        """Begin at a flame known roughly, such as a coarse solution on a grid, with units placed for it."""
        network = self.network
        x = network.samples()
        y = solution.at(x.clamp(float(solution.x.min()), float(solution.x.max())))[0].detach()
        self.network = network.placed(x, y)
        self.network.z0 = float(solution.eigenvalue[0])
        self._begin(x, y)

    def _begin(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.theta = self.network.fitted(self.network.initial(self.seed), x, y)
        self._spread(x, y)

    def _spread(self, x: torch.Tensor, y: torch.Tensor) -> None:
        edges = spread(x, y, self.network.scale, self.cells)
        self.residual = IntegralResidual.of_turnover(self.network, self.theta, edges)

    def domain(self) -> torch.Tensor:
        """Positions over the whole domain in rising order [m], (n,)."""
        return self.network.samples()

    def found(self, theta: torch.Tensor) -> TrainedFields:
        """The network with these unknowns."""
        return TrainedFields(self.network, theta)

    def physics(self, theta: torch.Tensor) -> torch.Tensor:
        """Scaled residuals of the equations, (rows,)."""
        return self.residual(theta)

    def linearised_physics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`physics` at the present unknowns and its Jacobian, (rows,) and (rows, P)."""
        return self.residual.linearise(self.theta)

    def step(self) -> float:
        """One step; returns the loss before it: the sum of squares, or their mean with a first-order method."""
        self.iteration += 1
        if self.optimiser != "lm":
            return self._first_order()
        if self.adapt and self.iteration % self.adapt == 0:
            self._adapt()
        return self.second_order()

    def _adapt(self) -> None:
        """New cells; where the flame has moved by more than the width of a unit, units placed anew and refitted."""
        network, x = self.network, self.network.samples()
        with torch.no_grad():
            y, _ = network.fields(self.theta, network.at(x))
        placed = network.placed(x, y)
        if bool(((placed.centres - network.centres).abs() > network.widths).any()):
            self.network = placed
            theta = placed.fitted(placed.initial(self.seed), x, y, ridge=1e-6)
            self.theta = torch.cat((theta[: self.num_weights], self.theta[self.num_weights :]))
        self._spread(x, y)

    def _first_order(self) -> float:
        if self._first is None:
            self._leaves = [leaf.clone().requires_grad_() for leaf in self.network.split(self.theta)]
            self._first = _OPTIMISERS[self.optimiser](self._leaves)

        def closure() -> float:
            theta = torch.cat([leaf.detach().flatten() for leaf in self._leaves])
            loss, gradient = self.residual.gradient(theta)
            if self.data is not None:
                misfit, rows = by_autograd(self.misfit, theta)
                share = FIRST_WEIGHT**2 / len(misfit)
                loss, gradient = loss + share * misfit.square().sum(), gradient + 2 * share * (misfit @ rows)
            for leaf, part in zip(self._leaves, self.network.split(gradient), strict=True):
                leaf.grad = part.clone()
            return float(loss)

        self.loss: float = float(self._first.step(closure))
        self.theta: torch.Tensor = torch.cat([leaf.detach().flatten() for leaf in self._leaves])
        return self.loss

    @property
    def converged(self) -> bool:
        """Whether Levenberg-Marquardt has; first-order methods take the steps they are given."""
        return self.optimiser == "lm" and super().converged

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Unknowns, units and cells; not the moments of a first-order method, which start anew."""
        network = self.network
        places = {
            "centres": network.centres,
            "widths": network.widths,
            "z0": torch.tensor(network.z0, dtype=torch.float64),
        }
        return {**super().state_dict(), **places, "edges": self.residual.edges, "sizes": self.residual.sizes}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.network = self.network.with_units(state["centres"], state["widths"], float(state["z0"]))
        self.residual = IntegralResidual(self.network, state["edges"], state["sizes"])


def by_autograd(
    function: Callable[[torch.Tensor], torch.Tensor], theta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A function (rows,) of unknowns (P,) and its Jacobian (rows, P)."""
    leaf = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = function(leaf)
        eye = torch.eye(len(value), dtype=leaf.dtype)
        (rows,) = torch.autograd.grad(value, leaf, eye, is_grads_batched=True)
    return value.detach(), rows


_OPTIMISERS: dict[str, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "lbfgs": partial(torch.optim.LBFGS, max_iter=20, line_search_fn="strong_wolfe"),
    "soap": partial(Soap, lr=1e-3),
}
