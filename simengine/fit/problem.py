"""A scene as a least-squares problem: unknowns in, residuals over sigma out, with the columns of its Jacobian.

A run depends on the world's numbers only and is kept by their bits, so the columns of a clock, a place or a seat cost
no solve. World numbers are differentiated by differences of solves; see `docs/architecture.md`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.fit.certainty.discrepancy import ModelError, factors_of, renewed, whitened
from simengine.fit.implicit import STEP as MOVED
from simengine.fit.implicit import Derivatives, check_plausible
from simengine.fit.prediction import Prediction
from simengine.fit.unknowns import Coordinate, coordinates, spread_out
from simengine.scene.address import replaced
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError
from simengine.scene.grammar import Scene, scene_of
from simengine.scene.instrument import AbstractInstrument, Findings, Measured
from simengine.scene.sought import Inference, Unknown

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

STEP = 1e-5  # of a one-sided difference in z: truncation and the rounding of a solve in float64 balance
CENTRAL = 1e-4
Key = tuple[str, tuple[tuple[str, str], ...]]  # run, and its numbers by name to the bit
KEPT = 8  # runs kept beside those of the columns
WINDOW = 3.0  # standard deviations that a clock may move


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage of a fit sees and moves.

    Attributes:
        fraction: Of each observation's time that is compared.
        free: Numbers of the coordinates that move.
        only_world: Whether this stage holds the instruments' numbers.
        level: Halvings of the resolution of pictures.
    """

    fraction: float
    free: tuple[int, ...]
    only_world: bool
    level: int = 0


