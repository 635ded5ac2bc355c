"""Solutions of the eight equations of `own_equations.py` by finite elements, volumes and differences.

Each returns the places (name -> (q,)), the fields there at the moments of `MOMENTS` (s, q), or at the only one (1, q),
and how far the field is from that of a coarser resolution, divided by what the order of the scheme says: the error of
the truth itself; then what part of the domain each place stands for (q,), where that is not the same for all.
"""

import math

import numpy as np
import torch

Truth = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, float], torch.Tensor]
MOMENTS = (0.25, 0.5, 0.75, 1.0)  # shares of the duration at which evolutions are compared


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _told(
    places: dict[str, np.ndarray],
    fields: dict[str, np.ndarray],
    doubt: dict[str, float],
    weight: np.ndarray | None = None,
) -> Truth:
    return (
        {name: torch.from_numpy(x.ravel().copy()) for name, x in places.items()},
        {name: torch.from_numpy(f.reshape(-1, places["x"].size).copy()) for name, f in fields.items()},
        doubt,
        torch.ones(places["x"].size).double() if weight is None else torch.from_numpy(weight.ravel()),
    )


def _volumes(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import spsolve

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where((x - 0.25) ** 2 + (y - 0.25) ** 2 < 0.03, 10.0, 1.0)

    g = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(g, g, indexing="ij")
    inside = ~((x > 0.5) & (y > 0.5))
    parts = (np.arange(4) + 0.5) / 4 - 0.5
    mean = np.mean([k(x + a / n, y + b / n) for a in parts for b in parts], 0)
    number = np.full((n, n), -1)
    number[inside] = np.arange(inside.sum())
    wide, ks = np.pad(number, 1, constant_values=-1), np.pad(mean, 1, mode="edge")
    own = np.zeros(inside.sum())
    rows, columns, values = [], [], []
    for dx, dy in ((0, 1), (2, 1), (1, 0), (1, 2)):
        beside, kb = wide[dx : dx + n, dy : dy + n], ks[dx : dx + n, dy : dy + n]
        wall, open_ = inside & (beside < 0), inside & (beside >= 0)
        face = 2 * mean * kb / (mean + kb)
        np.add.at(own, number[wall], 2 * mean[wall])
        np.add.at(own, number[open_], face[open_])
        rows.append(number[open_])
        columns.append(beside[open_])
        values.append(-face[open_])
    m = len(own)
    index = np.concatenate([*rows, np.arange(m)]), np.concatenate([*columns, np.arange(m)])
    u = np.zeros((n, n))
    u[inside] = spsolve(csc_matrix((np.concatenate([*values, own]), index), shape=(m, m)), np.full(m, 1 / n**2))
    return x, y, np.where(inside, u, np.nan)


def darcy() -> Truth:
    (_, _, coarse), (x, y, u) = _volumes(200), _volumes(400)
    mean = u.reshape(200, 2, 200, 2).mean((1, 3))
    held, both = ~np.isnan(u), ~np.isnan(coarse)
    return _told({"x": x[held], "y": y[held]}, {"u": u[held]}, {"u": _apart(coarse[both], mean[both])})


def _ring(rings: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    from skfem import Basis, BilinearForm, ElementQuad2, LinearForm, MeshQuad, condense, solve
    from skfem.helpers import dot, grad

    s, angle = np.meshgrid(np.linspace(0, 1, rings + 1), np.arange(sectors) * 2 * np.pi / sectors, indexing="ij")
    c, sn = np.cos(angle), np.sin(angle)
    r = 0.3 + (1 / np.maximum(abs(c), abs(sn)) - 0.3) * s
    points = np.stack([(r * c).ravel(), (r * sn).ravel()])
    index = np.arange((rings + 1) * sectors).reshape(rings + 1, sectors)
    turned = np.roll(index, -1, 1)
    mesh = MeshQuad(points, np.stack([index[:-1], index[1:], turned[1:], turned[:-1]]).reshape(4, -1))
    basis = Basis(mesh, ElementQuad2())
    a = BilinearForm(lambda u, v, w: dot(grad(u), grad(v))).assemble(basis)
    b = LinearForm(lambda v, w: (1 + w.x[0]) * v).assemble(basis)
    return points, solve(*condense(a, b, D=basis.get_dofs()))[basis.nodal_dofs[0]]


def hole() -> Truth:
    (_, coarse), (points, u) = _ring(24, 96), _ring(48, 192)
    same = u.reshape(49, 192)[::2, ::2].ravel()
    return _told({"x": points[0], "y": points[1]}, {"u": u}, {"u": _apart(coarse, same) / 3})


def _duct(n: int) -> tuple[np.ndarray, np.ndarray]:
    from skfem import Basis, BilinearForm, ElementQuad2, FacetBasis, LinearForm, MeshQuad, solve
    from skfem.helpers import dot, grad

    k, line = 8.0, np.linspace(0, 1, n + 1)
    mesh = MeshQuad.init_tensor(line, line)
    basis, walls = Basis(mesh, ElementQuad2()), FacetBasis(mesh, ElementQuad2())
    a = BilinearForm(lambda u, v, w: dot(grad(u), grad(v)) - k**2 * (1 + 0.3 * w.x[1]) * u * v).assemble(basis)
    wall = BilinearForm(lambda u, v, w: u * v).assemble(walls)

    def source(v, w):  # type: ignore[no-untyped-def]
        return 50 * np.exp(-60 * ((w.x[0] - 0.35) ** 2 + (w.x[1] - 0.55) ** 2)) * v

    b = LinearForm(source).assemble(basis)
    u = solve((a - 1j * k * wall).tocsc(), b.astype(complex))[basis.nodal_dofs[0]]
    order = np.lexsort((mesh.p[1].round(9), mesh.p[0].round(9)))
    return mesh.p[:, order], u[order]


def helmholtz() -> Truth:
    (_, coarse), (points, u) = _duct(32), _duct(64)
    same = u.reshape(65, 65)[::2, ::2].ravel()
    doubt = {"a": _apart(coarse.real, same.real) / 3, "b": _apart(coarse.imag, same.imag) / 3}
    return _told({"x": points[0], "y": points[1]}, {"a": u.real, "b": u.imag}, doubt)


def _plate(n: int) -> tuple[np.ndarray, np.ndarray]:
    from skfem import (
        Basis,
        BilinearForm,
        ElementQuad2,
        ElementVector,
        FacetBasis,
        LinearForm,
        MeshQuad,
        condense,
        solve,
    )
    from skfem.helpers import ddot, sym_grad, trace

    # finer towards the clamped corners
    mesh = MeshQuad.init_tensor(np.linspace(0, 1, n + 1) ** 1.5 * 2, (1 - np.cos(np.linspace(0, np.pi, n + 1))) / 2)
    element = ElementVector(ElementQuad2())
    basis = Basis(mesh, element)
    end = FacetBasis(mesh, element, facets=mesh.facets_satisfying(lambda x: x[0] > 2 - 1e-9))

    def work(u, v, w):  # type: ignore[no-untyped-def]
        c, (e, d) = (1 + 0.5 * w.x[0]) / (1 - 0.09), (sym_grad(u), sym_grad(v))
        return c * (0.7 * ddot(e, d) + 0.3 * trace(e) * trace(d))

    a = BilinearForm(work).assemble(basis)
    b = LinearForm(lambda v, w: -0.1 * v[1]).assemble(basis)
    b = b + LinearForm(lambda v, w: -0.8 * w.x[1] * (1 - w.x[1]) * v[1]).assemble(end)
    held = basis.get_dofs(mesh.facets_satisfying(lambda x: x[0] < 1e-9))
    u = solve(*condense(a, b, D=held))
    order = np.lexsort((mesh.p[1].round(9), mesh.p[0].round(9)))
    return mesh.p[:, order], u[basis.nodal_dofs][:, order]


def elasticity() -> Truth:
    (_, coarse), (points, u) = _plate(32), _plate(64)
    same = u.reshape(2, 65, 65)[:, ::2, ::2].reshape(2, -1)
    doubt = {name: _apart(coarse[i], same[i]) for i, name in enumerate("uv")}
    shares = [np.convolve(np.diff(np.unique(own.round(9))), [0.5, 0.5]) for own in points]  # of the graded mesh
    return _told({"x": points[0], "y": points[1]}, {"u": u[0], "v": u[1]}, doubt, np.outer(*shares))


def _string(n: int) -> tuple[np.ndarray, np.ndarray]:
    h = math.pi / n
    x, c2 = np.arange(1, n) * h, 1 + 0.5 * np.sin(3 * (np.arange(n) + 0.5) * h)
    steps = 4 * math.ceil(1.5 / h)
    dt, found = 3 / steps, []

    def pull(u: np.ndarray) -> np.ndarray:
        flux = c2 * np.diff(u, prepend=0, append=0)
        return np.diff(flux) / h**2

    u, v = np.exp(-20 * (x - 1.2) ** 2) * np.sin(x), np.zeros(n - 1)
    for i in range(steps):
        v += dt / 2 * pull(u)
        u = u + dt * v
        v += dt / 2 * pull(u)
        if (i + 1) % (steps // 4) == 0:
            found.append(u)
    return x, np.stack(found)


def wave() -> Truth:
    (x, coarse), (_, fine) = _string(1000), _string(2000)
    same = fine[:, 1::2]
    u = same + (same - coarse) / 3
    return _told({"x": x}, {"u": u}, {"u": _apart(same, u) / 3})


def _warm(n: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.sparse import csc_matrix, diags, identity
    from scipy.sparse.linalg import spsolve

    h = 1 / n
    g = (np.arange(n) + 0.5) * h
    x, y = np.meshgrid(g, g, indexing="ij")
    k, faces, number = 1 + 0.5 * x, 1 + 0.5 * np.arange(n + 1) * h, np.arange(n * n).reshape(n, n)
    own, rows, columns, values = np.zeros((n, n)), [], [], []

    def joined(a: np.ndarray, b: np.ndarray, w: np.ndarray) -> None:
        rows.extend([a, b])
        columns.extend([b, a])
        values.extend([w, w])
        np.add.at(own.reshape(-1), np.concatenate([a, b]), -np.concatenate([w, w]))

    for i in range(1, n):
        joined(number[i], number[i - 1], np.full(n, faces[i] / h**2))
        joined(number[:, i], number[:, i - 1], k[:, i] / h**2)
    for i, face in ((0, faces[0]), (n - 1, faces[n])):
        own[i] -= 2 * face / h * 3 / (2 * face / h + 3) / h
    own[:, 0] -= 2 * k[:, 0] / h**2
    index = np.concatenate([*rows, number.ravel()]), np.concatenate([*columns, number.ravel()])
    matrix = csc_matrix((np.concatenate([*values, own.ravel()]), index), shape=(n * n, n * n))
    top, slope, eye = number[:, -1], 2 * k[:, -1] / h, identity(n * n, format="csc")

    def stage(base: np.ndarray, u: np.ndarray, a: float, t: float) -> np.ndarray:
        for _ in range(8):
            face = u[top].copy()
            for _ in range(30):  # the value at which the wall radiates what reaches it
                face -= (slope * (face - u[top]) + face**4) / (slope + 4 * face**3)
            rate, by = matrix @ u + 5 * math.sin(4 * t) * y.ravel(), np.zeros(n * n)
            rate[top] -= face**4 / h
            by[top] = -4 * face**3 * slope / (slope + 4 * face**3) / h
            step = spsolve(eye - a * (matrix + diags(by)), base + a * rate - u)
            u = u + step
            if abs(step).max() < 1e-11:
                break
        return u

    u, dt, gamma, found = (y * (2 - y)).ravel(), 0.5 / steps, 1 - math.sqrt(0.5), []
    for i in range(steps):
        first = stage(u, u, gamma * dt, (i + gamma) * dt)
        rate = (first - u) / (gamma * dt)
        u = stage(u + (1 - gamma) * dt * rate, first, gamma * dt, (i + 1) * dt)
        if (i + 1) % (steps // 4) == 0:
            found.append(u.reshape(n, n))
    return x, y, np.stack(found)


def heat() -> Truth:
    """By two grids whose cells have the same centres, extrapolated."""
    (x, y, coarse), (_, _, middle), (_, _, fine) = _warm(15, 12), _warm(45, 36), _warm(135, 108)
    middle, fine = middle[:, 1::3, 1::3], fine[:, 4::9, 4::9]
    u, rough = fine + (fine - middle) / 8, middle + (middle - coarse) / 8
    return _told({"x": x, "y": y}, {"u": u}, {"u": _apart(rough, u) / 8})


def _spots(n: int) -> np.ndarray:
    from scipy.integrate import solve_ivp

    g = np.arange(n) / n
    x, y = np.meshgrid(g, g, indexing="ij")
    spot = np.exp(-20 * ((x - 0.5) ** 2 + 1.5 * (y - 0.5) ** 2))

    def spread(a: np.ndarray) -> np.ndarray:
        found = -4 * a
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            found = found + np.roll(a, shift, axis)
        return found * n**2

    def rate(_: float, w: np.ndarray) -> np.ndarray:
        u, v = w.reshape(2, n, n)
        r = u * v**2
        return np.stack([3.2e-4 * spread(u) - r + 0.04 * (1 - u), 1.6e-4 * spread(v) + r - 0.1 * v]).ravel()

    start = np.stack([1 - 0.5 * spot, 0.25 * spot]).ravel()
    moments = [200 * share for share in MOMENTS]
    return solve_ivp(rate, (0, 200), start, t_eval=moments, rtol=1e-7, atol=1e-9).y.T.reshape(-1, 2, n, n)


def gray_scott() -> Truth:
    coarse, fine = _spots(64), _spots(128)[..., ::2, ::2]
    w = fine + (fine - coarse) / 3
    x, y = np.meshgrid(np.arange(64) / 64, np.arange(64) / 64, indexing="ij")
    doubt = {f: _apart(fine[:, i], w[:, i]) / 3 for i, f in enumerate("uv")}
    return _told({"x": x, "y": y}, {f: w[:, i] for i, f in enumerate("uv")}, doubt)


def _ripples(n: int) -> np.ndarray:
    from scipy.integrate import solve_ivp
    from scipy.linalg import circulant

    h = 22 / n

    def stencil(weights: list[float], odd: bool) -> np.ndarray:
        column = np.zeros(n)
        for k, w in enumerate(weights):
            column[-k % n] += w
            if k:
                column[k] += -w if odd else w
        return circulant(column)

    first = stencil([0, 45 / 60 / h, -9 / 60 / h, 1 / 60 / h], odd=True)
    rest = stencil([w / 180 / h**2 for w in (-490, 270, -27, 2)], odd=False)
    rest = rest + stencil([w / 6 / h**4 for w in (56, -39, 12, -1)], odd=False)
    x = np.arange(n) * h
    start = np.cos(2 * np.pi * x / 22) * (1 + np.sin(2 * np.pi * x / 22))
    return solve_ivp(
        lambda _, u: -u * (first @ u) - rest @ u,
        (0, 40),
        start,
        method="Radau",
        jac=lambda _, u: -np.diag(first @ u) - u[:, None] * first - rest,
        t_eval=[40 * share for share in MOMENTS],
        rtol=1e-8,
        atol=1e-10,
    ).y.T


def kuramoto() -> Truth:
    coarse, fine = _ripples(96), _ripples(192)[:, ::2]
    u = fine + (fine - coarse) / 15
    return _told({"x": np.arange(96) * 22 / 96}, {"u": u}, {"u": _apart(fine, u) / 15})
