"""Points of a body without identity, as a drawn sample of its matter: compared by their mean and covariance."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from simengine.io.arrays import read_npz
from simengine.io.geometry.particles import write_ply
from simengine.io.geometry.points import read_points
from simengine.io.tables import file_hash, read_table
from simengine.io.units import to_si
from simengine.observe.columns import take
from simengine.observe.place import Place
from simengine.observe.written import column_as_read, write_csv
from simengine.scene.asks import Ask, Cloud
from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.strict import Count, NonNegative, Only, Positive

AXES = ("x", "y", "z")
PAIRS = tuple(itertools.combinations_with_replacement(range(3), 2))
LEAST = 100  # points in a frame
NEIGHBOURS = 10
FLAT = 0.03  # least share of the spread of neighbours across their plane: matter has 0.14, a surface next to nothing
ODD = 5.0  # standard deviations, and SLACK of a length squared, that the first frame may be off the body at rest
SLACK = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distribution(AbstractInstrument):
    """Clouds of points that have no names, as a volume scanner or seeded particles give them.

    It assumes that each point was drawn from all of the body's matter, every part as likely as any other, each frame
    anew or once for all. A frame becomes nine values, mean and covariance of its points, whose standard deviations are
    those of a sample of that size. A scan of a surface, and marks that somebody chose, are no such sample: they are
    refused, since what they tell would be wrong by many of its bars.

    Attributes:
        on: Name of the body that is seen; None for the only one.
        columns: time, x, y, z -> column of the file. An .npz holds x (f, n, 3) and time (f,); a star in `file` picks a
            .ply for each frame, in the order of their numbers, `rate` of them a second.
        unit: Of positions in a file whose columns do not say.
        place: How the file's coordinates lie in the world.
        within: { time = [from, to] } that is compared, in the file's time [s].
        sigma: Standard deviation of a position, which widens the cloud [m].
        count: For `simengine observe`: points in a frame [1].
        rate: Of a series of .ply, and for `simengine observe`: frames a second [1/s].
    """

    type: Literal["distribution"] = "distribution"
    on: str | None = None
    columns: Annotated[dict[str, str], Only("time", *AXES)] = dataclasses.field(default_factory=dict)
    unit: str = ""
    place: Place = dataclasses.field(default_factory=Place)
    within: Annotated[dict[str, tuple[Any, Any]], Only("time")] = dataclasses.field(default_factory=dict)
    sigma: NonNegative = 0.0
    count: Count = 400
    rate: Positive = 60.0
    rest: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.place.register:
            raise ValueError("place.register: points without names cannot be registered; give axes, shift and turn")
        if self.count < LEAST:
            raise ValueError(f"count: expected at least {LEAST} points in a frame, got {self.count}")

    def facing(self, world: AbstractWorld) -> "Distribution":
        """Knows how the body lies at rest."""
        if Cloud not in world.answers:
            return self
        ask = Cloud(times=torch.zeros(1, dtype=torch.float64), body=self.on)
        x = world.prepare([ask]).solve([ask]).sample(ask)[0].detach()
        some = (x - x.mean(0)).norm(dim=1).topk(min(len(x), 2000), largest=False).indices
        return dataclasses.replace(self, rest=Rest(x, _cell(x[some])))

    def read(self, *, before: float = 0.0) -> Measured:
        """A row for each frame: the means, then the covariances."""
        try:
            times, clouds, digest = self._clouds()
        except SceneError:
            raise
        except ValueError as error:
            raise SceneError(f"observations.{self.name}.file: {error}") from None
        few = min(len(cloud) for cloud in clouds)
        if few < LEAST:
            raise SceneError(
                f"observations.{self.name}.file: {self.file}: {few} points in a frame; it takes {LEAST}, drawn from "
                'all of the body. Points that keep their names are type = "markers"'
            )
        if (share := _thickness(clouds[0])) < FLAT:
            raise SceneError(
                f"observations.{self.name}.file: {self.file}: its points lie on a surface (across it they spread by "
                f"{share:.1g} of their spread, matter by 0.14), whose mean and covariance are not those of the body; "
                "take pictures (compare = depth or silhouette), or points from inside"
            )
        if self.rest is not None and float(self.scene_time(times[:1])[0]) == 0.0:
            self._refuse_other(clouds[0])
        moments = [_moments(cloud) for cloud in clouds]
        values, sigma = (torch.stack([m[k] for m in moments]) for k in (0, 1))
        names = (*(f"mean_{a}" for a in AXES), *(f"cov_{AXES[i]}{AXES[j]}" for i, j in PAIRS))
        keep = (times - self.start) * self.clock_rate >= -before
        notes = (f"{int((~keep).sum())} frames before the start are left out",) if not bool(keep.all()) else ()
        if "time" in self.within:
            low, high = self.within["time"]
            keep &= (times >= float(low)) & (times <= float(high))
        mask, out = self._masked(values, names, times, keep)
        return Measured(
            values=values,
            names=names,
            units=("m",) * 3 + ("m2",) * 6,
            at={"time": times},
            mask=mask,
            held_out=out,
            sigma=sigma,
            files=digest,
            notes=notes,
        )

    def _clouds(self) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, str]]:
        """Times (f,) [s], the points (n, 3) [m] of each frame, and the hashes of the files."""
        if "*" in self.file:
            paths = self.paths
            clouds = [torch.from_numpy(read_points(path, self.unit or "m")[0].copy()) for path in paths]
            times = torch.arange(len(paths), dtype=torch.float64) / self.rate
            return times, clouds, {path.name: file_hash(path) for path in paths}
        if self.path.suffix.lower() == ".npz":
            data = read_npz(self.path)
            if not all(name in data and data[name].dtype.kind in "fiu" for name in ("x", "time")):
                raise ValueError(f"{self.path.name}: expected numbers x (frames, points, 3) and time (frames,)")
            x, time = (torch.from_numpy(data[name].astype(np.float64)) for name in ("x", "time"))
            if x.ndim != 3 or x.shape[2] != 3 or time.shape != x.shape[:1]:
                raise ValueError(f"{self.path.name}: x {tuple(x.shape)} does not go with time {tuple(time.shape)}")
            clouds, digest = list(x * to_si(self.unit)[0]), file_hash(self.path)
        else:
            raw = read_table(self.path)
            stamps, *axes = (take(raw, self.columns.get(n, n), key=f"columns.{n}")[0] for n in ("time", *AXES))
            points = torch.stack(axes, 1) * to_si(self.unit)[0]
            known = ~points.isnan().any(1) & ~stamps.isnan()
            time, frame = torch.unique(stamps[known], return_inverse=True)
            clouds, digest = [points[known][frame == k] for k in range(len(time))], raw.sha256
        if not len(time):
            raise ValueError(f"{self.path.name}: no frame")
        clouds = [cloud[~cloud.isnan().any(1)] for cloud in clouds]
        if not bool((time.diff() > 0).all()):
            raise ValueError(f"{self.path.name}: times must grow from frame to frame")
        return time, clouds, {self.path.name: digest}

    def _refuse_other(self, cloud: torch.Tensor) -> None:
        """Refuse points that do not fill the body at rest as its matter does, wherever it lies and however turned.

        Raises:
            SceneError: A principal variance is off.
        """
        body = _principal(self.rest.x, self.rest.cell)[0]
        noise = float(self._blur()) * float(self.place.scale) ** 2
        seen, width = _principal(cloud * float(self.place.scale), -noise * torch.eye(3, dtype=torch.float64))
        off = (seen - body).abs() - SLACK * body
        if bool((off > ODD * width).any()):
            k = int((off / width).argmax())
            raise SceneError(
                f"observations.{self.name}.file: {self.file}: in the first frame points are spread over "
                f"{float(seen[k]) ** 0.5:.3g} m along a principal axis, and the body over "
                f"{float(body[k]) ** 0.5:.3g} m: they are no sample of it, as points on its surface or of a part are "
                "not; or its shape is another"
            )

    def _blur(self) -> Any:
        """Variance of a position of the file [m^2]."""
        return (self.sigma / self.sigma_level) ** 2 + self.least_sigma() ** 2

    def noise(self, measured: Measured) -> torch.Tensor:
        """Of samples of that size."""
        return measured.sigma

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """All matter."""
        return (Cloud(times=self.scene_time(measured.at["time"]), body=self.on),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """Means and covariances of the particles, each as wide as its cell and blurred by the noise."""
        x = self.place.to_file(answers[0])
        mean = x.mean(1)
        own = x - mean[:, None]
        covariance = torch.einsum("fni,fnj->fij", own, own) / x.shape[1] + self._blur() * torch.eye(3, dtype=x.dtype)
        if self.rest is not None:
            turn = self.place.to_file(torch.eye(3, dtype=x.dtype)) - self.place.to_file(torch.zeros(3, dtype=x.dtype))
            covariance = covariance + turn.T @ self.rest.cell @ turn
        return self.shown(torch.cat([mean, torch.stack([covariance[:, i, j] for i, j in PAIRS], 1)], 1))

    def doubts(self, measured: Measured, sizes: Mapping[str, float]) -> list[str]:
        """A cloud a thousand times larger than the world."""
        spread = float(measured.values[:, 3].max()) ** 0.5 * float(self.place.scale)
        if "m" in sizes and spread > 30 * sizes["m"]:
            return [f'points spread over {spread:.3g} m in a world of {sizes["m"]:.3g} m; in mm? say unit = "mm"']
        return []

    def planned(self, world: AbstractWorld, generator: torch.Generator) -> "tuple[Measured, AbstractInstrument]":
        """Points drawn anew in each frame."""
        return _Drawn.planned_for(self, world, generator)

    def write(self, file: Path, measured: Measured) -> None:
        """A csv, time, x, y, z, by the headers and in the units of `columns`, an .npz, or a .ply for each frame."""
        factor = to_si(self.unit)[0]
        times, frame = torch.unique(measured.at["time"], return_inverse=True)
        clouds = [(measured.values[frame == k] / factor).numpy() for k in range(len(times))]
        if "*" in file.name:
            for k, cloud in enumerate(clouds):
                write_ply(file.with_name(file.name.replace("*", f"{k:04d}")), {"x": cloud})
            return
        if file.suffix.lower() == ".npz":
            np.savez(file, x=np.stack(clouds), time=times.numpy())
            return
        columns = column_as_read(self.columns.get("time", "time [s]"), measured.at["time"])
        for axis, values in zip(AXES, measured.values.unbind(1), strict=True):
            columns |= column_as_read(self.columns.get(axis, axis if self.unit else f"{axis} [m]"), values / factor)
        write_csv(file, columns)


@dataclasses.dataclass(frozen=True)
class Rest:
    """The body at rest.

    Attributes:
        x: Its particles, (n, 3) [m].
        cell: Covariance of the matter that a particle stands for, (3, 3) [m^2].
    """

    x: torch.Tensor
    cell: torch.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Drawn(Distribution):
    """What writes such a file: some particles of each frame, moved within their cells."""

    drawn: Any = dataclasses.field(default=None, metadata={"internal": True}, compare=False, repr=False)

    @classmethod
    def planned_for(
        cls, own: Distribution, world: AbstractWorld, generator: torch.Generator
    ) -> "tuple[Measured, Distribution]":
        facing = own.facing(world)
        frames = torch.arange(int(world.sizes()["s"] * own.rate + 1e-9) + 1, dtype=torch.float64) / own.rate
        time = (frames / own.clock_rate + own.start).repeat_interleave(own.count)
        shape = (len(time), 3)
        measured = Measured(
            values=torch.zeros(shape, dtype=torch.float64),
            names=AXES,
            units=("m",) * 3,
            at={"time": time},
            mask=torch.ones(shape, dtype=torch.bool),
            held_out=torch.zeros(shape, dtype=torch.bool),
            sigma=torch.full(shape, float(own._blur()) ** 0.5, dtype=torch.float64),
        )
        kept = {f.name: getattr(facing, f.name) for f in dataclasses.fields(Distribution)}
        return measured, cls(**kept, drawn=generator)

    def asks(self, measured: Measured) -> tuple[Ask, ...]:
        """All matter, once a frame."""
        return (Cloud(times=self.scene_time(measured.at["time"].unique()), body=self.on),)

    def respond(self, answers: Sequence[torch.Tensor], measured: Measured) -> torch.Tensor:
        """Drawn points, frame by frame, (rows, 3)."""
        parts = []
        for x in answers[0]:
            pick = torch.randint(len(x), (self.count,), generator=self.drawn)
            inside = torch.rand(self.count, 3, generator=self.drawn, dtype=torch.float64) - 0.5
            finer = (len(self.rest.x) / len(x)) ** (2 / 3)  # a world that is observed at another resolution
            parts.append(x[pick] + inside @ torch.linalg.cholesky(12 * finer * self.rest.cell).T)
        return self.place.to_file(torch.cat(parts))


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance (9,) of points (n, 3), and the standard deviations of both from one sample to another."""
    n = len(x)
    mean = x.mean(0)
    own = x - mean
    products = torch.stack([own[:, i] * own[:, j] for i, j in PAIRS], 1)
    covariance = products.sum(0) / (n - 1)
    spread = torch.cat([own.var(0), products.var(0)])
    floor = 1e-12 * own.square().sum(1).mean()
    return torch.cat([mean, covariance]), (spread / n).clamp_min(floor**2 + 1e-30).sqrt()


