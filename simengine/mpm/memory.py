"""What a rollout will hold, before it is run."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simengine.mpm.model import MPMModel
from simengine.mpm.state import MPMState
from simengine.ops.matter.mpm.laws import TorchLaw
from simengine.solve.rollout import AbstractAdjoint, DirectAdjoint, saved_steps

SAMPLE = 512  # particles on which a law in torch is measured
PAGE = 4096  # bytes that a system gives at once, when one of them is touched


class Meter(TorchDispatchMode):
    """Counts the bytes of the tensors that torch makes while it is on.

    Attributes:
        held: Of those that still live [B].
        peak: The most of this so far [B].
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: int = 0
        self.peak: int = 0
        self._alive: set[int] = set()

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.held += size
            self.peak = max(self.peak, self.held)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.held -= size

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it made, not what it was given."""
        given = {arg.untyped_storage()._cdata for arg in args if isinstance(arg, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self._count(tensor)
        return made


def forecast_memory(
    model: MPMModel,
    num_particles: int,
    num_steps: int,
    *,
    save_every: int = 1,
    adjoint: AbstractAdjoint | None = None,
    gradient: bool = True,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
    state: MPMState | None = None,
) -> int:
    """Bytes that a rollout holds at its peak, beyond what is loaded already.

    Held states (96 B a particle in float32, 100 with a history variable, 36 more for each branch), saved states and
    their cotangents, grid arrays, the particle arrays of one step, and what laws in torch keep and use: they are run
    on a few particles and counted. A CPU's system gives no memory to parts of the grid that no particle ever touches:
    where `state` is told, what matter cannot reach in the time of the run does not count.

    Args:
        model: The model.
        num_particles: n.
        num_steps: Steps of the rollout.
        save_every: As of `rollout`.
        adjoint: As of `rollout`.
        gradient: Whether a backward follows.
        dtype: Of the state.
        threads: That share the particles, as of `MPMSolver.num_threads`; each has sums of its own.
        state: Where matter starts, and how fast; without it the whole grid counts.
    """
    size = torch.empty((), dtype=dtype).element_size()
    n, adjoint = num_particles, adjoint or DirectAdjoint()
    per_state = n * size * (24 + int(model.keeps_history) + 9 * model.branches)
    held, every = 2, 0
    if gradient:
        every = min(adjoint.stretch(num_steps), max(num_steps, 1))
        held = every + 1 if every >= num_steps else -(-num_steps // every) + every + 1
    saved = len(saved_steps(num_steps, save_every)) * n * size * (25 + 9 * model.branches)
    nodes = _nodes_touched(model, num_steps, state, 4 * size)
    once = n * (size * (25 + 25 + 18 + 2 + (25 + 9 if gradient else 0)) + 8 * (8 + (8 + 2 if gradient else 0)))
    if model.dissipates:
        once += n * (size * 9 * (1 + model.branches) + 8 * (2 + 2 * model.branches) * (2 if gradient else 1))
    if model.slows:
        once += n * size * 12
    if model.is_hard:
        once += n * size * 12
    if model.loads is not None:
        once += n * (3 * size + 4)
    grid = nodes * 4 * (threads + 1) * (2 if gradient else 1) * size
    if model.grid.copies > 1:
        grid *= model.grid.copies
    elif fields := len(model.grid.bodies):
        grid = nodes * 4 * fields * (2 * threads + 1 + (threads + 2 if gradient else 0)) * size
        once += n * size * (30 if gradient else 0)
    kept, used = _laws(model, n, dtype, gradient=gradient)
    return held * per_state + saved + grid + once + every * kept + used


def _nodes_touched(model: MPMModel, num_steps: int, state: MPMState | None, row: int) -> int:
    """Nodes of `row` bytes on the pages that matter can reach, or all.

    That is the box around it, widened by what the fastest particle or body can go and gravity can add; what springs
    apart by itself may go farther.
    """
    size = model.grid.size
    if state is None or state.x.is_cuda or any(model.grid.periodic):
        return size[0] * size[1] * size[2]
    span, x = num_steps * model.grid.dt, state.x.detach().double()
    ends = torch.tensor(size).double()
    table = model.table(state.x, 0)[0].detach().double()[1 : 1 + len(model.bodies)]
    across = model.grid.dx * ends.norm()  # a body that turns moves matter as far as it reaches
    bodies = table[:, 12:15].norm(dim=1) + table[:, 15:18].norm(dim=1) * across
    fastest = max(float(speed) for speed in (state.v.detach().norm(dim=1).max(), *bodies))
    fall = float(model.gravity.detach().norm()) if model.tilt is None else model.tilt.strongest()
    far = span * (fastest + span * fall / 2) / model.grid.dx
    low = (x.min(0).values / model.grid.dx - 0.5 - far).floor().clamp(min=0).minimum(ends - 1).long().tolist()
    high = (x.max(0).values / model.grid.dx + 2.5 + far).floor().clamp(min=1).minimum(ends).long().tolist()
    i, j = (torch.arange(low[k], max(high[k], low[k] + 1)) for k in (0, 1))
    start = ((i[:, None] * size[1] + j) * size[2]).flatten() * row
    first, last = (start + low[2] * row) // PAGE, (start + max(high[2], low[2] + 1) * row - 1) // PAGE
    fresh = first.clone()
    fresh[1:] = torch.maximum(first[1:], last[:-1] + 1)  # a page that two rows share counts once
    return int((last + 1 - fresh).clamp(min=0).sum()) * PAGE // row


def _laws(model: MPMModel, n: int, dtype: torch.dtype, *, gradient: bool) -> tuple[int, int]:
    """Bytes that the laws in torch keep for each recorded step, and that they use at most while they run."""
    ids = model.material_ids
    total = n if ids is None else len(ids)
    kept = used = 0
    for attribute in ("elasticity", "plasticity"):
        for law in model.torch_laws(total, attribute):
            count = n if law.particles is None else round(n * len(law.particles) / max(total, 1))
            held, peak = _measured(law, count, dtype, gradient=gradient)
            if law.plastic or law.particles is not None:  # of the rest F is that of the held state
                held += count * 9 * torch.empty((), dtype=dtype).element_size()
            kept, used = kept + held, max(used, peak - held)
    return kept, used


def _measured(law: TorchLaw, n: int, dtype: torch.dtype, *, gradient: bool) -> tuple[int, int]:
    """Bytes held after one evaluation on n particles, and at most, the gradient's among them; from fewer particles."""
    law = TorchLaw(law.module, None, plastic=law.plastic)  # takes the sample for all of the particles
    few = SAMPLE if gradient else 64 * SAMPLE  # without a gradient laws may go through many particles in parts
    own = any(len(t) == n for t in [*law.module.parameters(), *law.module.buffers()] if t.ndim)
    sizes = [n] if own or n <= 2 * few else [few, 2 * few]
    found: list[tuple[int, int]] = []
    for size in sizes:
        device = next(law.module.parameters(), torch.empty(0)).device
        F = torch.diag(torch.tensor([1.01, 1.0, 0.99], dtype=dtype, device=device)).repeat(size, 1, 1)
        inputs = (F, F.new_zeros(size)) if law.history else (F,)
        meter = Meter()
        with meter:
            record = law.evaluate(inputs, record=gradient)
            held = meter.held
            if gradient:
                law.leaves = [t for t in law.module.parameters() if t.requires_grad]
                law.pull_back(record, tuple(torch.ones_like(output) for output in record.outputs))
        found.append((held, meter.peak))
    if len(found) == 1:
        return found[0]
    (held, peak), (held_more, peak_more) = found
    ratio = (n - few) / few
    return round(held + ratio * (held_more - held)), round(peak + ratio * (peak_more - peak))
