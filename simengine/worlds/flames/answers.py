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

from simengine.flame.equations.base import AbstractFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.turning import TurningPoint
from simengine.scene.address import numbers, replaced
from simengine.scene.asks import Ask, Series, Table, View
from simengine.scene.base import AbstractRun, Refused, SceneError
from simengine.scene.strict import nearest
from simengine.solve.implicit import implicit_root
from simengine.solve.solution import SolveError
from simengine.worlds.flames.conditions import Row, as_bytes, ends_of, packed, rows_of, text, under, unpacked
from simengine.worlds.flames.ends import burns_not, end_of, is_end, key_of, slope_of
from simengine.worlds.flames.light import check_view, pictures, radiance
from simengine.worlds.flames.neighbour import moved_to, neighbour_of
from simengine.worlds.flames.reactors import (
    Found,
    Reactor,
    Vessel,
    by_vessel,
    holds_gas,
    ignitions,
    react,
    read,
    slopes_within,
    vessel_of,
)
from simengine.worlds.flames.readings import columns, places_of, profiles, scalars, slopes_along

if TYPE_CHECKING:
    from simengine.worlds.flames.world import FlameWorld

TOLD = 3  # flames that are solved cold in silence; of more each is told, since minutes may pass
CLOSE, FEW = 0.15, 60  # the share by which conditions may differ for a neighbour to come first; its Jacobians on a grid
HASTY = 20  # Jacobians of each cold guess of a flame to which the last one of its row does not lead
SHAPE = ("flame.body.span", "flame.body.extent")  # keys that move the cells themselves


