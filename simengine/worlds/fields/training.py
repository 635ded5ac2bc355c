"""Trainings of hard constraints: a network of basis functions without solution data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from simengine.constraint.basis import Backbone
from simengine.constraint.family import AbstractFamily
from simengine.constraint.layer import HardConstraint
from simengine.constraint.router import Router, squared_residuals
from simengine.fit.trainings.gradient import GradientTraining
from simengine.scene.grammar import Scene

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

Finish = Callable[["RunDirectory"], dict[str, Any]]
_SCALE = 1e4  # of the losses: residuals of the trainings are 1e-2 and less


def training(scene: Scene, *, device: str | None = None) -> "OperatorTraining":
    """The training of a scene."""
    world: Any = scene.world
    made: OperatorTraining = world.network_training(scene.learner)
    return made


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The members of a family that a training sees.

    Attributes:
        draw: Gives the parameters of the members of a step.
        fresh: Whether members are drawn anew; otherwise those of the first step serve throughout, and the layer starts
            from its last weights.
        windows: Fresh members are followed for so many steps: each starts from the field with which the last one ended.
    """

    draw: Callable[[], dict[str, torch.Tensor]]
    fresh: bool
    windows: int = 1


@dataclasses.dataclass(frozen=True)
class Descent:
    """How the network goes down.

    Attributes:
        steps: Of the optimiser.
        optimiser: `"adam"` with a cosine schedule, or `"lbfgs"`, for members that stay.
        learning_rate: The first one of Adam.
    """

    steps: int
    optimiser: str = "adam"
    learning_rate: float = 2e-3


@dataclasses.dataclass(frozen=True)
class LearnedCuts:
    """Blocks whose cuts follow the residual.

    Attributes:
        router: Learns where the residual is.
        layer: Makes a layer with given cuts.
        every: Steps between two moves.
    """

    router: Router
    layer: Callable[[list[list[int]]], HardConstraint]
    every: int = 50


class OperatorTraining(GradientTraining):
    """Trains a backbone so that every member of a family satisfies its equation; no solution enters the loss.

    With a layer, the loss is what the layer leaves of the equation, its cost. Its gradient needs no adjoint, since the
    layer minimises the same (`through="minimum"`); or the loss is the mean square residual of the stitched field,
    differentiated through the solver, as published (`through="solver"`). Without a layer, the one basis function is the
    solution: the soft constraint, the mean square residual of the field.

    Args:
        backbone: Basis functions.
        family: The equation on the grid of the training.
        layer: The constraint on that grid; None for the soft constraint.
        members: Those it sees.
        descent: How it goes down.
        through: `"minimum"` or `"solver"`.
        cuts: Move those of the layer; None to leave them.
        finish: Tests and pictures the trained network.
    """

    def __init__(
        self,
        backbone: Backbone,
        family: AbstractFamily,
        layer: HardConstraint | None,
        *,
        members: Drawn,
        descent: Descent,
        through: str = "minimum",
        cuts: LearnedCuts | None = None,
        finish: Finish,
    ) -> None:
        self.backbone: Backbone = backbone
        self.family: AbstractFamily = family
        self.layer = layer
        self.cuts: LearnedCuts | None = cuts
        self._drawn, self._through, self._finish = members, through, finish
        self._members = None if members.fresh else members.draw()
        self._end: torch.Tensor | None = None
        self._weights: torch.Tensor | None = None
        self._rows = family.rows()
        adam = descent.optimiser == "adam"
        if cuts is not None and (layer is None or not adam):
            raise ValueError("cuts: learned ones need a layer and the optimiser adam")
        super().__init__(
            backbone,
            self._terms,
            num_iterations=descent.steps,
            optimiser=descent.optimiser,
            learning_rate=descent.learning_rate if adam else 1.0,
            cosine=adam,
            clip_norm=1.0 if adam else None,
        )

    def residual(self, field: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Of a field on the grid of the training, shape (samples, rows)."""
        table = self.family.table(field.unsqueeze(-1)).squeeze(-1)
        constants = {k: v if v.ndim > 1 else v.unsqueeze(1) for k, v in parameters.items()}
        return self.family.residual(table[:, self._rows.index], self._rows.data, constants)

    def _terms(self) -> Mapping[str, torch.Tensor]:
        members = self._drawn.draw() if self._members is None else self._members
        if self._end is not None and self.iteration % self._drawn.windows:
            members = {**members, **self.family.continued(self._end)}
        self._last = members
        basis, base = self.backbone(self.family, members)
        if self.layer is None:
            field = base + basis[..., 0]
            self._ended(field)
            return {"residual": _SCALE * self.residual(field, members).square().mean()}
        start = None if self._drawn.fresh else self._weights
        if self._through == "solver":
            found = self.layer(basis, members, base, start=start)
            loss = _SCALE * self.residual(found.field, members).square().mean()
        else:
            found, cost = self.layer.minimum(basis, members, base, start=start)
            loss = _SCALE * 2 * cost.mean() / len(self._rows.position)
        weights = found.weights.detach()
        self._weights = weights if bool(weights.isfinite().all()) else None
        self._ended(found.field)
        return {"residual": loss}

    def _ended(self, field: torch.Tensor) -> None:
        self._field = field.detach()
        if self._drawn.windows > 1:
            self._end = self._field[:, -1].clone()

    def step(self) -> dict[str, float]:
        """One step of the optimiser; now and then the router learns, and the layer is cut anew."""
        figures = super().step()
        if self.cuts is not None and self.iteration % self.cuts.every == 0:
            with torch.no_grad():
                residual = self.residual(self._field, self._last)
            squares = squared_residuals(self.family.shape, self._rows.position, residual)
            figures["router"] = self.cuts.router.update(squares)
            self._recut(self.cuts)
        return figures

    def _recut(self, cuts: LearnedCuts) -> None:
        self.layer, self._weights = cuts.layer(cuts.router.cuts(self.family.shape)), None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Module, optimiser, router, and the weights from which the layer starts."""
        state = super().state_dict()
        if self._weights is not None:
            state["weights"] = self._weights.clone()
        if self._end is not None:
            state["end"] = self._end.clone()
        if self.cuts is not None:
            learned = self.cuts.router.state_dict()
            state.update({f"router.{name}": value.clone() for name, value in learned.items()})
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        if self.cuts is not None:
            own = {k.removeprefix("router."): v for k, v in state.items() if k.startswith("router.")}
            self.cuts.router.load_state_dict(own)
            if self.iteration >= self.cuts.every:
                self._recut(self.cuts)
        self._weights, self._end = state.get("weights"), state.get("end")

    def finish(self, out: "RunDirectory") -> dict[str, Any]:
        """Write what the scene makes of the trained network."""
        return self._finish(out)
