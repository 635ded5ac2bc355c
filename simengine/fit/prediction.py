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
        count: Share of the rows that count as independent [1].
    """

    name: str
    values: torch.Tensor
    measured: Measured
    sigma: torch.Tensor
    count: float = 1.0

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


def correlation_time(residual: torch.Tensor) -> float:
    """Rows that count as one: the integrated autocorrelation 1 + 2 sum rho_k of a series, by Geyer's positive pairs.

    Args:
        residual: (rows, series), in order; NaN at gaps.

    Returns:
        At least 1.
    """
    longest = 1.0
    for series in residual.T:
        r = series[~series.isnan()]
        n = len(r)
        if n < 8 or not float(r.var()) > 0:
            continue
        r = r - 0.0  # a mean that is off is a misfit too, not to be taken away
        spectrum = torch.fft.rfft(r, 2 * n)
        rho = torch.fft.irfft(spectrum.abs().square(), 2 * n)[:n]
        rho = rho / rho[0]
        pairs = rho[1 : n - (n - 1) % 2].reshape(-1, 2).sum(1)
        stop = int((pairs <= 2 * 2.0 / n**0.5).nonzero()[0]) if bool((pairs <= 4.0 / n**0.5).any()) else len(pairs)
        longest = max(longest, 1.0 + 2.0 * float(pairs[:stop].sum()))
    return min(longest, float(len(residual)))
