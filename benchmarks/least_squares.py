"""Least squares beside MINPACK on certified problems: NIST's sets, Moré, Garbow and Hillstrom's, high conditions.

`python benchmarks/least_squares.py [nist] [mgh] [linear]`: these parts, or all. Exact Jacobians for all. Wrong answers
that are called a success are counted apart, and so are right ones that are not. Where optimistix and jax are installed
they solve the same in float64; what jax takes to compile each problem is told apart from its time.
"""

import importlib.util
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.optimize
import torch
from simengine.benchmarks import _certified

from simengine.solve.least_squares import Dense, LevenbergMarquardt, least_squares

Answer = tuple[np.ndarray, bool, str]  # z, whether it is called a success, and what it is called
Residual = Callable[[torch.Tensor], torch.Tensor]


def ours(residual: Residual, start: np.ndarray, **options: Any) -> Answer:
    found = least_squares(lambda z, _: residual(z), torch.tensor(start), **options)
    return found.value.numpy(), found.success, found.result.name


def minpack(residual: Residual, start: np.ndarray) -> Answer:
    jacobian = torch.func.jacfwd(residual)
    found = scipy.optimize.least_squares(
        lambda z: residual(torch.tensor(z)).numpy(),
        start,
        lambda z: jacobian(torch.tensor(z)).numpy(),
        method="lm",
        ftol=1e-14,
        xtol=1e-14,
        gtol=1e-14,
        max_nfev=1000,
    )
    return found.x, bool(found.success), str(found.status)


class Optimistix:
    """Levenberg and Marquardt's method of optimistix, on residuals in jax; `compiled` of the CPU seconds are jax's."""

    def __init__(self, tolerance: float = 1e-12) -> None:
        import jax
        import optimistix

        jax.config.update("jax_enable_x64", True)
        self.xp = jax.numpy
        self.solver = optimistix.LevenbergMarquardt(rtol=tolerance, atol=tolerance)
        self.compiled = 0.0

    def __call__(self, residual: Residual, start: np.ndarray) -> Answer:
        import jax
        import optimistix

        def solve(z: Any) -> Any:
            found = optimistix.least_squares(lambda z, _: residual(z), self.solver, z, max_steps=1000, throw=False)
            return found.value, found.result == optimistix.RESULTS.successful

        begin = time.process_time()
        z = self.xp.asarray(start)
        ready = jax.jit(solve).lower(z).compile()
        self.compiled += time.process_time() - begin
        value, success = ready(z)
        return np.asarray(value), bool(success), "not successful"


def solvers() -> dict[str, Callable[..., Answer]]:
    """Ours, MINPACK and, where it is installed, optimistix."""
    found: dict[str, Callable[..., Answer]] = {"simengine": ours, "scipy lm": minpack}
    if importlib.util.find_spec("optimistix"):
        found["optimistix LM"] = Optimistix()
    return found


def counted(label: str, solver: Callable[..., Answer], cases: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """Right ones, silent wrong ones and refused right ones of cases: residual, start, and of z whether it is right.

    Further whether it is the best one, and whether its value is one that only unknowns without bound approach, which is
    no minimum, and rightly refused.
    """
    right = best = wrong = endless = 0
    shy: Counter[str] = Counter()
    begin = time.process_time()
    for residual, start, is_right, is_best, is_far in cases:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                z, success, called = solver(residual, start)
        except (RuntimeError, ValueError):  # not finite, say
            z, success, called = np.full_like(start, np.nan), False, "not finite"
        good = bool(np.isfinite(z).all()) and is_right(z)
        right += good
        best += good and is_best(z)
        wrong += success and not good
        shy[called] += good and not success
        endless += good and not success and is_far(z)
    seconds, compiled = time.process_time() - begin, getattr(solver, "compiled", 0.0)
    return {
        "name": label,
        "right": f"{right} of {len(cases)}",
        "the best minimum": best,
        "wrong and called a success": wrong,
        "right and not called a success": ", ".join(f"{n} {name}" for name, n in shy.items() if n) or 0,
        "of these no minimum but a limit at infinity": endless,
        "CPU s": round(seconds - compiled, 1),
        **({"and to compile": round(compiled, 1)} if compiled else {}),
    }


def nist_cases(xp: Any = torch) -> list[tuple[Any, ...]]:
    """Six digits of every parameter; residuals in the arrays of `xp`."""
    cases = []
    for name, start in _certified.STARTS:
        x, y = (xp.asarray(part) for part in _certified.data(name))
        model = _certified.models(xp)[name]

        def right(z: np.ndarray, name: str = name) -> bool:
            return bool(_certified.digits(z, name) >= 6)

        begin = np.array(_certified.NIST[name][start])
        cases.append((lambda b, model=model, x=x, y=y: model(b, x) - y, begin, right, right, lambda z: False))
    return cases


def mgh_cases(xp: Any = torch) -> list[tuple[Any, ...]]:
    """A known minimum of |r|^2, and the best one, to five digits, from the standard start times 1, 10 and 100."""
    cases = []
    solved = _certified.problems(xp)
    for name, (residual, start, minima) in _certified.problems(torch).items():
        limits = _certified.AT_INFINITY.get(name, [])

        def right(z: np.ndarray, residual: Residual = residual, known: Sequence[float] = minima) -> bool:
            square = float(residual(torch.tensor(z)).square().sum())
            return any(abs(square - m) <= 1e-5 * m + 1e-10 * (m == 0) for m in known)

        def best(z: np.ndarray, right: Callable[..., bool] = right, known: Sequence[float] = minima) -> bool:
            return right(z, known=known[:1])

        def far(z: np.ndarray, right: Callable[..., bool] = right, known: Sequence[float] = limits) -> bool:
            return right(z, known=known)

        cases += [(solved[name][0], scale * np.array(start), right, best, far) for scale in (1.0, 10.0, 100.0)]
    return cases


def linear_rows() -> list[dict[str, Any]]:
    """Error of a consistent linear problem, 80 rows and 12 unknowns."""
    rows = []
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(80, 12, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))
    for exponent in (2, 5, 7, 10):
        matrix = u @ torch.diag(torch.logspace(0, -exponent, 12, dtype=torch.float64)) @ v.T
        told: dict[str, Any] = {"name": f"linear, condition 1e{exponent}"}
        for label, structure in (("J^T J", None), ("qr", Dense(qr=True))):
            found = least_squares(
                lambda z, args: args @ (z - 1), torch.zeros(12, dtype=torch.float64), matrix, structure=structure
            )
            error = float((found.value - 1).norm()) / 12**0.5
            told[label] = f"{error:.1e} {found.result.name}, {int(found.stats['num_iterations'])} trials"
        rows.append(told)
    return rows


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    wanted = set(arguments) or {"nist", "mgh", "linear"}
    rows: list[dict[str, Any]] = []
    if "nist" in wanted:
        rows += [
            counted(f"NIST StRD, {label}", solver, nist_cases(getattr(solver, "xp", torch)))
            for label, solver in solvers().items()
        ]
        plain = LevenbergMarquardt(accelerated=False, finished=False)
        rows.append(
            counted(
                "NIST StRD, simengine without acceleration and Newton",
                lambda r, s: ours(r, s, solver=plain),
                nist_cases(),
            )
        )
    if "mgh" in wanted:
        rows += [
            counted(f"Moré-Garbow-Hillstrom, {label}", solver, mgh_cases(getattr(solver, "xp", torch)))
            for label, solver in solvers().items()
        ]
    if "linear" in wanted:
        rows += linear_rows()
    return rows


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(row)
