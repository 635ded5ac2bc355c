"""A motion that was recorded: how far a rigid body stands from its place, over time."""

import torch
from torch import nn

from simengine.mpm.boundaries import Vector, keep


class RecordedPath(nn.Module):
    """Displacements at times, straight between them and at rest before the first and after the last.

    The body is displaced by `gain * s(t + start) + offset`, s what was recorded; with `relative` its way since t = 0.

    Args:
        times: Of the records [s], growing, (k,).
        shifts: Displacements then [m], (k, 3).
        start: Time of the records at time 0 of the motion [s], a number or tensor.
        gain: Multiplies what was recorded [1], a number or tensor.
        offset: Added to it [m], (3,).
        relative: Whether the records are places, of which the way counts.

    Raises:
        ValueError: Times do not grow, or a value is not finite or of the wrong shape.
    """

    times: torch.Tensor
    shifts: torch.Tensor
    start: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        times: torch.Tensor,
        shifts: torch.Tensor,
        *,
        start: float | torch.Tensor = 0.0,
        gain: float | torch.Tensor = 1.0,
        offset: Vector = (0.0, 0.0, 0.0),
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.relative = relative
        times, shifts = (torch.as_tensor(t, dtype=torch.float64) for t in (times, shifts))
        if times.ndim != 1 or len(times) < 2 or shifts.shape != (len(times), 3):
            raise ValueError(
                f"a path needs at least two times (k,) and displacements (k, 3), got {tuple(times.shape)} and "
                f"{tuple(shifts.shape)}"
            )
        if not bool(torch.isfinite(times).all() and torch.isfinite(shifts).all()):
            raise ValueError("a path holds a value that is not finite")
        if bool((behind := times.diff() <= 0).any()):
            k = int(behind.nonzero()[0, 0])
            raise ValueError(f"times of a path must grow, got {float(times[k]):g} s and then {float(times[k + 1]):g} s")
        self.register_buffer("times", times)
        self.register_buffer("shifts", shifts)
        keep(self, "start", start, ((),))
        keep(self, "gain", gain, ((),))
        keep(self, "offset", offset, ((3,),))

    def shift(self, t: torch.Tensor) -> torch.Tensor:
        """Displacements at times t (m,) [s], (m, 3) [m], with gradients of the times, of start, gain and offset."""
        s = self._recorded(t)
        if self.relative:
            s = s - self._recorded(torch.zeros_like(t[:1]))
        return self.gain.to(t) * s + self.offset.to(t)

    def _recorded(self, t: torch.Tensor) -> torch.Tensor:
        known, shifts = self.times.to(t), self.shifts.to(t)
        at = (t + self.start.to(t)).clamp(known[0], known[-1])
        k = torch.searchsorted(known, at.detach(), right=True).clamp(1, len(known) - 1)
        part = ((at - known[k - 1]) / (known[k] - known[k - 1]))[:, None]
        return shifts[k - 1] + part * (shifts[k] - shifts[k - 1])

    def rate(self, t: torch.Tensor, step: float) -> torch.Tensor:
        """Mean velocities over the steps [s] that begin at times t (m,), (m, 3) [m/s]."""
        return (self.shift(t + step) - self.shift(t)) / step

    def fastest(self) -> float:
        """Largest speed on the way [m/s]."""
        with torch.no_grad():
            rates = self.shifts.diff(dim=0) / self.times.diff()[:, None]
            return float(self.gain.abs() * rates.norm(dim=1).max())
