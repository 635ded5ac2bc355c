"""Poisson's equation on n^3 cells, known all around: our solves beside scipy's conjugate gradients on the same matrix.

`python benchmarks/poisson.py [n ...]` (default 32 and 64): CPU time of one thread in one process, the least of three
rounds, taken by turns; every solve to 1e-10 of the right side. `factors` and `least squares` are run up to 20^3.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg
import torch

from simengine.constraint.cloud import AssembledEquation
from simengine.solve.least_squares import MatrixFree, least_squares

_TOLERANCE = 1e-10
_FEW = 20  # cells along an axis up to which what scales badly is shown


def laplacian(n: int) -> sp.csr_array:
    """Second differences on n^3 cells, the boundary a cell beyond; (n^3, n^3)."""
    ones, eye = np.ones(n - 1), sp.eye_array(n)
    line = sp.diags_array([-ones, 2 * np.ones(n), -ones], offsets=[-1, 0, 1])
    total = sum(sp.kron(sp.kron(a, b), c) for a, b, c in ((line, eye, eye), (eye, line, eye), (eye, eye, line)))
    return sp.csr_array(total)


def _difference(u: torch.Tensor, n: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(u.reshape(n, n, n), (1,) * 6)
    inner = slice(1, -1)
    total = 6 * padded[inner, inner, inner]
    for a in (slice(2, None), slice(-2)):
        total = total - padded[a, inner, inner] - padded[inner, a, inner] - padded[inner, inner, a]
    return total.reshape(-1)


def measured(n: int) -> list[dict[str, Any]]:
    """Rows of n^3 cells: CPU seconds, times scipy's, and the relative residual that is left."""
    matrix = laplacian(n)
    right = np.random.default_rng(0).standard_normal(n**3)
    b = torch.from_numpy(right)
    definite = AssembledEquation({"k": matrix}, definite=True)

    def with_gradient() -> np.ndarray:
        k = torch.ones((), dtype=torch.float64, requires_grad=True)
        u = definite.solve({"k": k}, b)
        u.square().sum().backward()
        return u.detach().numpy()

    ways: dict[str, Callable[[], np.ndarray]] = {
        "scipy's cg": lambda: scipy.sparse.linalg.cg(matrix, right, rtol=_TOLERANCE)[0],
        "AssembledEquation(definite=True)": lambda: definite.solve({"k": 1.0}, b).numpy(),
        "the same with the gradient by k": with_gradient,
    }
    if n <= _FEW:
        factors = AssembledEquation({"k": matrix})
        ways["AssembledEquation, by factors"] = lambda: factors.solve({"k": 1.0}, b).numpy()
        ways["least_squares(structure=MatrixFree())"] = lambda: least_squares(
            lambda u, f: _difference(u, n) - f, torch.zeros_like(b), b, structure=MatrixFree(), throw=True
        ).value.numpy()
    best = dict.fromkeys(ways, np.inf)
    found: dict[str, np.ndarray] = {}
    for turn in range(3):
        for name, way in ways.items():
            if turn and "MatrixFree" in name:
                continue
            start = time.process_time()
            found[name] = way()
            best[name] = min(best[name], time.process_time() - start)
    one = best["scipy's cg"]
    return [
        {
            "name": f"{n}^3, {name}",
            "CPU s": round(seconds, 4),
            "times scipy's": round(seconds / one, 1),
            "left": f"{np.linalg.norm(matrix @ found[name] - right) / np.linalg.norm(right):.0e}",
        }
        for name, seconds in best.items()
    ]


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    return [row for n in (arguments or (_FEW, 32, 64)) for row in measured(int(n))]


if __name__ == "__main__":
    for row in main(sys.argv[1:]):
        print(row)
