"""Marks on a body whose positions were tracked: motion capture, digital image correlation, particles of a twin."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from simengine.io.tables import file_hash
from simengine.observe.camera import Camera
from simengine.observe.instruments.marks.plan import Plan
from simengine.observe.instruments.marks.seats import AXES, Seats, first_seen
from simengine.observe.instruments.marks.specs import MarkedPoints, Marker, Times
from simengine.observe.motion_files import ROLES, TrackedMotion, read_motion, read_places, write_motion, write_places
from simengine.observe.place import Place
from simengine.scene.asks import Ask, Tracks
from simengine.scene.base import AbstractRun, AbstractWorld, Refused, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import DiscrepancySpec
from simengine.scene.strict import Only, Range, Vector, nearest
from simengine.solve.rotation import nearest_rigid_motion

MANY = 100  # marks: of so many it does not matter where each one sits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Markers(AbstractInstrument):
    """Tracked points.

    Attributes:
        on: Name of the body that carries them; None for the only one.
        columns: time, name, x, y, z -> column of the file; `pattern` for files with a column for each mark and axis, as
            in "{name}_{axis}_px".
        unit: Of positions in a file whose columns do not say.
        markers: Marks that count, by their name in the file; all of them where none is named.
        at: A table with the columns name, x, y, z: where marks nominally sit on the undeformed body [m].
        place: How the file's coordinates lie in the world.
        camera: That sees them: then the file holds pixels, u to the right, v down.
        within: { time = [from, to] } that is compared, in the file's time [s].
        seats: Where each mark sits on the body, beside what was seen or told [m]; set by the loader.
        seat_sigma: How well that is known [m]; None for the sigma of one frame.
        points: Which points `simengine observe` marks.
        times: When it looks.
        gaps: Share of the values that it leaves out, in runs of some frames [1].
        discrepancy: Whether the model may be off, by an error that is smooth over the places of the marks and over time
            and that the bars then hold: true, or { over, sd, length, time } of what is known of it [unit of the value].
    """

    type: Literal["markers"] = "markers"
    on: str | None = None
    columns: Annotated[dict[str, str], Only(*ROLES)] = dataclasses.field(default_factory=dict)
    unit: str = ""
    markers: dict[str, Marker] = dataclasses.field(default_factory=dict)
    at: Path | None = None
    place: Place = dataclasses.field(default_factory=Place)
    camera: Camera | None = None
    within: Annotated[dict[str, tuple[Any, Any]], Only("time")] = dataclasses.field(default_factory=dict)
    seat_sigma: float | None = None
    points: MarkedPoints = dataclasses.field(default_factory=MarkedPoints)
    times: Times = dataclasses.field(default_factory=Times)
    gaps: Annotated[float, Range(ge=0, lt=1)] = 0.0
    discrepancy: DiscrepancySpec | None = None
    seats: tuple[float, ...] = dataclasses.field(default=(), metadata={"addressed": True})
    seen: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)
    centered: tuple[str | None, ...] = dataclasses.field(default=(), metadata={"internal": True}, repr=False)
    deformed: bool = dataclasses.field(default=False, metadata={"internal": True}, repr=False)

    def facing(self, world: AbstractWorld) -> "Markers":
        """Knows which bodies have a centre that marks follow, and whether they are deformed at the start."""
        bodies = dict.fromkeys((self.on, *(marker.on or self.on for marker in self.markers.values())))
        centered = tuple(body for body in bodies if world.has_center(body))
        return dataclasses.replace(self, centered=centered, deformed=world.undeformed() is not world)

    def _told(self, name: str) -> Vector | None:
        """Where a mark nominally sits."""
        at = self.markers.get(name, Marker()).at
        if at is not None or self.at is None:
            return at
        try:
            return read_places(self.at).get(name)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.at: {error}") from None

    def _at_center(self, name: str) -> bool:
        return self._told(name) is None and (self.markers.get(name, Marker()).on or self.on) in self.centered

    def read(self, *, before: float = 0.0) -> Measured:
        """Rows are frame by frame, within a frame mark by mark."""
        try:
            motion = read_motion(self.path, columns=self.columns, unit=self.unit, names=tuple(self.markers))
        except SceneError:
            raise
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None
        if unknown := set(self.markers) - set(motion.names):
            name = sorted(unknown)[0]
            raise SceneError(
                f"observations.{self.name}.markers: {name!r} is not in the file; {nearest(name, motion.names)}"
            )
        if (self.camera is None) != (motion.axes != ("u", "v")):
            what = "pixels u and v need a `camera`" if self.camera is None else "a `camera` sees pixels, u and v"
            raise SceneError(f"observations.{self.name}: the file holds {', '.join(motion.axes)}; {what}")
        if "time" in self.within:  # frames that come after are never asked for: the run may end before them
            asked = motion.times <= float(self.within["time"][1])
            motion = dataclasses.replace(motion, times=motion.times[asked], positions=motion.positions[asked])
        frames, count, axes = motion.positions.shape
        times = motion.times[:, None].expand(frames, count).reshape(-1)
        values = motion.positions.reshape(frames * count, axes)
        keep = (times - self.start) * self.clock_rate >= -before
        notes = [f"{int((~keep).sum()) // count} frames before the start are left out"] if bool((~keep).any()) else []
        if "time" in self.within:
            low, high = self.within["time"]
            keep &= (times >= float(low)) & (times <= float(high))
        keep &= ~self._seat_rows(motion, keep)
        mask, out = self._masked(values, motion.axes, times, keep)
        places = {self.at.name: file_hash(self.at)} if self.at is not None and self.at.is_file() else {}
        return Measured(
            values=values,
            names=motion.axes,
            units=("m" if self.camera is None else "px",) * axes,
            at={"time": times},
            mask=mask,
            held_out=out,
            sigma=torch.full_like(values, torch.nan),
            labels=motion.names,
            files={self.path.name: motion.sha256, **places},
            notes=tuple(notes),
        )

    def _seat_rows(self, motion: TrackedMotion, keep: torch.Tensor) -> torch.Tensor:
        """Rows that tell where a mark sits, and so are no row of the fit."""
        frames, count, _ = motion.positions.shape
        used = torch.zeros(frames, count, dtype=torch.bool)
        for k, name in enumerate(motion.names):
            told = self._told(name) is not None or self._at_center(name)
            if not told or self.place.register:
                rows = (keep.reshape(frames, count)[:, k] & ~motion.positions[:, k].isnan().any(1)).nonzero()[:, 0]
                used[rows[:1], k] = True
        return used.reshape(-1)

    def prepared(self, measured: Measured) -> "Markers":
        """Registered, where asked, and with the place in the world where each mark is seen first."""
        nominal = [self._told(name) for name in measured.labels]
        centers = torch.tensor([self._at_center(name) for name in measured.labels])
        if self.camera is None:
            first, when = first_seen(measured, self.start)
        else:
            first, when = torch.full((len(nominal), 3), torch.nan, dtype=torch.float64), [None] * len(nominal)
        place = self.place
        if place.register:
            known = [k for k, at in enumerate(nominal) if at is not None and not bool(first[k].isnan().any())]
            if len(known) < 3:
                raise SceneError(
                    f"observations.{self.name}.place.register: needs three marks with `at` that are seen at the start"
                )
            target = torch.tensor([nominal[k] for k in known], dtype=torch.float64)
            turn, shift = nearest_rigid_motion(place.base_to_world(first[known]), target)
            place = place.with_registration(turn, shift)
            here = place.to_world(first)
        else:
            here = place.to_world(first)
            for k, at in enumerate(nominal):
                if at is not None:
                    here[k] = torch.tensor(at, dtype=torch.float64)
        here = torch.where(centers[:, None], 0.0, here)
        if bool(here.isnan().any()):
            name = measured.labels[int(here.isnan().any(1).nonzero()[0])]
            raise SceneError(f"observations.{self.name}.markers: where is {name!r}? It is not seen; give it an `at`")
        zero = (0.0,) * here.numel()
        told = [at is not None or bool(centers[k]) for k, at in enumerate(nominal)]
        late = [-math.inf if w is None or (told[k] and not place.register) else w for k, w in enumerate(when)]
        places = torch.where(centers[:, None], torch.nan, here)
        seen = Seats(here, torch.tensor(late, dtype=torch.float64), places)
        return dataclasses.replace(self, place=place, seats=self.seats or zero, seen=seen, camera=self._opened())

    def _opened(self) -> Camera | None:
        """The camera with what its file tells.

        Raises:
            SceneError: Nobody says how large the picture is.
        """
        if self.camera is None:
            return None
        size = (self.camera.height or 0, self.camera.width or 0)
        if 0 in size and not self.camera.file:
            raise SceneError(
                f"observations.{self.name}.camera: width and height say how large the picture is that the pixels are of"
            )
        return self.camera.opened(self.directory, size)

    def settled(self, run: AbstractRun, measured: Measured) -> "Markers":
        """Marks first seen on a deformed body sit where, by this run, they must have sat to be seen there then."""
        assert self.seen is not None
        times = self.scene_time(self.seen.times)
        moved = self.seen.times.isfinite() & ((times > 0) | self.deformed)
        if not bool(moved.any()):
            return self
        seen, points, bodies = self.seen.positions, self.seen.places, self.bodies(measured)
        for body in dict.fromkeys(bodies):
            own = torch.tensor([k for k, other in enumerate(bodies) if other == body])
            place = points[own]
            for _ in range(6):
                ask = Tracks(points=place, times=times[own], body=body)
                if not run.holds(ask):
                    return self
                now = run.sample(ask).diagonal(dim1=0, dim2=1).T
                place = place + torch.where(moved[own, None], seen[own] - now, 0.0)
            points = points.index_copy(0, own, place.detach())
        return dataclasses.replace(self, seen=dataclasses.replace(self.seen, places=points))

    def bodies(self, measured: Measured) -> list[str | None]:
        """The body of each mark."""
        if not self.markers:
            return [self.on] * len(measured.labels)
        told = {name: marker.on or self.on for name, marker in self.markers.items()}
        return [told.get(name, self.on) for name in measured.labels]

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """Tracks of the marks of each body."""
        count = len(measured.labels)
        times = self.scene_time(measured.at["time"].reshape(-1, count)[:, 0])
        bodies = self.bodies(measured)
        found: list[Ask] = []
        for body in dict.fromkeys(bodies):
            own = [k for k, other in enumerate(bodies) if other == body]
            found.append(Tracks(points=self._seats[own], times=times, body=body))
        return tuple(found)

    @cached_property
    def _seats(self) -> torch.Tensor:  # of thousands of marks, asked for twice a prediction
        assert self.seen is not None, "prepared() comes before asks()"
        if any(isinstance(s, torch.Tensor) for s in self.seats):
            moved = torch.stack([torch.as_tensor(s, dtype=torch.float64) for s in self.seats]).reshape(-1, 3)
        else:
            moved = torch.tensor(self.seats, dtype=torch.float64).reshape(-1, 3)
        return torch.as_tensor(self.seen.places + moved)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """Positions in the file's coordinates, the axes that were measured."""
        bodies = self.bodies(measured)
        together = answers[0]
        if len(answers) > 1:
            order = [k for body in dict.fromkeys(bodies) for k, other in enumerate(bodies) if other == body]
            together = torch.cat(list(answers), 1)[:, torch.argsort(torch.tensor(order))]
        if self.camera is not None:
            pixels = self.camera.project(together.reshape(-1, 3))
            if bool(pixels.isnan().any()):
                raise Refused(f"observations.{self.name}.camera: a mark is behind it; look at turn, shift and axes")
            return self.shown(pixels)
        seen = self.place.to_file(together.reshape(-1, 3))
        columns = [AXES.index(axis) for axis in measured.names]
        return self.shown(seen[:, columns].reshape(-1, len(columns)))

    def nuisances(self, measured: Measured) -> dict[str, float]:
        """The seats: a mark sits where one noisy frame shows it, or where it was told to be."""
        if all(self._at_center(name) for name in measured.labels):
            return {}
        spread = self.seat_sigma if self.seat_sigma is not None else self.sigma
        few = len(measured.labels) <= MANY
        return {"seats": float(spread)} if few and isinstance(spread, float | int) and spread > 0 else {}

    def places(self, measured: Measured) -> torch.Tensor | None:
        """Where marks sit on the undeformed body; a centre that is followed sits at its body's own origin."""
        places = self.seen.places.nan_to_num().repeat(len(measured.values) // len(measured.labels), 1)
        return torch.as_tensor(places)[:, None, :].expand(-1, len(measured.names), -1)

    def groups(self, key: str, measured: Measured) -> torch.Tensor | None:
        """A seat moves the rows of its own mark."""
        if key != "seats":
            return None
        count = len(measured.labels)
        return torch.arange(count).expand(len(measured.values) // count, count).reshape(-1)

    def doubts(self, measured: Measured, sizes: Mapping[str, float]) -> list[str]:
        """Marks a thousand times farther apart than the world is wide, or times in milliseconds."""
        found, values = [], measured.values[measured.mask.all(1)]
        if "m" in sizes and len(values) and self.camera is None:
            span = float((values.max(0).values - values.min(0).values).max()) * float(self.place.scale)
            if span > 30 * sizes["m"]:
                found.append(f'marks spread over {span:.3g} m in a world of {sizes["m"]:.3g} m; in mm? say unit = "mm"')
            elif 0 < span < 1e-2 * sizes["m"] and len(measured.labels) > 3:
                found.append(f"marks spread over {span:.3g} m in a world of {sizes['m']:.3g} m; is the unit right?")
        longest = float(measured.at["time"].abs().max())
        if "s" in sizes and longest > 100 * sizes["s"]:
            found.append(f"time goes to {longest:.3g} s in a run of {sizes['s']:.3g} s; is the file in ms?")
        return found

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, Markers]":
        """The marks that `markers` names, else some on particles of the body; frames by `times`, gaps in runs."""
        axes = ("u", "v") if self.camera else tuple(a for a in AXES if a in self.columns) or AXES
        plan = Plan(self.points, self.times, self.gaps, axes)
        frames = plan.frames(world, generator)
        if self.markers:
            names, seen = tuple(self.markers), self._stated()
        else:
            places = plan.places(world, self.points.on or self.on, generator)
            names = tuple(f"m{k}" for k in range(len(places)))
            seen = Seats(places, torch.zeros(len(places), dtype=torch.float64))
        mask = plan.seen(len(frames), len(names), generator)
        measured = plan.measured(frames / self.clock_rate + self.start, mask, names)
        seats = (0.0,) * seen.positions.numel()
        return measured, dataclasses.replace(self, seats=seats, seen=seen, camera=self._opened())

    def _stated(self) -> Seats:
        """Where the marks sit that the scene names.

        Raises:
            SceneError: It does not say of one.
        """
        here = torch.zeros(len(self.markers), 3, dtype=torch.float64)
        centers = torch.tensor([self._at_center(name) for name in self.markers])
        for k, name in enumerate(self.markers):
            if (at := self._told(name)) is not None:
                here[k] = torch.tensor(at, dtype=torch.float64)
            elif not bool(centers[k]):
                raise SceneError(
                    f"observations.{self.name}.markers.{name}: say where it sits, as in at = [0.1, 0.2, 0.3]"
                )
        never = torch.full((len(here),), -math.inf, dtype=torch.float64)
        return Seats(here, never, torch.where(centers[:, None], torch.nan, here))

    def write(self, file: Path, measured: Measured) -> None:
        """Such a file by `columns` and `unit`, csv or npz; a gap is an empty field. Beside it the table `at`."""
        if self.at is not None:
            write_places(file.parent / self.at.name, measured.labels, self.seen.places)
        count = len(measured.labels)
        motion = TrackedMotion(
            times=measured.at["time"].reshape(-1, count)[:, 0],
            positions=measured.values.reshape(-1, count, len(measured.names)),
            names=measured.labels,
            axes=measured.names,
            sha256="",
        )
        try:
            write_motion(file, motion, columns=self.columns, unit=self.unit)
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None
