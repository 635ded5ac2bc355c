"""Windows of time by Radau's collocation, as long as the residual between the stages allows.

In a window the coefficients are a polynomial in time through the start and the stages, where the equation holds (Radau
IIA; Hairer & Wanner, Solving Ordinary Differential Equations II, IV.5 and IV.8). Between the stages it holds nearly:
what is missing there says how long the next window may be. Factors of the Jacobian are kept as long as they halve the
residual.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre, polynomial

from simengine.constraint.spectral.answer import Windows, lagrange
from simengine.constraint.spectral.discrete import Discrete
from simengine.solve.solution import Result

_NEWTON = 12
_LONGER = math.sqrt(2.0)  # windows change by powers of this, so that factors serve several


def radau(stages: int) -> torch.Tensor:
    """Nodes of Radau IIA on (0, 1], the last one 1."""
    if not 1 <= stages <= 9:
        raise ValueError(f"stages: expected 1 to 9, got {stages}")
    series = np.zeros(stages + 1)
    series[stages - 1 : stages + 1] = -1.0, 1.0  # P_s - P_(s-1) vanishes at the right Radau points
    return torch.from_numpy(np.sort((legendre.legroots(series).real + 1) / 2))


def slopes(nodes: torch.Tensor, s: float) -> torch.Tensor:
    """Derivatives at s of the polynomials that are 1 at one node and 0 at the others, (n,)."""
    found = []
    for k in range(len(nodes)):
        others = np.delete(nodes.numpy(), k)
        series = polynomial.polyfromroots(others) / np.prod(float(nodes[k]) - others)
        found.append(polynomial.polyval(s, polynomial.polyder(series)))
    return torch.tensor(np.array(found), dtype=torch.float64)


class SpectralMarch:
    """An equation in time.

    Args:
        discrete: Its residual.
        stages: Of a window.
        tolerance: Largest residual between the stages, relative to the rates so far.
    """

    def __init__(self, discrete: Discrete, *, stages: int, tolerance: float) -> None:
        self.discrete: Discrete = discrete
        self.tolerance: float = tolerance
        self.stages: int = stages
        self.nodes: torch.Tensor = torch.cat([torch.zeros(1, dtype=torch.float64), radau(stages)])
        self._rates = torch.stack([slopes(self.nodes, float(c)) for c in self.nodes[1:]])  # (s, s + 1)
        between = (self.nodes[:-1] + self.nodes[1:]) / 2
        self._between, self._sharp = between, max(1e-5 * min(tolerance, 1e-4), 1e-13)
        self._values_between = torch.stack([lagrange(self.nodes, float(c)) for c in between])
        self._rates_between = torch.stack([slopes(self.nodes, float(c)) for c in between])
        self._factors: tuple[float, Any] | None = None
        self._keep = any(isinstance(v, torch.Tensor) and v.requires_grad for v in discrete.numbers.values())
        self.factorisations: int = 0
        self.refused: int = 0

    def run(self, y: torch.Tensor, duration: float, longest: float) -> tuple[Windows, Result, dict[str, Any]]:
        """All windows, none longer than `longest`, from the coefficients y (N,) at t = 0."""
        window = min(longest, duration / 1000)
        t, starts, found, size = 0.0, [0.0], [], 0.0
        result, shortest = Result.SUCCESS, 1e-10 * duration
        while t < duration * (1 - 1e-12):
            left = duration - t
            dt = left if window >= left * (1 - 1e-9) else min(window, left / 2) if window > left / 2 else window
            whole = self.window(y, t, dt)
            if whole is None:
                window, self.refused = dt / 4, self.refused + 1
            else:
                missed, rate = self._defect(whole.detach(), t, dt)
                bar = max(size, rate)
                ratio = missed / (self.tolerance * bar) if bar > 0 else 0.0
                better = 0.9 * max(ratio, 1e-6) ** (-1 / self.stages)
                change = _LONGER ** math.floor(math.log(min(max(better, 0.1), 8.0), _LONGER))
                if ratio > 1.0:
                    window = dt * min(change, 1 / _LONGER)
                    self.refused = self.refused + 1
                else:
                    t, y, size = t + dt, whole[-1], bar
                    starts.append(t)
                    found.append(whole)
                    window = min(dt * change if not 1 <= change < 2 else max(dt, window), longest)
            if window < shortest:
                result = Result.STAGNATED
                break
        if not found:
            found, starts = [y.expand(self.stages + 1, -1)], [0.0, shortest]
        windows = Windows(torch.tensor(starts, dtype=torch.float64), self.nodes, torch.stack(found))
        stats = {"windows": len(found), "refused": self.refused, "factorisations": self.factorisations}
        return windows, result, stats

    def _system(self, y: torch.Tensor, start: torch.Tensor, dt: float) -> tuple[torch.Tensor, torch.Tensor]:
        whole = torch.cat([start[None], y])
        return y, self._rates @ whole / dt

    def window(self, start: torch.Tensor, t: float, dt: float) -> torch.Tensor | None:
        """Start and stages (s + 1, N) of a window; None where Newton does not find them."""
        own, moments = self.discrete, t + dt * self.nodes[1:]
        lifted = own.liftings(moments)
        with torch.no_grad():
            past = start.detach()
            y = past.expand(self.stages, -1).clone()
            size, fresh = None, False
            for _ in range(_NEWTON):
                r = own.residual(*self._system(y, past, dt), moments, lifted)
                if not bool(r.isfinite().all()):
                    return None
                length = float(r.norm())
                if size is not None and length > 0.5 * size:
                    if fresh and length > 2 * size:
                        return None
                    self._factors = None
                if self._factors is None or self._factors[0] != dt:
                    if not self._factored(y, past, t, dt, moments, lifted):
                        return None
                    fresh = True
                assert self._factors is not None
                step = self._solved(-r)
                y, size = y + step, length
                if float(step.norm()) <= self._sharp * float(y.norm()):
                    break
            else:
                return None
        if self._keep and torch.is_grad_enabled():
            r = own.residual(*self._system(y, start, dt), moments, lifted)
            if not self._factored(y, past, t, dt, moments, lifted):
                return None
            y = y - torch.linalg.solve(self._matrix, r.flatten()).reshape(y.shape)
        return torch.cat([start[None], y])

    def _factored(
        self, y: torch.Tensor, past: torch.Tensor, t: float, dt: float, moments: torch.Tensor, lifted: Any
    ) -> bool:
        n, s = self.discrete.count, self.stages
        by_y, by_rate = self.discrete.linearised(*self._system(y, past, dt), moments, lifted)
        matrix = y.new_zeros(s, n, s, n)
        for a in range(s):
            matrix[a, :, a] += by_y[a]
            for b in range(s):
                matrix[a, :, b] += self._rates[a, b + 1] / dt * by_rate[a]
        self._matrix = matrix.reshape(s * n, s * n)
        lu, pivots, info = torch.linalg.lu_factor_ex(self._matrix)
        self.factorisations += 1
        self._factors = (dt, (lu, pivots))
        return int(info) == 0

    def _solved(self, r: torch.Tensor) -> torch.Tensor:
        assert self._factors is not None
        return torch.linalg.lu_solve(*self._factors[1], r.reshape(-1, 1)).reshape(r.shape)

    def _defect(self, whole: torch.Tensor, t: float, dt: float) -> tuple[float, float]:
        """The residual between the stages, and what the rates alone would leave, largest over the moments."""
        own, moments = self.discrete, t + dt * self._between
        with torch.no_grad():
            y, rate = self._values_between @ whole, self._rates_between @ whole / dt
            missed = own.residual(y, rate, moments, own.liftings(moments))
            sizes = (rate.norm(dim=1), y.norm(dim=1) / (t + dt) * 1e-3)
        return float(missed.norm(dim=1).max()), float(torch.stack(sizes).max())
