"""Trainings of hard constraints: a network of basis functions without solution data, and constants of an equation."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.constraint.basis import BranchTrunk
from simengine.constraint.diffusion_sorption import DiffusionSorption
from simengine.constraint.layer import HardConstraint
from simengine.fit.gradient import GradientTraining
from simengine.fit.least_squares_training import LeastSquaresTraining
from simengine.fit.parameters import ParameterSet

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Finish = Callable[["RunDirectory"], dict[str, Any]]


class SorptionNetworkTraining(GradientTraining):
    """Trains a branch-trunk network so that the layer on top satisfies diffusion-sorption for every initial value.

    The loss is the mean square residual of the stitched field over all rows of the grid, with that of the initial
    condition; no solution enters it. Each step draws fresh initial values.

    Args:
        network: The basis functions.
        layer: The constraint, on the training grid.
        u0_max: Initial values are drawn from U(0, u0_max).
        batch: Initial values per step.
        num_iterations: Steps of Adam with a cosine schedule.
        learning_rate: The first one.
        finish: Tests and pictures the trained network.
    """

    def __init__(
        self,
        network: BranchTrunk,
        layer: HardConstraint,
        *,
        u0_max: float,
        batch: int,
        num_iterations: int,
        learning_rate: float,
        finish: Finish,
    ) -> None:
        pde = layer.pde
        if not isinstance(pde, DiffusionSorption):
            raise TypeError(f"layer: expected one of DiffusionSorption, got {type(pde).__name__}")
        self.network, self.layer, self.u0_max, self._finish = network, layer, u0_max, finish
        rows = pde.rows()

        def objective() -> Mapping[str, torch.Tensor]:
            u0 = u0_max * torch.rand(batch, dtype=torch.float64)
            field = layer(network_basis(network, pde.shape, u0, u0_max=u0_max), {"u0": u0}).field
            r = pde.residual(field.flatten(1)[:, rows.index], rows.data, {})
            initial = field[:, 0] - u0.unsqueeze(1)
            return {"residual": r.square().mean(), "initial": initial.square().mean()}

        super().__init__(
            network,
            objective,
            num_iterations=num_iterations,
            learning_rate=learning_rate,
            cosine=True,
            clip_norm=1.0,
        )

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write what the scene makes of the trained network."""
        return self._finish(out)


def network_basis(network: BranchTrunk, shape: Sequence[int], u0: torch.Tensor, *, u0_max: float) -> torch.Tensor:
    """Basis functions on a grid (nt, nx) for initial values u0 (samples,); shape (samples, nt, nx, n)."""
    nt, nx = shape
    t = torch.linspace(0, 1, nt, dtype=torch.float64)
    x = (torch.arange(nx, dtype=torch.float64) + 0.5) / nx
    return network(2 * u0.unsqueeze(1) / u0_max - 1, t, x)


class SorptionInverse(LeastSquaresTraining):
    """D and k of diffusion-sorption from sparse noisy observations of u, through the layer.

    Levenberg-Marquardt over the layer, with its Jacobian by central differences: five solves from a near start cost
    less than the backward pass per observation that the layer's implicit gradient would need for a covariance.

    Args:
        parameters: `"D"` and `"k"`.
        layer: The constraint.
        basis: Basis functions that hold the solutions for all D and k between the bounds, shape (1, nt, nx, n).
        u0: Initial value.
        points: Flat grid indices of the observations, shape (m,).
        observations: Shape (m,).
        sigma: Standard deviation of their noise; None to estimate it.
        num_iterations: At most so many steps.
    """

    def __init__(
        self,
        parameters: ParameterSet,
        layer: HardConstraint,
        basis: torch.Tensor,
        *,
        u0: float,
        points: torch.Tensor,
        observations: torch.Tensor,
        sigma: float | None,
        num_iterations: int,
    ) -> None:
        start = torch.tensor([u0], dtype=torch.float64)
        self.last_weights: torch.Tensor | None = None

        def residual(values: dict[str, torch.Tensor]) -> torch.Tensor:
            constants = {name: value.reshape(1) for name, value in values.items()}
            found = layer(basis, {"u0": start, **constants}, start=self.last_weights)
            self.last_weights = found.weights.detach()  # the next solve starts from here
            return found.field.flatten()[points] - observations

        super().__init__(parameters, residual, num_iterations=num_iterations, sigma=sigma)
        self.layer, self.basis, self.u0 = layer, basis, u0
        self.points, self.observations = points, observations

    def field(self) -> torch.Tensor:
        """Solution with the current constants, shape (nt, nx)."""
        with torch.no_grad():
            constants = {name: value.reshape(1) for name, value in self.parameters().items()}
            return self.layer(self.basis, {"u0": torch.tensor([self.u0], dtype=torch.float64), **constants}).field[0]
