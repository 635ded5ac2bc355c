"""What scenes of hard constraints say of experts, networks and fits."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import torch

from simengine.constraint.basis import Backbone, BranchTrunk, OperatorBasis
from simengine.constraint.blocks import Decomposition
from simengine.constraint.family import AbstractFamily, AbstractFieldFamily
from simengine.constraint.layer import HardConstraint
from simengine.constraint.rows import RowWeights
from simengine.scene.base import SceneError
from simengine.scene.learning import AbstractLearner, stands
from simengine.scene.strict import Count, NonNegative, Positive, Range, without_effect
from simengine.worlds.fields.problems import Members, Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experts:
    """Decomposition.

    Attributes:
        counts: Blocks along each axis of the grid, time first.
        cuts: `uniform`, or `learned`: by a router that gives each block the same share of the residual.
        coupled: Solve them together; false as published, each on its own.
        rows_per_block: Equations sampled in each.
        ridge: Weight of the weights of the basis functions [1].
        tolerance: Of the iteration [1].
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
        blocks = Decomposition(
            counts=self.counts,
            cuts=cuts,
            coupled=self.coupled,
            periodic=problem.periodic,
            rows_per_block=self.rows_per_block,
            seed=seed,
        )
        return HardConstraint(
            family,
            blocks,
            weights=RowWeights(ridge=self.ridge),
            solver=LevenbergMarquardt(tolerance=self.tolerance, max_iterations=self.iterations),
            adjoint=adjoint,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrincipalBasis:
    """The principal components of solutions, for all times at once; see `basis_size` and `snapshots`."""

    type: Literal["principal"] = "principal"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaylorBasis:
    """Terms of the Taylor series in time, from the equation itself: nothing is solved before, nothing is trained.

    Attributes:
        order: Highest power of t, and number of functions.
        windows: Of equal length in time, each from the field with which the one before it ended.
    """

    type: Literal["taylor"] = "taylor"
    order: Annotated[int, Range(ge=1, le=40)] = 6
    windows: Count = 1

    def functions(self, family: AbstractFieldFamily, members: Members) -> tuple[torch.Tensor, torch.Tensor]:
        """Functions (samples, *shape, order) with a mean square of 1, and the initial field at all times.

        Raises:
            SceneError: The series has no numbers for so high a power: the fields are too rough.
        """
        base, clock = family.lifting(members)
        powers = family.series(members[family.field], self.order).unsqueeze(2)
        basis = torch.stack([clock ** (q + 1) * term for q, term in enumerate(powers)], dim=-1)
        size = basis.square().mean(dim=tuple(range(1, basis.ndim - 1)), keepdim=True).sqrt()
        if not bool(size.isfinite().all()):
            raise SceneError(f"basis.order: the term of t^{self.order} is beyond all numbers; take a lower order")
        return basis / size.clamp_min(1e-300), base


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchTrunkSpec:
    """A network of the coordinates, and one of the member; see `BranchTrunk`.

    Attributes:
        branch: Whether there is one of the member.
        modes: Fourier features of the coordinates.
        width: Hidden units of a layer.
        depth: Hidden layers.
    """

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
    """A Fourier neural operator over the grid; see `FNO`.

    Attributes:
        modes: Fourier modes kept along each axis of the grid, time first.
        width: Channels.
        depth: Layers.
    """

    type: Literal["fno"] = "fno"
    modes: tuple[Count, ...] = (4, 6, 6)
    width: Count = 16
    depth: Count = 4

    def build(self, family: AbstractFamily, members: Members, size: int) -> Backbone:
        """The backbone for basis functions of this number."""
        if len(self.modes) != len(family.shape):
            raise SceneError(
                f"model.backbone.modes: expected {len(family.shape)} numbers, time first, got {self.modes}"
            )
        shape = {"width": self.width, "depth": self.depth}
        channels, hints = family.coordinates().shape[-1], family.hints(members).shape[-1]
        return Backbone(OperatorBasis(coordinates=channels, size=size, modes=self.modes, hints=hints, **shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorLearner(AbstractLearner):
    """Train a network of basis functions without solution data.

    Attributes:
        backbone: The network.
        constraint: `hard`, by the layer, or `soft`: the network is the solution, its residual the loss. This one word
            makes the comparison: what is said of experts is then left aside.
        on: The equation on the grid of the training, where not that of the scene; the test is on the scene's. A shorter
            duration leaves the rest of the time to a test beyond it.
        experts: While it is trained; those of the scene if absent.
        tested_with: Experts of the test, where not those of the training.
        through: Whether the loss is what the layer minimises (`minimum`), or that of the stitched field through the
            `solver`, as published.
        members: Members of the family per step.
        fresh: Draw them anew each step; otherwise the same throughout.
        windows: Windows in time of equal length. The network is trained on one; the test takes one after another, each
            from the field with which the one before it ended, and fresh members are followed through as many.
        optimiser: lbfgs needs members that stay.
        iterations: Steps; of lbfgs up to 20 evaluations each.
        learning_rate: Of Adam [1].
        reroute: Steps between two moves of learned cuts.
    """

    kinds: ClassVar[tuple[str, ...]] = ("constraint",)
    type: Literal["operator"] = "operator"
    backbone: BranchTrunkSpec | OperatorSpec = dataclasses.field(default_factory=BranchTrunkSpec)
    constraint: Literal["hard", "soft"] = stands("training", "hard")
    on: Problem | None = stands("training", None)
    experts: Experts | None = stands("training", None)
    tested_with: Experts | None = stands("test", None, key="experts")
    through: Literal["minimum", "solver"] = stands("training", "minimum")
    members: Count = stands("examples", 3)
    fresh: bool = stands("examples", True)
    windows: Count = stands("training", 1)
    optimiser: Literal["adam", "lbfgs"] = stands("training", "adam")
    iterations: Count = stands("training", 500)
    learning_rate: Positive = stands("training", 2e-3)
    reroute: Count = stands("training", 50)

    def __post_init__(self) -> None:
        if self.optimiser == "lbfgs" and self.fresh:
            raise ValueError("optimiser: lbfgs needs members that stay; set fresh = false")
        if self.optimiser == "lbfgs":
            without_effect(self, "learning_rate", where='optimiser = "lbfgs"')
        if self.windows > 1 and self.on is not None:
            raise ValueError("windows: cut the problem of the scene; leave out `on`")
