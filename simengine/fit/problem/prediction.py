"""What an observation should have shown, beside what it did."""

import dataclasses

import torch

from simengine.scene.instrument import Measured


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One observation and its prediction.

    Attributes:
        name: Of the observation.
        values: Predicted, (rows, columns), SI.
        measured: What was read.
        sigma: Standard deviations, (rows, columns), SI.
    """

    name: str
    values: torch.Tensor
    measured: Measured
    sigma: torch.Tensor

    @property
    def residual(self) -> torch.Tensor:
        """(predicted - measured)/sigma, (rows, columns); NaN at gaps."""
        return (self.values - self.measured.values) / self.sigma

    def chi_square(self, which: torch.Tensor) -> tuple[float, int]:
        """Sum of squares over sigma, and their number, of some of the values, bool (rows, columns)."""
        r = self.residual[which]
        return float(r.square().sum()), int(which.sum())

    def rms(self, which: torch.Tensor) -> list[float]:
        """Root mean square of predicted minus measured in each column, SI; NaN where nothing is."""
        gap = torch.where(which, (self.values - self.measured.values).square(), torch.zeros_like(self.values))
        return [float(v) for v in (gap.sum(0) / which.sum(0)).sqrt()]
