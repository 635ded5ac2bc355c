"""Training of networks for flames, and the check of what they found."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.field_network import FieldNetwork, spread, spread_cells
from simengine.flame.integral_residual import IntegralResidual
from simengine.flame.soap import Soap
from simengine.flame.solver import FlameSolution

Optimiser = Literal["lm", "adam", "lbfgs", "soap"]
Data = tuple[torch.Tensor, Mapping[str, torch.Tensor], Mapping[str, float]]
# Of a standard deviation of the data, in units of what the equations turn over: at first data draw the flame to its
# place, in the end the equations must hold far better than the data are known.
DATA_WEIGHTS = (1e-2, 1e-4, 0.7)  # first, last, factor from step to step
CERTIFIED = 1e-3  # largest imbalance over a fine mesh, of what the equation turns over; fields err by about as much


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

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""
        y, _ = self.network.fields(self.theta, self.network.at(x))
        return self.flame.profiles(y[None], self.eigenvalue)

    def check(self, cells: int = 400) -> dict[str, Any]:
        """Whether this is the flame: it burns, within the physical range, and the equations hold on a fine mesh.

        `burning` refuses what was blown out or has not caught fire, `within` what flashed back through the inlet or
        left the range, and `imbalance` (the largest residual up to any x, of what its equation turns over in all) what
        merely has a small loss at the training points.
        """
        network, theta = self.network, self.theta
        edges = spread_cells(network, theta, cells)
        residual = IntegralResidual.of_turnover(network, theta, edges)
        with torch.no_grad():
            r = residual(theta)
            y, dy = network.fields(theta, network.at(edges))
        flame = network.flame
        _, least, most = (limit[0, :-1] for limit in flame.limits())
        inside = bool(((y > least) & (y < most)).all())
        where = flame.fields.index("T")
        T, slope = y[:, where], dy[:, where].abs()
        burning = bool(flame.burning(y[None])[0])
        if not network.held_right:  # burnt completely at the open end
            burnt = flame.guess(edges[None, None, -1:])[0][0, 0, 0, where]
            burning = burning and abs(float(T[-1] / burnt) - 1) < 0.02
        within = inside and float(slope[0]) < 0.1 * float(slope.max())
        imbalance = float(r.abs().max())
        ok = burning and within and imbalance < CERTIFIED
        return {"burning": burning, "within": within, "imbalance": imbalance, "ok": ok}


@dataclasses.dataclass(kw_only=True)
class NetworkTrainer:
    """Steps of a training, forward or inverse; one `step` is one Levenberg-Marquardt step or first-order update.

    It begins at the flame's own first guess, or where `warm_start` puts it.

    Attributes:
        network: The fields.
        cells: Number of cells.
        optimiser: Levenberg-Marquardt, or a first-order method.
        seed: Of the first weights.
        adapt: Steps between two spreadings of the cells, and of the units where the flame has moved; 0 for never.
        data: x (q,), name of a profile -> values (q,), and their standard deviations; None for none.
    """

    network: FieldNetwork
    cells: int = 90
    optimiser: Optimiser = "lm"
    seed: int = 0
    adapt: int = 4
    data: Data | None = None

    def __post_init__(self) -> None:
        self.damping, self.iteration, self.loss, self.gain = 1e-6, 0, math.inf, math.inf
        self.weight = DATA_WEIGHTS[0]
        self._first: torch.optim.Optimizer | None = None
        x = self.network.samples()
        with torch.no_grad():
            self._begin(x, self.network.flame.guess(x[None, None])[0][0, 0])

    def warm_start(self, solution: FlameSolution) -> None:
        """Begin at a flame known roughly, such as a coarse solution on a grid, with units placed for it."""
        network = self.network
        x = network.samples()
        y = solution.at(x.clamp(float(solution.x.min()), float(solution.x.max())))[0].detach()
        self.network = FieldNetwork(network.flame, width=network.width, sought=network.sought, near=(x, y))
        self.network.z0 = float(solution.eigenvalue[0])
        self._begin(x, y)

    def _begin(self, x: torch.Tensor, y: torch.Tensor) -> None:
        network = self.network
        self.theta = network.fitted(network.initial(self.seed), x, y)
        self.residual = IntegralResidual.of_turnover(network, self.theta, spread(x, y, network.scale, self.cells))
        self.points = None if self.data is None else network.at(self.data[0])

    def _misfit(self, theta: torch.Tensor) -> torch.Tensor:
        """Data over their standard deviations, weighted against the physics; (rows,)."""
        if self.data is None:
            return theta.new_zeros(0)
        _, values, spread_of = self.data
        found = TrainedFields(self.network, theta).profiles(self.data[0])
        return self.weight * torch.cat([(found[name][0] - v) / spread_of[name] for name, v in values.items()])

    def all_residuals(self, theta: torch.Tensor) -> torch.Tensor:
        """Physics, then data."""
        return torch.cat((self.residual(theta), self._misfit(theta)))

    def linearise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All residuals and their Jacobian at the present unknowns, (rows,) and (rows, P)."""
        r, j = self.residual.linearise(self.theta)
        if self.data is not None:
            leaf = self.theta.clone().requires_grad_()
            with torch.enable_grad():
                misfit = self._misfit(leaf)
                eye = torch.eye(len(misfit), dtype=leaf.dtype)
                (rows,) = torch.autograd.grad(misfit, leaf, eye, is_grads_batched=True)
            r, j = torch.cat((r, misfit.detach())), torch.cat((j, rows))
        return r, j

    def step(self) -> float:
        """One step; returns the loss before it, the sum of squares."""
        self.iteration += 1
        first, last, factor = DATA_WEIGHTS
        self.weight = max(first * factor**self.iteration, last)
        if self.adapt and self.iteration % self.adapt == 0 and self.optimiser == "lm":
            self._adapt()
        return self._second_order() if self.optimiser == "lm" else self._first_order()

    def _adapt(self) -> None:
        """New cells; where the flame has moved by more than the width of a unit, units placed anew and refitted."""
        network, x = self.network, self.network.samples()
        with torch.no_grad():
            y, _ = network.fields(self.theta, network.at(x))
        placed = FieldNetwork(network.flame, width=network.width, sought=network.sought, near=(x, y))
        if bool(((placed.centres - network.centres).abs() > network.widths).any()):
            placed.z0, self.network = network.z0, placed
            theta = placed.fitted(placed.initial(self.seed), x, y, ridge=1e-6)
            self.theta = torch.cat((theta[: placed.num_weights], self.theta[placed.num_weights :]))
            self.points = None if self.data is None else placed.at(self.data[0])
        edges = spread(x, y, network.scale, self.cells)
        self.residual = IntegralResidual.of_turnover(self.network, self.theta, edges)

    def _second_order(self) -> float:
        r, j = self.linearise()
        before = float(r.square().sum())
        gram, right = j.T @ j, j.T @ r
        eye = torch.eye(len(right), dtype=r.dtype)
        self.loss, self.gain = before, 0.0
        for _ in range(12):
            factor, info = torch.linalg.cholesky_ex(gram + self.damping * eye)
            if int(info) == 0:
                trial = self.theta - torch.cholesky_solve(right[:, None], factor)[:, 0]
                with torch.no_grad():
                    after = float(self.all_residuals(trial).square().sum())
                if after < before:
                    self.theta, self.gain = trial, 1 - after / before
                    self.damping = max(self.damping / 5, 1e-13)
                    break
            self.damping = min(self.damping * 5, 1e6)
        return self.loss

    @property
    def converged(self) -> bool:
        """Whether the last Levenberg-Marquardt step gained less than a thousandth."""
        return self.optimiser == "lm" and self.gain < 1e-3

    def _first_order(self) -> float:
        if self._first is None:
            self._leaves = [leaf.requires_grad_() for leaf in self.network.split(self.theta.clone())]
            self._first = _OPTIMISERS[self.optimiser](self._leaves)

        def closure() -> torch.Tensor:
            theta = torch.cat([leaf.detach().flatten() for leaf in self._leaves])
            loss, gradient = self.residual.gradient(theta)
            if self.data is not None:
                with torch.enable_grad():
                    whole = theta.clone().requires_grad_()
                    extra = self._misfit(whole).square().mean()
                    gradient = gradient + torch.autograd.grad(extra, whole)[0]
                    loss = loss + extra.detach()
            for leaf, part in zip(self._leaves, self.network.split(gradient), strict=True):
                leaf.grad = part.clone()
            return loss

        self.loss = float(self._first.step(closure))
        self.theta = torch.cat([leaf.detach().flatten() for leaf in self._leaves])
        return self.loss

    @property
    def result(self) -> TrainedFields:
        """The network as it is now."""
        return TrainedFields(self.network, self.theta)


_OPTIMISERS: dict[str, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "lbfgs": partial(torch.optim.LBFGS, max_iter=20, line_search_fn="strong_wolfe"),
    "soap": partial(Soap, lr=3e-3),
}