class Problem:
    """Observations against predictions.

    Args:
        scene: The scene, or a world alone.
        observations: Instruments instead of the scene's own, by name; read already, or not.
        unknowns: Unknowns instead of the scene's own.
        inference: How, instead of the scene's own.

    Attributes:
        scene: The scene.
        measured: Name -> what was read.
        instruments: Name -> the instrument, prepared.
        coordinates: What is sought; nuisances last.
        sigmas: Name -> estimated standard deviations of its columns, (columns,), where they are estimated.
        errors: Name -> what its model gets wrong, where an observation has a discrepancy and a first fit is done.

    Raises:
        SceneError: A file cannot be read, an instrument asks what the world does not answer, a key names nothing.
    """

    def __init__(
        self,
        scene: Scene | AbstractWorld,
        *,
        observations: Mapping[str, AbstractInstrument] | None = None,
        unknowns: Mapping[str, Unknown] | None = None,
        inference: Inference | None = None,
    ) -> None:
        scene = scene_of(scene) if isinstance(scene, AbstractWorld) else scene
        changes: dict[str, object] = {}
        if observations is not None:
            named = {name: dataclasses.replace(own, name=name) for name, own in observations.items()}
            changes |= {"observations": named, "instrument_of": dict.fromkeys(named, "")}
        if unknowns is not None:
            changes["unknowns"] = unknowns
        if inference is not None:
            changes["inference"] = inference
        self.scene = dataclasses.replace(scene, **changes)  # type: ignore[arg-type]
        if not self.scene.observations:
            raise SceneError("observations: nothing was measured; add [observations.NAME] with a type and a file")
        self.measured: dict[str, Measured] = {}
        self.instruments: dict[str, AbstractInstrument] = {}
        self.doubts: list[str] = []
        for name, instrument in self.scene.observations.items():
            window = self._clock_window(name)
            instrument = instrument.facing(self._world(name))
            measured = instrument.read(before=window)
            self.measured[name] = self._with_global_hold_out(name, measured)
            self.instruments[name] = spread_out(instrument.prepared(measured), measured, self.scene.unknowns)
            world = self._world(name)
            check_plausible(name, measured, world)
            for doubt in self.instruments[name].doubts(measured, world.sizes()):
                self.doubts.append(f"observations.{name}: {doubt}")
            for ask in self.instruments[name].asks(measured):
                if type(ask) not in world.answers:
                    raise SceneError(
                        f"observations.{name}: a world of kind {world.kind!r} does not answer what "
                        f"{instrument.type!r} asks ({type(ask).__name__}); it answers "  # type: ignore[attr-defined]
                        f"{', '.join(sorted(a.__name__ for a in world.answers)) or 'no instrument'}"
                    )
        self.coordinates = coordinates(self.scene, self.instruments)
        self._sought_sigmas = {
            index: [name for _, name, _ in c.targets]
            for index, c in enumerate(self.coordinates)
            if all(place == "observation" and key == "sigma" for place, _, key in c.targets)
        }
        self._add_nuisances()
        self.sigmas: dict[str, torch.Tensor] = {}
        self.errors: dict[str, ModelError] = {}
        self._roots: dict[str, tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]] = {}
        self.counts: dict[str, float] = dict.fromkeys(self.instruments, 1.0)
        self.fraction = 1.0
        self.level = 0
        self.solves = 0
        self._prepared: dict[str, AbstractWorld] = {}
        self.kept: dict[Key, AbstractRun] = {}
        self._ahead: dict[Key, AbstractRun] = {}
        self._extra: dict[str, list[Ask]] = {}
        self.left_out: dict[str, torch.Tensor] = {}  # observation -> its mask, where rows have no answer

    # what stands where

    def _world(self, observation: str) -> AbstractWorld:
        run = self.scene.observations[observation].run
        worlds = self.scene.runs or {"": self.scene.world}
        return worlds.get(run, self.scene.world)

    @property
    def worlds(self) -> Mapping[str, AbstractWorld]:
        """Run -> its world, of the runs that an observation saw."""
        names = dict.fromkeys(instrument.run for instrument in self.instruments.values())
        return {name: self.scene.runs.get(name, self.scene.world) for name in names}

    def _clock_window(self, name: str) -> float:
        """How far [s] the clock of an observation may move, by the prior of its start."""
        for key, unknown in self.scene.unknowns.items():
            if key.endswith(".start") and key.startswith(("observations.", "instruments.")) and unknown.prior:
                width = unknown.prior.normal
                return WINDOW * float(width[-1] if isinstance(width, tuple) else width or 0.0)
        return 0.0

    def _with_global_hold_out(self, name: str, measured: Measured) -> Measured:
        spec = self.scene.inference.hold_out
        names = spec if isinstance(spec, list | tuple) else []
        known = {f"observations.{n}" for n in self.scene.observations} | set(self.scene.observations)
        for entry in names:
            if entry not in known:
                raise SceneError(f"inference.hold_out: {entry!r} is no observation; known: {', '.join(sorted(known))}")
        if name in names or f"observations.{name}" in names:
            return dataclasses.replace(measured, held_out=torch.ones_like(measured.held_out))
        if isinstance(spec, float) and "time" in measured.at:
            time = measured.at["time"]
            seen = time[measured.mask.any(1)]
            cut = seen.max() - spec * (seen.max() - seen.min())
            return dataclasses.replace(measured, held_out=measured.held_out | (time > cut)[:, None])
        return measured

    def _add_nuisances(self) -> None:
        taken = {target for c in self.coordinates for target in c.targets}
        for name, instrument in self.instruments.items():
            for key, width in instrument.nuisances(self.measured[name]).items():
                for index in range(len(getattr(instrument, key))):
                    target = ("observation", name, f"{key}.{index}")
                    if target not in taken:
                        self.coordinates.append(
                            Coordinate(
                                name=f"observations.{name}.{key} {index}",
                                targets=(target,),
                                start=0.0,
                                scale=width,
                                mean=0.0,
                                sd=width,
                                chosen=False,
                            )
                        )

    # values, runs, predictions

    def start(self) -> torch.Tensor:
        """Z of the start, zeros (p,), float64."""
        return torch.zeros(len(self.coordinates), dtype=torch.float64)

    def values(self, z: torch.Tensor) -> torch.Tensor:
        """The numbers sought, (p,)."""
        return torch.stack([c.value(z[k]) for k, c in enumerate(self.coordinates)]) if len(z) else z

    def sought_sigma(self, index: int) -> float:
        """The standard deviation, SI, that a sought sigma has now: over the columns that it is of."""
        own = [self.sigmas[name] for name in self._sought_sigmas[index] if name in self.sigmas]
        return float(torch.cat(own).square().mean().sqrt()) if own else self.coordinates[index].start

    def estimates(self, z: torch.Tensor) -> dict[str, float]:
        """What the scene asks for at z, a sought sigma where the residuals put it."""
        values = enumerate(zip(self.coordinates, self.values(z).tolist(), strict=True))
        return {c.name: self.sought_sigma(k) if k in self._sought_sigmas else v for k, (c, v) in values if c.chosen}

    def placed(self, z: torch.Tensor) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
        """Run -> key -> value, and observation -> key -> value."""
        runs: dict[str, dict[str, float]] = {name: {} for name in self.worlds}
        seen: dict[str, dict[str, float]] = {name: {} for name in self.instruments}
        for c, value in zip(self.coordinates, self.values(z).tolist(), strict=True):
            for place, name, key in c.targets:
                table = runs if place == "run" else seen
                if name in table:
                    table[name][key] = value
        return runs, seen

    def instruments_at(self, z: torch.Tensor) -> dict[str, AbstractInstrument]:
        """The instruments with the numbers of z."""
        _, seen = self.placed(z)
        return {name: replaced(own, seen[name]) if seen[name] else own for name, own in self.instruments.items()}

    def world_at(self, z: torch.Tensor, run: str = "") -> AbstractWorld:
        """The world of a run with the numbers of z, its discretisation that of the stage."""
        runs, _ = self.placed(z)
        return replaced(self.prepared(run), runs[run]) if runs[run] else self.prepared(run)

    def prepared(self, run: str) -> AbstractWorld:
        """The world of a run, its discretisation frozen."""
        if run not in self._prepared:
            asks = [
                ask for name, own in self.instruments.items() if own.run == run for ask in own.asks(self.measured[name])
            ]
            self._prepared[run] = self.worlds[run].prepare(asks)
        return self._prepared[run]

    def place(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Put fields that were found into the worlds, for predictions."""
        self._prepared = {run: replaced(self.prepared(run), fields) for run in self.worlds}
        self.kept.clear()

    def run_at(self, z: torch.Tensor, run: str, asks: Sequence[Ask]) -> AbstractRun:
        """The run at z; a kept one where its numbers are the same and it holds the asks.

        Raises:
            Refused: The world has no run with these numbers.
        """
        key = self._key(z, run)
        kept = self.kept.get(key) or self._ahead.get(key)
        if kept is not None and all(kept.holds(ask) for ask in asks):
            return kept
        try:
            world = self.world_at(z, run)
        except SceneError as error:
            raise Refused(str(error)) from None
        near = next((other for (name, *_), other in reversed(self.kept.items()) if name == run), None)
        with torch.no_grad():
            solved = world.solve(asks, near=near)
        self.solves += 1
        self.kept.pop(key, None)
        self.kept[key] = solved
        while len(self.kept) > KEPT * max(len(self.worlds), 1):
            self.kept.pop(next(iter(self.kept)))
        return solved

    def _key(self, z: torch.Tensor, run: str) -> Key:
        runs, _ = self.placed(z)
        return run, tuple(sorted((name, value.hex()) for name, value in runs[run].items()))

    def _solve_together(self, points: Sequence[torch.Tensor]) -> None:
        """Solve the runs of several points at once, where a world can; what it refuses is left to be solved singly."""
        for run, world in self.worlds.items():
            if world.together < 2:
                continue
            fresh = {key: z for z in points if (key := self._key(z, run)) not in self.kept and key not in self._ahead}
            queue = list(fresh.items())
            while queue:
                part, queue = queue[: world.together], queue[world.together :]
                own = [(name, inst) for name, inst in self.instruments_at(part[0][1]).items() if inst.run == run]
                asks = [ask for name, instrument in own for ask in instrument.asks(self.measured[name])]
                try:
                    with torch.no_grad():
                        found = self.prepared(run).solve_many([self.world_at(z, run) for _, z in part], asks)
                except (Refused, SceneError):
                    return
                self.solves += len(part)
                self._ahead.update(zip((key for key, _ in part), found, strict=True))

    def predict(self, z: torch.Tensor | None = None, only: Sequence[str] | None = None) -> dict[str, Prediction]:
        """Predictions of all observations, or of some; one solve per run.

        Args:
            z: Coordinates (p,); None for the start.
            only: Names of observations.

        Raises:
            Refused: A world has no run with these numbers.
        """
        z = self.start() if z is None else z
        wanted = list(self.instruments) if only is None else list(only)
        instruments = self.instruments_at(z)
        asks = {name: instruments[name].asks(self.measured[name]) for name in wanted}
        found: dict[str, Prediction] = {}
        for run in dict.fromkeys(self.instruments[name].run for name in wanted):
            own = [name for name in wanted if self.instruments[name].run == run]
            solved = self.run_at(z, run, [ask for name in own for ask in asks[name]])
            for name in own:
                values = instruments[name].predict(solved, self.measured[name])
                found[name] = Prediction(
                    name=name,
                    values=values,
                    measured=self.measured[name],
                    sigma=self.sigma(name, instruments[name]),
                    count=self.counts[name],
                )
        return {name: found[name] for name in wanted}

    def findings(self, name: str, out: "RunDirectory", z: torch.Tensor | None = None) -> "Findings | None":
        """What an instrument tells of its run in its own words; a kept run costs no solve."""
        z = self.start() if z is None else z
        instrument, measured = self.instruments_at(z)[name], self.measured[name]
        return instrument.findings(self.run_at(z, instrument.run, instrument.asks(measured)), measured, out)

    def sigma(self, name: str, instrument: AbstractInstrument) -> torch.Tensor:
        """Standard deviations of an observation, (rows, columns): told, or estimated so far."""
        told = instrument.noise(self.measured[name])
        estimated = self.sigmas.get(name)
        if estimated is None:
            return told.nan_to_num(nan=1.0)
        return torch.where(told.isnan() | self._sigma_is_sought(name), estimated.expand_as(told), told)

    def _sigma_is_sought(self, name: str) -> bool:
        return any(name in names for names in self._sought_sigmas.values())

    # residuals and columns

    def rows(self, name: str) -> torch.Tensor:
        """The values of an observation that this stage compares, bool (rows, columns)."""
        measured = self.measured[name]
        fitted = measured.fitted
        if self.fraction < 1 and "time" in measured.at:
            time = self.instruments[name].scene_time(measured.at["time"])
            seen = time[fitted.any(1)]
            if len(seen):
                fitted = fitted & (time <= self.fraction * seen.max())[:, None]
        return fitted

    def residual_of(self, prediction: Prediction) -> torch.Tensor:
        """Rows of one observation over sigma, shaped by its loss and weighted by what counts, flat.

        Raises:
            Refused: A row that counts has no answer.
        """
        which = self.rows(prediction.name)
        instrument = self.instruments[prediction.name]
        gap = prediction.values - prediction.measured.values
        if self.level:
            gap = instrument.smoothed(gap, prediction.measured, self.level)
        scaled = gap / prediction.sigma
        if prediction.name in self.errors:
            scaled = whitened(scaled, which, self._roots_of(prediction, which))
        r = scaled[which]
        if bool(r.isnan().any()):
            raise Refused(f"observations.{prediction.name}: {int(r.isnan().sum())} values have no answer")
        loss = instrument.shape_of_loss
        weight = instrument.weight if instrument.weight is not None else 1.0
        return (r if loss is None else loss.shaped(r)) * weight**0.5

    def _roots_of(self, prediction: Prediction, which: torch.Tensor) -> list[torch.Tensor]:
        """Factors of the covariance of what the model gets wrong, kept while what they depend on stays."""
        error = self.errors[prediction.name]
        of = (which, prediction.sigma, error.tensor())
        kept = self._roots.get(prediction.name)
        if kept is None or not all(torch.equal(a, b) for a, b in zip(kept[0], of, strict=True)):
            x = next(iter(prediction.measured.at.values()))
            kept = of, factors_of(error, x, prediction.sigma, which)
            self._roots[prediction.name] = kept
        return kept[1]

    def prior_rows(self, z: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Residuals of the priors and the numbers of their coordinates."""
        rows, which = [], []
        for index, (c, value) in enumerate(zip(self.coordinates, self.values(z), strict=True)):
            if index in self._sought_sigmas:
                continue
            row = c.prior_residual(value)
            if row is not None:
                rows.append(row)
                which.append(index)
        single = torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)
        return torch.cat([single, self._joint_rows(z)]), which

    def _joint_rows(self, z: torch.Tensor) -> torch.Tensor:
        """Residuals of the priors that tie the entries of a vector."""
        groups: dict[int, list[int]] = {}
        for index, c in enumerate(self.coordinates):
            if c.joint is not None:
                groups.setdefault(id(c.joint), []).append(index)
        rows = [torch.zeros(0, dtype=torch.float64)]
        for indices in groups.values():
            joint = self.coordinates[indices[0]].joint
            assert joint is not None
            rows.append(joint.rows(torch.stack([self.coordinates[k].value(z[k]) for k in indices])))
        return torch.cat(rows)

    def prior_slopes(self, z: torch.Tensor) -> torch.Tensor:
        """Derivative of the rows of the priors, (prior rows, p)."""
        _, which = self.prior_rows(z)
        single = torch.zeros(len(which), len(z), dtype=torch.float64)
        for row, index in enumerate(which):
            single[row, index] = self._prior_slope(z, index)
        if all(c.joint is None for c in self.coordinates):
            return single
        return torch.cat([single, torch.autograd.functional.jacobian(self._joint_rows, z)])

    def residual(self, z: torch.Tensor) -> torch.Tensor:
        """All rows over sigma, those of the priors last, (rows,).

        Raises:
            Refused: A world has no run with these numbers.
        """
        predictions = self.predict(z, [n for n in self.instruments if bool(self.rows(n).any())])
        return torch.cat([*(self.residual_of(p) for p in predictions.values()), self.prior_rows(z)[0]])

    def linearise(
        self, z: torch.Tensor, free: Sequence[int] | None = None, *, central: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Residual (rows,) and Jacobian (rows, len(free)).

        Args:
            z: Coordinates (p,).
            free: Numbers of the coordinates that move; None for all.
            central: Central differences for the numbers of the world: twice the solves, for the covariance.
        """
        free = list(range(len(z))) if free is None else list(free)
        names = [n for n in self.instruments if bool(self.rows(n).any())]
        here = self.predict(z, names)
        blocks = {name: self.residual_of(here[name]) for name in names}
        starts, offset = {}, 0
        for name in names:
            starts[name] = offset
            offset += len(blocks[name])
        self._solve_together(self._points(z, free, central=central))
        priors, _ = self.prior_rows(z)
        r = torch.cat([*blocks.values(), priors])
        j = torch.zeros(len(r), len(free), dtype=torch.float64)
        done = self._grouped_columns(z, free, names, blocks, starts, j)
        done |= self._implicit_columns(z, free, names, blocks, starts, j)
        for column, index in enumerate(free):
            if index in done:
                continue
            c = self.coordinates[index]
            affected = [
                name
                for name in names
                if any(
                    (place == "run" and self.instruments[name].run == own) or (place != "run" and own == name)
                    for place, own, _ in c.targets
                )
            ]
            difference = self._difference(z, index, affected, blocks, central=central and c.of_world)
            for name in affected:
                j[starts[name] : starts[name] + len(blocks[name]), column] = difference[name]
        j[offset:] = self.prior_slopes(z)[:, free]
        self._ahead.clear()
        return r, j

    def _points(self, z: torch.Tensor, free: Sequence[int], *, central: bool) -> list[torch.Tensor]:
        """Where the differences in the numbers of the worlds are taken."""
        found = []
        for index in free:
            if self.coordinates[index].of_world:
                for step in (CENTRAL, -CENTRAL) if central else (STEP,):
                    found.append(z.clone())
                    found[-1][index] += step
        return found

    def _difference(
        self, z: torch.Tensor, index: int, names: Sequence[str], blocks: Mapping[str, torch.Tensor], *, central: bool
    ) -> dict[str, torch.Tensor]:
        step = CENTRAL if central else STEP
        unit = torch.zeros_like(z)
        unit[index] = step
        try:
            ahead = self.predict(z + unit, names)
            if not central:
                return {name: (self.residual_of(ahead[name]) - blocks[name]) / step for name in names}
            behind = self.predict(z - unit, names)
            return {n: (self.residual_of(ahead[n]) - self.residual_of(behind[n])) / (2 * step) for n in names}
        except Refused:  # at an edge of what has a run: the other side
            behind = self.predict(z - unit, names)
            return {name: (blocks[name] - self.residual_of(behind[name])) / step for name in names}

    def _grouped_columns(
        self,
        z: torch.Tensor,
        free: Sequence[int],
        names: Sequence[str],
        blocks: Mapping[str, torch.Tensor],
        starts: Mapping[str, int],
        j: torch.Tensor,
    ) -> set[int]:
        """Columns of vectors whose entries each move rows of their own: three evaluations for all seats."""
        done: set[int] = set()
        for name in names:
            own: dict[str, list[tuple[int, int]]] = {}
            for index, c in enumerate(self.coordinates):
                if index in free and len(c.targets) == 1 and c.targets[0][:2] == ("observation", name) and not c.chosen:
                    key, _, last = c.targets[0][2].rpartition(".")
                    own.setdefault(key, []).append((index, int(last)))
            for key, entries in own.items():
                groups = self.instruments[name].groups(key, self.measured[name])
                if groups is None:
                    continue
                selected = groups[:, None].expand_as(self.rows(name))[self.rows(name)]
                for axis in range(3):
                    moved = [(index, entry) for index, entry in entries if entry % 3 == axis]
                    unit = torch.zeros_like(z)
                    unit[[index for index, _ in moved]] = STEP
                    ahead = self.residual_of(self.predict(z + unit, [name])[name])
                    slope = (ahead - blocks[name]) / STEP
                    for index, entry in moved:
                        mine = selected == entry // 3
                        part = j[starts[name] : starts[name] + len(slope), free.index(index)]
                        part[mine] = slope[mine]
                        done.add(index)
        return done

    def _implicit_columns(
        self,
        z: torch.Tensor,
        free: Sequence[int],
        names: Sequence[str],
        blocks: Mapping[str, torch.Tensor],
        starts: Mapping[str, int],
        j: torch.Tensor,
    ) -> set[int]:
        """Columns of numbers of worlds whose runs know their derivatives: no solve at all."""
        rates: dict[int, float] = {}
        own: dict[str, list[str]] = {}
        for index in free:
            c = self.coordinates[index]
            if all(place == "run" for place, _, _ in c.targets):
                rates[index] = self._rate(z, index)
                for _, run, key in c.targets:
                    own.setdefault(run, []).append(key)
        instruments = self.instruments_at(z)
        known: dict[str, Derivatives] = {}
        for name in names:
            run, instrument = self.instruments[name].run, instruments[name]
            if run not in own:
                continue
            asks = instrument.asks(self.measured[name])
            found = known.setdefault(run, Derivatives(self.run_at(z, run, asks), list(dict.fromkeys(own[run]))))
            if any(found.of(ask) is None for ask in asks):
                return set()
        for index, rate in rates.items():
            for name in names:
                run = self.instruments[name].run
                keys = [key for _, where, key in self.coordinates[index].targets if where == run]
                if not keys:
                    continue
                moved = known[run].moved(dict.fromkeys(keys, rate), MOVED)
                ahead = Prediction(
                    name=name,
                    values=instruments[name].predict(moved, self.measured[name]),
                    measured=self.measured[name],
                    sigma=self.sigma(name, instruments[name]),
                )
                at = slice(starts[name], starts[name] + len(blocks[name]))
                j[at, free.index(index)] = (self.residual_of(ahead) - blocks[name]) / MOVED
        return set(rates)

    def _rate(self, z: torch.Tensor, index: int) -> float:
        """Change of a value per change of its coordinate."""
        with torch.enable_grad():
            own = z[index].detach().requires_grad_()
            return float(torch.autograd.grad(self.coordinates[index].value(own), own)[0])

    def _prior_slope(self, z: torch.Tensor, index: int) -> float:
        with torch.enable_grad():
            own = z[index].detach().requires_grad_()
            row = self.coordinates[index].prior_residual(self.coordinates[index].value(own))
            assert row is not None
            return float(torch.autograd.grad(row, own)[0])

    # what changes between stages only

    def settle(self, z: torch.Tensor) -> None:
        """Let instruments take from a run at z what they need once: where marks first seen late sit.

        Rows that the world does not answer are left out for good, and named.

        Raises:
            SceneError: An observation has no row that is answered.
        """
        instruments = self.instruments_at(z)
        for name, prediction in self.predict(z).items():
            gone = prediction.values.isnan() & self.measured[name].mask
            if bool(gone.any()):
                self._leave_out(name, gone, z, instruments[name])
        for name, instrument in instruments.items():
            settled = getattr(instrument, "settled", None)
            if settled is None:
                continue
            run = self.run_at(z, instrument.run, instrument.asks(self.measured[name]))
            self.instruments[name] = dataclasses.replace(
                self.instruments[name], seen=settled(run, self.measured[name]).seen
            )  # type: ignore[call-arg]

    def _leave_out(self, name: str, gone: torch.Tensor, z: torch.Tensor, instrument: AbstractInstrument) -> None:
        measured = self.measured[name]
        asked = measured.mask.any(1).nonzero()[:, 0].tolist()
        asks = instrument.asks(measured)
        run = self.run_at(z, instrument.run, asks)
        reasons: dict[str, list[str]] = {}
        for ask in asks:
            for row, why in run.gaps(ask).items():
                label = measured.row_names[asked[row]] if measured.row_names else str(asked[row])
                reasons.setdefault(why, []).append(label)
        notes = [f"{len(rows)} rows are left out, {why}: {', '.join(rows)}" for why, rows in reasons.items()]
        mask = measured.mask & ~gone
        if not bool(mask.any()):
            raise SceneError(f"observations.{name}: no row is answered; {'; '.join(notes)[:300]}")
        self.measured[name] = dataclasses.replace(measured, mask=mask, notes=(*measured.notes, *notes))
        self.left_out[name] = mask

    def estimate_sigmas(self, z: torch.Tensor, *, fitted: bool = False) -> float:
        """Renew the standard deviations that are estimated, from the residuals at z; the largest relative change.

        Args:
            z: Coordinates (p,).
            fitted: Whether z is a best fit: what its models get wrong is then estimated too, where that is asked.
        """
        change = 0.0
        predictions = self.predict(z)
        for name, instrument in self.instruments_at(z).items():
            if fitted and getattr(instrument, "discrepancy", False):
                change = max(change, renewed(self, z, name))
                continue
            told = instrument.noise(self.measured[name])
            sought = [k for k, names in self._sought_sigmas.items() if name in names]
            if not sought and not bool(told.isnan().any()):
                continue
            which = self.rows(name)
            gap = torch.where(which, predictions[name].values - self.measured[name].values, torch.nan)
            old = self.sigmas.get(name)
            new = []
            for column in range(gap.shape[1]):
                own = gap[:, column][which[:, column]]
                degrees = max(len(own) - len([c for c in self.coordinates if c.chosen]) / max(gap.shape[1], 1), 1.0)
                total = float(own.square().sum())
                scale = float(self.measured[name].values[:, column].nan_to_num().abs().max())
                least = max(instrument.least_sigma(), 1e-9 * scale + 1e-300)
                new.append(_spread(total, degrees, self.coordinates[sought[0]] if sought else None, least))
            fresh = torch.tensor(new, dtype=torch.float64)
            change = max(change, float((fresh / old - 1).abs().max()) if old is not None else 1.0)
            self.sigmas[name] = fresh
        return change

    def count_rows(self, predictions: Mapping[str, Prediction]) -> None:
        """Renew the share of the rows that count as independent, by the correlation of the residuals."""
        for name, prediction in predictions.items():
            which = self.rows(name)
            r = torch.where(which, prediction.residual, torch.nan)
            self.counts[name] = 1.0 / self.instruments[name].rows_as_one(r, prediction.measured)


def _spread(total: float, degrees: float, sought: Coordinate | None, least: float) -> float:
    """The standard deviation that makes a sum of squares most likely, with the prior of one that is sought."""
    import math

    plain = max(math.sqrt(total / degrees), least)
    if sought is None or math.isnan(sought.sd):
        return plain
    mean = sought.mean if sought.logarithmic else math.log(max(sought.mean, least))
    sd = sought.sd if sought.logarithmic else sought.sd / max(sought.mean, least)
    u = math.log(plain)
    for _ in range(50):  # Newton on the log posterior in u = ln sigma
        slope = -degrees + total * math.exp(-2 * u) - (u - mean) / sd**2
        curvature = -2 * total * math.exp(-2 * u) - 1 / sd**2
        step = max(-1.0, min(1.0, slope / curvature))
        u -= step
        if abs(step) < 1e-10:
            break
    return max(math.exp(u), least)
