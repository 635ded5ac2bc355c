"""An equation that holds at scattered points: residual and sparse Jacobian of what is asked there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import block_array, csr_array, diags_array

from simengine.constraint.cloud.points import PointSet
from simengine.constraint.spectral.discrete import Key, Numbers, SpectralEquation
from simengine.constraint.spectral.domain import Domain, Fixed, Flux
from simengine.constraint.spectral.expression import At, Divergence, SpectralSymbol
from simengine.solve.least_squares.system import load_forward_mode

Values = dict[Key, torch.Tensor]


class Collocation:
    """Residuals of an equation at points: the equation within, rows at the sides.

    The divergence of a flux is that of its chain rule, f_u u_x + f_(u_x) u_xx + ... + f_x, so that only first and
    second derivatives are taken, and coefficients have to be smooth. A number of the equation with a value at each
    point is differentiated by the stencils.

    One-sided slopes are bad ones: where something flows through a side, a further point lies beyond each of its points,
    at the distance of the nearest one, and both the equation and the row of the side hold at the side's point.

    Args:
        function: What is to vanish, of the fields and p.
        cloud: The points.
        fields: Names.
        boundary: Rows of its sides.
        numbers: Of the equation.
        degree: Of the polynomials that stencils reproduce.

    Attributes:
        seen: All points, (N + G): those given, then those beyond the sides.
        origin: At which given point each row holds, (N + G,).

    Raises:
        ValueError: A row or derivative cannot be.
    """

    def __init__(
        self,
        function: Any,
        cloud: PointSet,
        *,
        fields: Sequence[str],
        boundary: Sequence[Fixed | Flux],
        numbers: Numbers,
        degree: int,
    ) -> None:
        load_forward_mode()
        self.cloud: PointSet = cloud
        self.numbers = numbers
        self.degree: int = degree
        self.fields: tuple[str, ...] = tuple(fields)
        ends: dict[str, Any] = {name: (float(x.min()) - 1, float(x.max()) + 1) for name, x in cloud.places.items()}
        box = Domain(**ends)
        self._equation = SpectralEquation(function, box, self.fields, ())
        used, self._scales = self._equation.used({k: _typical(v) for k, v in numbers.items()})
        self.evolves: bool = any(letters == "t" for _, letters in used)
        self._rows = self._sorted_rows(boundary, used)
        self.seen, self.origin = self._extended()
        fluxes = any(scale is not None for scale in self._scales)
        self.keys: list[Key] = self._closed(used, fluxes)
        for i, letters in self.keys:
            if letters != "t" and len(letters) > 2:
                raise ValueError(
                    f"equation: {self.fields[i]}.{letters}: points tell derivatives up to the second, and first ones "
                    "within a div"
                )
        if fluxes:
            self._refuse_in_fluxes()

    def _closed(self, used: list[Key], fluxes: bool) -> list[Key]:
        """The derivatives that the equation and the chain rule of its fluxes read."""
        found = {*used, *((i, "") for i in range(len(self.fields)))}
        if fluxes:  # what of these a flux reads is not known apart from the rest: second ones stay in the rest
            within = {(i, a) for i, a in used if a != "t" and len(a) < 2} | {(i, "") for i in range(len(self.fields))}
            found |= {(i, "".join(sorted(a + axis))) for i, a in within for axis in self.cloud.axes}
        return sorted(found)

    def _extended(self) -> tuple[PointSet, torch.Tensor]:
        cloud, every = self.cloud, torch.arange(len(self.cloud))
        open_ = [points for _, points, row in self._rows if isinstance(row, Flux)]
        if not open_:
            return cloud, every
        at = torch.cat(open_).unique()
        return cloud.extended(at), torch.cat([every, at])

    def _refuse_in_fluxes(self) -> None:
        """What the chain rule of a flux does not know: rates and second derivatives."""
        probe = {key: torch.full((1,), 0.3 + 0.1 * k, dtype=torch.float64) for k, key in enumerate(self.keys)}
        beyond = {key: v.requires_grad_() for key, v in probe.items() if key[1] == "t" or len(key[1]) == 2}
        places = {name: x[:1] for name, x in self.cloud.places.items()}
        parts = self._called(probe, places, 0.0, {k: _typical(v) for k, v in self.numbers.items()})
        fluxes = [f for part in parts if isinstance(part, Divergence) for f in part.flux]
        total = sum(torch.as_tensor(f, dtype=torch.float64).sum() for f in fluxes)
        if not isinstance(total, torch.Tensor) or not total.requires_grad:
            return
        slopes = torch.autograd.grad(total, list(beyond.values()), allow_unused=True)
        for (i, letters), slope in zip(beyond, slopes, strict=True):
            if slope is not None and bool((slope != 0).any()):
                raise ValueError(
                    f"equation: a div of {self.fields[i]}.{letters}; a flux may hold fields and first derivatives"
                )

    def _sorted_rows(
        self, boundary: Sequence[Fixed | Flux], used: list[Key]
    ) -> list[tuple[int, torch.Tensor, Fixed | Flux]]:
        """Field, points and row, of all rows; sides of a divergence without one are closed."""
        found, seen = [], set()
        for row in boundary:
            if row.field is not None and row.field not in self.fields:
                raise ValueError(f"boundary: {row.field!r} is no field; known: {', '.join(self.fields)}")
            if isinstance(row, Flux) and row.field is None and len(self.fields) > 1:
                raise ValueError(f"boundary: a Flux needs `field`, one of {', '.join(self.fields)}")
            for i, name in enumerate(self.fields):
                if row.field not in (None, name):
                    continue
                if isinstance(row, Flux) and self._scales[i] is None:
                    raise ValueError(
                        f"boundary: a Flux of {name} needs `div(...)` in its equation: it is the flux of that"
                    )
                for side in self.cloud.at(row.at):
                    if (i, side) in seen:
                        raise ValueError(f"boundary: two rows of {name} at {side}; leave one out")
                    seen.add((i, side))
                    found.append((i, self.cloud.sides[side], row))
        for i in range(len(self.fields)):
            for side, points in self.cloud.sides.items():
                if (i, side) in seen:
                    continue
                if self._scales[i] is not None:
                    found.append((i, points, Flux(lambda *_: 0.0)))
                elif any(j == i and len(letters) == 2 for j, letters in used):
                    raise ValueError(
                        f"boundary: no row of {self.fields[i]} at {side}, and no `div(...)` in its equation says what "
                        "flows there; add a Fixed value, or write its second derivatives as a div"
                    )
        return found

    def values(self, u: torch.Tensor, rate: torch.Tensor) -> list[torch.Tensor]:
        """What the rows read of fields and rates (F, N + G), (N,) each."""
        count = len(self.cloud)
        return [
            (rate[i] if letters == "t" else self.seen.derivative(u[i], letters, self.degree))[:count]
            for i, letters in self.keys
        ]

    def rows(self, values: Sequence[torch.Tensor], t: float) -> torch.Tensor:
        """What is to vanish, (F, N + G), of what is read at the points (N,): a function point by point."""
        table, places, count = dict(zip(self.keys, values, strict=True)), self.cloud.places, len(self.cloud)
        parts = self._called(table, places, t, self.numbers)
        found = []
        for i, part in enumerate(parts):
            total: Any = part
            if isinstance(part, Divergence):
                total = part.rest
                for k in range(len(part.flux)):
                    total = total + part.scale * self._along(table, places, t, i, k)
            own = torch.as_tensor(total, dtype=torch.float64).expand(count)
            beyond = own[self.origin[count:]]
            for j, points, row in self._rows:
                if j == i:
                    there = self._row(i, row, part, table, t)
                    second = torch.isin(self.origin[count:], points)  # the side's row beside the equation
                    beyond = torch.where(second, there[self.origin[count:]], beyond)
                    alone = points[~torch.isin(points, self.origin[count:])]  # or in its place
                    own = own.index_copy(0, alone, there[alone])
            found.append(torch.cat([own, beyond]))
        return torch.stack(found)

    def _called(self, table: Values, places: Any, t: Any, numbers: Numbers) -> list[Any]:
        return self._equation._called(table.__getitem__, At(places, torch.as_tensor(t, dtype=torch.float64), numbers))

    def _along(self, table: Values, places: Any, t: float, i: int, axis: int) -> torch.Tensor:
        """The derivative of a component of the flux of equation i along its own axis, by the chain rule."""
        name = self.cloud.axes[axis]
        base = [key for key in self.keys if key[1] != "t" and len(key[1]) < 2]
        spread = [k for k, v in self.numbers.items() if isinstance(v, torch.Tensor) and v.ndim > 0]

        def flux(*moved: torch.Tensor) -> torch.Tensor:
            own = {**table, **dict(zip(base, moved, strict=False))}
            numbers = {**self.numbers, **dict(zip(spread, moved[len(base) : len(base) + len(spread)], strict=True))}
            part = self._called(own, {**places, name: moved[-1]}, t, numbers)[i]
            return torch.as_tensor(part.flux[axis], dtype=torch.float64) + 0 * moved[-1]

        given = [*(table[key] for key in base), *(self.numbers[k] for k in spread), places[name]]
        along = [table[j, "".join(sorted(a + name))] for j, a in base]
        along += [self.cloud.derivative(self.numbers[k], name, self.degree) for k in spread]  # type: ignore[arg-type]
        along.append(torch.ones_like(places[name]))
        found: torch.Tensor = torch.func.jvp(flux, tuple(given), tuple(along))[1]
        return found

    def _row(self, i: int, row: Fixed | Flux, part: Any, table: Values, t: float) -> torch.Tensor:
        p = At(self.cloud.places, torch.as_tensor(t, dtype=torch.float64), self.numbers)
        if isinstance(row, Fixed):
            return table[i, ""] - (row.value(p) if callable(row.value) else row.value)
        symbols = [SpectralSymbol(name, self._reader(table, j)) for j, name in enumerate(self.fields)]
        asked = row.value(*symbols, p)
        asked = asked.value if isinstance(asked, SpectralSymbol) else asked
        outward = sum(f * n for f, n in zip(part.flux, self.cloud.normals.unbind(1), strict=True))
        return outward - asked

    def _reader(self, table: Values, j: int) -> Callable[[str], torch.Tensor]:
        def told(letters: str) -> torch.Tensor:
            if (j, letters) not in table:
                raise ValueError(f"boundary: {self.fields[j]}.{letters}: a Flux may hold fields and first derivatives")
            return table[j, letters]

        return told

    def residual(self, u: torch.Tensor, rate: torch.Tensor, t: float) -> torch.Tensor:
        """The rows of fields and their rates (F, N + G) at a moment, (F, N + G)."""
        return self.rows(self.values(u, rate), t)

    def linearised(self, u: torch.Tensor, rate: torch.Tensor, t: float) -> tuple[csr_array, csr_array]:
        """Derivatives of the rows by fields and by rates, square and sparse."""
        count, fields, at = len(self.seen), range(len(self.fields)), self.origin.numpy()
        with torch.no_grad():
            values = [v.detach() for v in self.values(u, rate)]
            by_u = [[csr_array((count, count)) for _ in fields] for _ in fields]
            by_rate = [[csr_array((count, count)) for _ in fields] for _ in fields]
            for k, (j, letters) in enumerate(self.keys):

                def moved(v: torch.Tensor, k: int = k) -> torch.Tensor:
                    return self.rows([*values[:k], v, *values[k + 1 :]], t)

                slopes = torch.func.jvp(moved, (values[k],), (torch.ones_like(values[k]),))[1]
                into = by_rate if letters == "t" else by_u
                matrix = self.seen.matrix("" if letters == "t" else letters, self.degree)[at]
                for i in fields:
                    slope = slopes[i].detach().numpy()
                    if np.any(slope != 0):
                        into[i][j] = into[i][j] + diags_array(slope) @ matrix
            return tuple(csr_array(block_array(part)) for part in (by_u, by_rate))


def _typical(value: Any) -> Any:
    """A number of the equation where it is only asked what the equation reads."""
    return value.detach().mean() if isinstance(value, torch.Tensor) and value.ndim else value
