"""The contract: worlds, what they answer, and scenes, which put a world beside its observations and unknowns.

A world is plain, frozen data: what is believed. Instruments say what they ask (`scene/asks.py`); the world is solved
once for all of them; its run answers; the instrument responds in plain torch. Numbers stand in the tree:
`scene/address.py` names them and puts others, or tensors, in their place, and no values travel beside a world.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from simengine.scene.asks import Ask
from simengine.scene.errors import Refused, SceneError, nothing_to_fit
from simengine.scene.kinds import method_of
from simengine.shown import ShortRepr

__all__ = ["AbstractRun", "AbstractWorld", "Refused", "SceneError"]

if TYPE_CHECKING:
    from torch import Tensor

    from simengine.fit.problem import Problem
    from simengine.fit.training import AbstractTraining
    from simengine.io.run_directory import RunDirectory


class AbstractRun(abc.ABC):
    """A solved world. Its tensors depend on the numbers of the world, on nothing of an instrument."""

    @abc.abstractmethod
    def sample(self, ask: Ask) -> "Tensor":
        """The answer, in the shape that the ask names; differentiable in the ask and, if solved so, in the numbers.

        Raises:
            SceneError: It names a body, scalar or field that the world does not have.
        """

    def holds(self, ask: Ask) -> bool:
        """Whether `sample` needs no other solve, as for a clock moved beyond the saved steps."""
        return True

    def gaps(self, ask: Ask) -> Mapping[int, str]:
        """Rows of the answer that are NaN because nothing answers them, and why; decided once, at a fit's start."""
        return {}

    def derivatives(self, ask: Ask, keys: Sequence[str]) -> "Tensor | None":
        """Derivatives of the answer in numbers of the world, (..., p), where that beats solving again; else None.

        Args:
            ask: What was answered.
            keys: Numbers, as `scene.address.numbers` gives them.
        """
        return None

    def state_dict(self) -> "dict[str, Tensor]":
        """What the next solve starts near; part of a fit's checkpoint."""
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractWorld(ShortRepr, abc.ABC):
    """A scene of one kind. Sub-classes are frozen dataclasses of plain data (numbers, strings, tuples, dataclasses).

    Attributes:
        kind: The value of the key `kind` in a scene file.
        devices: Kinds of torch device that scenes of this kind run on, the one taken where nobody asks first.
        answers: The asks that its runs answer.
        together: How many worlds `solve_many` takes at once for about the price of one; 1 where it takes them in turn.
        fit_devices: Those that a fit of such a scene runs on.
        pictures_cells: Whether `figures` shows the cells of a field as they are, so that it may show their bars too.
        lends: Tables of the scene that its observations take where they have none of their own.
        seed: Seed of everything random in this scene.
        directory: Where relative paths in the scene start; set by the loader.
        functions: Of the Python script that the scene comes from, by name; set by the loader.
        script: Of a world of one's own, the script that defines it; set by the loader.
    """

    kind: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    answers: ClassVar[frozenset[type[Ask]]] = frozenset()
    together: ClassVar[int] = 1
    fit_devices: ClassVar[tuple[str, ...]] = ("cpu",)
    pictures_cells: ClassVar[bool] = True
    lends: ClassVar[tuple[str, ...]] = ()
    seed: int = 0
    directory: Path = dataclasses.field(default=Path(), metadata={"internal": True})
    functions: Mapping[str, Callable[..., Any]] = dataclasses.field(
        default_factory=dict, metadata={"internal": True}, compare=False
    )
    script: Path | None = dataclasses.field(default=None, metadata={"internal": True}, compare=False)

    def prepare(self, asks: Sequence[Ask]) -> "AbstractWorld":
        """The world with its discretisation frozen for a stage of a fit, long enough for the asks.

        Particles, meshes and rows are made once, from these numbers; unknowns move and scale them and never fill anew.

        Raises:
            SceneError: An ask lies beyond the run, or names what the world does not have.
        """
        return self

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> AbstractRun:
        """One run that holds the asks.

        Args:
            asks: What will be asked.
            gradient: Keep what gradients to the tensors in the tree need.
            near: A run of about the same numbers to start from; warm starts are an argument, never hidden state.
            device: Torch device; None for the CPU.

        Raises:
            Refused: There is no run with these numbers.
        """
        raise SceneError(f"a world of kind {self.kind!r} answers no instrument yet")

    def solve_kept(self, asks: Sequence[Ask], folder: Path, *, near: AbstractRun | None = None) -> AbstractRun:
        """`solve` that keeps in a folder what it has found, as it is found, and goes on from what is kept there.

        Raises:
            Refused: There is no run with these numbers.
        """
        return self.solve(asks, near=near)

    def resumed(self, state: "Mapping[str, Tensor]") -> AbstractRun | None:
        """The run of this world that a `state_dict` is of; None where solving again gives the same bits."""
        return None

    def solve_many(
        self, worlds: "Sequence[AbstractWorld]", asks: Sequence[Ask], *, gradient: bool = False
    ) -> Sequence[AbstractRun]:
        """A run of each world; they differ from this one in numbers only.

        Raises:
            Refused: One of them has no run.
        """
        return [world.solve(asks, gradient=gradient) for world in worlds]

    def traced(self) -> frozenset[str]:
        """Keys that may hold tensors when `gradient` is wanted; the others are differentiated by differences."""
        return frozenset()

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """Keys of numbers that may be a whole field -> its shape; tensors of that shape take the number's place."""
        return {}

    def over_body(self, key: str) -> "AbstractWorld":
        """The world in which a number may be a field over its body: one more of `fields`.

        Raises:
            SceneError: It may not.
        """
        raise SceneError(f"over: a world of kind {self.kind!r} has no field over a body; leave it out")

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """Least and greatest of each axis of a field [m]; its cells divide them evenly; infinite for no place."""
        raise SceneError(f"{key}: a world of kind {self.kind!r} has no field of that name")

    def by_points(self, key: str) -> bool:
        """Whether a measured value sees one point of a field alone: the cells along the last axis."""
        return False

    def field_of(self, key: str, value: float) -> "Tensor":
        """The field that a single number stands for, float64 in its shape."""
        import torch

        return torch.full(self.fields()[key], value, dtype=torch.float64)

    def field_at(self, key: str) -> "Tensor":
        """The field that stands at a key as a file or a tensor, float64 in its shape."""
        import torch

        return torch.as_tensor(self.build()[key.rpartition(".")[2]], dtype=torch.float64)

    def figures(self, key: str, field: "Tensor") -> "dict[str, Tensor]":
        """Pictures (h, w) of a field for a report, row 0 on top, by title; NaN where nothing is."""
        return {}

    def measures(self, key: str, field: "Tensor") -> "dict[str, Tensor]":
        """Numbers (0-d) that a report tells of a field, by name with unit; those with a gradient by it get bars."""
        return {}

    def truth(self, key: str, reference: Mapping[str, Any]) -> "Tensor | None":
        """What a table in `[reference]` tells of a field, in the shape of its cells; None where it tells no such thing.

        Raises:
            SceneError: It tells a file that does not fit.
        """
        return None

    def beside(self, key: str, field: "Tensor", reference: Mapping[str, Any]) -> dict[str, float]:
        """Scores of a field beside its table in `[reference]`, by name.

        Raises:
            SceneError: The table says nothing that a world of this kind understands.
        """
        return {}

    def sizes(self) -> Mapping[str, float]:
        """Typical sizes by unit, as {"m": 0.5, "s": 0.8}: scales of unknowns that start at 0."""
        return {}

    def scalars(self) -> Mapping[str, str]:
        """Every scalar and field that the world answers by name -> its unit, for `simengine list scalars`."""
        return {}

    def abscissas(self) -> Mapping[str, str]:
        """What rows of a table may go along by name -> its unit, as far as it is always the same."""
        return {"t": "s", "time": "s"}

    def undeformed(self) -> "AbstractWorld":
        """The world before anything deforms its bodies; itself where it starts so."""
        return self

    def has_center(self, body: str | None) -> bool:
        """Whether marks on a body that nobody placed follow its centre (a ball), asked as a point of NaN."""
        return False

    def show(self, run: AbstractRun, out: "RunDirectory") -> list[Any]:
        """Pictures of a run for the report, written to `out`: blocks of `simengine.view.report`."""
        found = method_of(type(self), "show")
        blocks: list[Any] = [] if found is None else found(self, run, out)
        return blocks

    def plausible(self) -> "Mapping[str, tuple[str, float, float]]":
        """Measured scalar or condition -> unit, least and most; what lies beyond, and tells no unit, is a mistake."""
        return {}

    def methods(self, problem: "Problem") -> "Mapping[str, Callable[[], AbstractTraining]]":
        """Ways of its own to fit a problem: value of `inference.method` -> what makes the training."""
        return {}

    def refined(self, factor: float) -> "AbstractWorld":
        """The same world at `factor` times the resolution: twin data, and the bar that discretisation adds.

        Raises:
            SceneError: A world of this kind has no resolution to change.
        """
        raise SceneError(f"a world of kind {self.kind!r} cannot be refined")

    @abc.abstractmethod
    def build(self, *, device: str | None = None) -> Any:
        """What the solver takes: `(model, state)` for what moves, a model alone for what is solved at once.

        Args:
            device: Torch device; None for the best available.
        """

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Simulate or solve, write states and pictures to `out`, and return the summary printed by `simengine run`.

        Raises:
            SceneError: A world of this kind has no run of its own, and is solved for observations only.
        """
        found = method_of(type(self), "run")
        if found is None:
            raise SceneError(f"a world of kind {self.kind!r} has no run of its own; use simengine predict or fit")
        summary: dict[str, Any] = found(self, out, device=device, force=force)
        return summary

    def training(self, *, device: str | None = None) -> "AbstractTraining":
        """The inverse problem of this scene, as `simengine fit` drives it.

        Raises:
            SceneError: Nothing is sought.
        """
        found = method_of(type(self), "training")
        if found is None:
            raise nothing_to_fit(self.kind)
        training: AbstractTraining = found(self, device=device)
        return training

    def check(self, *, device: str | None = None) -> dict[str, Any]:
        """Pre-flight figures for `simengine check`, without running the scene."""
        found = method_of(type(self), "check")
        figures: dict[str, Any] = {} if found is None else found(self, device=device)
        return figures

    def render(self, run: Path, file: Path, *, fps: float) -> Path:
        """Picture the states that `run` wrote to a run directory; the suffix of `file` is the format.

        Raises:
            SceneError: Runs of this kind hold no states to picture.
        """
        found = method_of(type(self), "render")
        if found is None:
            raise SceneError(f"a run of kind {self.kind!r} holds figures, not states to render; look into {run}")
        written: Path = found(self, run, file, fps=fps)
        return written