@dataclasses.dataclass(frozen=True)
class FlameRun(AbstractRun):
    """Solved flames, one for the world as it stands and one for each row of a table.

    Attributes:
        world: Whose flames they are, with floats.
        flames: Conditions -> the flame.
        missing: Conditions -> why there is none.
        ends: Conditions, and `extinction(KEY)` or `ignition(KEY)` -> the turning point.
        reactors: Conditions, and a vessel -> what became of the fresh gas there, or why nothing did.
        last: Conditions without a flame -> the one that they had at other numbers, from which the next is sought.
    """

    world: "FlameWorld"
    flames: dict[Row, FlameSolution]
    missing: dict[Row, str]
    ends: dict[tuple[Row, str], TurningPoint] = dataclasses.field(default_factory=dict)
    reactors: dict[tuple[Row, Vessel], Found | str] = dataclasses.field(default_factory=dict)
    last: dict[Row, FlameSolution] = dataclasses.field(default_factory=dict)

    def holds(self, ask: Ask) -> bool:
        """Whether every flame and every reactor that the ask needs was sought."""
        rows, ends, (burns, vessels) = rows_of(ask), ends_of(ask), _parts(ask)
        return all((row, vessel) in self.reactors for row in rows for vessel in vessels) and all(
            row in self.missing or ((not burns or row in self.flames) and all((row, end) in self.ends for end in ends))
            for row in rows
        )

    def gaps(self, ask: Ask) -> dict[int, str]:
        """Rows of a table without an answer, and why."""
        burns, vessels = _parts(ask)
        found: dict[int, str] = {}
        for k, row in enumerate(rows_of(ask)):
            whys = [self.missing.get(row)] if burns or ends_of(ask) else []
            whys += [why for v in vessels if isinstance(why := self.reactors.get((row, v)), str)]
            if told := [why for why in whys if why is not None]:
                found[k] = told[0]
        return found

    def sample(self, ask: Ask) -> torch.Tensor:
        """Profiles and scalars; NaN in the rows that have no flame."""
        if isinstance(ask, Series):
            found = self.flames[()]
            places = places_of(found, ask)
            with torch.no_grad():
                return profiles(found.flame, found.problem, found.state, ask, places)
        if isinstance(ask, Table):
            answers = []
            for row in rows_of(ask):
                with torch.no_grad():
                    answers.append(self._row(row, ask.names))
            return torch.stack(answers)
        if isinstance(ask, View):
            found, spec = self.flames[()], self.world.flame
            assert spec.body is not None
            with torch.no_grad():
                return pictures(spec.body, radiance(spec, found.flame, found.problem, found.state), ask)
        raise SceneError(f"a flame does not answer {type(ask).__name__}")

    def _row(self, row: Row, names: Sequence[str]) -> torch.Tensor:
        """The scalars of a row, (names,); NaN of a flame or vessel that there is none of."""
        values = torch.full((len(names),), math.nan, dtype=torch.float64)
        own = self.flames.get(row)
        for vessel, which in by_vessel(names).items():
            found = self.reactors.get((row, vessel))
            if found is not None and not isinstance(found, str):
                values[which] = read(found, *_fresh(self.world, row), [names[k] for k in which])
        for k, name in enumerate(names):
            if (row, name) in self.ends:
                values[k] = self.ends[row, name].value
            elif vessel_of(name) is None and own is not None:
                values[k] = scalars(own.flame, own.problem, own.state, (name,))[0]
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
            return torch.stack([self._row_slopes(row, ask.names, keys, theta) for row in rows_of(ask)])
        if isinstance(ask, View) and not any(key.startswith(SHAPE) for key in keys):
            return self._of_pictures(self.flames[()], ask, keys, theta)
        return None

    def _flame(self, row: Row, keys: Sequence[str], theta: torch.Tensor) -> AbstractFlame:
        world = replaced(self.world, dict(zip(keys, theta, strict=True)))
        return _equations(world, row)

    def _by_tangents(self, found: FlameSolution, ask: Series, keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor:
        places = places_of(found, ask)
        slopes = slopes_along(found, ask, places)
        tangents = self._tangents(found, keys, theta)

        def observed(values: torch.Tensor) -> torch.Tensor:
            state = found.state + tangents @ (values - theta)
            flame = self._flame((), keys, values)
            return profiles(flame, found.problem, state, ask, places, slopes)

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

    def _row_slopes(self, row: Row, names: Sequence[str], keys: Sequence[str], theta: torch.Tensor) -> torch.Tensor:
        """Derivatives of the scalars of a row, (names, p); NaN where there is no answer."""
        rows = torch.full((len(names), len(keys)), math.nan, dtype=torch.float64)
        own = self.flames.get(row)
        plain = []
        for vessel, which in by_vessel(names).items():
            lit = self.reactors.get((row, vessel))
            if lit is not None and not isinstance(lit, str):
                asked = [names[k] for k in which]
                rows[which] = slopes_within(self.world, lambda own: _fresh(own, row), lit, asked, keys, theta)
        for k, name in enumerate(names):
            if vessel_of(name) is not None:
                continue
            if (row, name) in self.ends:
                found = self.ends[row, name]
                rows[k] = slope_of(self.world, lambda world: under(world, row), name, found, keys, theta)
            elif own is not None:
                plain.append(k)
        if own is not None and plain:
            rows[plain] = self._by_adjoint(own, row, [names[k] for k in plain], keys, theta)
        return rows

    def _by_adjoint(
        self, own: FlameSolution, row: Row, names: Sequence[str], keys: Sequence[str], theta: torch.Tensor
    ) -> torch.Tensor:
        factors = _factors(own)
        with torch.enable_grad():
            leaf = theta.clone().requires_grad_()
            flame = self._flame(row, keys, leaf)
            state = implicit_root(own.state, own.problem.of(flame).residual(own.state), factors)
            values = scalars(flame, own.problem, state, names)
            return torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in values])

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The flames with their conditions, and why others are missing."""
        state: dict[str, torch.Tensor] = {}
        for k, (row, own) in enumerate(self.flames.items()):
            state |= {f"{k}.{name}": value for name, value in {**packed(row), **own.state_dict()}.items()}
        for k, (row, why) in enumerate(self.missing.items()):
            like = {} if row not in self.last else self.last[row].state_dict()
            state |= {f"missing.{k}.{name}": v for name, v in {**packed(row), "why": as_bytes(why), **like}.items()}
        return state


def resumed(world: "FlameWorld", state: Mapping[str, torch.Tensor]) -> FlameRun:
    """The run that a `state_dict` is of."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        head, _, name = key.rpartition(".")
        parts.setdefault(head, {})[name] = value
    flames: dict[Row, FlameSolution] = {}
    missing: dict[Row, str] = {}
    last: dict[Row, FlameSolution] = {}
    for head in sorted(parts, key=lambda head: int(head.rpartition(".")[2])):
        own = parts[head]
        row = unpacked(own)
        if head.startswith("missing."):
            missing[row] = text(own["why"])
        if "state" in own:
            into = last if row in missing else flames
            into[row] = world.solver().resumed(_equations(world, row), own)
    return FlameRun(world, flames, missing, last=last)


