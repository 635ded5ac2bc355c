"""A smooth displacement of what a picture shows, as a cubic spline at each moment; no material and no load."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from simengine.scene.asks import Ask, Fields
from simengine.scene.base import AbstractRun, AbstractWorld, SceneError
from simengine.scene.strict import Positive, Range, Unit, nearest, resolve_path

if TYPE_CHECKING:
    import torch

    from simengine.io.run_directory import RunDirectory

KEY = "body.displacement"
NAMES = ("u", "v")
PLACED = ("x", "y", *NAMES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetSpec:
    """A flat body, or a sheet of light in a flow; lengths in pixels of the first picture, x to the right and y down.

    Attributes:
        lower: Least x and y [px].
        upper: Greatest x and y [px].
        spacing: Of the nodes of the spline, about [px].
        moments: Later moments; the first one is the reference.
        divergence_free: Whether the displacement is that of an incompressible flow in the plane: of a stream function.
        displacement: Coefficients at the nodes [px], or of the stream function [px^2]; a number for all.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    spacing: Positive
    moments: Annotated[int, Range(ge=1)] = 1
    divergence_free: bool = False
    displacement: Annotated[float, Range(), Unit("px")] = 0.0

    def __post_init__(self) -> None:
        if any(not low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"expected lower < upper, got {list(self.lower)} and {list(self.upper)}")

    def spans(self) -> tuple[int, int]:
        """Spans of the spline along y and x."""
        y, x = (max(round((self.upper[k] - self.lower[k]) / self.spacing), 1) for k in (1, 0))
        return y, x


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisplacementWorld(AbstractWorld):
    """Where what was at X in the first picture is at later moments: X + (u, v)(X).

    Attributes:
        body: What is displaced.
    """

    kind: ClassVar[str] = "displacement"
    answers: ClassVar[frozenset[type[Ask]]] = frozenset((Fields,))
    pictures_cells: ClassVar[bool] = False
    body: SheetSpec

    def solve(
        self,
        asks: Sequence[Ask],
        *,
        gradient: bool = False,
        near: AbstractRun | None = None,
        device: str | None = None,
    ) -> "DisplacementRun":
        """The spline itself."""
        import torch

        value = self.body.displacement
        if isinstance(value, torch.Tensor) and value.ndim > 0:
            return DisplacementRun(self.body, value)
        return DisplacementRun(self.body, self.field_of(KEY, float(value)))

    def traced(self) -> frozenset[str]:
        """The coefficients."""
        return frozenset((KEY,))

    def fields(self) -> Mapping[str, tuple[int, ...]]:
        """Coefficients, (moments, along y, along x, 2); 1 in place of 2 for a stream function."""
        y, x = self.body.spans()
        return {KEY: (self.body.moments, y + 3, x + 3, 1 if self.body.divergence_free else 2)}

    def extent(self, key: str) -> tuple[tuple[float, float], ...]:
        """The plane; moments and components are no place."""
        nowhere = (0.0, math.inf)
        plane = []
        for axis, n in zip((1, 0), self.body.spans(), strict=True):
            size = (self.body.upper[axis] - self.body.lower[axis]) / n
            plane.append((self.body.lower[axis] - 1.5 * size, self.body.upper[axis] + 1.5 * size))
        return (nowhere, *plane, nowhere)

    def scalars(self) -> Mapping[str, str]:
        """Displacements to the right and down, and their derivatives."""
        return {"u": "px", "v": "px", "u_x": "1", "u_y": "1", "v_x": "1", "v_y": "1", "displacement": "px"}

    def sizes(self) -> Mapping[str, float]:
        """The plane."""
        return {"px": max(high - low for low, high in zip(self.body.lower, self.body.upper, strict=True))}

    def grid(self) -> "torch.Tensor":
        """Places over the plane, (q, 2)."""
        import torch

        y, x = (4 * n + 1 for n in self.body.spans())
        a = torch.linspace(self.body.lower[0], self.body.upper[0], x, dtype=torch.float64)
        b = torch.linspace(self.body.lower[1], self.body.upper[1], y, dtype=torch.float64)
        return torch.stack(torch.meshgrid(b, a, indexing="ij")[::-1], -1)

    def figures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Displacements at the last moment."""
        grid, run = self.grid(), DisplacementRun(self.body, field)
        values = run.at(("u", "v"), grid.reshape(-1, 2))[-1].reshape(*grid.shape[:2], 2)
        return {"u, to the right [px]": values[..., 0], "v, down [px]": values[..., 1]}

    def measures(self, key: str, field: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Medians of the displacement, and mean strains (small: of the gradient) at each moment."""
        run = DisplacementRun(self.body, field)
        values = run.at(("u", "v", "u_x", "v_y"), self.grid().reshape(-1, 2))
        found = {}
        for k, moment in enumerate(values):
            of = f" at moment {k + 1}" if len(values) > 1 else ""
            found[f"median u{of} [px]"] = moment[:, 0].median()
            found[f"median v{of} [px]"] = moment[:, 1].median()
            xx, yy = moment[:, 2].mean(), moment[:, 3].mean()
            found[f"mean strain xx{of}"], found[f"mean strain yy{of}"] = xx, yy
            if yy and not self.body.divergence_free:
                found[f"transverse ratio -xx/yy{of}"] = -xx / yy
        return found

    def beside(self, key: str, field: "torch.Tensor", reference: Mapping[str, Any]) -> dict[str, float]:
        """Scores at places where others tell a displacement, for each moment that has a table.

        `{ vectors = ["a.csv", ...], columns = { x = "x [px]", y, u, v } }`: rms of the difference, and mean
        strains of both by the plane that fits the displacements of these places best.
        """
        import torch

        files, columns = reference.get("vectors"), reference.get("columns", {})
        if not isinstance(files, list | tuple) or not 1 <= len(files) <= self.body.moments:
            raise SceneError(f"reference.{key}: expected vectors = [a table for each of {self.body.moments} moments]")
        if not isinstance(columns, Mapping) or not set(columns) <= set(PLACED):
            raise SceneError(f"reference.{key}.columns: expected some of {', '.join(PLACED)}, got {columns!r}")
        run, found = DisplacementRun(self.body, field.detach()), {}
        for k, file in enumerate(files):
            told = self._vectors(file, columns, f"reference.{key}")
            own = run.at(NAMES, told[:, :2])[k]
            of = f" at moment {k + 1}" if len(files) > 1 else ""
            for axis, name in enumerate(NAMES):
                found[f"rms of {name}{of} [px]"] = float((own - told[:, 2:])[:, axis].square().mean().sqrt())
            plane = torch.cat((torch.ones(len(told), 1, dtype=torch.float64), told[:, :2]), 1)
            ours, theirs = (torch.linalg.lstsq(plane, uv, driver="gelsd").solution for uv in (own, told[:, 2:]))
            for axis, name in enumerate(("xx", "yy")):
                found[f"strain {name}{of} at its places"] = float(ours[1 + axis, axis])
                found[f"strain {name}{of} by it"] = float(theirs[1 + axis, axis])
        return found

    def _vectors(self, file: Any, columns: Mapping[str, str], where: str) -> "torch.Tensor":
        """Places and displacements of a table inside the body, (q, 4)."""
        import torch

        from simengine.io.tables import read_table
        from simengine.observe.columns import take

        path = resolve_path(str(file), self.directory)
        if not path.exists():
            raise SceneError(f"{where}.vectors: {file}: no such file in {self.directory}")
        try:
            raw = read_table(path)
            table = [take(raw, columns.get(n, f"{n} [px]"), key=f"{where}.columns.{n}")[0] for n in PLACED]
        except ValueError as error:
            raise SceneError(str(error)) from None
        told = torch.stack(table, 1)
        low, high = (torch.tensor(edge, dtype=torch.float64) for edge in (self.body.lower, self.body.upper))
        told = told[~told.isnan().any(1) & ((told[:, :2] >= low) & (told[:, :2] <= high)).all(1)]
        if len(told) < 3:
            raise SceneError(f"{where}.vectors: {file}: fewer than three of its places lie in the body")
        return told

    def build(self, *, device: str | None = None) -> Any:
        """The coefficients."""
        return {"displacement": self.solve(()).field}

    def run(self, out: "RunDirectory", *, device: str | None = None, force: bool = False) -> dict[str, Any]:
        """Write the coefficients."""
        out.write("states.npz", self.build())
        return {"coefficients": self.build()["displacement"].numel()}


