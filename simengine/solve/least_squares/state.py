"""All that an iteration of least squares knows between two trials."""

import dataclasses
from collections.abc import Mapping

import torch

from simengine.solve.least_squares.structures.gram import Linearisation

ACTIVE = -1  # status of a problem that has not ended
_PREFIX = "linearisation."


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterationState:
    """A batch of b problems of n unknowns between two trials; `advance` gives the next one and changes none.

    Attributes:
        y: The best points so far, shape (b, n).
        cost: 1/2 |r|^2 there, float64, shape (b,).
        linearisation: J^T r as `"gradient"`, diag(J^T J) as `"diagonal"`, both (b, n), and J^T J as the system lays it
            out, all at y.
        damping: Of the next trial, relative to `scale`, shape (b,).
        growth: Factor by which the damping grows when the next trial is refused, shape (b,).
        scale: What damping is relative to: the largest diag(J^T J) seen, or the solver's `scale`, shape (b, n).
        calm: Trials in a row that were predicted to lower |r|^2 by less than the solver's `drop`, int64, shape (b,).
        rough: Whether the cost could not judge the last step for its rounding, bool, shape (b,).
        status: A `Result`, or -1 for a problem that goes on, int64, shape (b,).
        iterations: Trials so far, int64, shape (b,).
    """

    y: torch.Tensor
    cost: torch.Tensor
    linearisation: Linearisation
    damping: torch.Tensor
    growth: torch.Tensor
    scale: torch.Tensor
    calm: torch.Tensor
    rough: torch.Tensor
    status: torch.Tensor
    iterations: torch.Tensor

    @property
    def active(self) -> torch.Tensor:
        """Numbers of the problems that go on, shape (p,)."""
        return (self.status == ACTIVE).nonzero().flatten()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything by name, flat: an iteration that goes on from it ends bitwise as one that was not interrupted."""
        held = dict(vars(self))
        del held["linearisation"]
        return {**held, **{_PREFIX + name: value for name, value in self.linearisation.items()}}

    @classmethod
    def from_state_dict(cls, held: Mapping[str, torch.Tensor]) -> "IterationState":
        """The state that `state_dict` wrote.

        Raises:
            ValueError: An entry is missing or unknown.
        """
        lin = {name.removeprefix(_PREFIX): value for name, value in held.items() if name.startswith(_PREFIX)}
        rest = {name: value for name, value in held.items() if not name.startswith(_PREFIX)}
        wanted = {field.name for field in dataclasses.fields(cls)} - {"linearisation"}
        if set(rest) != wanted or not {"gradient", "diagonal"} <= set(lin):
            raise ValueError(
                f"state of an iteration: expected {sorted(wanted)} and {_PREFIX}gradient, {_PREFIX}diagonal, "
                f"got {sorted(held)}"
            )
        return cls(linearisation=lin, **rest)


def of(value: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Rows of the problems `which`, in order and each once, (p, ...); of all, `value` itself: small solves feel it."""
    return value if len(which) == len(value) else value[which]


def put(value: torch.Tensor, which: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """`value` with the rows of the problems `which` replaced; `value` itself stays."""
    return rows if len(which) == len(value) else value.index_copy(0, which, rows)
