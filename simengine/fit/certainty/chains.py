"""Whether chains have converged: split R-hat and effective samples (Vehtari et al. 2021, without the ranks)."""

import numpy as np
from numpy.typing import NDArray

AGREED = {"ensemble": 1.05, "nuts": 1.01}  # R-hat; the many walkers of an ensemble are each shorter than a chain
Chains = NDArray[np.float64]  # (chains, samples)


def _split(chains: Chains) -> Chains:
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, chains.shape[1] - half :]])


def r_hat(chains: Chains) -> float:
    """Split R-hat of one number, (chains, samples): 1 where all halves of all chains tell the same."""
    parts = _split(chains)
    n = parts.shape[1]
    if n < 2:
        return float("inf")
    within = float(parts.var(1, ddof=1).mean())
    between = n * float(parts.mean(1).var(ddof=1))
    return float(np.sqrt((n - 1) / n + between / (n * within))) if within > 0 else float("inf")


def effective_samples(chains: Chains) -> float:
    """Independent samples that tell the mean of one number as well, by Geyer's initial monotone sequence."""
    parts = _split(chains)
    m, n = parts.shape
    if n < 4:
        return 0.0
    within = float(parts.var(1, ddof=1).mean())
    total = (n - 1) / n * within + float(parts.mean(1).var(ddof=1))
    if not total > 0:
        return 0.0
    centred = parts - parts.mean(1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * n, axis=1)
    gamma = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n].mean(0) / n
    rho = 1 - (within - gamma * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(1)
    stop = np.argmax(pairs < 0) if (pairs < 0).any() else len(pairs)
    time = max(2 * float(np.minimum.accumulate(pairs[:stop]).sum()) - 1, 1 / np.log10(max(m * n, 10)))
    return m * n / time


def enough(chains: NDArray[np.float64], method: str, wanted: int) -> bool:
    """Whether chains (chains, samples, coordinates) agree and hold some more effective samples than are wanted."""
    each = [chains[:, :, k] for k in range(chains.shape[2])]
    return all(r_hat(own) < AGREED[method] and effective_samples(own) > 1.1 * wanted for own in each)
