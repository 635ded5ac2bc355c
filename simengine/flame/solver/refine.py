"""Where a grid needs points: the criteria users of Cantera know (ratio, slope, curve, prune)."""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class RefineCriteria:
    """When an interval is cut in halves or a point removed. The default gives flame speeds to about 0.1 %.

    Attributes:
        ratio: Largest ratio of neighbouring intervals.
        slope: Largest change of a field from point to point, over its range.
        curve: Largest change of its slope from interval to interval, over the range of its slopes.
        prune: Points where slope and curvature are below this share of the criteria are removed; 0 for none.
    """

    ratio: float = 3.0
    slope: float = 0.05
    curve: float = 0.1
    prune: float = 0.0

    def __post_init__(self) -> None:
        if not self.ratio >= 2 or not 0 < self.slope <= 1 or not 0 < self.curve <= 1:
            raise ValueError(
                f"refine criteria: expected ratio >= 2, slope and curve in (0, 1], got {self.ratio}, {self.slope}, "
                f"{self.curve}"
            )
        if not 0 <= self.prune < min(self.slope, self.curve):
            raise ValueError(f"prune: expected 0 or less than slope and curve, got {self.prune}")

    def apply(
        self, x: torch.Tensor, anchor: int, y: torch.Tensor, scale: torch.Tensor, *, by_left_slope: bool = False
    ) -> tuple[torch.Tensor, int, torch.Tensor]:
        """Next points for fields on a grid, the same intervals in every condition.

        Args:
            x: Points [m], shape (b, N).
            anchor: Number of a point that stays.
            y: Fields, shape (b, N, m).
            scale: Of each field, broadcastable to y; what varies by less than 1e-5 of it is left alone.
            by_left_slope: The slope at the left end is a condition, so its change there counts against itself.

        Returns:
            Points (b, N'), the anchor's new number, and an estimate (b,) of the relative error of a linear
            interpolation of the fields: an eighth of h^2 times curvature over the range.
        """
        h, change = x.diff(dim=1), y.diff(dim=1)
        span = y.amax(1, keepdim=True) - y.amin(1, keepdim=True)
        slopes = change / h.unsqueeze(-1)
        slope_span = slopes.amax(1, keepdim=True) - slopes.amin(1, keepdim=True)
        varies = span > 1e-5 * scale
        by_slope = torch.where(varies, change.abs() / span.clamp_min(1e-300), 0.0).amax(-1)  # (b, N - 1)
        bend = slopes.diff(dim=1).abs()
        by_curve = torch.where(varies, bend / slope_span.clamp_min(1e-300), 0.0).amax(-1)  # (b, N - 2)
        width = 0.5 * (h[:, 1:] + h[:, :-1])
        error = torch.where(varies, bend * width.unsqueeze(-1) / span.clamp_min(1e-300) / 8, 0.0).amax((1, 2))
        cut = (by_slope > self.slope).any(0)
        bent = (by_curve > self.curve).any(0)
        cut[:-1] |= bent
        cut[1:] |= bent
        if by_left_slope:
            cut[:2] |= bool((bend[:, 0] > 2 * self.curve * slopes[:, 0].abs()).any())
        neighbour = h[:, 1:] / h[:, :-1]
        cut[1:] |= (neighbour > self.ratio * (1 + 1e-9)).any(0)
        cut[:-1] |= (1 / neighbour > self.ratio * (1 + 1e-9)).any(0)
        drop = torch.zeros(x.shape[1], dtype=torch.bool)
        if self.prune > 0:
            flat = torch.maximum(by_slope[:, 1:], by_slope[:, :-1]) < self.prune
            drop[1:-1] = (flat & (by_curve < self.prune)).all(0) & ~cut[1:] & ~cut[:-1]
            merged = (h[:, 1:] + h[:, :-1]).amax(0)
            beside = torch.minimum(torch.roll(h, 1, 1)[:, :-1], torch.roll(h, -1, 1)[:, 1:]).amin(0)
            drop[1:-1] &= merged <= self.ratio * beside  # or the ratio would ask for the point again
            drop[1:] &= ~drop[:-1].clone()  # not two in a row
            drop[anchor] = False
        points: list[torch.Tensor] = []
        new_anchor = anchor
        for k in range(x.shape[1]):
            if k == anchor:
                new_anchor = len(points)
            if not bool(drop[k]):
                points.append(x[:, k])
            if k < x.shape[1] - 1 and bool(cut[k]):
                points.append(0.5 * (x[:, k] + x[:, k + 1]))
        return torch.stack(points, dim=1), new_anchor, error
