"""Training of networks for flames, and the check of what they found."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

from simengine.flame.equations import AbstractFlame
from simengine.flame.field_network import FieldNetwork, spread_cells
from simengine.flame.free import FreeFlame
from simengine.flame.integral_residual import IntegralResidual

DATA_WEIGHT = 1e-2  # of a standard deviation of the data, in units of what the equations turn over


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
        """Z, shape (1,)."""
        return self.network.eigenvalue(self.theta)

    def profiles(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """What can be observed at x (q,) [m], by name; (1, q) each."""
        y, _ = self.network.fields(self.theta, self.network.at(x))
        return self.flame.profiles(y[None], self.eigenvalue)

    def check(self, cells: int = 400) -> dict[str, Any]:
        """Whether this is the flame: it burns to the right temperature, and the equations hold on a fine mesh."""
        edges = spread_cells(self.network, self.theta, cells)
        residual = IntegralResidual(self.network, edges)
        r = residual(self.theta)[: cells * len(residual.rows)].reshape(cells, -1)
        y, _ = self.network.fields(self.theta, self.network.at(edges))
        T = y[:, self.network.flame.fields.index("T")]
        burning = bool(self.network.flame.burning(y[None])[0])
        if self.network.layer is not None and isinstance(self.network.flame, FreeFlame):
            burning = abs(float(T[-1]) / float(self.network.flame.burnt()[0][0]) - 1) < 0.02
        imbalance = float(r.abs().max())  # up to any x, of what the first guess turns over in all
        return {"burning": burning, "imbalance": imbalance, "ok": burning and imbalance < 2e-2}


@dataclasses.dataclass(kw_only=True)
class NetworkTrainer:
    """Steps of a training, forward or inverse; one `step` is one Levenberg-Marquardt step or first-order update.

    Attributes:
        network: The fields.
        cells: Number of cells.
        optimiser: Levenberg-Marquardt, or a first-order method (`soap` needs the package pytorch-optimizer).
        seed: Of the first weights.
        adapt: Steps between two spreadings of the cells; 0 for never.
        data: x (q,), name of a profile -> values (q,), and their standard deviations; None for none.
    """

    network: FieldNetwork
    cells: int = 90
    optimiser: Literal["lm", "adam", "lbfgs", "soap"] = "lm"
    seed: int = 0
    adapt: int = 8
    data: tuple[torch.Tensor, Mapping[str, torch.Tensor], Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        self.theta = self.network.initial(self.seed)
        self.damping, self.iteration, self.loss = 1e-6, 0, math.inf
        self.edges = spread_cells(self.network, torch.zeros_like(self.theta), self.cells)
        self.residual = IntegralResidual(self.network, self.edges)
        self._first: Any = None
        if self.data is not None:
            self.points = self.network.at(self.data[0])

    def warm_start(self, x: torch.Tensor, y: torch.Tensor, z: float, *, steps: int = 25) -> float:
        """Fit the network to fields known roughly, a coarse solution or measurements; returns the mean square left.

        Args:
            x: Positions [m], shape (n,).
            y: Fields there, shape (n, m).
            z: Eigenvalue.
            steps: Levenberg-Marquardt steps at most.
        """
        network, known = self.network, self.network.num_weights
        points, damping = network.at(x), 1e-2
        self.theta[known] = math.log(z / network.z0)
        eye = torch.eye(known, dtype=x.dtype)

        def misfit(theta: torch.Tensor) -> torch.Tensor:
            return ((network.fields(theta, points)[0] - y) / network.scale)[:, network.free].flatten()

        with torch.no_grad():
            r = misfit(self.theta)
            for _ in range(steps):
                tangents = network.tangents(self.theta, points)[0] / network.scale[:, None]
                j = tangents[:, network.free].flatten(0, 1)
                gram, right = j.T @ j, j.T @ r
                for _ in range(8):
                    trial = self.theta.clone()
                    trial[:known] -= torch.linalg.solve(gram + damping * eye, right)
                    after = misfit(trial)
                    if bool(after.square().sum() < r.square().sum()):
                        self.theta, r, damping = trial, after, max(damping / 4, 1e-12)
                        break
                    damping *= 4
                else:
                    break
        self.edges = spread_cells(network, self.theta, self.cells)
        self.residual = IntegralResidual(network, self.edges)
        return float(r.square().mean())

    def _misfit(self, theta: torch.Tensor) -> torch.Tensor:
        """Data over their standard deviations, weighted against the physics; (rows,)."""
        if self.data is None:
            return theta.new_zeros(0)
        y, _ = self.network.fields(theta, self.points)
        profiles = self.network.physics(theta).profiles(y[None], self.network.eigenvalue(theta))
        _, values, spread = self.data
        return DATA_WEIGHT * torch.cat([(profiles[name][0] - v) / spread[name] for name, v in values.items()])

    def all_residuals(self, theta: torch.Tensor) -> torch.Tensor:
        """Physics, then data."""
        return torch.cat((self.residual(theta), self._misfit(theta)))

    def step(self) -> float:
        """One step; returns the loss before it, the sum of squares."""
        self.iteration += 1
        if self.adapt and self.iteration % self.adapt == 0 and self.optimiser == "lm":
            self.edges = spread_cells(self.network, self.theta, self.cells)
            self.residual = IntegralResidual(self.network, self.edges, self.residual.sizes)
        return self._second_order() if self.optimiser == "lm" else self._first_order()

    def _second_order(self) -> float:
        r, j = self.residual.linearise(self.theta)
        if self.data is not None:
            leaf = self.theta.clone().requires_grad_()
            with torch.enable_grad():
                misfit = self._misfit(leaf)
                (rows,) = torch.autograd.grad(
                    misfit, leaf, torch.eye(len(misfit), dtype=leaf.dtype), is_grads_batched=True
                )
            r, j = torch.cat((r, misfit.detach())), torch.cat((j, rows))
        self.loss = float(r.square().sum())
        gram = j @ j.T
        eye = torch.eye(len(r), dtype=r.dtype)
        for _ in range(10):
            step = -(j.T @ torch.linalg.solve(gram + self.damping * eye, r))
            with torch.no_grad():
                after = float(self.all_residuals(self.theta + step).square().sum())
            if after < self.loss:
                self.theta = self.theta + step
                self.damping = max(self.damping / 4, 1e-13)
                break
            self.damping = min(self.damping * 5, 1e6)
        return self.loss

    def _first_order(self) -> float:
        if self._first is None:
            self._leaf = torch.nn.Parameter(self.theta.clone())
            if self.optimiser == "adam":
                self._first = torch.optim.Adam([self._leaf], lr=1e-3)
            elif self.optimiser == "lbfgs":
                self._first = torch.optim.LBFGS([self._leaf], max_iter=20, line_search_fn="strong_wolfe")
            else:
                try:
                    from pytorch_optimizer import SOAP  # type: ignore[import-not-found, unused-ignore]
                except ImportError as error:
                    raise ValueError("optimiser='soap' needs the package pytorch-optimizer; install it") from error
                self._first = SOAP([self._leaf], lr=3e-3)

        def closure() -> torch.Tensor:
            loss, gradient = self.residual.gradient(self._leaf.detach())
            if self.data is not None:
                with torch.enable_grad():
                    leaf = self._leaf.detach().clone().requires_grad_()
                    extra = self._misfit(leaf).square().mean()
                    gradient = gradient + torch.autograd.grad(extra, leaf)[0]
                    loss = loss + extra.detach()
            self._leaf.grad = gradient
            return loss

        self.loss = float(self._first.step(closure))
        self.theta = self._leaf.detach().clone()
        return self.loss

    @property
    def result(self) -> TrainedFields:
        """The network as it is now."""
        return TrainedFields(self.network, self.theta)
