"""A scene as a least-squares problem: unknowns in, residuals over sigma out, with the columns of its Jacobian.

A run depends on the world's numbers only and is kept by their bits, so the columns of a clock, a place or a seat cost
no solve. World numbers are differentiated by differences of solves; see `docs/architecture.md`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from simengine.fit.certainty.discrepancy import renewed, told_of
from simengine.fit.certainty.process import Course, ModelError, course_of, factors_of, whitened
from simengine.fit.coordinate import Coordinate
from simengine.fit.problem import noise, priors
from simengine.fit.problem.columns import Columns
from simengine.fit.problem.prediction import Prediction
from simengine.fit.problem.reading import in_its_unit, nuisances, read, with_fields, world_of
from simengine.fit.problem.references import references
from simengine.fit.problem.runs import Runs
from simengine.fit.problem.stage import Stage
from simengine.fit.unknowns import coordinates
from simengine.scene.address import replaced
from simengine.scene.asks import Ask
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError
from simengine.scene.grammar import Scene, scene_of
from simengine.scene.instrument import AbstractInstrument, Findings, Measured
from simengine.scene.sought import Inference, Unknown

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


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
        self.scene: Scene = with_fields(dataclasses.replace(scene, **changes))  # type: ignore[arg-type]
        if not self.scene.observations:
            raise SceneError("observations: nothing was measured; add [observations.NAME] with a type and a file")
        self.measured: dict[str, Measured] = {}
        self.instruments: dict[str, AbstractInstrument] = {}
        self.doubts: list[str] = []
        for name in self.scene.observations:
            self.measured[name], self.instruments[name], doubts = read(self.scene, name)
            self.doubts += doubts
        self.coordinates: list[Coordinate] = [
            in_its_unit(c, self.scene, self.measured) for c in coordinates(self.scene, self.instruments)
        ]
        self.sought_sigmas: dict[int, list[str]] = {
            index: [name for _, name, _ in c.targets]
            for index, c in enumerate(self.coordinates)
            if all(place == "observation" and key == "sigma" for place, _, key in c.targets)
        }
        taken = {target for c in self.coordinates for target in c.targets}
        for name, instrument in self.instruments.items():
            own = nuisances(name, instrument, self.measured[name])
            self.coordinates += [c for c in own if taken.isdisjoint(c.targets)]
        told = references(self.scene, self.instruments, self.coordinates)
        self.scene = dataclasses.replace(self.scene, reference=told)
        self.sigmas: dict[str, torch.Tensor] = {}
        self.errors: dict[str, ModelError] = {}
        self._roots: dict[str, tuple[tuple[torch.Tensor, ...], tuple[Course, list[torch.Tensor]]]] = {}
        self.fraction: float = 1.0
        self.level = 0
        self._coarse = 1.0
        self.runs: Runs = self._fresh_runs()
        self.left_out: dict[str, torch.Tensor] = {}  # observation -> its mask, where rows have no answer

    def world_of(self, observation: str) -> AbstractWorld:
        """The world of the run that an observation saw."""
        return world_of(self.scene, observation)

    @property
    def worlds(self) -> Mapping[str, AbstractWorld]:
        """Run -> its world, of the runs that an observation saw."""
        names = dict.fromkeys(instrument.run for instrument in self.instruments.values())
        return {name: self.scene.runs.get(name, self.scene.world) for name in names}

    # values, runs, predictions

    def _fresh_runs(self) -> Runs:
        worlds = self.worlds
        if self._coarse != 1.0:
            worlds = {run: world.refined(1 / self._coarse) for run, world in worlds.items()}
        return Runs(worlds, {run: self._asks(run, self.instruments) for run in worlds})

    def see(self, stage: Stage) -> None:
        """Compare, and solve, as a stage does."""
        self.fraction, self.level = stage.fraction, stage.level
        if stage.coarse != self._coarse:
            self._coarse, solves = stage.coarse, self.runs.solves
            self.runs = self._fresh_runs()
            self.runs.solves = solves

    def __repr__(self) -> str:
        names = [c.name for c in self.coordinates if c.chosen]
        seen = ", ".join(f"{name} ({int(m.mask.sum())} values)" for name, m in self.measured.items())
        return f"Problem({self.scene.kind!r}: seeks {', '.join(names) or 'nothing'}; sees {seen or 'nothing'})"

    def start(self) -> torch.Tensor:
        """Z of the start, zeros (p,), float64."""
        return torch.zeros(len(self.coordinates), dtype=torch.float64)

    def values(self, z: torch.Tensor) -> torch.Tensor:
        """The numbers sought, (p,)."""
        return torch.stack([c.value(z[k]) for k, c in enumerate(self.coordinates)]) if len(z) else z

    def sought_sigma(self, index: int) -> float:
        """The standard deviation, SI, that a sought sigma has now: over the columns that it is of."""
        own = [self.sigmas[name] for name in self.sought_sigmas[index] if name in self.sigmas]
        return float(torch.cat(own).square().mean().sqrt()) if own else self.coordinates[index].start

    def estimates(self, z: torch.Tensor) -> dict[str, float]:
        """What the scene asks for at z, a sought sigma where the residuals put it."""
        values = enumerate(zip(self.coordinates, self.values(z).tolist(), strict=True))
        return {c.name: self.sought_sigma(k) if k in self.sought_sigmas else v for k, (c, v) in values if c.chosen}

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
        return self.runs.world(run, self.placed(z)[0][run])

    def run_at(self, z: torch.Tensor, run: str, asks: Sequence[Ask]) -> AbstractRun:
        """The run at z; a kept one where its numbers are the same and it holds the asks.

        Raises:
            Refused: The world has no run with these numbers.
        """
        return self.runs.at(run, self.placed(z)[0][run], asks)

    def solve_ahead(self, points: Sequence[torch.Tensor]) -> None:
        """Solve the runs of several points (p,) at once, where a world can."""
        if points:
            instruments = self.instruments_at(points[0])
            placed = [self.placed(z)[0] for z in points]
            for run in self.worlds:
                self.runs.solve_ahead(run, [numbers[run] for numbers in placed], self._asks(run, instruments))

    def _asks(self, run: str, instruments: Mapping[str, AbstractInstrument]) -> list[Ask]:
        """What the observations of a run ask of it."""
        return [ask for name, own in instruments.items() if own.run == run for ask in own.asks(self.measured[name])]

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
        return torch.where(told.isnan() | self.sigma_is_sought(name), estimated.expand_as(told), told)

    def sigma_is_sought(self, name: str) -> bool:
        """Whether the standard deviation of an observation is an unknown."""
        return any(name in names for names in self.sought_sigmas.values())

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
            scaled = whitened(scaled, which, *self._roots_of(prediction, which))
        r = scaled[which]
        if bool(r.isnan().any()):
            raise Refused(f"observations.{prediction.name}: {int(r.isnan().sum())} values have no answer")
        loss = instrument.shape_of_loss
        weight = instrument.weight if instrument.weight is not None else 1.0
        return (r if loss is None else loss.shaped(r)) * weight**0.5

    def _roots_of(self, prediction: Prediction, which: torch.Tensor) -> tuple[Course, list[torch.Tensor]]:
        """Factors of the covariance of what the model gets wrong, kept while what they depend on stays."""
        error = self.errors[prediction.name]
        of = (which, prediction.sigma, error.tensor())
        kept = self._roots.get(prediction.name)
        if kept is None or not all(torch.equal(a, b) for a, b in zip(kept[0], of, strict=True)):
            instrument = self.instruments[prediction.name]
            course = course_of(instrument, prediction.measured, which, told_of(instrument))
            kept = of, (course, factors_of(error, course, prediction.sigma, which))
            self._roots[prediction.name] = kept
        return kept[1]

    def prior_rows(self, z: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Residuals of the priors and the numbers of the coordinates that have one of their own."""
        return priors.prior_rows(self.coordinates, z, self.sought_sigmas)

    def prior_slopes(self, z: torch.Tensor) -> torch.Tensor:
        """Derivative of the rows of the priors, (prior rows, p)."""
        return priors.prior_slopes(self.coordinates, z, self.sought_sigmas)

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

        Raises:
            Refused: A world has no run with these numbers.
        """
        free = list(range(len(z))) if free is None else list(free)
        names = [n for n in self.instruments if bool(self.rows(n).any())]
        blocks = {name: self.residual_of(p) for name, p in self.predict(z, names).items()}
        r = torch.cat([*blocks.values(), self.prior_rows(z)[0]])
        columns = Columns(self, z, blocks, central=central).of(free)
        return r, torch.cat([columns, self.prior_slopes(z)[:, free]])

    def doubt(self, text: str) -> None:
        """Say once what makes an answer doubtful."""
        if text not in self.doubts:
            self.doubts.append(text)

    # what changes between stages only

    def look_at(self, rows: Mapping[str, torch.Tensor]) -> None:
        """From now on only at some rows, bool (rows,), of observations by name; others are neither asked nor judged."""
        for name, keep in rows.items():
            measured = self.measured[name]
            self.measured[name] = dataclasses.replace(measured, mask=measured.mask & keep[:, None])
        self.runs = self._fresh_runs()

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
        asks = instrument.asks(measured)
        asked = instrument.asked(measured)
        run = self.run_at(z, instrument.run, asks)
        reasons: dict[str, list[str]] = {}
        for ask, numbers_of in zip(asks, asked, strict=True):
            for row, why in run.gaps(ask).items():
                number = int(numbers_of[row])
                label = measured.row_names[number] if measured.row_names else str(number)
                reasons.setdefault(why, []).append(label)
        notes = [f"{len(rows)} rows are left out, {why}: {', '.join(rows)}" for why, rows in reasons.items()]
        mask = measured.mask & ~gone
        if not bool(mask.any()):
            raise SceneError(f"observations.{name}: no row is answered; {'; '.join(notes)[:300]}")
        self.measured[name] = dataclasses.replace(measured, mask=mask, notes=(*measured.notes, *notes))
        self.left_out[name] = mask

    def estimate_sigmas(self, z: torch.Tensor, *, told: float | None = None) -> float:
        """Renew the standard deviations that are estimated, from the residuals at z; the largest relative change.

        Args:
            z: Coordinates (p,).
            told: Where z is a best fit, the degrees of freedom that the data decide there; what its models get wrong
                is then estimated too, where that is asked. None elsewhere: as many as numbers have no prior.
        """
        change = 0.0
        predictions = self.predict(z)
        fitted = told is not None
        if told is None:
            told = sum(c.chosen and math.isnan(c.sd) for c in self.coordinates)
        total = sum(int(self.rows(name).sum()) for name in self.instruments)
        for name, instrument in self.instruments_at(z).items():
            if fitted and getattr(instrument, "discrepancy", False):
                change = max(change, renewed(self, z, name))
                continue
            sought = next((self.coordinates[k] for k, names in self.sought_sigmas.items() if name in names), None)
            if sought is None and not bool(instrument.noise(self.measured[name]).isnan().any()):
                continue
            rows = self.rows(name)
            fresh = noise.estimated(predictions[name], instrument, rows, told * int(rows.sum()) / max(total, 1), sought)
            old = self.sigmas.get(name)
            change = max(change, float((fresh / old - 1).abs().max()) if old is not None else 1.0)
            self.sigmas[name] = fresh
        return change
