"""Reactions as they were read, before they become tensors, and what must not stand twice."""

import dataclasses

from simengine.flame.gas.document import Node


@dataclasses.dataclass
class ReactionEquation:
    """What an equation says: coefficients by species on each side, whether it runs backwards, and the collider."""

    text: str
    reactants: dict[str, float]
    products: dict[str, float]
    reversible: bool
    collider: str | None
    parenthesised: bool


@dataclasses.dataclass
class Collider:
    """One collider of a mixture rule: how it activates beside the reference, and its own rate constant or None."""

    name: str
    weight: tuple[float, float, float]
    rate: "Row | None"


@dataclasses.dataclass
class Row:
    """One reaction, as an entry of the tensors of `Reactions`."""

    equation: ReactionEquation
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
    bond: float | None = None
    levels: list[tuple[float, tuple[float, float, float]]] = dataclasses.field(default_factory=list)
    chebyshev: tuple[list[float], list[float], list[list[float]]] | None = None
    colliders: list[Collider] = dataclasses.field(default_factory=list)


def refuse_duplicates(rows: list[Row], count: int) -> None:
    """The same reaction twice is a mistake of pasting unless both say `duplicate: true`, as Cantera has it.

    A rate constant of another type is another channel: it may be declared a duplicate, and need not be.

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
        for other in alike.setdefault(frozenset(sides), []):
            same = _scaled(other.equation.reactants, other.equation.products) == sides[0]
            if not same and not row.equation.reversible and not other.equation.reversible:
                continue  # there and back, each irreversible
            if row.node.flag("duplicate") and other.node.flag("duplicate"):
                matched |= {id(row), id(other)}
                continue
            if row.kind != other.kind or _apart(row, other, count):
                continue
            raise row.node.fail(
                f"the same as the reaction on line {other.node.data.line}; remove one, or say duplicate: true in both"
            )
        alike[frozenset(sides)].append(row)
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
