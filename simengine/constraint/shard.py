"""Experts dealt out to processes, and what passes between them.

Every process calls the layer with the same arguments and gets the same result; each works on the rows of its own
blocks. Per iteration the blocks' normal matrices pass, K (N^2 + N + 1) numbers, and every process solves the coupled
system from the same bits, so all of them take the same decisions.
"""

import dataclasses
import itertools
from typing import Any

import torch
import torch.distributed as dist


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of this process in a group of them; `Shard()` is one process that owns everything.

    Attributes:
        group: Of `torch.distributed`; None for one process.
    """

    group: Any = None

    @property
    def size(self) -> int:
        """Number of processes."""
        return 1 if self.group is None else dist.get_world_size(self.group)

    @property
    def rank(self) -> int:
        """Of this process."""
        return 0 if self.group is None else dist.get_rank(self.group)

    def bounds(self, count: int) -> list[int]:
        """Blocks of process p are bounds[p] to bounds[p + 1]."""
        return [count * p // self.size for p in range(self.size + 1)]

    def sizes(self, count: int) -> list[int]:
        """Blocks of each process."""
        return [b - a for a, b in itertools.pairwise(self.bounds(count))]

    def own(self, count: int) -> slice:
        """Blocks of this process among `count`."""
        bounds = self.bounds(count)
        return slice(bounds[self.rank], bounds[self.rank + 1])

    def join(self, part: torch.Tensor, sizes: list[int], dim: int = 1) -> torch.Tensor:
        """Everyone's parts along `dim`, of the given sizes; backward, each takes its part of a gradient all have."""
        return part if self.size == 1 else _Join.apply(part, self, tuple(sizes), dim)

    def spread(self, value: torch.Tensor) -> torch.Tensor:
        """What all processes have alike; backward, the sum of what each finds for its own part."""
        return value if self.size == 1 else _Spread.apply(value, self)

    def once(self, value: torch.Tensor) -> torch.Tensor:
        """What came through `spread`, used by all processes for the same; backward, one of them answers for it."""
        return value if self.size == 1 else _OnceDifferentiable.apply(value, self)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum over processes, without a gradient, the same bits everywhere."""
        if self.size == 1:
            return part
        parts = _gather(part.detach(), self)
        return torch.stack(parts).sum(dim=0)


def _gather(part: torch.Tensor, shard: Shard) -> list[torch.Tensor]:
    part = part.contiguous()
    parts = [torch.empty_like(part) for _ in range(shard.size)]
    dist.all_gather(parts, part, group=shard.group)
    return parts


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, shard: Shard, sizes: tuple[int, ...], dim: int) -> torch.Tensor:
        ctx.start, ctx.length, ctx.dim = sum(sizes[: shard.rank]), sizes[shard.rank], dim
        longest = max(sizes)
        padded = part.new_zeros(*part.shape[:dim], longest, *part.shape[dim + 1 :])
        padded.narrow(dim, 0, part.shape[dim]).copy_(part)
        parts = _gather(padded, shard)
        return torch.cat([p.narrow(dim, 0, size) for p, size in zip(parts, sizes, strict=True)], dim=dim)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad.narrow(ctx.dim, ctx.start, ctx.length), None, None, None  # part


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, shard: Shard) -> torch.Tensor:
        ctx.shard = shard
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Total.apply(grad, ctx.shard), None  # value


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, shard: Shard) -> torch.Tensor:
        ctx.shard = shard
        return shard.total(part)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Total.apply(grad, ctx.shard), None  # part


class _OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, shard: Shard) -> torch.Tensor:
        ctx.shard = shard
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad if ctx.shard.rank == 0 else torch.zeros_like(grad), None  # value
