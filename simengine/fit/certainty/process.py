"""The Gaussian process that stands for what a model gets wrong: where values lie for it, and what it does to residuals.

Along an abscissa each column of an observation has a process of its own. Over places the columns of one quantity share
one, whose values are alike where they are near and, where rows have times, soon after each other: Matérn's correlation
over the distance times Matérn's over the time.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch

from simengine.scene.base import SceneError
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.noise import Discrepancy

MOST_ROWS = 2000  # of a process: its matrix is factorised


@dataclasses.dataclass(frozen=True)
class ModelError:
    """The process of one observation.

    Attributes:
        sd: Standard deviation of each column, (columns,), SI.
        lengths: Over which it is alike, SI: along the abscissa ([1] where that is its logarithm), or over places and
            then, where rows have times, over time.
        logarithmic: Whether it runs along the logarithm of the abscissa.
        over: abscissa or place.
    """

    sd: torch.Tensor
    lengths: tuple[float, ...]
    logarithmic: bool = False
    over: str = "abscissa"

    def tensor(self) -> torch.Tensor:
        """For a checkpoint: whether logarithmic, whether over places, the number of lengths, these, then sd."""
        head = [self.logarithmic, self.over == "place", len(self.lengths), *self.lengths]
        return torch.cat([torch.tensor(head, dtype=torch.float64), self.sd])

    @classmethod
    def from_tensor(cls, held: torch.Tensor) -> "ModelError":
        """What `tensor` wrote."""
        end = 3 + int(held[2])
        lengths = tuple(float(v) for v in held[3:end])
        return cls(held[end:].clone(), lengths, bool(held[0]), "place" if bool(held[1]) else "abscissa")

    def plain(self, names: Sequence[str]) -> dict[str, object]:
        """For fit.json.

        Args:
            names: Of the columns.
        """
        along = self.over if self.over == "place" else "logarithm" if self.logarithmic else "abscissa"
        told: dict[str, object] = {"sd": dict(zip(names, self.sd.tolist(), strict=True)), "along": along}
        return told | dict(zip(("length", "time"), self.lengths, strict=False))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """Where the values of an observation lie for the process.

    Attributes:
        axes: For each length where values lie along it, (rows, columns, d).
        process: Number of the process of each column, (columns,).
        logarithmic: Whether the axis is the logarithm of an abscissa.
        over: abscissa or place.
    """

    axes: tuple[torch.Tensor, ...]
    process: torch.Tensor
    logarithmic: bool = False
    over: str = "abscissa"

    def values_of(self, k: int, which: torch.Tensor) -> torch.Tensor:
        """The values of process k among some, bool (rows, columns)."""
        return which & (self.process == k)[None, :]

    @property
    def count(self) -> int:
        """Of processes."""
        return int(self.process.max()) + 1


def alike(x: torch.Tensor, length: torch.Tensor | float) -> torch.Tensor:
    """Matérn's correlation with nu = 5/2 of places x (m, d), (m, m)."""
    apart = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    far = math.sqrt(5.0) * apart / length
    return (1 + far + far.square() / 3) * (-far).exp()


def factor(
    axes: Sequence[torch.Tensor],
    sigma: torch.Tensor,
    sd: torch.Tensor | float,
    lengths: Sequence[torch.Tensor | float] | torch.Tensor,
) -> torch.Tensor:
    """L of one process, (m, m), lower, from where its values lie, (m, d) along each axis, and sigma (m,)."""
    relative = sd / sigma
    covariance = relative[:, None] * relative[None, :]
    for x, length in zip(axes, lengths, strict=True):
        covariance = covariance * alike(x, length)
    return torch.linalg.cholesky(torch.eye(len(sigma), dtype=sigma.dtype) + covariance)


