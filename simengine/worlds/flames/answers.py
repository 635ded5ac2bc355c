"""What a solved flame answers: profiles against x or another field, and scalars of flames under many conditions.

Derivatives in the numbers of the world are implicit (`solve.implicit`): for a profile a tangent for each number, for a
table one transposed solve for each row, whatever the number of constants sought.
"""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem
from simengine.flame.equations.counterflow import DiffusionFlame
from simengine.flame.equations.detailed import AbstractDetailedFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.turning import TurningPoint
from simengine.scene.address import numbers, replaced
from simengine.scene.asks import Ask, Series, Table, View
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.strict import nearest
from simengine.solve.implicit import implicit_root
from simengine.solve.solution import SolveError
from simengine.worlds.flames.extinction import condition_of, end_of, key_of, slope_of
from simengine.worlds.flames.light import check_view, pictures, radiance
from simengine.worlds.flames.neighbour import moved_to

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

Row = tuple[tuple[str, float], ...]  # conditions of an experiment; () for the world as it stands
TOLD = 3  # flames that are solved cold in silence; of more each is told, since minutes may pass
SHAPE = ("flame.body.span", "flame.body.extent")  # keys that move the cells themselves
DENSE = 4  # points between two of the solution where a profile is inverted
# unit, least and largest value that is no mistake of units
PLAUSIBLE = {
    "T_in": ("K", 150.0, 1500.0),
    "T_right": ("K", 150.0, 3000.0),
    "p": ("Pa", 500.0, 5e7),
    "phi": ("1", 1e-3, 100.0),
    "flame_speed": ("m/s", 0.0, 15.0),  # only preheated hydrogen with oxygen burns faster
    "T_max": ("K", 150.0, 6000.0),
    "T": ("K", 100.0, 6000.0),
}


