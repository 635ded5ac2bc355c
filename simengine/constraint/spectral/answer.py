"""What a solve of an equation on functions returns: fields that can be asked anywhere, and how wrong they are."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from simengine.constraint.spectral.discrete import Discrete
from simengine.solve.solution import Result, Solution, SolveError

_SLOWEST = 0.75  # share of a difference that the next one is thought to be at most
_GEOMETRIC = 0.5  # share of a difference up to which the next ones are thought to go on shrinking alike


def chained(found: "Sequence[Expansion]") -> "Expansion":
    """The first answer, each with the next as its finer one."""
    last = found[-1]
    for own in reversed(found[:-1]):
        last = dataclasses.replace(own, finer=last)
    return last


def sharpened(found: "Expansion") -> "Expansion":
    """The nearest combination of the same functions, in the mean square, to the richest solve that tells the error.

    Galerkin's answer is the best one in the energy: a body of few functions is too stiff as a whole, waves of few
    functions travel at wrong speeds. What tells the error knows better, at no further solve; where two such solves
    halve the differences, a geometric series goes on from the richest one. The functions and the moments of the windows
    stay. An answer whose error nothing tells, or a solve of which failed, stays as it is.
    """
    richest = found.chain[-1]
    if found.finer is None or any(own.result is not Result.SUCCESS for own in found.chain):
        return found
    y, nearest = found.coefficients, found.nearest(richest)
    if not isinstance(y, Windows):
        held = nearest(None)
        if len(found.chain) == 3:
            before = found.nearest(found.chain[1])(None)
            parts = zip(found.discrete.equation.fields, found.discrete.slices, strict=True)
            held = torch.cat([held[own] + _beyond(found, name) * (held - before)[own] for name, own in parts])
        return dataclasses.replace(found, coefficients=held, galerkin=found)
    last = float(richest.coefficients.starts[-1])  # type: ignore[union-attr]
    spans = zip(y.starts[:-1].tolist(), y.starts[1:].tolist(), strict=True)
    moved = [torch.stack([nearest(min(a + float(c) * (b - a), last)) for c in y.nodes]) for a, b in spans]
    return dataclasses.replace(
        found, coefficients=dataclasses.replace(y, coefficients=torch.stack(moved)), galerkin=found
    )


def _beyond(found: "Expansion", name: str) -> torch.Tensor | float:
    """How many times the last difference of three solves of a field is still to come, 0 where they do not tell."""
    first, second, third = found.chain
    with torch.no_grad():
        (wide, _), (narrow, size) = first.apart(second, name, None), second.apart(third, name, None)
        if not 1e-12 * size < narrow <= _GEOMETRIC * wide:
            return 0.0
    ratio = second.apart(third, name, None)[0] / first.apart(second, name, None)[0]
    return ratio / (1 - ratio)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Coefficients in time: in each window a polynomial through its start and its stages.

    Attributes:
        starts: Moment at which each window begins, and where the last one ends, (w + 1,).
        nodes: Share of a window of the start and the stages, (s + 1,).
        coefficients: (w, s + 1, N).
    """

    starts: torch.Tensor
    nodes: torch.Tensor
    coefficients: torch.Tensor

    def at(self, t: float) -> torch.Tensor:
        """Coefficients at a moment, (N,)."""
        first, last = float(self.starts[0]), float(self.starts[-1])
        slack = 1e-9 * (last - first)
        if not first - slack <= t <= last + slack:
            raise ValueError(f"t: the run goes from {first:g} to {last:g}, and {t:g} is asked for")
        k = int((torch.searchsorted(self.starts, t) - 1).clamp(0, len(self.coefficients) - 1))
        share = (t - float(self.starts[k])) / float(self.starts[k + 1] - self.starts[k])
        return lagrange(self.nodes, share) @ self.coefficients[k]


def lagrange(nodes: torch.Tensor, s: float) -> torch.Tensor:
    """Values at s of the polynomials that are 1 at one node and 0 at the others, (n,)."""
    ones = torch.eye(len(nodes), dtype=torch.bool)
    ratio = (s - nodes)[None] / torch.where(ones, 1.0, nodes[:, None] - nodes[None])
    return torch.where(ones, 1.0, ratio).prod(1)


