"""Scattered points of a domain, which of them lie on its sides, and the derivatives that their neighbours tell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from simengine.constraint.cloud.stencils import AXES, monomials, stencil_size, stencil_weights


class PointSet:
    """Points of a domain; neither a mesh nor a grid.

        PointSet(points, sides={"wall": on_the_wall})

    Args:
        points: Places, (N, d), d from 1 to 3 [m].
        sides: Name -> numbers of the points of a side, or bool (N,); no point on two of them.
        normals: Outward normals at the points, (N, d), of which only those of sides are read; None to take them from
            the neighbours on the same side: right to the third power of their distance on a curve, the second on a
            surface.

    Attributes:
        points: Float64.
        sides: Name -> numbers of its points.
        within: Numbers of the points on no side.
        normals: Of unit length; zero within.
        nearest: Distance of each point to its nearest one, (N,) [m].

    Raises:
        ValueError: Points are not finite or coincide, or sides do not fit.
    """

    def __init__(
        self,
        points: Any,
        *,
        sides: Mapping[str, Any] | None = None,
        normals: Any = None,
    ) -> None:
        self.points: torch.Tensor = torch.as_tensor(points, dtype=torch.float64)
        if (
            self.points.ndim != 2
            or not 1 <= self.points.shape[1] <= len(AXES)
            or not bool(self.points.isfinite().all())
        ):
            raise ValueError(f"points: expected finite places of shape (N, 1 to 3), got {tuple(self.points.shape)}")
        self._tree = KDTree(self.points.numpy())
        self.nearest: torch.Tensor = torch.ones(len(self.points), dtype=torch.float64)
        if len(self.points) > 1:
            apart, beside = self._tree.query(self.points.numpy(), 2)
            k = int(apart[:, 1].argmin())
            if apart[k, 1] <= 1e-9 * apart[:, 1].max():
                other = int(beside[k][beside[k] != k][0])
                raise ValueError(f"points: {k} and {other} coincide at {self.points[k].tolist()}; remove one")
            self.nearest = torch.from_numpy(apart[:, 1])
        self.sides: dict[str, torch.Tensor] = {name: self._numbers(name, own) for name, own in (sides or {}).items()}
        on = torch.zeros(len(self.points), dtype=torch.int64)
        for own in self.sides.values():
            on[own] += 1
        if bool((on > 1).any()):
            raise ValueError(f"sides: point {int(on.argmax())} lies on two of them; leave it on one")
        self.within: torch.Tensor = (on == 0).nonzero().flatten()
        self.normals: torch.Tensor = self._normals(normals)
        self._extended: dict[bytes, PointSet] = {}
        self._stencils: dict[int, torch.Tensor] = {}
        self._weights: dict[tuple[int, str], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.points)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return AXES[: self.points.shape[1]]

    @property
    def places(self) -> dict[str, torch.Tensor]:
        """Coordinates by name, (N,) each [m]."""
        return dict(zip(self.axes, self.points.unbind(1), strict=True))

    def _numbers(self, name: str, own: Any) -> torch.Tensor:
        found = torch.as_tensor(own)
        if found.dtype == torch.bool:
            found = found.nonzero().flatten()
        if found.ndim != 1 or not len(found) or int(found.min()) < 0 or int(found.max()) >= len(self.points):
            raise ValueError(
                f"sides: {name}: expected numbers of points below {len(self.points)}, or bool of all points"
            )
        return found.to(torch.int64)

    def _normals(self, given: Any) -> torch.Tensor:
        found = torch.zeros_like(self.points)
        for own in self.sides.values():
            if given is not None:
                found[own] = torch.as_tensor(given, dtype=torch.float64)[own]
            else:
                found[own] = self._fitted_normals(own)
        length = found.norm(dim=1, keepdim=True)
        on = torch.ones(len(self), dtype=torch.bool)
        on[self.within] = False
        if bool((on & ~(length[:, 0] > 0)).any()):
            k = int((on & ~(length[:, 0] > 0)).nonzero()[0])
            raise ValueError(f"normals: none at point {k} of a side; give one")
        return torch.where(length > 0, found / length.clamp_min(1e-300), 0.0)

    def _fitted_normals(self, own: torch.Tensor) -> torch.Tensor:
        """Across the curve or surface through the nearest points of the side, away from the nearest points of all."""
        axes, wall = self.points.shape[1], self.points[own]
        _, beside = self._tree.query(wall.numpy(), min(len(self), 4 * axes + 1))
        outward = wall - self.points[torch.from_numpy(beside)].mean(1)
        if axes == 1:
            return outward
        few = min(len(own), 5 if axes == 2 else 10)
        if few < (3 if axes == 2 else 6):
            raise ValueError(f"normals: a side of {len(own)} points has no direction; give normals")
        _, near = KDTree(wall.numpy()).query(wall.numpy(), few)
        spread = wall[torch.from_numpy(near)]
        middle = spread - spread.mean(1, keepdim=True)
        frame = torch.linalg.eigh(middle.mT @ middle).eigenvectors  # across the side first
        own_frame = (spread - wall[:, None]) @ frame
        # the side bends: its height over the plane, a polynomial without constant, has its slope at the point itself
        exponents = [e for e in monomials(axes - 1, 3 if axes == 2 and few == 5 else 2) if sum(e)]
        powers = torch.tensor(exponents, dtype=torch.float64)
        radius = own_frame[..., 1:].square().sum(-1).amax(1).sqrt()[:, None, None]
        terms = ((own_frame[..., None, 1:] / radius[..., None]) ** powers).prod(-1)
        height = torch.linalg.lstsq(terms, own_frame[..., :1] / radius, driver="gelsd").solution[..., 0]
        first = [exponents.index(tuple(int(k == j) for k in range(axes - 1))) for j in range(axes - 1)]
        normal = frame[:, :, 0] - (frame[:, :, 1:] @ height[:, first, None])[..., 0]
        return normal * torch.where((normal * outward).sum(1, keepdim=True) < 0, -1.0, 1.0)

    def neighbours(self, degree: int, centres: torch.Tensor | None = None) -> torch.Tensor:
        """Numbers of the points that a stencil of a degree takes, (M, n); at the points themselves without centres."""
        size = stencil_size(len(self.axes), degree)
        if size > len(self):
            raise ValueError(
                f"points: {len(self)} are too few for degree {degree}, whose stencils take {size}; take a lower one, "
                "or estimate=False, since the error is told by two degrees more"
            )
        if centres is not None:
            return torch.from_numpy(self._tree.query(centres.numpy(), size)[1])
        if degree not in self._stencils:
            self._stencils[degree] = torch.from_numpy(self._tree.query(self.points.numpy(), size)[1])
        return self._stencils[degree]

    def weights(self, letters: str, degree: int) -> torch.Tensor:
        """Weights of a derivative at the points, (N, n), for `neighbours`."""
        if (degree, letters) not in self._weights:
            near = self.neighbours(degree)
            first = ["".join(c) for c in self.axes]
            wanted = {letters, *first, *(a + b for a in first for b in first if a <= b)}  # at the price of one
            for name, found in stencil_weights(self.points, self.points, near, sorted(wanted), degree).items():
                self._weights[degree, name] = found
        return self._weights[degree, letters]

    def derivative(self, values: torch.Tensor, letters: str, degree: int) -> torch.Tensor:
        """A derivative of values (..., N) at the points."""
        if not letters:
            return values
        return (self.weights(letters, degree) * values[..., self.neighbours(degree)]).sum(-1)

    def matrix(self, letters: str, degree: int) -> csr_array:
        """The same as a sparse matrix (N, N)."""
        count = len(self)
        if not letters:
            return csr_array((np.ones(count), (np.arange(count), np.arange(count))), (count, count))
        near = self.neighbours(degree)
        rows = np.repeat(np.arange(count), near.shape[1])
        return csr_array((self.weights(letters, degree).numpy().ravel(), (rows, near.numpy().ravel())), (count, count))

    def extended(self, at: torch.Tensor) -> "PointSet":
        """These points, and one more beyond each of those numbered `at`, as far out as its nearest one lies."""
        key = at.numpy().tobytes()
        if key not in self._extended:
            beyond = self.points[at] + self.nearest[at, None] * self.normals[at]
            self._extended[key] = PointSet(torch.cat([self.points, beyond]))
        return self._extended[key]

    def sampled(self, values: torch.Tensor, places: torch.Tensor, degree: int) -> torch.Tensor:
        """Values (..., N) between the points, at places (M, d); shape (..., M)."""
        near = self.neighbours(degree, places)
        weights = stencil_weights(self.points, places, near, [""], degree)[""]
        return (weights * values[..., near]).sum(-1)

    def at(self, names: str | Sequence[str]) -> list[str]:
        """Sides that a boundary row means; `all` for all.

        Raises:
            ValueError: One does not exist.
        """
        asked = list(self.sides) if names == "all" else [names] if isinstance(names, str) else list(names)
        for name in asked:
            if name not in self.sides:
                raise ValueError(
                    f"at: {name!r} is no side of these points; known: {', '.join(self.sides) or 'none'}, or all"
                )
        return asked