def whitened(r: torch.Tensor, which: torch.Tensor, course: Course, factors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Residuals over sigma (rows, columns) with those of each process multiplied by its L^-1; others stay."""
    for k, own in enumerate(factors):
        chosen = course.values_of(k, which)
        white = torch.linalg.solve_triangular(own, r[chosen][:, None], upper=False)[:, 0]
        r = r.masked_scatter(chosen, white)
    return r


def factors_of(error: ModelError, course: Course, sigma: torch.Tensor, which: torch.Tensor) -> list[torch.Tensor]:
    """L of every process, of the values that are compared."""
    found = []
    for k in range(course.count):
        own = course.values_of(k, which)
        sd = error.sd.expand_as(which)[own]
        found.append(factor([x[own] for x in course.axes], sigma[own], sd, error.lengths))
    return found


def course_of(instrument: AbstractInstrument, measured: Measured, which: torch.Tensor, spec: Discrepancy) -> Course:
    """Where the compared values of an observation lie for its process.

    Args:
        instrument: That measured it.
        measured: What it measured.
        which: Values that are compared, bool (rows, columns).
        spec: What the scene says of the process.

    Raises:
        SceneError: They do not lie along one abscissa or at places, or are too many.
    """
    key = f"observations.{instrument.name}.discrepancy"
    several = bool(measured.labels) or len(measured.at) != 1  # rows at one abscissa, or none that orders them
    if spec.over == "place" or (spec.over == "auto" and several and instrument.places(measured) is not None):
        course = _over_places(key, instrument, measured, which)
    else:
        course = _along(key, measured, spec, which)
    most = max(int(course.values_of(k, which).sum()) for k in range(course.count))
    if most > MOST_ROWS:
        raise SceneError(f"{key}: at most {MOST_ROWS} values, got {most}; thin the file, or leave discrepancy out")
    return course


def _along(key: str, measured: Measured, spec: Discrepancy, which: torch.Tensor) -> Course:
    if len(measured.at) != 1 or measured.labels:
        here = (", ".join(measured.at) or "none") + (" of several marks" if measured.labels else "")
        raise SceneError(
            f'{key}: needs one abscissa, here are {here}; say over = "place" where rows or sensors have places, or '
            "leave discrepancy out: the bars then rest on the residuals' correlation"
        )
    x = next(iter(measured.at.values()))
    seen = x[which.any(1)]
    logarithmic = spec.scale == "log" or (spec.scale == "auto" and spread_by_decades(seen))
    if logarithmic and not bool((seen > 0).all()):
        raise SceneError(f"{key}.scale: 'log' needs an abscissa that is positive throughout")
    columns = len(measured.names)
    axis = (x.log() if logarithmic else x)[:, None, None].expand(-1, columns, 1)
    return Course(axes=(axis,), process=torch.arange(columns), logarithmic=logarithmic)


def _over_places(key: str, instrument: AbstractInstrument, measured: Measured, which: torch.Tensor) -> Course:
    places = instrument.places(measured)
    if places is None:
        raise SceneError(f'{key}.over: "place" needs sensors, rows or marks with places; leave `over` out')
    if len(places[which].unique(dim=0)) < 3:
        raise SceneError(f'{key}.over: "place" needs three different places at least')
    axes = [places]
    for name in ("time", "t"):
        if name in measured.at and len(measured.at[name][which.any(1)].unique()) > 1:
            axes.append(measured.at[name][:, None, None].expand(-1, len(measured.names), 1))
    return Course(axes=tuple(axes), process=measured.noises, over="place")


def spread_by_decades(x: torch.Tensor) -> bool:
    """Whether values (m,) are spread more evenly in their logarithm than as they are, over a factor of ten or more."""
    x = x.unique()
    if len(x) < 3 or not float(x[0]) > 0 or float(x[-1] / x[0]) < 10:
        return False
    plain, logs = x.diff(), x.log().diff()
    return bool(logs.std() / logs.mean() < plain.std() / plain.mean())


def spacing_and_span(x: torch.Tensor) -> tuple[float, float]:
    """How far neighbours among places (m, d) are apart in the median, and the farthest of all."""
    if x.shape[1] == 1:
        ordered = x[:, 0].sort().values
        gaps = ordered.diff()
        return float(gaps[gaps > 0].median()) if bool((gaps > 0).any()) else 1.0, float(ordered[-1] - ordered[0])
    different = x.unique(dim=0)
    apart = torch.cdist(different, different)
    nearest = apart.masked_fill(torch.eye(len(apart), dtype=torch.bool), math.inf).min(1).values
    return float(nearest.median()), float(apart.max())
