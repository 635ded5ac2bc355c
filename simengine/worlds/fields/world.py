"""Scenes of hard constraints: an equation, its experts, and what is trained through them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from simengine.constraint.basis import Backbone, principal_basis
from simengine.constraint.blocks import uniform_cuts
from simengine.constraint.family import AbstractFamily
from simengine.constraint.layer import Constrained, HardConstraint
from simengine.constraint.router import Router, squared_residuals
from simengine.io.model_folder import write_model
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.strict import Count, without_effect
from simengine.worlds.fields.problems import Members, Problem, SorptionProblem
from simengine.worlds.fields.report import film, picture, relative_error
from simengine.worlds.fields.specs import Experts, OperatorLearner, PrincipalBasis, TaylorBasis
from simengine.worlds.fields.training import Descent, Drawn, LearnedCuts, OperatorTraining

if TYPE_CHECKING:
    from pathlib import Path

    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstraintWorld(AbstractWorld):
    """An equation solved by the hard-constraint layer.

    Attributes:
        problem: The equation and its grid.
        experts: Decomposition.
        basis_size: Basis functions n, of principal components and of networks; those of a series are its `order`.
        basis: Of `run`.
        snapshots: Solutions whose principal components are the basis of `run`.
        rounds: Solves of `run` with learned cuts, after one with uniform ones; kept where they lower the residual.
    """

    kind: ClassVar[str] = "constraint"
    problem: Problem = dataclasses.field(default_factory=SorptionProblem)
    experts: Experts = dataclasses.field(default_factory=Experts)
    basis: PrincipalBasis | TaylorBasis = dataclasses.field(default_factory=PrincipalBasis)
    basis_size: Count = 16
    snapshots: Count = 32
    rounds: Count = 2

    def __post_init__(self) -> None:
        if self.experts.cuts == "uniform":
            without_effect(self, "rounds", where='experts.cuts = "uniform"')
        if isinstance(self.basis, TaylorBasis):
            without_effect(self, "snapshots", where='basis.type = "taylor"')
            if isinstance(self.problem, SorptionProblem):
                raise ValueError("basis.type: diffusion_sorption begins with a jump, which has no Taylor series")
            if self.experts.cuts == "learned":
                raise ValueError('experts.cuts: "learned" cuts are those of one solve; the series takes windows')

    def build(self, *, device: str | None = None) -> HardConstraint:
        """The layer, with uniform cuts; it computes on the CPU."""
        return self.experts.layer(self.problem, seed=self.seed)

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Size of the problem."""
        layer = self.build()
        rows = layer.blocks.rows.index.shape
        functions = self.basis.order if isinstance(self.basis, TaylorBasis) else self.basis_size
        return {
            "experts": rows[0],
            "rows": rows[0] * rows[1],
            "unknowns": rows[0] * functions,
            "table_MiB": layer.blocks.entries.numel() * functions * 8 / 2**20,
        }

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Solve with the basis, and compare with the classical solver."""
        if isinstance(self.basis, TaylorBasis):
            window = self._window(self.basis.windows, "basis.windows")
            layer = self.experts.layer(window, seed=self.seed)
            solved = self.problem.solved_for(self.seed)
            return self._in_windows(out, window, layer, self.basis.functions, self.basis.windows, solved)
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
            layer, found, cuts = self._moved(layer, found, basis, members)
        jumps = layer.interface_jumps(basis, found.weights)
        summary = self._compare(out, found.field, members, jumps)
        return {**summary, **_outcome(found), **({"cuts": cuts} if cuts else {})}

    def _moved(
        self, layer: HardConstraint, found: Constrained, basis: torch.Tensor, members: Members
    ) -> tuple[HardConstraint, Constrained, list[list[int]]]:
        """Solves with learned cuts, kept where they leave a smaller residual; else half as far from those before."""
        family, router = self.problem.family(), Router(self.experts.counts, seed=self.seed)
        cuts = [uniform_cuts(size, count) for size, count in zip(family.shape, self.experts.counts, strict=True)]
        squares, share = _squares(family, found.field, members), 1.0
        for _ in range(self.rounds):
            router.update(squares)
            aims = router.cuts(family.shape)
            tried = [
                [round(a + share * (b - a)) for a, b in zip(*axis, strict=True)]
                for axis in zip(cuts, aims, strict=True)
            ]
            other = self.experts.layer(self.problem, seed=self.seed, cuts=tried)
            with torch.no_grad():
                again = other(basis, members)
            fresh = _squares(family, again.field, members)
            if float(fresh.sum()) < float(squares.sum()):
                layer, found, cuts, squares = other, again, tried, fresh
            else:
                share /= 2
        return layer, found, cuts

    def render(self, run: "Path", file: "Path", *, fps: float) -> "Path":
        """A film of what a run or a fit found beside the classical solver."""
        if not (run / "solution.npz").is_file():
            raise SceneError(f"{run}: holds no solution.npz to picture")
        return film(run, file, fps=fps)

    def _compare(
        self,
        out: "RunDirectory",
        field: torch.Tensor,
        members: Members,
        jumps: torch.Tensor,
        *,
        trained: float = math.inf,
    ) -> dict[str, Any]:
        """Figures and errors against the classical solver, on the grid of the scene; those after `trained` apart."""
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
        if trained < self.problem.duration:
            beyond = torch.tensor(np.asarray(times) > trained)
            summary["relative_error_beyond_training"] = relative_error(field[:, beyond], truth[:, beyond]).tolist()
        return summary

    def network_training(self, fit: OperatorLearner) -> OperatorTraining:
        """The training of a network of basis functions."""
        from simengine.solve.least_squares.adjoint import ImplicitAdjoint

        on, hard = fit.on or self._window(fit.windows), fit.constraint == "hard"
        experts = fit.experts or self.experts
        if type(on) is not type(self.problem):
            raise SceneError(f"training.on.type: expected that of the scene, {self.problem.type!r}, got {on.type!r}")
        if tuple(on.family().shape[1:]) != tuple(self.problem.family().shape[1:]) and "u0" not in vars(self.problem):
            raise SceneError("training.on: an initial field asks for the same grid in space")
        if experts.cuts == "uniform":
            try:
                without_effect(fit, "reroute", where='cuts = "uniform"')
            except ValueError as error:
                raise SceneError(f"training.{error}") from None
        family = on.family()
        torch.manual_seed(self.seed)
        backbone = self.backbone(fit)

        def layer(problem: Problem, cuts: list[list[int]] | None = None) -> HardConstraint:
            # the first steps pass through bases that satisfy nothing, so a solve may fail there
            return experts.layer(problem, seed=self.seed, cuts=cuts, adjoint=ImplicitAdjoint(strict=False))

        if (fit.tested_with is not None or fit.windows > 1) and experts.cuts == "learned":
            raise SceneError("test.experts, training.windows: learned cuts are those of the training")

        def draw() -> Members:
            if fit.fresh:
                return family.draw(fit.members, torch.default_generator)
            return on.trained_on(fit.members, self.seed)

        router = self.router(fit)

        def finish(out: "RunDirectory") -> dict[str, Any]:
            summary = self.tested(out, fit, backbone, router)
            state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
            state |= {f"router.{name}": value for name, value in router.state_dict().items()} if router else {}
            write_model(
                out,
                fit.type,
                state,
                reads=f"what a member of {self.problem.type} is told by: {', '.join(on.solved_for(self.seed))}",
                gives="the solution, by the hard-constraint layer over learned basis functions",
                trained_on={"duration": on.duration, "members": fit.members, "fresh": fit.fresh},
                tested=summary,
            )
            return summary

        return OperatorTraining(
            backbone,
            family,
            layer(on) if hard else None,
            members=Drawn(draw, fit.fresh, fit.windows),
            descent=Descent(fit.iterations, fit.optimiser, fit.learning_rate),
            through=fit.through,
            cuts=None if router is None else LearnedCuts(router, lambda cuts: layer(on, cuts), fit.reroute),
            finish=finish,
        )

    def backbone(self, fit: OperatorLearner) -> Backbone:
        """The network of basis functions, untrained."""
        on = fit.on or self._window(fit.windows)
        size = self.basis_size if fit.constraint == "hard" else 1
        return fit.backbone.build(on.family(), on.solved_for(self.seed), size)

    def router(self, fit: OperatorLearner) -> Router | None:
        """What learns cuts, untrained; None where they are uniform."""
        experts = fit.experts or self.experts
        learned = fit.constraint == "hard" and experts.cuts == "learned"
        return Router(experts.counts, seed=self.seed) if learned else None

    def tested(
        self,
        out: "RunDirectory",
        fit: OperatorLearner,
        backbone: Backbone,
        router: Router | None = None,
        members: Members | None = None,
    ) -> dict[str, Any]:
        """Solve members with a trained network and compare with the classical solver.

        Args:
            out: Where pictures and fields go.
            fit: How it was trained.
            backbone: The network.
            router: What learned the cuts.
            members: Parameters (n, ...) by name; those of the scene if None.
        """
        members = self.problem.solved_for(self.seed) if members is None else members
        experts = fit.tested_with or fit.experts or self.experts
        if fit.windows > 1:
            window = self._window(fit.windows)
            layer = experts.layer(window, seed=self.seed) if fit.constraint == "hard" else None
            return self._in_windows(out, window, layer, backbone, fit.windows, members)
        return self._test(out, fit, experts, backbone, None if router is None else router.cuts, members)

    def _window(self, count: int, key: str = "training.windows") -> Problem:
        """The problem on the first of so many equal windows in time."""
        problem = self.problem
        if count == 1:
            return problem
        if isinstance(problem, SorptionProblem) or (problem.nt - 1) % count:
            raise SceneError(
                f"{key}: need an initial field, and intervals that {count} divides; got {problem.type} with "
                f"nt = {problem.nt}"
            )
        return dataclasses.replace(problem, nt=(problem.nt - 1) // count + 1, duration=problem.duration / count)

    def _in_windows(
        self,
        out: "RunDirectory",
        window: Problem,
        layer: HardConstraint | None,
        functions: Callable[[Any, Members], tuple[torch.Tensor, torch.Tensor]],
        count: int,
        tested: Members,
    ) -> dict[str, Any]:
        """Take one window after another, each from the field with which the one before it ended."""
        family, members = window.family(), tested
        fields: list[torch.Tensor] = []
        jumps = [torch.zeros(len(next(iter(tested.values()))), 0, 0)]
        outcomes: list[dict[str, Any]] = [{}]
        with torch.no_grad():
            for _ in range(count):
                basis, base = functions(family, members)
                if layer is None:
                    field = base + basis[..., 0]
                else:
                    found = layer(basis, members, base)
                    field = found.field
                    jumps.append(layer.interface_jumps(basis, found.weights))
                    outcomes.append(_outcome(found))
                fields.append(field[:, bool(fields) :])
                members = family.continued(field[:, -1])
        worst = max(outcomes, key=lambda outcome: outcome.get("iterations", 0))
        largest = max(jumps, key=lambda jump: float(jump.abs().max()) if jump.numel() else 0.0)
        return {**self._compare(out, torch.cat(fields, dim=1), tested, largest), **worst}

    def _test(
        self,
        out: "RunDirectory",
        fit: OperatorLearner,
        experts: Experts,
        backbone: Backbone,
        cuts: Callable[[Sequence[int]], list[list[int]]] | None,
        members: Members,
    ) -> dict[str, Any]:
        """Solve for members on the grid of the training, over the whole time; compare on the scene's."""
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
                    raise SceneError(
                        "training.experts.counts: blocks in time need the training on the grid of the scene"
                    )
                placed = cuts(target.shape) if cuts else None
                onto = experts.layer(self.problem, seed=self.seed, cuts=placed)
                field = onto.stitch(basis, found.weights, base)
        trained = math.inf if fit.on is None else fit.on.duration
        return {**self._compare(out, field, members, jumps, trained=trained), **_outcome(found)}


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
