"""A world of one's own: a class with numbers, and a method that turns them into what moves."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from simengine.scene.address import numbers
from simengine.scene.asks import Ask, Series, Tracks
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError
from simengine.scene.strict import Range, Unit, nearest

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class OwnNumber:
    """A number of a world of one's own.

    Attributes:
        value: Its default, SI.
        unit: SI, as in "m/s".
        gt: Exclusive lower bound.
        lt: Exclusive upper bound.
    """

    value: float
    unit: str = "1"
    gt: float = -math.inf
    lt: float = math.inf


@dataclasses.dataclass(frozen=True)
class OwnMotion:
    """What a world of one's own answers.

    Attributes:
        time: Growing (f,) [s]; between two of them everything is linear.
        points: Name of a body -> positions (f, 3) [m].
        scalars: Name -> values (f,), SI.
    """

    time: "torch.Tensor"
    points: "Mapping[str, torch.Tensor]" = dataclasses.field(default_factory=dict)
    scalars: "Mapping[str, torch.Tensor]" = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnWorld(AbstractWorld):
    """A subclass names its `parameters` and says in `simulate` what they do; every instrument then takes it.

        class FallingBall(se.OwnWorld):
            parameters = {"drag": se.OwnNumber(0.5, gt=0), "height": se.OwnNumber(1.0, "m")}

            def simulate(self, values):
                time = torch.linspace(0.0, 0.7, 200, dtype=torch.float64)
                ...
                return se.OwnMotion(time, points={"ball": positions})

    Attributes:
        parameters: Name -> number; each becomes a key that can be an unknown.
    """

    kind: ClassVar[str] = "own"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Tracks, Series))
    parameters: ClassVar[Mapping[str, OwnNumber]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, number in cls.__dict__.get("parameters", {}).items():
            marks = (Range(gt=number.gt, lt=number.lt), Unit(number.unit))
            cls.__annotations__[name] = Annotated[(float, *marks)]
            setattr(cls, name, float(number.value))
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    @abc.abstractmethod
    def simulate(self, values: "Mapping[str, torch.Tensor]") -> OwnMotion:
        """What happens with these numbers, 0-d float64 tensors by name."""

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "OwnRun":
        """`simulate` with the numbers of this world."""
        import torch

        values = {n: torch.as_tensor(getattr(self, n), dtype=torch.float64) for n in type(self).parameters}
        try:
            motion = self.simulate(values)
        except (ArithmeticError, RuntimeError) as error:
            raise Refused(f"{type(self).__name__}.simulate: {error}") from error
        run = OwnRun(motion)
        if not all(bool(t.isfinite().all()) for t in (*motion.points.values(), *motion.scalars.values())):
            raise Refused(f"{type(self).__name__}.simulate: a value is not finite")
        return run

    def traced(self) -> frozenset[str]:
        """All numbers: `simulate` is torch."""
        return frozenset(numbers(self))

    def sizes(self) -> Mapping[str, float]:
        """By the values themselves."""
        motion = self.solve(()).motion
        sizes = {"s": float(motion.time.max()), "1": 1.0}
        spans = [float((p.max(0).values - p.min(0).values).max()) for p in motion.points.values()]
        return {**sizes, "m": max(spans), "m/s": max(spans) / sizes["s"]} if spans else sizes

    def scalars(self) -> Mapping[str, str]:
        """Those that `simulate` returns; their units are not told."""
        return dict.fromkeys(self.solve(()).motion.scalars, "")

    def build(self, *, device: str | None = None) -> Any:
        """Itself."""
        return self

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the motion."""
        motion = self.solve(()).motion
        out.write("states.npz", {"time": motion.time, **motion.points, **motion.scalars})
        return {"frames": len(motion.time)}


@dataclasses.dataclass(frozen=True)
class OwnRun(AbstractRun):
    """A motion, read off between its times."""

    motion: OwnMotion

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Tracks of the named points, series of the named scalars."""
        import torch

        if isinstance(ask, Tracks):
            names = list(self.motion.points)
            name = ask.body if ask.body is not None else names[0] if len(names) == 1 else ""
            if name not in self.motion.points:
                raise SceneError(f"{name!r} is no body of this world; {nearest(name, names)}")
            track = self._at(self.motion.points[name], ask.times)
            return track[:, None].expand(-1, len(ask.points), -1)
        if isinstance(ask, Series) and ask.against == "time":
            for name in ask.names:
                if name not in self.motion.scalars:
                    raise SceneError(f"{name!r} is no scalar of this world; {nearest(name, self.motion.scalars)}")
            return torch.stack([self._at(self.motion.scalars[name], ask.values) for name in ask.names], -1)
        raise SceneError(f"a world of one's own does not answer {type(ask).__name__}")

    def _at(self, table: "torch.Tensor", times: "torch.Tensor") -> "torch.Tensor":
        import torch

        own = self.motion.time
        if float(times.detach().max()) > float(own[-1]) * (1 + 1e-9):
            raise SceneError(f"the motion ends at {float(own[-1]):.4g} s, and {float(times.max()):.4g} s is asked for")
        right = torch.searchsorted(own, times.detach().contiguous()).clamp(1, len(own) - 1)
        share = (times - own[right - 1]) / (own[right] - own[right - 1])
        share = share.reshape(-1, *[1] * (table.ndim - 1))
        return table[right - 1] + share * (table[right] - table[right - 1])