def _fresh(world: "FlameWorld", row: Row) -> tuple[AbstractFlame, Reactor]:
    """The flame whose fresh gas is in the vessels, and these."""
    return _equations(world, row), under(world, row).reactor


def _parts(ask: Ask) -> tuple[bool, tuple[Vessel, ...]]:
    """Whether an ask needs a flame, and the vessels that it needs."""
    if not isinstance(ask, Table):
        return True, ()
    burns = any(vessel_of(name) is None and not burns_not(name) for name in ask.names)
    return burns, tuple(by_vessel(ask.names))


def _equations(world: "FlameWorld", row: Row) -> AbstractFlame:
    """Of the world as it stands with all its species, since these may be asked for; of a row with those it can make."""
    return under(world, row).reduced() if row else world.build()


def _factors(found: FlameSolution) -> Any:
    """Of the Jacobian; not kept, since a run of many rows would hold a gigabyte of them."""
    with torch.no_grad():
        return found.problem.of(found.flame.detached()).linearise(found.state)[1].factor()


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
            if isinstance(ask, Table) and is_end(name):
                key_of(world, name)
            elif isinstance(ask, Table) and vessel_of(name) is not None and not holds_gas(world.build()):
                raise SceneError(f"{name!r} is asked of one fresh gas with a mechanism; choose flame.type = 'free'")
            elif isinstance(ask, Table) and vessel_of(name) is not None and world.gas and world.gas.rate_law:
                raise SceneError(f"gas.rate_law: is a law of flames, and {name!r} is of a vessel; remove one of them")
            elif name not in known:
                raise SceneError(f"{name!r} is no scalar or field of this flame; {nearest(name, known)}")
        rows = rows_of(ask)
        if rows and rows[0]:
            try:
                under(world, rows[0])
            except SceneError as error:
                if "is no number" in str(error):
                    raise


def solve(
    world: "FlameWorld",
    asks: Sequence[Ask],
    *,
    near: AbstractRun | None,
    keep: Callable[[Row, FlameSolution], None] | None = None,
) -> FlameRun:
    """The flames that the asks need; each starts from its like in `near`, else from a close neighbour, else cold.

    Args:
        world: Whose flames.
        asks: What is asked of them.
        near: A run of about the same numbers.
        keep: Told of every flame of a row as it is found.

    Raises:
        Refused: There is no flame of the world as it stands.
    """
    before = near if isinstance(near, FlameRun) else None
    run = FlameRun(world, {}, {})
    rows = list(dict.fromkeys(row for ask in asks for row in rows_of(ask)))
    _ignite(run, [row for row in rows if any("closed" in _parts(ask)[1] and row in rows_of(ask) for ask in asks)])
    for number, row in enumerate(rows, 1):
        began = time.monotonic()
        own = [ask for ask in asks if row in rows_of(ask)]
        ends = tuple(dict.fromkeys(end for ask in own for end in ends_of(ask)))
        told = []
        if (burns := any(_parts(ask)[0] for ask in own)) or ends:
            _burn(run, row, ends, before, keep if burns else None, burns=burns)
            told.append(run.missing.get(row, "found"))
        for vessel in dict.fromkeys(v for ask in own for v in _parts(ask)[1]):
            if (row, vessel) not in run.reactors:
                _react(run, row, vessel)
            told.append(why if isinstance(why := run.reactors[row, vessel], str) else f"{vessel} vessel burnt")
        if (before is None or keep is not None) and len(rows) > TOLD:
            took = time.monotonic() - began
            print(f"row {number} of {len(rows)}: {', '.join(told)} ({took:.1f} s)", file=sys.stderr, flush=True)
    return run