@dataclasses.dataclass(frozen=True)
class DisplacementRun(AbstractRun):
    """Coefficients of a spline."""

    spec: SheetSpec
    field: "torch.Tensor"

    def sample(self, ask: Ask) -> "torch.Tensor":
        """Fields at places (q, 2) and the numbers of moments (q,), from 1."""
        import torch

        if not isinstance(ask, Fields):
            raise SceneError(f"a displacement does not answer {type(ask).__name__}")
        moments = torch.ones(len(ask.x)) if ask.times is None else ask.times
        number = moments.round().long() - 1
        if bool(((number < 0) | (number >= self.spec.moments)).any()):
            raise SceneError(f"body.moments: {self.spec.moments}, and moment {int(number.max()) + 1} was observed")
        return self.at(ask.names, ask.x)[number, torch.arange(len(number))]

    def at(self, names: Sequence[str], x: "torch.Tensor") -> "torch.Tensor":
        """Values at places x (q, 2) for all moments, (moments, q, names)."""
        import torch

        cache: dict[tuple[int, int], torch.Tensor] = {}

        def derivative(dy: int, dx: int) -> "torch.Tensor":
            if (dy, dx) not in cache:
                by, bx = (self._basis(x[:, axis], axis, order) for axis, order in ((1, dy), (0, dx)))
                weights = (by[:, :, None] * bx[:, None, :]).flatten(1)
                cache[dy, dx] = weights @ self.field.flatten(1, 2)  # (moments, q, components)
            return cache[dy, dx]

        found = []
        for name in names:
            part, _, by = name.partition("_")
            if part not in NAMES or by not in ("", "x", "y"):
                raise SceneError(f"{name!r} is no field of a displacement; {nearest(name, ('u', 'v', 'u_x', 'v_y'))}")
            dy, dx = int(by == "y"), int(by == "x")
            if self.spec.divergence_free:  # u = psi_y, v = -psi_x
                turned = derivative(dy + 1, dx) if part == "u" else -derivative(dy, dx + 1)
                found.append(turned[..., 0])
            else:
                found.append(derivative(dy, dx)[..., NAMES.index(part)])
        return torch.stack(found, -1)

    def _basis(self, x: "torch.Tensor", axis: int, order: int) -> "torch.Tensor":
        """Uniform cubic B-splines, or their derivative, at x along an axis, (q, coefficients)."""
        import torch

        n = self.spec.spans()[1 - axis]
        size = (self.spec.upper[axis] - self.spec.lower[axis]) / n
        s = (x.double() - self.spec.lower[axis]) / size
        span = s.floor().clamp(0, n - 1)
        t = s - span
        if order == 0:
            parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        elif order == 1:
            parts = (-3 * (1 - t) ** 2, 9 * t**2 - 12 * t, -9 * t**2 + 6 * t + 3, 3 * t**2)
        else:
            parts = (6 * (1 - t), 18 * t - 12, -18 * t + 6, 6 * t)
        basis = torch.zeros(len(x), n + 3, dtype=torch.float64)
        places = span.long()[:, None] + torch.arange(4)
        return basis.scatter(1, places, torch.stack(parts, 1) / (6 * size**order))
