"""Gravity that changes with time: it turns, or does what an accelerometer recorded."""

import torch
from torch import nn

from simengine.mpm.boundaries import Vector, keep
from simengine.mpm.recorded_path import RecordedPath
from simengine.solve.rotation import rotation_matrix


class Tilt(nn.Module):
    """How gravity goes over time, as seen from a vessel that is tilted or shaken and in which the grid stands.

    Only the acceleration changes, the same everywhere: a vessel that turns slowly, w^2 r being small beside g.

    Args:
        gravity: Before it turns [m/s^2], (3,).
        rate: Angular velocity with which it turns [rad/s], (3,).
        begins: When it begins to turn [s].
        until: When it stops [s]; None for never.
        path: Accelerations that are added to it over time [m/s^2].

    Raises:
        ValueError: A value is not finite, or it stops before it begins.
    """

    gravity: torch.Tensor
    rate: torch.Tensor
    begins: torch.Tensor
    until: torch.Tensor

    def __init__(
        self,
        gravity: Vector = (0.0, -9.8, 0.0),
        *,
        rate: Vector = (0.0, 0.0, 0.0),
        begins: float | torch.Tensor = 0.0,
        until: float | torch.Tensor | None = None,
        path: RecordedPath | None = None,
    ) -> None:
        super().__init__()
        keep(self, "gravity", gravity, ((3,),))
        keep(self, "rate", rate, ((3,),))
        keep(self, "begins", begins, ((),))
        self.ends: bool = until is not None
        keep(self, "until", 0.0 if until is None else until, ((),))
        if self.ends and float(self.until.detach()) < float(self.begins.detach()):
            raise ValueError(f"until: {float(self.until):g} s lies before begins = {float(self.begins):g} s")
        self.path: RecordedPath | None = path

    def acceleration(self, t: torch.Tensor) -> torch.Tensor:
        """Gravity at times t (m,) [s], (m, 3) [m/s^2]."""
        end = torch.minimum(t, self.until.to(t)) if self.ends else t
        turn = (end - self.begins.to(t)).clamp_min(0.0)[:, None] * self.rate.to(t)
        found = rotation_matrix(turn) @ self.gravity.to(t)
        return found if self.path is None else found + self.path.shift(t)

    def strongest(self) -> float:
        """The largest acceleration at any time [m/s^2], or more."""
        found = float(self.gravity.detach().norm())
        if self.path is not None:
            found += float((self.path.gain * self.path.shifts).detach().norm(dim=1).max())
        return found
