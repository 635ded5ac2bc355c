"""Scenes of hard constraints: an equation, its experts, and what is trained or found through them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from simengine.constraint.basis import Backbone, BranchTrunk, OperatorBasis, principal_basis
from simengine.constraint.diffusion_sorption import DiffusionSorption
from simengine.constraint.family import AbstractFamily
from simengine.constraint.layer import Constrained, HardConstraint
from simengine.constraint.router import Router, squared_residuals
from simengine.fit.constraint import NetworkTraining, SorptionInverse
from simengine.fit.parameters import Parameter, ParameterSet
from simengine.fit.training import AbstractTraining
from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.constraint_problems import Members, Problem, SorptionProblem
from simengine.scene.constraint_report import film, picture, relative_error
from simengine.scene.strict import Count, NonNegative, Positive, Range

if TYPE_CHECKING:
    from pathlib import Path

    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experts:
    """Decomposition.

    Attributes:
        counts: Blocks along each axis of the grid, time first.
        cuts: `uniform`, or `learned`: by a router that gives each block the same share of the residual.
        coupled: Solve them together; false as published, each on its own.
        rows_per_block: Equations sampled in each.
        ridge: Weight of the weights of the basis functions.
        tolerance: Of the iteration.
        iterations: At most so many.
    """

    counts: tuple[Count, ...] = (1, 4)
    cuts: Literal["uniform", "learned"] = "uniform"
    coupled: bool = True
    rows_per_block: Count = 20_000
    ridge: NonNegative = 1e-8
    tolerance: Positive = 1e-8
    iterations: Count = 50

    def layer(
        self, problem: Problem, *, seed: int, cuts: list[list[int]] | None = None, adjoint: Any = None
    ) -> HardConstraint:
        """The layer, with uniform cuts or with these.

        Raises:
            SceneError: The number of axes does not fit.
        """
        from simengine.solve.least_squares import LevenbergMarquardt

        family = problem.family()
        if len(self.counts) != len(family.shape):
            raise SceneError(
                f"experts.counts: expected one number per axis of the grid {tuple(family.shape)}, got {self.counts}"
            )
        return HardConstraint(
            family,
            counts=None if cuts else self.counts,
            cuts=cuts,
            coupled=self.coupled,
            rows_per_block=self.rows_per_block,
            periodic=problem.periodic,
            ridge=self.ridge,
            solver=LevenbergMarquardt(tolerance=self.tolerance, max_iterations=self.iterations),
            adjoint=adjoint,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchTrunkSpec:
    """A network of the coordinates, and one of the member unless `branch` is false; see `BranchTrunk`."""

    type: Literal["branch_trunk"] = "branch_trunk"
    branch: bool = True
    modes: Count = 48
    width: Count = 64
    depth: Count = 3

    def build(self, family: AbstractFamily, members: Members, size: int) -> Backbone:
        """The backbone for basis functions of this number."""
        inputs = family.inputs(members).shape[1] if self.branch else 0
        shape = {"modes": self.modes, "width": self.width, "depth": self.depth}
        return Backbone(BranchTrunk(inputs=inputs, coordinates=family.coordinates().shape[-1], size=size, **shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorSpec:
    """A Fourier neural operator over the grid; see `FNO`."""

    type: Literal["fno"] = "fno"
    modes: tuple[Count, ...] = (4, 6, 6)
    width: Count = 16
    depth: Count = 4

    def build(self, family: AbstractFamily, members: Members, size: int) -> Backbone:
        """The backbone for basis functions of this number."""
        if len(self.modes) != len(family.shape):
            raise SceneError(f"fit.backbone.modes: expected {len(family.shape)} numbers, time first, got {self.modes}")
        shape = {"width": self.width, "depth": self.depth}
        channels, hints = family.coordinates().shape[-1], family.hints(members).shape[-1]
        return Backbone(OperatorBasis(coordinates=channels, size=size, modes=self.modes, hints=hints, **shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFit:
    """Train a network of basis functions without solution data.

    Attributes:
        backbone: The network.
        constraint: `hard`, by the layer, or `soft`: the network is the solution, its residual the loss.
        on: The equation on the grid of the training, where not that of the scene; the test is on the scene's. A shorter
            duration leaves the rest of the time to a test beyond it.
        experts: While it is trained; those of the scene if absent.
        tested_with: Experts of the test, where not those of the training.
        through: Whether the loss is what the layer minimises (`minimum`), or that of the stitched field through the
            `solver`, as published.
        members: Members of the family per step.
        fresh: Draw them anew each step; otherwise the same throughout.
        optimiser: lbfgs needs members that stay.
        iterations: Steps; of lbfgs up to 20 evaluations each.
        learning_rate: Of Adam.
        reroute: Steps between two moves of learned cuts.
    """

    type: Literal["network"] = "network"
    backbone: BranchTrunkSpec | OperatorSpec = dataclasses.field(default_factory=BranchTrunkSpec)
    constraint: Literal["hard", "soft"] = "hard"
    on: Problem | None = None
    experts: Experts | None = None
    tested_with: Experts | None = None
    through: Literal["minimum", "solver"] = "minimum"
    members: Count = 3
    fresh: bool = True
    optimiser: Literal["adam", "lbfgs"] = "adam"
    iterations: Count = 500
    learning_rate: Positive = 2e-3
    reroute: Count = 50

    def __post_init__(self) -> None:
        if self.optimiser == "lbfgs" and self.fresh:
            raise ValueError("optimiser: lbfgs needs members that stay; set fresh = false")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantsFit:
    """Find D and k of diffusion-sorption from sparse noisy observations made by the method of lines.

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
    """An equation solved by the hard-constraint layer.

    Attributes:
        problem: The equation and its grid.
        experts: Decomposition.
        basis_size: Basis functions n.
        snapshots: Solutions whose principal components are the basis of `run`.
        rounds: Solves of `run` with learned cuts, after one with uniform ones.
        fit: What is trained or found.
    """

    kind: ClassVar[str] = "constraint"
    problem: Problem = dataclasses.field(default_factory=SorptionProblem)
    experts: Experts = dataclasses.field(default_factory=Experts)
    basis_size: Count = 16
    snapshots: Count = 32
    rounds: Count = 2
    fit: NetworkFit | ConstantsFit | None = None

    def build(self, *, device: str | None = None) -> HardConstraint:
        """The layer, with uniform cuts; it computes on the CPU."""
        return self.experts.layer(self.problem, seed=self.seed)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Size of the problem."""
        layer = self.build()
        rows = layer.blocks.rows.index.shape
        return {
            "experts": rows[0],
            "rows": rows[0] * rows[1],
            "unknowns": rows[0] * self.basis_size,
            "table_MiB": layer.blocks.entries.numel() * self.basis_size * 8 / 2**20,
        }

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve with a basis of principal components, and compare with the classical solver."""
        if self.snapshots < self.basis_size:
            raise SceneError(
                f"snapshots: {self.snapshots} solutions do not give basis_size = {self.basis_size} functions"
            )
        family, members = self.problem.family(), self.problem.solved_for(self.seed)
        basis = principal_basis(family.reference(self.problem.snapshots(self.snapshots, self.seed)), self.basis_size)
        basis = basis.expand(len(next(iter(members.values()))), *[-1] * (basis.ndim - 1))
        layer = self.build()
        with torch.no_grad():
            found = layer(basis, members)
        cuts: list[list[int]] | None = None
        if self.experts.cuts == "learned":
            router = Router(self.experts.counts, seed=self.seed)
            for _ in range(self.rounds):
                router.update(_squares(family, found.field, members))
                cuts = router.cuts(family.shape)
                layer = self.experts.layer(self.problem, seed=self.seed, cuts=cuts)
                with torch.no_grad():
                    found = layer(basis, members)
        jumps = layer.interface_jumps(basis, found.weights)
        summary = self._compare(out, found.field, members, jumps)
        return {**summary, **_outcome(found), **({"cuts": cuts} if cuts else {})}

    def render(self, run: "Path", file: "Path", *, fps: float) -> "Path":
        """A film of what a run or a fit found beside the classical solver."""
        if not (run / "solution.npz").is_file():
            raise SceneError(f"{run}: holds no solution.npz to picture")
        return film(run, file, fps=fps)

    def _compare(
        self, out: "RunDirectory", field: torch.Tensor, members: Members, jumps: torch.Tensor
    ) -> dict[str, Any]:
        """Figures and errors against the classical solver, on the grid of the scene."""
        family = self.problem.family()
        truth = family.reference(members)
        times = getattr(family, "times", np.linspace(0.0, self.problem.duration, family.shape[0]))
        squares = _squares(family, field, members)
        picture(out, family, np.asarray(times), field, truth, squares, jumps)
        still = truth[:, :1].expand_as(truth)
        summary = {
            "relative_error": relative_error(field, truth).tolist(),
            "no_change_error": relative_error(still, truth).tolist(),
            "largest_interface_jump": float(jumps.abs().max()) if jumps.numel() else 0.0,
        }
        trained = self.fit.on.duration if isinstance(self.fit, NetworkFit) and self.fit.on else self.problem.duration
        if trained < self.problem.duration:
            beyond = torch.tensor(np.asarray(times) > trained)
            summary["relative_error_beyond_training"] = relative_error(field[:, beyond], truth[:, beyond]).tolist()
        return summary

    def training(self, *, device: str | None = None) -> AbstractTraining:
        """Training of the network, or the search for the constants."""
        if isinstance(self.fit, NetworkFit):
            return self._network(self.fit)
        if isinstance(self.fit, ConstantsFit):
            return self._constants(self.fit)
        return super().training(device=device)

    def _network(self, fit: NetworkFit) -> AbstractTraining:
        from simengine.solve.adjoint import ImplicitAdjoint

        on, hard = fit.on or self.problem, fit.constraint == "hard"
        experts = fit.experts or self.experts
        if type(on) is not type(self.problem):
            raise SceneError(f"fit.on.type: expected that of the scene, {self.problem.type!r}, got {on.type!r}")
        if tuple(on.family().shape[1:]) != tuple(self.problem.family().shape[1:]) and "u0" not in vars(self.problem):
            raise SceneError("fit.on: an initial field asks for the same grid in space")
        family = on.family()
        torch.manual_seed(self.seed)
        backbone = fit.backbone.build(family, on.solved_for(self.seed), self.basis_size if hard else 1)

        def layer(problem: Problem, cuts: list[list[int]] | None = None) -> HardConstraint:
            # the first steps pass through bases that satisfy nothing, so a solve may fail there
            return experts.layer(problem, seed=self.seed, cuts=cuts, adjoint=ImplicitAdjoint(strict=False))

        if fit.tested_with is not None and experts.cuts == "learned":
            raise SceneError("fit.tested_with: learned cuts are those of the training")

        def draw() -> Members:
            if fit.fresh:
                return family.draw(fit.members, torch.default_generator)
            return on.trained_on(fit.members, self.seed)

        router = Router(experts.counts, seed=self.seed) if hard and experts.cuts == "learned" else None

        def finish(out: "RunDirectory") -> dict[str, Any]:
            tested = fit.tested_with or experts
            return self._test(out, fit, tested, backbone, None if router is None else router.cuts)

        return NetworkTraining(
            backbone,
            family,
            layer(on) if hard else None,
            draw=draw,
            fresh=fit.fresh,
            num_iterations=fit.iterations,
            optimiser=fit.optimiser,
            learning_rate=fit.learning_rate,
            through=fit.through,
            router=router,
            reroute=fit.reroute,
            relayer=lambda cuts: layer(on, cuts),
            finish=finish,
        )

    def _test(
        self,
        out: "RunDirectory",
        fit: NetworkFit,
        experts: Experts,
        backbone: Backbone,
        cuts: Callable[[Sequence[int]], list[list[int]]] | None,
    ) -> dict[str, Any]:
        """Solve for the tested members on the grid of the training, over the whole time; compare on the scene's."""
        members = self.problem.solved_for(self.seed)
        target = self.problem.family()
        with torch.no_grad():
            basis, base = backbone(target, members)
            if fit.constraint == "soft":
                return self._compare(out, base + basis[..., 0], members, torch.zeros(len(base), 0, 0))
            on = dataclasses.replace(fit.on or self.problem, duration=self.problem.duration)
            layer = experts.layer(on, seed=self.seed, cuts=cuts(on.family().shape) if cuts else None)
            solved_basis, solved_base = backbone(on.family(), members)
            found = layer(solved_basis, members, solved_base)
            jumps = layer.interface_jumps(solved_basis, found.weights)
            if tuple(on.family().shape) == tuple(target.shape) and on == self.problem:
                field = found.field
            else:
                if experts.counts[0] > 1:
                    raise SceneError("fit.experts.counts: blocks in time need the training on the grid of the scene")
                placed = cuts(target.shape) if cuts else None
                onto = experts.layer(self.problem, seed=self.seed, cuts=placed)
                field = onto.stitch(basis, found.weights, base)
        return {**self._compare(out, field, members, jumps), **_outcome(found)}

    def _constants(self, fit: ConstantsFit) -> AbstractTraining:
        pde, generator = self.problem.family(), np.random.default_rng(self.seed)
        if not isinstance(pde, DiffusionSorption):
            raise SceneError(f"fit.type: constants are those of diffusion_sorption, not of {self.problem.type}")
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
        return SorptionInverse(
            ParameterSet(sought),
            self.build(),
            basis,
            u0=fit.u0,
            points=points,
            observations=observations,
            sigma=fit.noise,
            num_iterations=fit.iterations,
        )


def _squares(family: AbstractFamily, field: torch.Tensor, members: Members) -> torch.Tensor:
    """Squared residuals of a field, per grid point."""
    rows, table = family.rows(), family.table(field.unsqueeze(-1)).squeeze(-1)
    residual = family.residual(table[:, rows.index], rows.data, members)
    return squared_residuals(family.shape, rows.position, residual)


def _outcome(found: Constrained) -> dict[str, Any]:
    return {
        "result": found.solution.result.name,
        "iterations": int(found.solution.stats["num_iterations"].max()),
    }
