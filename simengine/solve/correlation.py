"""How many values of a series count as one."""

import torch


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
