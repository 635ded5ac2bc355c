"""Rate constants that depend on pressure, of reactions as they were read, as tensors."""

import math
from collections.abc import Callable

import torch

from simengine.flame.gas.reaction_rows import Row
from simengine.ops.fields.barriers import Barriers
from simengine.ops.fields.linear_burke import LinearBurke, PureFalloff
from simengine.ops.fields.pressure_rates import Chebyshev, Falloff, PressureTable


def column(
    rows: list[Row], of: Callable[[Row], object], dtype: torch.dtype = torch.float64, width: int = 0
) -> torch.Tensor:
    """A value of each row, shape (R,), or `width` values, shape (R, width)."""
    if not rows:
        return torch.zeros((0, width) if width else (0,), dtype=dtype)
    return torch.tensor([of(row) for row in rows], dtype=dtype)


def falloff_columns(rows: list[Row]) -> dict[str, torch.Tensor]:
    """The forms of fall-off, by the names that `Reactions` and `Falloff` have for them."""
    return {
        "activated": column(rows, lambda row: row.kind == "chemically-activated", torch.bool),
        "troe": column(rows, lambda row: row.troe is not None, torch.bool),
        "troe_parameters": column(rows, lambda row: row.troe or (0.0, 1.0, 1.0, math.inf), width=4),
        "sri": column(rows, lambda row: row.sri is not None, torch.bool),
        "sri_parameters": column(rows, lambda row: row.sri or (1.0, 0.0, 1.0, 1.0, 0.0), width=5),
        "tsang": column(rows, lambda row: row.tsang is not None, torch.bool),
        "tsang_parameters": column(rows, lambda row: row.tsang or (1.0, 0.0), width=2),
    }


def pressure_table(rows: list[Row]) -> PressureTable | None:
    """Arrhenius rates between which the logarithm of the pressure chooses, of the rows that have such levels.

    Args:
        rows: All reactions, in the order of the tensors; a pressure may stand twice, its rates are then added.
    """
    which = [k for k, row in enumerate(rows) if row.levels]
    if not which:
        return None
    tables = []
    for k in which:
        levels: dict[float, list[tuple[float, float, float]]] = {}
        for pressure, rate in sorted(rows[k].levels, key=lambda level: level[0]):
            levels.setdefault(pressure, []).append(rate)
        tables.append(levels)
    most, terms = max(len(t) for t in tables), max(len(rates) for t in tables for rates in t.values())
    log_p, rates = [], []
    for table in tables:
        known = [math.log(p) for p in table]
        log_p.append(known + [math.inf] * (most - len(known)))
        full = [entries + [(0.0, 0.0, 0.0)] * (terms - len(entries)) for entries in table.values()]
        rates.append(full + [full[-1]] * (most - len(full)))
    A, b, Ea = torch.tensor(rates, dtype=torch.float64).unbind(-1)
    return PressureTable(torch.tensor(which), torch.tensor(log_p, dtype=torch.float64), A, b, Ea)


def chebyshev_table(rows: list[Row]) -> Chebyshev | None:
    """Chebyshev polynomials in temperature and pressure, of the rows that have them; smaller tables end in zeros."""
    which = [k for k, row in enumerate(rows) if row.chebyshev is not None]
    if not which:
        return None
    tables = [t for row in rows if (t := row.chebyshev) is not None]
    data = torch.zeros(
        len(which), max(len(t[2]) for t in tables), max(len(t[2][0]) for t in tables), dtype=torch.float64
    )
    for k, (_, _, table) in enumerate(tables):
        data[k, : len(table), : len(table[0])] = torch.tensor(table, dtype=torch.float64)
    T, p = (torch.tensor([t[i] for t in tables], dtype=torch.float64) for i in (0, 1))
    return Chebyshev(torch.tensor(which), T, p, data)


def barrier_table(rows: list[Row]) -> Barriers | None:
    """Activation energies by the heat of reaction, of the rows that say the energy of their bonds."""
    which = [k for k, row in enumerate(rows) if row.bond is not None]
    if not which:
        return None
    chosen = [rows[k] for k in which]
    return Barriers(torch.tensor(which), column(chosen, lambda row: row.high[2]), column(chosen, lambda row: row.bond))


def mixture_rules(rows: list[Row], names: tuple[str, ...]) -> LinearBurke | None:
    """The reactions whose rate constant the colliders share.

    Args:
        rows: All reactions, in the order of the tensors.
        names: The species.
    """
    which = [k for k, row in enumerate(rows) if row.colliders]
    if not which:
        return None
    place = {name: k for k, name in enumerate(names)}
    efficiency = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).repeat(len(which), len(names), 1)
    pure, owner, own, share = list[Row](), list[int](), list[tuple[float, float, float]](), list[torch.Tensor]()
    for r, k in enumerate(which):
        reference, *others = rows[k].colliders
        A, b, Ea = reference.weight
        rest = torch.ones(len(names), dtype=torch.float64)
        for collider in (*others, reference):
            weight = (collider.weight[0] / A, collider.weight[1] - b, collider.weight[2] - Ea)
            takes = rest
            if collider is not reference:
                efficiency[r, place[collider.name]] = torch.tensor(weight, dtype=torch.float64)
                takes = torch.zeros_like(rest)
                takes[place[collider.name]] = 1.0
            if collider.rate is not None:
                if collider is not reference:
                    rest = rest - takes
                pure.append(collider.rate)
                owner.append(r)
                own.append(weight)
                share.append(takes)
    falling = [k for k, row in enumerate(pure) if row.kind == "falloff"]
    return LinearBurke(
        which=torch.tensor(which),
        efficiency=efficiency,
        owner=torch.tensor(owner),
        own=torch.tensor(own, dtype=torch.float64),
        share=torch.stack(share),
        pressures=pressure_table(pure),
        chebyshev=chebyshev_table(pure),
        falloff=_falloff(falling, [pure[k] for k in falling]),
    )


def _falloff(which: list[int], rows: list[Row]) -> PureFalloff | None:
    if not which:
        return None
    numbers = torch.tensor(which)
    high, low = column(rows, lambda row: row.high), column(rows, lambda row: row.low)
    return PureFalloff(numbers, Falloff(numbers, **falloff_columns(rows)), high, low)
