"""Which marks `simengine observe` puts on a body, and in which frames it sees them."""

import dataclasses

import torch

from simengine.observe.instruments.marks.specs import MarkedPoints, Times
from simengine.scene.asks import Cloud
from simengine.scene.base import AbstractWorld
from simengine.scene.instrument import Measured


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of a film of marks.

    Attributes:
        points: Which points are marked.
        times: When one looks.
        gaps: Share of the values that are left out, in runs of some frames [1].
        axes: What is written of each mark: x, y, z in metres, or the pixels u, v.
    """

    points: MarkedPoints
    times: Times
    gaps: float
    axes: tuple[str, ...]

    def frames(self, world: AbstractWorld, generator: torch.Generator) -> torch.Tensor:
        """Moments of the frames, (f,) [s]."""
        last = self.times.last or world.sizes()["s"]
        frames = torch.arange(int(last * self.times.rate + 1e-9) + 1, dtype=torch.float64) / self.times.rate
        jitter = self.times.jitter * torch.randn(len(frames), generator=generator, dtype=torch.float64)
        frames = (frames + jitter).clamp(0.0, last).sort().values
        frames[0] = 0.0
        return frames

    def places(self, world: AbstractWorld, body: str | None, generator: torch.Generator) -> torch.Tensor:
        """Places on the body at rest, (k, 3) [m]."""
        ask = Cloud(times=torch.zeros(1, dtype=torch.float64), body=body)
        return _marks(world.undeformed().prepare([ask]).solve([ask]).sample(ask)[0], self.points, generator)

    def seen(self, rows: int, count: int, generator: torch.Generator) -> torch.Tensor:
        """What is seen of so many marks in so many frames, bool (rows, count)."""
        mask = torch.ones(rows, count, dtype=torch.bool)
        while float((~mask).sum()) < self.gaps * mask.numel():
            mark = int(torch.randint(count, (1,), generator=generator))
            start, length = (int(torch.randint(1, n, (1,), generator=generator)) for n in (max(rows, 2), 8))
            mask[start : start + length, mark] = False
        return mask

    def measured(self, times: torch.Tensor, mask: torch.Tensor, names: tuple[str, ...]) -> Measured:
        """An empty film: rows frame by frame, within a frame mark by mark.

        Args:
            times: Of the frames, in the file's clock, (f,) [s].
            mask: What is seen, bool (f, k).
            names: Of the marks.
        """
        rows, count = mask.shape
        shape = (rows * count, len(self.axes))
        return Measured(
            values=torch.zeros(shape, dtype=torch.float64),
            names=self.axes,
            units=("px" if "u" in self.axes else "m",) * len(self.axes),
            at={"time": times[:, None].expand(rows, count).reshape(-1)},
            mask=mask.reshape(-1, 1).expand(shape),
            held_out=torch.zeros(shape, dtype=torch.bool),
            sigma=torch.full(shape, torch.nan, dtype=torch.float64),
            labels=names,
        )


def _marks(places: torch.Tensor, spec: MarkedPoints, generator: torch.Generator) -> torch.Tensor:
    """Some of the particles (n, 3), those of the surface told by the side on which their neighbours lie."""
    if spec.surface and len(places) > 12:
        near = torch.cdist(places, places).topk(12, largest=False).indices
        lean = (places[near].mean(1) - places).norm(dim=1)
        places = places[lean > 0.5 * lean.max()]
    return places[torch.randperm(len(places), generator=generator)[: spec.count]]