def _thickness(x: torch.Tensor) -> float:
    """Median share of the spread of a point's neighbours that lies across the plane in which they spread most."""
    some = x[torch.linspace(0, len(x) - 1, min(len(x), 500)).long()]
    near = x[torch.cdist(some, x).topk(NEIGHBOURS + 1, largest=False).indices]
    near = near - near.mean(1, keepdim=True)
    values = torch.linalg.eigvalsh(near.transpose(1, 2) @ near)
    return float((values[:, 0] / values.sum(1).clamp_min(1e-300)).median())


def _cell(x: torch.Tensor) -> torch.Tensor:
    """Covariance of the matter that a particle of a grid stands for, (3, 3).

    Inside, its six neighbours are at both ends of the edges of its cell, if that is about a cube; each adds its square
    over 12.
    """
    edges = x[torch.cdist(x, x).topk(min(7, len(x)), largest=False).indices] - x[:, None]
    lean = edges.mean(1).norm(dim=1)
    inside = edges[lean <= lean.quantile(0.1)]
    covariance: torch.Tensor = (inside.transpose(1, 2) @ inside / 24).median(0).values
    values, axes = torch.linalg.eigh(covariance)
    return (axes * values.clamp_min(1e-6 * float(values[-1]))) @ axes.T


def _principal(x: torch.Tensor, wide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal variances of points (n, 3), a covariance (3, 3) added, and their standard deviations, (3,) each."""
    own = x - x.mean(0)
    values, axes = torch.linalg.eigh(own.T @ own / len(x) + wide)
    along = own @ axes
    return values, ((along.pow(4).mean(0) - along.square().mean(0).square()).clamp_min(0) / len(x)).sqrt()
