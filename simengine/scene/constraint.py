"""Scenes of hard constraints: an equation, its experts, and what is trained or found through them."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from simengine.constraint.basis import BranchTrunk, principal_basis
from simengine.constraint.diffusion_sorption import DiffusionSorption
from simengine.constraint.layer import Constrained, HardConstraint
from simengine.fit.constraint import SorptionInverse, SorptionNetworkTraining, network_basis
from simengine.fit.parameters import Parameter, ParameterSet
from simengine.fit.training import AbstractTraining
from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.strict import Count, NonNegative, Positive, Range

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

U0_MAX = 0.2  # initial values are U(0, 0.2), as in PDEBench


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid and the start-up of its time scheme; see `DiffusionSorption`."""

    nt: Annotated[int, Range(ge=8)] = 101
    nx: Annotated[int, Range(ge=8)] = 1024
    skip: Annotated[int, Range(ge=0)] = 2
    implicit: Annotated[int, Range(ge=0)] = 0

    def pde(self) -> DiffusionSorption:
        """The equation on it."""
        return DiffusionSorption(nt=self.nt, nx=self.nx, skip=self.skip, implicit=self.implicit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experts:
    """Decomposition in x.

    Attributes:
        count: Blocks.
        coupled: Solve them together; false as published, each on its own.
        rows_per_block: Equations sampled in each.
        ridge: Weight of the weights of the basis functions.
    """

    count: Count = 4
    coupled: bool = True
    rows_per_block: Count = 20_000
    ridge: NonNegative = 1e-8

    def layer(self, pde: DiffusionSorption, *, seed: int) -> HardConstraint:
        """The layer."""
        return HardConstraint(
            pde,
            counts=(1, self.count),
            coupled=self.coupled,
            rows_per_block=self.rows_per_block,
            ridge=self.ridge,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFit:
    """Train a branch-trunk network without solution data.

    Attributes:
        grid: Where it is trained and tested (boundary rows weigh more on finer grids, so a network serves its own).
        experts: While it is trained.
        modes: Trunk functions.
        width: Of its networks.
        batch: Initial values per step.
        iterations: Steps.
        learning_rate: Of Adam.
    """

    type: Literal["network"] = "network"
    grid: Grid = dataclasses.field(default_factory=lambda: Grid(nt=51, nx=64, skip=0, implicit=4))
    experts: Experts = dataclasses.field(default_factory=lambda: Experts(rows_per_block=700, ridge=1e-3))
    modes: Count = 48
    width: Count = 64
    batch: Count = 3
    iterations: Count = 500
    learning_rate: Positive = 2e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantsFit:
    """Find D and k from sparse noisy observations made by the method of lines.

    Attributes:
        u0: Initial value.
        diffusivity: The true D, which made the observations.
        sorption: The true k.
        guess_diffusivity: Where the search for D starts.
        guess_sorption: Where the search for k starts.
        factor: The basis holds solutions for D and k within this factor of the guesses.
        observations: Number of random places and times observed.
        noise: Standard deviation of their noise.
        iterations: At most so many steps.
    """

    type: Literal["constants"] = "constants"
    u0: Annotated[float, Range(gt=0, lt=1)] = 0.1
    diffusivity: Positive = 5e-4
    sorption: Positive = 3.5e-4
    guess_diffusivity: Positive = 6e-4
    guess_sorption: Positive = 3e-4
    factor: Annotated[float, Range(gt=1)] = 2.0
    observations: Annotated[int, Range(ge=3)] = 40
    noise: Positive = 0.01
    iterations: Count = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstraintScene(AbstractScene):
    """Diffusion-sorption solved by the hard-constraint layer.

    Attributes:
        grid: Space-time grid.
        experts: Decomposition.
        basis_size: Basis functions n.
        snapshots: Solutions whose principal components are the basis of `run`.
        u0: Initial values to solve for.
        fit: What is trained or found.
    """

    kind: ClassVar[str] = "constraint"
    grid: Grid = dataclasses.field(default_factory=Grid)
    experts: Experts = dataclasses.field(default_factory=Experts)
    basis_size: Count = 16
    snapshots: Count = 32
    u0: tuple[Annotated[float, Range(gt=0, lt=0.2)], ...] = (0.03, 0.11, 0.19)
    fit: NetworkFit | ConstantsFit | None = None

    def build(self, *, device: str | None = None) -> HardConstraint:
        """The layer; it computes on the CPU."""
        return self.experts.layer(self.grid.pde(), seed=self.seed)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Size of the problem."""
        layer = self.build()
        rows = layer.blocks.rows.index.shape
        unknowns = rows[0] * self.basis_size
        return {
            "experts": rows[0],
            "rows": rows[0] * rows[1],
            "unknowns": unknowns,
            "table_MiB": layer.blocks.entries.numel() * self.basis_size * 8 / 2**20,
        }

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve with a basis of principal components, and compare with the method of lines."""
        layer, pde = self.build(), self.grid.pde()
        if self.snapshots < self.basis_size:
            raise SceneError(
                f"snapshots: {self.snapshots} solutions do not give basis_size = {self.basis_size} functions"
            )
        angles = np.pi * (np.arange(self.snapshots) + 0.5) / self.snapshots
        nodes = U0_MAX / 2 * (1 + np.cos(angles))  # Chebyshev nodes
        basis = principal_basis(torch.tensor(np.stack([pde.solve(u0) for u0 in nodes])), self.basis_size)
        u0 = torch.tensor(self.u0, dtype=torch.float64)
        basis = basis.expand(len(u0), -1, -1, -1)
        with torch.no_grad():
            found = layer(basis, {"u0": u0})
        jumps = layer.interface_jumps(basis, found.weights)
        return self._compare(out, layer, u0, found, jumps)

    def _compare(
        self, out: "RunDirectory", layer: HardConstraint, u0: torch.Tensor, found: Constrained, jumps: torch.Tensor
    ) -> dict[str, Any]:
        """Figures of solution, error, residual and jumps; the summary."""
        from simengine.view.figures import curves, fields

        pde = layer.pde
        assert isinstance(pde, DiffusionSorption)
        truth = torch.tensor(np.stack([pde.solve(float(value)) for value in u0]))
        field = found.field.detach()
        error = (field - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
        rows = pde.rows()
        residual = torch.zeros_like(field).flatten(1)
        residual[:, rows.position] = pde.residual(field.flatten(1)[:, rows.index], rows.data, {})
        worst = int(error.argmax())
        show = {
            "u": field[worst],
            "error of u": (field - truth)[worst],
            "log10 |residual|": residual.abs().clamp_min(1e-12).log10().reshape(field.shape)[worst],
        }
        extent = (0.0, 1.0, 0.0, pde.duration)
        panels = {name: value.numpy() for name, value in show.items()}
        image = fields(panels, extent=extent, xlabel="x", ylabel="t", symmetric=("error of u",))
        out.write("fields.png", image)
        x = (np.arange(pde.nx) + 0.5) / pde.nx
        profiles = {}
        for n in (pde.nt // 10, pde.nt // 2, pde.nt - 1):
            profiles[f"t = {n * pde.dt:g}"] = (x, field[worst, n].numpy())
            profiles[f"method of lines, {n * pde.dt:g}"] = (
                x[:: max(1, pde.nx // 32)],
                truth[worst, n, :: max(1, pde.nx // 32)].numpy(),
            )
        points = [name for name in profiles if name.startswith("method")]
        panels_of_curves: dict[str, Any] = {"u": profiles}
        if jumps.numel():
            sizes = jumps[worst].abs().amax(dim=1).numpy()
            panels_of_curves["largest jump at an interface"] = {"": (np.arange(1, len(sizes) + 1), sizes)}
        out.write("profiles.png", curves(panels_of_curves, xlabel="x  (interface number on the right)", points=points))
        out.write("solution.npz", {"u0": u0, "u": field, "reference": truth})
        return {
            "relative_error": error.tolist(),
            "largest_interface_jump": float(jumps.abs().max()) if jumps.numel() else 0.0,
            "result": found.solution.result.name,
            "iterations": int(found.solution.stats["num_iterations"].max()),
        }

    def training(self, *, device: str | None = None) -> AbstractTraining:
        """Training of the network, or the search for the constants."""
        if isinstance(self.fit, NetworkFit):
            return self._network(self.fit)
        if isinstance(self.fit, ConstantsFit):
            return self._constants(self.fit)
        return super().training(device=device)

    def _network(self, fit: NetworkFit) -> AbstractTraining:
        from simengine.solve.adjoint import ImplicitAdjoint
        from simengine.solve.least_squares import LevenbergMarquardt

        torch.manual_seed(self.seed)
        network = BranchTrunk(parameters=1, size=self.basis_size, modes=fit.modes, width=fit.width)
        layer = fit.experts.layer(fit.grid.pde(), seed=self.seed)
        layer.solver = LevenbergMarquardt(tolerance=1e-6, max_iterations=30)
        layer.adjoint = ImplicitAdjoint(strict=False)  # the first steps pass through bases that satisfy nothing

        def finish(out: "RunDirectory") -> dict[str, Any]:
            u0 = torch.tensor(self.u0, dtype=torch.float64)
            with torch.no_grad():
                basis = network_basis(network, layer.pde.shape, u0, u0_max=U0_MAX)
                found = layer(basis, {"u0": u0})
                jumps = layer.interface_jumps(basis, found.weights)
            return self._compare(out, layer, u0, found, jumps)

        return SorptionNetworkTraining(
            network,
            layer,
            u0_max=U0_MAX,
            batch=fit.batch,
            num_iterations=fit.iterations,
            learning_rate=fit.learning_rate,
            finish=finish,
        )

    def _constants(self, fit: ConstantsFit) -> AbstractTraining:
        pde, generator = self.grid.pde(), np.random.default_rng(self.seed)
        exponents = generator.uniform(-1, 1, (self.snapshots, 2))
        family = [
            pde.solve(fit.u0, D=fit.guess_diffusivity * fit.factor**a, k=fit.guess_sorption * fit.factor**b)
            for a, b in exponents
        ]
        basis = principal_basis(torch.tensor(np.stack(family)), self.basis_size)
        fine = dataclasses.replace(pde, nx=4 * pde.nx)  # not the grid of the layer, nor in its basis
        truth = fine.solve(fit.u0, D=fit.diffusivity, k=fit.sorption).reshape(pde.nt, pde.nx, 4).mean(axis=2)
        later = np.arange(pde.nt * pde.nx)[pde.nx * (pde.nt // 20) :]
        points = torch.tensor(np.sort(generator.choice(later, fit.observations, replace=False)))
        noise = fit.noise * torch.tensor(generator.standard_normal(fit.observations))
        observations = torch.tensor(truth).flatten()[points] + noise
        sought = {
            name: Parameter(initial=guess, lower=0.0)
            for name, guess in (("D", fit.guess_diffusivity), ("k", fit.guess_sorption))
        }
        return _ReportedInverse(
            ParameterSet(sought),
            self.build(),
            basis,
            u0=fit.u0,
            points=points,
            observations=observations,
            sigma=fit.noise,
            num_iterations=fit.iterations,
        )


class _ReportedInverse(SorptionInverse):
    """The search for D and k, with a picture of where it ended."""

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write the figure and the summary."""
        from simengine.view.figures import curves

        summary = super().finish(out)
        field, pde = self.field(), self.layer.pde
        predicted = field.flatten()[self.points].numpy()
        x = ((self.points % pde.shape[1]).numpy() + 0.5) / pde.shape[1]
        order = np.argsort(x)
        panels = {"u": {"observed": (x, self.observations.numpy()), "found": (x[order], predicted[order])}}
        out.write("observations.png", curves(panels, xlabel="x (any time)", points=("observed", "found")))
        return summary