def _burn(
    run: FlameRun,
    row: Row,
    ends: Sequence[str],
    before: FlameRun | None,
    keep: Callable[[Row, FlameSolution], None] | None,
    *,
    burns: bool,
) -> None:
    """The flame of a row, where it goes out and where it lights, or why there is none, into the run."""
    world, flames, turns = run.world, dict(run.flames), dict[tuple[Row, str], TurningPoint]()
    try:
        with _one_thread():
            found = _solved(world, _equations(world, row), row, flames, before) if burns else None
            for end in ends:
                like = before.ends.get((row, end)) if before is not None else None
                turns[row, end] = end_of(world, lambda own: under(own, row), end, found, like)
        run.ends.update(turns)
        if found is not None:
            run.flames[row] = found
            if keep is not None and row:
                keep(row, found)
    except SceneError:
        raise
    except (SolveError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if not row:
            raise Refused(reason) from None
        run.missing[row] = reason
        if (last := _like(before, row)) is not None:
            run.last[row] = last


def _like(before: FlameRun | None, row: Row) -> FlameSolution | None:
    """The flame of a row at the numbers of a run, or the last one that it had before that."""
    return None if before is None else before.flames.get(row, before.last.get(row))


def _ignite(run: FlameRun, rows: Sequence[Row]) -> None:
    """The ignitions of rows, or why nothing ignites, into the run; a row that has no fresh gas is left to `_react`."""
    fresh: dict[Row, tuple[AbstractFlame, Reactor]] = {}
    for row in rows:
        with contextlib.suppress(SolveError, ValueError, RuntimeError):
            fresh[row] = _fresh(run.world, row)
    with _one_thread():
        found = ignitions(list(fresh.values()))
    for row, own in zip(fresh, found, strict=True):
        run.reactors[row, "closed"] = str(own).splitlines()[0] if isinstance(own, Exception) else own


def _react(run: FlameRun, row: Row, vessel: Vessel) -> None:
    """What becomes of the fresh gas of a row in a vessel, or why nothing does, into the run."""
    try:
        with _one_thread():
            run.reactors[row, vessel] = react(vessel, *_fresh(run.world, row))
    except SceneError:
        raise
    except (SolveError, ValueError, RuntimeError) as error:
        run.reactors[row, vessel] = str(error).splitlines()[0]


def _solved(
    world: "FlameWorld", flame: AbstractFlame, row: Row, done: Mapping[Row, FlameSolution], before: FlameRun | None
) -> FlameSolution:
    solver = world.solver()
    few, like = dataclasses.replace(solver, max_iterations=FEW), _like(before, row)
    if like is not None and (solved := few.solve(flame, start=like, throw=False)).success:
        return solved.value
    near = neighbour_of(flame, row, done)
    if near is not None and near[1] < CLOSE and (solved := few.solve(flame, start=near[0], throw=False)).success:
        return solved.value
    if before is not None and row in before.missing and like is None:
        raise RuntimeError(before.missing[row])  # a fit would seek it by hundreds of Jacobians in each of its rounds
    if like is not None:  # a search then takes a shorter step, which costs less than hundreds of Jacobians
        solver = dataclasses.replace(solver, max_iterations=HASTY)
    solved = solver.solve(flame, throw=False)
    if not solved.success and near is not None:
        from_near = solver.solve(flame, start=moved_to(near[0], flame, solver), throw=False)
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