@dataclasses.dataclass(frozen=True)
class FlameRun(AbstractRun):
    """Solved flames, one for the world as it stands and one for each row of a table.

    Attributes:
        world: Whose flames they are, with floats.
        flames: Conditions -> the flame.
        missing: Conditions -> why there is none.
        ends: Conditions, and the one that puts the flame out -> where it goes out.
    """

    world: "FlameWorld"
    flames: Mapping[Row, FlameSolution]
    missing: Mapping[Row, str]
    ends: Mapping[tuple[Row, str], TurningPoint] = dataclasses.field(default_factory=dict)

    def holds(self, ask: Ask) -> bool:
        """Whether every flame that the ask needs was sought."""
        rows, ends = rows_of(ask), ends_of(ask)
        return all(
            row in self.missing or (row in self.flames and all((row, end) in self.ends for end in ends)) for row in rows
        )

    def gaps(self, ask: Ask) -> dict[int, str]:
        """Rows of a table without an answer, and why."""
        return {k: self.missing[row] for k, row in enumerate(rows_of(ask)) if row in self.missing}

    def sample(self, ask: Ask) -> torch.Tensor:
        """Profiles and scalars; NaN in the rows that have no flame."""
        if isinstance(ask, Series):
            found = self.flames[()]
            places = _places(found, ask)
            with torch.no_grad():
                return _profiles(found.flame, found.problem, found.state, ask, places)
        if isinstance(ask, Table):
            answers = []
            for row in rows_of(ask):
                own = self.flames.get(row)
                empty = torch.full((len(ask.names),), math.nan, dtype=torch.float64)
                with torch.no_grad():
                    answers.append(empty if own is None else self._row(own, row, ask.names))
            return torch.stack(answers)
        if isinstance(ask, View):
            found, spec = self.flames[()], self.world.flame
            assert spec.body is not None
            with torch.no_grad():
                return pictures(spec.body, radiance(spec, found.flame, found.problem, found.state), ask)
        raise SceneError(f"a flame does not answer {type(ask).__name__}")

    def _row(self, own: FlameSolution, row: Row, names: Sequence[str]) -> torch.Tensor:
        """The scalars of a row, those of the burning flame and where it goes out, (names,)."""
        values = torch.empty(len(names), dtype=torch.float64)
        for k, name in enumerate(names):
            end = condition_of(name)
            value = (
                _scalars(own.flame, own.problem, own.state, (name,))[0] if end is None else self.ends[row, end].value
            )
            values[k] = value
        return values

    def derivatives(self, ask: Ask, keys: Sequence[str]) -> torch.Tensor | None:
        """Of the answer in the numbers of the world, (..., p)."""
        values = numbers(self.world)
        theta = torch.tensor([values[key].value for key in keys], dtype=torch.float64)
        with _one_thread():
            return self._derivatives(ask, keys, theta)

    def _derivatives(self, ask: Ask, keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor | None:
        if isinstance(ask, Series):
            return self._by_tangents(self.flames[()], ask, keys, theta)
        if isinstance(ask, Table):
            rows = []
            for row in rows_of(ask):
                own = self.flames.get(row)
                if own is None:
                    rows.append(torch.full((len(ask.names), len(keys)), math.nan, dtype=torch.float64))
                else:
                    rows.append(self._by_adjoint(own, row, ask.names, keys, theta))
            return torch.stack(rows)
        if isinstance(ask, View) and not any(key.startswith(SHAPE) for key in keys):
            return self._of_pictures(self.flames[()], ask, keys, theta)
        return None

    def _flame(self, row: Row, keys: Sequence[str], theta: torch.Tensor) -> AbstractFlame:
        world = replaced(self.world, dict(zip(keys, theta, strict=True)))
        return under(world, row).build()

    def _by_tangents(self, found: FlameSolution, ask: Series, keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor:
        places = _places(found, ask)
        slopes = _slopes(found, ask, places)
        tangents = self._tangents(found, keys, theta)

        def observed(values: torch.Tensor) -> torch.Tensor:
            state = found.state + tangents @ (values - theta)
            flame = self._flame((), keys, values)
            return _profiles(flame, found.problem, state, ask, places, slopes)

        return columns(observed, theta)

    def _tangents(self, found: FlameSolution, keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor:
        """Derivatives of the state of the flame, (..., p)."""

        def residual(values: torch.Tensor) -> torch.Tensor:
            return found.problem.of(self._flame((), keys, values)).residual(found.state)

        return -_factors(found).solve(columns(residual, theta))

    def _of_pictures(self, found: FlameSolution, ask: View, keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor:
        """A picture of each derivative of the light."""
        tangents, body = self._tangents(found, keys, theta), self.world.flame.body
        assert body is not None

        def light(values: torch.Tensor) -> torch.Tensor:
            spec = replaced(self.world, dict(zip(keys, values, strict=True))).flame
            state = found.state + tangents @ (values - theta)
            return radiance(spec, self._flame((), keys, values), found.problem, state)

        return torch.stack([pictures(body, slope, ask) for slope in columns(light, theta).unbind(-1)], -1)

    def _by_adjoint(
        self, own: FlameSolution, row: Row, names: Sequence[str], keys: Sequence[str], theta: torch.Tensor
    ) -> torch.Tensor:
        ends = {k: end for k, name in enumerate(names) if (end := condition_of(name)) is not None}
        if ends:
            rows = torch.empty(len(names), len(keys), dtype=torch.float64)
            plain = [k for k in range(len(names)) if k not in ends]
            if plain:
                rows[plain] = self._by_adjoint(own, row, [names[k] for k in plain], keys, theta)
            for k, end in ends.items():
                found = self.ends[row, end]
                rows[k] = slope_of(self.world, lambda world: under(world, row), end, found, keys, theta)
            return rows
        factors = _factors(own)
        with torch.enable_grad():
            leaf = theta.clone().requires_grad_()
            flame = self._flame(row, keys, leaf)
            state = implicit_root(own.state, own.problem.of(flame).residual(own.state), factors)
            values = _scalars(flame, own.problem, state, names)
            return torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The flames with their conditions, and why others are missing."""
        state: dict[str, torch.Tensor] = {}
        for k, (row, own) in enumerate(self.flames.items()):
            state |= {f"{k}.{name}": value for name, value in {**_packed(row), **own.state_dict()}.items()}
        for k, (row, why) in enumerate(self.missing.items()):
            state |= {f"missing.{k}.{name}": value for name, value in {**_packed(row), "why": _bytes(why)}.items()}
        return state


def resumed(world: "FlameWorld", state: Mapping[str, torch.Tensor]) -> FlameRun:
    """The run that a `state_dict` is of."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        head, _, name = key.rpartition(".")
        parts.setdefault(head, {})[name] = value
    flames: dict[Row, FlameSolution] = {}
    missing: dict[Row, str] = {}
    for head in sorted(parts, key=lambda head: int(head.rpartition(".")[2])):
        own = parts[head]
        names = _text(own["names"]).splitlines()
        row = tuple(zip(names, own["values"].tolist(), strict=True))
        if head.startswith("missing."):
            missing[row] = _text(own["why"])
        else:
            flames[row] = world.solver().resumed(under(world, row).build(), own)
    return FlameRun(world, flames, missing)


def _packed(row: Row) -> dict[str, torch.Tensor]:
    values = torch.tensor([value for _, value in row], dtype=torch.float64)
    return {"names": _bytes("\n".join(name for name, _ in row)), "values": values}


def _bytes(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _text(packed: torch.Tensor) -> str:
    return bytes(packed.tolist()).decode()


def _factors(found: FlameSolution) -> Any:
    """Of the Jacobian; not kept, since a run of many rows would hold a gigabyte of them."""
    with torch.no_grad():
        return found.problem.of(found.flame.detached()).linearise(found.state)[1].factor()


def rows_of(ask: Ask) -> list[Row]:
    """The conditions of an ask, in its order."""
    if not isinstance(ask, Table):
        return [()]
    names = sorted(ask.conditions)
    columns = [ask.conditions[name].tolist() for name in names]
    return [tuple(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def ends_of(ask: Ask) -> tuple[str, ...]:
    """The conditions at whose turning point an ask looks."""
    names = ask.names if isinstance(ask, Table) else ()
    return tuple(end for name in names if (end := condition_of(name)) is not None)


def under(world: "FlameWorld", row: Row) -> "FlameWorld":
    """The world under the conditions of an experiment; `T_in` is short for `flame.T_in`.

    Raises:
        SceneError: A condition is no number of the world, or out of its range.
    """
    if not row:
        return world
    plain: dict[str, float] = {}
    mixtures: dict[str, dict[str, float]] = {}
    known = numbers(world)
    for name, value in row:
        first, _, species = name.removeprefix("flame.").partition(".")
        if first in ("composition", "fuel", "oxidiser", "agent") and species:
            mixtures.setdefault(first, {})[species] = value
            continue
        key = next((k for k in (f"flame.{name}", name) if k in known), None)
        if key is None:
            own = [k.removeprefix("flame.") for k in known if k.startswith("flame.")]
            raise SceneError(f"conditions: {name!r} is no number of this flame; {nearest(name, own)}")
        plain[key] = value
    if mixtures:
        if any(not hasattr(world.flame, name) for name in mixtures):
            raise SceneError("conditions: is no number of this flame, which has no species; choose flame.type = 'free'")
        told: dict[str, Any] = {k: {s: n for s, n in m.items() if n} for k, m in mixtures.items()}
        spec = dataclasses.replace(world.flame, **told)
        copy = object.__new__(type(world))  # the rest of the world may hold tensors
        for field in dataclasses.fields(world):
            object.__setattr__(copy, field.name, spec if field.name == "flame" else getattr(world, field.name))
        world = copy
    return replaced(world, plain) if plain else world


def check_asks(world: "FlameWorld", asks: Sequence[Ask]) -> None:
    """Refuse what this flame cannot answer, before anything is solved.

    Raises:
        SceneError: In one line with the nearest name.
    """
    known = world.scalars()
    for ask in asks:
        if isinstance(ask, View):
            check_view(world.flame, ask)
        against = (ask.against,) if isinstance(ask, Series) and ask.against != "x" else ()
        for name in (*(ask.names if isinstance(ask, Series | Table) else ()), *against):
            if isinstance(ask, Table) and (end := condition_of(name)) is not None:
                key_of(world, end)
            elif name not in known:
                raise SceneError(f"{name!r} is no scalar or field of this flame; {nearest(name, known)}")
        rows = rows_of(ask)
        if rows and rows[0]:
            try:
                under(world, rows[0])
            except SceneError as error:
                if "is no number" in str(error):
                    raise


def solve(world: "FlameWorld", asks: Sequence[Ask], *, near: AbstractRun | None) -> FlameRun:
    """The flames that the asks need; each starts from its like in `near`, else cold, else from its nearest neighbour.

    Raises:
        Refused: There is no flame of the world as it stands.
    """
    before = near if isinstance(near, FlameRun) else None
    flames: dict[Row, FlameSolution] = {}
    missing: dict[Row, str] = {}
    ends: dict[tuple[Row, str], TurningPoint] = {}
    rows = list(dict.fromkeys(row for ask in asks for row in rows_of(ask)))
    for number, row in enumerate(rows, 1):
        began = time.monotonic()
        try:
            flame = under(world, row).build()
            with _one_thread():
                found = _solved(world, flame, row, flames, before)
                for end in dict.fromkeys(end for ask in asks if row in rows_of(ask) for end in ends_of(ask)):
                    like = before.ends.get((row, end)) if before is not None else None
                    ends[row, end] = end_of(world, lambda own, row=row: under(own, row), end, found, like)  # type: ignore[misc]
                flames[row] = found
        except SceneError:
            raise
        except (SolveError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            if not row:
                raise Refused(reason) from None
            missing[row] = reason
        if before is None and len(rows) > TOLD:
            took, what = time.monotonic() - began, missing.get(row, "found")
            print(f"flame {number} of {len(rows)}: {what} ({took:.1f} s)", file=sys.stderr, flush=True)
    return FlameRun(world, flames, missing, ends)


def _solved(
    world: "FlameWorld", flame: AbstractFlame, row: Row, done: Mapping[Row, FlameSolution], before: FlameRun | None
) -> FlameSolution:
    solver = world.solver()
    like = before.flames.get(row) if before is not None else None
    if like is not None and (solved := solver.solve(flame, start=like, throw=False)).success:
        return solved.value
    # measured on GRI: a neighbour moved to other conditions takes as many steps as a cold start, or more
    solved = solver.solve(flame, throw=False)
    if not solved.success and (near := _neighbour(flame, row, done, solver)) is not None:
        from_near = solver.solve(flame, start=near, throw=False)
        solved = from_near if from_near.success else solved
    if obstacle := solved.stats["obstacle"]:
        raise SolveError(obstacle, solved)
    return solved.check("no flame").value


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small factorisations gain nothing by threads, and on a busy machine lose a factor of ten to their waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _neighbour(flame: AbstractFlame, row: Row, done: Mapping[Row, FlameSolution], solver: Any) -> FlameSolution | None:
    """The solved flame of the nearest conditions, moved to these; None where none is near."""
    own = dict(row)
    best, nearest_distance = None, 1.0
    for other, found in done.items():
        theirs = dict(other)
        if not other or theirs.keys() != own.keys():
            continue
        away = 0.0
        for name, value in own.items():
            size = max(abs(value), abs(theirs[name]))
            share = abs(value - theirs[name]) / size if size else 0.0
            away += share if "." not in name else share * size / max(sum(v for k, v in own.items() if "." in k), 1e-300)
        if away < nearest_distance:
            best, nearest_distance = found, away
    return None if best is None else moved_to(best, flame, solver)


def named_profiles(flame: AbstractFlame, y: torch.Tensor, z: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Fields by name at q points, (q, names): those of the flame, `Y_CH4`, and `X_CH4` of a real gas.

    Raises:
        SceneError: There is no field of that name.
    """
    known = flame.profiles(y, z)
    columns = []
    for name in names:
        species = name[2:]
        if name in known:
            columns.append(known[name][0])
        elif name[:2] == "Y_" and species in known:
            columns.append(known[species][0])
        elif name[:2] == "X_" and isinstance(flame, AbstractDetailedFlame) and species in flame.gas.mechanism.species:
            K = len(flame.gas.mechanism.species)
            columns.append(flame.gas.mole_fractions(y[..., -K:])[0, :, flame.gas.mechanism.index(species)])
        else:
            raise SceneError(f"{name!r} is no field of this flame; {nearest(name, list(scalars_of(flame)))}")
    return torch.stack(columns, -1)


def _profiles(
    flame: AbstractFlame,
    problem: AbstractFlameProblem,
    state: torch.Tensor,
    ask: Series,
    places: torch.Tensor,
    slopes: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Values at places (q,), (q, names); to first order at the places where the abscissa keeps its value."""
    fields, z = problem.unpack(state)
    y = problem.mesh.interpolate(fields, places[None])
    values = named_profiles(flame, y, z[:, 0, 0, 0], ask.names)
    if slopes is None or ask.against == "x":
        return values
    along, across = slopes
    level = named_profiles(flame, y, z[:, 0, 0, 0], (ask.against,))[:, 0]
    return values - across * ((level - level.detach()) / along)[:, None]


def _slopes(found: FlameSolution, ask: Series, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """d/dx of the abscissa (q,) and of the values (q, names) at places."""
    if ask.against == "x":
        return None
    step = 1e-6 * float(found.x.max() - found.x.min())
    low, high = found.x[0].min(), found.x[0].max()
    ends = [(places + s * step).clamp(low, high) for s in (-1, 1)]
    with torch.no_grad():
        both = [named_profiles(found.flame, found.at(at), found.eigenvalue, (ask.against, *ask.names)) for at in ends]
    slope = (both[1] - both[0]) / (ends[1] - ends[0])[:, None]
    return slope[:, 0], slope[:, 1:]


def _places(found: FlameSolution, ask: Series) -> torch.Tensor:
    """Where along x the abscissa has its values, (q,) [m].

    Raises:
        SceneError: Beyond the nozzles, or where the abscissa turns back.
    """
    values = ask.values.detach().to(torch.float64)
    low, high = float(found.x.min()), float(found.x.max())
    if ask.against == "x":
        if found.flame.folds and len(values) and not (low <= float(values.min()) and float(values.max()) <= high):
            raise SceneError(
                f"x goes from {float(values.min()):g} to {float(values.max()):g} m, the flame from {low:g} to {high:g} "
                "m; cut the observation by `within`, or shift it"
            )
        return values.clamp(low, high)  # beyond a free flame the gas is fresh or burnt
    x = found.x[0].unique()
    share = torch.arange(DENSE, dtype=x.dtype) / DENSE
    x = torch.cat(((x[:-1, None] + x.diff()[:, None] * share).flatten(), x[-1:]))
    with torch.no_grad():
        level = named_profiles(found.flame, found.at(x), found.eigenvalue, (ask.against,))[:, 0]
    if float(level[0]) > float(level[-1]):
        x, level = x.flip(0), level.flip(0)
    back = float((torch.cummax(level, 0).values - level).max())
    if back > 1e-3 * float(level.max() - level.min()):
        raise SceneError(f"{ask.against!r} turns back along this flame, so nothing can be told against it; use x")
    level = torch.cummax(level, 0).values
    k = torch.searchsorted(level.contiguous(), values.contiguous()).clamp(1, len(level) - 1)
    part = ((values - level[k - 1]) / (level[k] - level[k - 1]).clamp_min(1e-300)).clamp(0.0, 1.0)
    at, ends = x[k - 1] + part * (x[k] - x[k - 1]), (torch.minimum(x[k - 1], x[k]), torch.maximum(x[k - 1], x[k]))
    for _ in range(3):  # from the straight piece to the solution's own polynomial
        slopes = _slopes(found, ask, at)
        assert slopes is not None
        with torch.no_grad():
            off = named_profiles(found.flame, found.at(at), found.eigenvalue, (ask.against,))[:, 0] - values
        step = torch.where(slopes[0] == 0, 0.0, off / slopes[0])
        at = torch.minimum(torch.maximum(at - step, ends[0]), ends[1])
    return at


def _scalars(
    flame: AbstractFlame, problem: AbstractFlameProblem, state: torch.Tensor, names: Sequence[str]
) -> torch.Tensor:
    """Scalars by name, (names,)."""
    fields, z = problem.unpack(state)
    T = fields[..., flame.fields.index("T")].flatten(1)[0]
    known = {name: value[0] for name, value in flame.figures(z[:, 0, 0, 0]).items()}
    known |= {"T_max": T.max(), "thickness": _thickness(problem.mesh.x.flatten(), T)}
    for name in names:
        if name not in known:
            raise SceneError(f"{name!r} is no scalar of this flame; {nearest(name, known)}")
    return torch.stack([known[name] for name in names])


def _thickness(x: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    step = x.diff()
    inside = step > 0
    return (T.max() - T.min()) / (T.diff()[inside] / step[inside]).abs().max()


def scalars_of(flame: AbstractFlame) -> dict[str, str]:
    """Every scalar and field of a flame and its unit."""
    figures = {"flame_speed": "m/s", "mass_flux": "kg/(m^2 s)", "pressure_curvature": "Pa/m^2"}
    found = {name: figures[name] for name in flame.figures(torch.zeros(flame.batch, dtype=torch.float64))}
    found |= {"T_max": "K", "thickness": "m", "T": "K", "u": "m/s", "rho": "kg/m^3", "heat": "W/m^3"}
    if not isinstance(flame, AbstractDetailedFlame):
        return {**found, "Y_F": "1", "omega": "kg/(m^3 s)"}
    if flame.folds:
        found["V"] = "1/s"
    if isinstance(flame, DiffusionFlame):
        found["Z"] = "1"
    for name in flame.gas.mechanism.species:
        found |= {name: "1", f"Y_{name}": "1", f"X_{name}": "1"}
    return found


def columns(function: Callable[[torch.Tensor], torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """Derivatives of a function of a few numbers z (p,), shape (*shape, p).

    The vector-Jacobian product is linear in its vector u, so its derivative in u is the Jacobian, a column at a time.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad():
        value = function(z)
        if not value.requires_grad:  # a place in space is no number of the equations
            return torch.zeros(*value.shape, len(z), dtype=value.dtype)
        u = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, z, u, create_graph=True)
        columns = [torch.autograd.grad(entry, u, retain_graph=True)[0] for entry in pulled]
    return torch.stack(columns, dim=-1)
