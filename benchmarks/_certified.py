"""Least-squares problems whose answers are known: NIST's certified sets and those of Moré, Garbow and Hillstrom.

Every model is `f(b, x)` in the functions of the module `xp` given, torch or numpy; data of NIST, public domain, lie
beside. Sources: NIST Statistical Reference Datasets, nonlinear regression; Moré, Garbow & Hillstrom, ACM TOMS 7 (1981)
17.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NIST: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("nist_strd.json").read_text(encoding="utf-8"))
STARTS = [(name, start) for name in NIST for start in ("start1", "start2")]


def models(xp: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """f(b, x) of every set, in the order of NIST's parameters."""
    e, w = xp.exp, 2 * math.pi

    def gauss(b: Any, x: Any) -> Any:
        return b[0] * e(-b[1] * x) + b[2] * e(-(((x - b[3]) / b[4]) ** 2)) + b[5] * e(-(((x - b[6]) / b[7]) ** 2))

    def lanczos(b: Any, x: Any) -> Any:
        return b[0] * e(-b[1] * x) + b[2] * e(-b[3] * x) + b[4] * e(-b[5] * x)

    def chwirut(b: Any, x: Any) -> Any:
        return e(-b[0] * x) / (b[1] + b[2] * x)

    def cubic(b: Any, x: Any) -> Any:
        return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)

    def enso(b: Any, x: Any) -> Any:
        waves = [(b[1], b[2], 12.0), (b[4], b[5], b[3]), (b[7], b[8], b[6])]
        return b[0] + sum(c * xp.cos(w * x / p) + s * xp.sin(w * x / p) for c, s, p in waves)

    return {
        "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
        "BoxBOD": lambda b, x: b[0] * (1 - e(-b[1] * x)),
        "Chwirut1": chwirut,
        "Chwirut2": chwirut,
        "DanWood": lambda b, x: b[0] * x ** b[1],
        "ENSO": enso,
        "Eckerle4": lambda b, x: b[0] / b[1] * e(-0.5 * ((x - b[2]) / b[1]) ** 2),
        "Gauss1": gauss,
        "Gauss2": gauss,
        "Gauss3": gauss,
        "Hahn1": cubic,
        "Thurber": cubic,
        "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
        "Lanczos1": lanczos,
        "Lanczos2": lanczos,
        "Lanczos3": lanczos,
        "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
        "MGH10": lambda b, x: b[0] * e(b[1] / (x + b[2])),
        "MGH17": lambda b, x: b[0] + b[1] * e(-x * b[3]) + b[2] * e(-x * b[4]),
        "Misra1a": lambda b, x: b[0] * (1 - e(-b[1] * x)),
        "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** (-2)),
        "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** (-0.5)),
        "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
        "Nelson": lambda b, x: b[0] - b[1] * x[0] * e(-b[2] * x[1]),
        "Rat42": lambda b, x: b[0] / (1 + e(b[1] - b[2] * x)),
        "Rat43": lambda b, x: b[0] / (1 + e(b[1] - b[2] * x)) ** (1 / b[3]),
        "Roszman1": lambda b, x: b[0] - b[1] * x - xp.arctan(b[2] / (x - b[3])) / math.pi,
    }


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """X (m,) or (k, m), and y (m,) of a set; of Nelson's the logarithm, which is what is certified."""
    rows = np.array(NIST[name]["data"])
    x = rows[:, 1] if rows.shape[1] == 2 else rows[:, 1:].T
    return x, np.log(rows[:, 0]) if name == "Nelson" else rows[:, 0]


def digits(found: Any, name: str) -> float:
    """How many digits of the certified values are right, of the worst one, at most 11."""
    certified, b = np.array(NIST[name]["certified"]), np.asarray(found, dtype=float)
    if not np.isfinite(b).all():
        return 0.0
    off = np.abs(b - certified) / np.abs(certified)
    return float(np.clip(-np.log10(np.maximum(off, 1e-11)), 0, 11).min())


# Values of |r|^2 that are approached as unknowns grow without end, and that no point has: no minima.
AT_INFINITY = {
    "bard": [17.4286],
    "box": [0.0755887],
    "jennrich and sampson": [259.58],  # one unknown without bound below, the other at .3315
    "kowalik and osborne": [1.02734e-3],
}
Problem = tuple[Callable[[Any], Any], list[float], list[float]]


