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
    """Rows that count as one: the integrated autocorrelation 1 + 2 sum rho_k, rho averaged over series (Sokal 1997).

    The mean is not taken away: a residual that is off as a whole is a misfit too. The sum ends at the first lag whose
    rho drowns in the noise of the average.

    Args:
        residual: (rows, series), in order; NaN at gaps, which are closed up.

    Returns:
        At least 1.
    """
    total, power, count = torch.zeros(0, dtype=torch.float64), 0.0, 0
    for series in residual.T:
        r = series[~series.isnan()]
        if len(r) < 8:
            continue
        n = len(r)
        spectrum = torch.fft.rfft(r, 2 * n)
        gamma = torch.fft.irfft(spectrum.abs().square(), 2 * n)[:n]
        size = max(len(total), n)
        total = torch.nn.functional.pad(total, (0, size - len(total))) + torch.nn.functional.pad(gamma, (0, size - n))
        power, count = power + float(gamma[0]), count + n
    if not power > 0:
        return 1.0
    rho = total[1:] / power
    drowned = (rho < 2.0 / count**0.5).nonzero()
    stop = int(drowned[0]) if len(drowned) else len(rho)
    return min(1.0 + 2.0 * float(rho[:stop].sum()), float(len(residual)))