@dataclasses.dataclass(frozen=True)
class Expansion:
    """Fields as sums of functions.

    Attributes:
        discrete: The functions, one set for each field.
        coefficients: (N,), or in time.
        result: How the solve ended.
        stats: Figures of the way there.
        finer: The same on a richer set of functions (and finer windows), from which the error is told; None without.
        galerkin: What the equation tested with the functions gave, where these coefficients are nearer to the richest
            of the finer answers; None where they are its own.
    """

    discrete: Discrete
    coefficients: "torch.Tensor | Windows"
    result: Result
    stats: Mapping[str, Any]
    finer: "Expansion | None" = None
    galerkin: "Expansion | None" = None

    def __repr__(self) -> str:
        told = "" if self.finer is None else f", error {self.error():.2g}"
        fields = ", ".join(self.discrete.equation.fields)
        return f"Expansion({self.result.name}, {fields} by {self.discrete.count} functions{told})"

    @property
    def chain(self) -> "list[Expansion]":
        """This answer and those that tell its error, the richest one last."""
        return [self, *(self.finer.chain if self.finer is not None else ())]

    @property
    def norm(self) -> str:
        """In which the residual was made to vanish, and what was done then."""
        order = self.discrete.order
        tested = f"tested with the functions (dual of {f'H{order}' if order else 'L2'})"
        if self.galerkin is None:
            return tested
        return f"{tested}, then nearest in the mean square to the same by {self.chain[-1].discrete.count} functions"

    def __call__(self, field: str, /, t: float | torch.Tensor | None = None, **places: Any) -> torch.Tensor:
        """A field at places.

        Args:
            field: Its name.
            t: The moment; the end of the run if None.
            places: x, y, ... of any one shape; numbers or tensors.

        Raises:
            ValueError: The field or an axis is unknown, or the moment lies outside the run.
        """
        own = self.discrete
        names, axes = own.equation.fields, tuple(own.equation.domain.axes)
        if field not in names:
            raise ValueError(f"{field!r} is no field; known: {', '.join(names)}")
        if set(places) != set(axes):
            raise ValueError(f"places: expected {', '.join(axes)}, got {', '.join(places) or 'none'}")
        tensors = torch.broadcast_tensors(*(torch.as_tensor(places[a], dtype=torch.float64) for a in axes))
        shape, flat = tensors[0].shape, {a: v.flatten() for a, v in zip(axes, tensors, strict=True)}
        i = names.index(field)
        moment, y = 0.0, self.coefficients
        if isinstance(y, Windows):
            moment = float(y.starts[-1]) if t is None else float(t)
            y = y.at(moment)
        space = own.spaces[i]
        lifted = space.lifting(flat, [""], moment, own.numbers)[""]
        return (space.functions(flat) @ y[own.slices[i]] + lifted).reshape(shape)

    def error(self, field: str | None = None, t: float | None = None) -> float:
        """Estimate of the relative error in the mean square over the domain: the difference to richer solves.

        Args:
            field: Its name; the first one if None.
            t: The moment; the end of the run if None.

        Raises:
            ValueError: The solve was told to leave the estimate out.
        """
        if self.finer is None:
            raise ValueError("error: solved with estimate=False; leave that out")
        name = self.discrete.equation.fields[0] if field is None else field
        solved, richest = self.galerkin or self, self.chain[-1]
        with torch.no_grad():
            missed, size = (float(v) for v in solved.apart(self.finer, name, t))
            left = 0.0
            if self.finer.finer is not None and missed > 0:
                # where more functions help slowly, the richer answer errs too: the differences are summed to the end
                again, size = (float(v) for v in self.finer.apart(richest, name, t))
                ratio = min(again / missed, _SLOWEST)
                missed, left = missed / (1 - ratio), again * ratio / (1 - ratio)
            if self.galerkin is not None:
                beyond = float(_beyond(solved, name)) if len(self.chain) == 3 else 0.0
                where = richest.discrete.places
                ends = richest(name, t=t, **where)
                ends = ends + beyond * (ends - self.finer(name, t=t, **where))
                missed = float((richest.discrete.weight * (self(name, t=t, **where) - ends).square()).sum().sqrt())
                missed = math.hypot(missed, left / 2 if beyond else left)  # half of what goes beyond may be wrong
        return missed / max(size, 1e-300)

    def nearest(self, other: "Expansion") -> Callable[[float | None], torch.Tensor]:
        """Moment -> coefficients of the functions for the fields of another answer, (N,)."""
        own, theirs = self.discrete, other.discrete
        root, maps = own.weight.sqrt(), []
        for mine, their in zip(own.spaces, theirs.spaces, strict=True):
            onto = torch.linalg.pinv(root[:, None] * mine.functions(own.places)) * root
            maps.append((onto, onto @ their.functions(own.places)))

        def at(t: float | None) -> torch.Tensor:
            y = other.coefficients
            y = y.at(t or 0.0) if isinstance(y, Windows) else y
            parts = []
            for k, (onto, across) in enumerate(maps):
                lifts = [d.spaces[k].lifting(own.places, [""], t or 0.0, d.numbers)[""] for d in (theirs, own)]
                parts.append(across @ y[theirs.slices[k]] + onto @ (lifts[0] - lifts[1]))
            return torch.cat(parts)

        return at

    def apart(self, other: "Expansion", name: str, t: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Root mean squares over the domain of the difference to another answer, and of that answer."""
        places, weight = other.discrete.places, other.discrete.weight
        own, theirs = self(name, t=t, **places), other(name, t=t, **places)
        return (weight * (own - theirs).square()).sum().sqrt(), (weight * theirs.square()).sum().sqrt()

    def check(self) -> "Expansion":
        """This answer if its solve succeeded.

        Raises:
            SolveError: It did not.
        """
        if self.result is not Result.SUCCESS:
            held = self.coefficients.coefficients if isinstance(self.coefficients, Windows) else self.coefficients
            what = f"equation: {self.result.name}: {self.result.remedy}"
            raise SolveError(what, Solution(held, self.result, dict(self.stats)))
        return self
