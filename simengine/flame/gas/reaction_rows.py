"""Reactions as they were read, before they become tensors: tables in pressure, and what must not stand twice."""

import dataclasses
import math

import torch

from simengine.flame.gas.document import Node
from simengine.ops.fields.pressure_rates import Chebyshev, PressureTable


@dataclasses.dataclass
class Equation:
    """What an equation says: coefficients by species on each side, whether it runs backwards, and the collider."""

    text: str
    reactants: dict[str, float]
    products: dict[str, float]
    reversible: bool
    collider: str | None
    parenthesised: bool


@dataclasses.dataclass
class Row:
    """One reaction, as an entry of the tensors of `Reactions`."""

    equation: Equation
    node: Node
    kind: str
    orders: dict[str, float]
    efficiencies: dict[str, float]
    default_efficiency: float
    high: tuple[float, float, float] = (1.0, 0.0, 0.0)
    low: tuple[float, float, float] = (1.0, 0.0, 0.0)
    third: bool = False
    troe: tuple[float, ...] | None = None
    sri: tuple[float, ...] | None = None
    tsang: tuple[float, ...] | None = None
    levels: list[tuple[float, tuple[float, float, float]]] = dataclasses.field(default_factory=list)
    chebyshev: tuple[list[float], list[float], list[list[float]]] | None = None


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


def refuse_duplicates(rows: list[Row], count: int) -> None:
    """The same reaction twice is a mistake of pasting unless both say `duplicate: true`, as Cantera has it.

    Args:
        rows: All reactions.
        count: Number of species.

    Raises:
        MechanismError: With file, line and remedy.
    """
    alike: dict[object, list[Row]] = {}
    matched: set[int] = set()
    for row in rows:
        sides = [
            _scaled(row.equation.reactants, row.equation.products),
            _scaled(row.equation.products, row.equation.reactants),
        ]
        for other in alike.setdefault((frozenset(sides), row.kind), []):
            same = _scaled(other.equation.reactants, other.equation.products) == sides[0]
            if not same and not row.equation.reversible and not other.equation.reversible:
                continue  # there and back, each irreversible
            if row.node.flag("duplicate") and other.node.flag("duplicate"):
                matched |= {id(row), id(other)}
                continue
            if _apart(row, other, count):
                continue
            raise row.node.fail(
                f"the same as the reaction on line {other.node.data.line}; remove one, or say duplicate: true in both"
            )
        alike[(frozenset(sides), row.kind)].append(row)
    for row in rows:
        if row.node.flag("duplicate") and id(row) not in matched:
            raise row.node.fail("declared a duplicate, but there is no other reaction like it; remove the declaration")


def _scaled(first: dict[str, float], second: dict[str, float]) -> tuple[frozenset[object], frozenset[object]]:
    """Both sides with coefficients over the least of them: 2 A => 2 B is A => B."""
    unit = min([*first.values(), *second.values()], default=1.0)
    return tuple(frozenset((s, round(n / unit, 6)) for s, n in side.items()) for side in (first, second))  # type: ignore[return-value]


def _apart(row: Row, other: Row, count: int) -> bool:
    """Whether two reactions have colliders, and none in common; of `count` species."""
    if not (row.equation.collider and other.equation.collider):
        return bool(row.equation.collider) != bool(other.equation.collider)
    one, two = row.default_efficiency, other.default_efficiency
    named = {*row.efficiencies, *other.efficiencies}
    others = one * two if len(named) < count else 0.0
    return not others and not any(row.efficiencies.get(s, one) * other.efficiencies.get(s, two) for s in named)