def problems(xp: Any) -> dict[str, Problem]:
    """Of Moré, Garbow and Hillstrom: residual(z), the standard start and the known minima of |r|^2, best first."""
    e, stack = xp.exp, xp.stack
    float64 = getattr(xp, "float64", None)

    def numbers(values: Any) -> Any:
        return xp.asarray(list(values), dtype=float64)

    bard_y = numbers([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])
    u = numbers(range(1, 16))
    v, low = 16 - u, xp.minimum(u, 16 - u)
    gauss_y = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    gauss_y = numbers([*gauss_y, 0.3989, *gauss_y[::-1]])
    meyer_y = numbers(
        [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
    )
    ko_y = numbers([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    ko_u = numbers([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    osborne_y = 1e-3 * numbers([
        844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522,
        506, 490, 478, 467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
    ])  # fmt: skip
    i10, i13, i15, i20, i33 = (numbers(range(1, n + 1)) for n in (10, 13, 15, 20, 33))
    t10, tg = i10 / 10, (8 - i15) / 2

    def helical(z: Any) -> Any:
        turn = xp.arctan2(z[1], z[0]) / (2 * math.pi)
        return stack([10 * (z[2] - 10 * turn), 10 * (xp.sqrt(z[0] ** 2 + z[1] ** 2) - 1), z[2]])

    def brown_dennis(z: Any) -> Any:
        t = i20 / 5
        return (z[0] + t * z[1] - e(t)) ** 2 + (z[2] + z[3] * xp.sin(t) - xp.cos(t)) ** 2

    def wood(z: Any) -> Any:
        rows = [10 * (z[1] - z[0] ** 2), 1 - z[0], 90**0.5 * (z[3] - z[2] ** 2), 1 - z[2]]
        return stack([*rows, 10**0.5 * (z[1] + z[3] - 2), 10**-0.5 * (z[1] - z[3])])

    def biggs(z: Any) -> Any:
        t = i13 / 10
        y = e(-t) - 5 * e(-i13) + 3 * e(-4 * t)
        return z[2] * e(-t * z[0]) - z[3] * e(-t * z[1]) + z[5] * e(-t * z[4]) - y

    def osborne_1(z: Any) -> Any:
        t = 10 * (i33 - 1)
        return osborne_y - (z[0] + z[1] * e(-t * z[3]) + z[2] * e(-t * z[4]))

    def freudenstein_roth(z: Any) -> Any:
        a = -13 + z[0] + ((5 - z[1]) * z[1] - 2) * z[1]
        return stack([a, -29 + z[0] + ((z[1] + 1) * z[1] - 14) * z[1]])

    def powell_singular(z: Any) -> Any:
        rows = [z[0] + 10 * z[1], 5**0.5 * (z[2] - z[3])]
        return stack([*rows, (z[1] - 2 * z[2]) ** 2, 10**0.5 * (z[0] - z[3]) ** 2])

    return {
        "rosenbrock": (lambda z: stack([10 * (z[1] - z[0] ** 2), 1 - z[0]]), [-1.2, 1.0], [0.0]),
        "freudenstein and roth": (freudenstein_roth, [0.5, -2.0], [0.0, 48.9842]),
        "powell badly scaled": (
            lambda z: stack([1e4 * z[0] * z[1] - 1, e(-z[0]) + e(-z[1]) - 1.0001]),
            [0.0, 1.0],
            [0.0],
        ),
        "brown badly scaled": (lambda z: stack([z[0] - 1e6, z[1] - 2e-6, z[0] * z[1] - 2]), [1.0, 1.0], [0.0]),
        "beale": (
            lambda z: stack([c - z[0] * (1 - z[1] ** k) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))]),
            [1.0, 1.0],
            [0.0],
        ),
        "jennrich and sampson": (
            lambda z: 2 + 2 * i10 - (e(i10 * z[0]) + e(i10 * z[1])),
            [0.3, 0.4],
            [124.362, 259.58],
        ),
        "helical valley": (helical, [-1.0, 0.0, 0.0], [0.0]),
        "bard": (lambda z: bard_y - (z[0] + u / (v * z[1] + low * z[2])), [1.0, 1.0, 1.0], [8.21487e-3, 17.4286]),
        "gaussian": (lambda z: z[0] * e(-z[1] * (tg - z[2]) ** 2 / 2) - gauss_y, [0.4, 1.0, 0.0], [1.12793e-8]),
        "meyer": (
            lambda z: z[0] * e(z[1] / (45 + 5 * numbers(range(1, 17)) + z[2])) - meyer_y,
            [0.02, 4000.0, 250.0],
            [87.9458],
        ),
        "box": (
            lambda z: e(-t10 * z[0]) - e(-t10 * z[1]) - z[2] * (e(-t10) - e(-i10)),
            [0.0, 10.0, 20.0],
            [0.0, 0.0755887],
        ),
        "powell singular": (powell_singular, [3.0, -1.0, 0.0, 1.0], [0.0]),
        "wood": (wood, [-3.0, -1.0, -3.0, -1.0], [0.0]),
        "kowalik and osborne": (
            lambda z: ko_y - z[0] * (ko_u**2 + ko_u * z[1]) / (ko_u**2 + ko_u * z[2] + z[3]),
            [0.25, 0.39, 0.415, 0.39],
            [3.07505e-4, 1.02734e-3, 1.79454e-3],
        ),
        "brown and dennis": (brown_dennis, [25.0, 5.0, -5.0, -1.0], [85822.2]),
        "osborne 1": (osborne_1, [0.5, 1.5, -1.0, 0.01, 0.02], [5.46489e-5]),
        "biggs": (biggs, [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], [0.0, 5.65565e-3]),
    }
