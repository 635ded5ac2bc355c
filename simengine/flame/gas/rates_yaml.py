"""Rate constants of a mechanism file: Arrhenius, fall-off, over pressure, of mixtures, by the heat of reaction."""

import math

from simengine.flame.gas.document import Node, short
from simengine.flame.gas.reaction_rows import Collider, Row
from simengine.flame.gas.units import UnitError, number

COLLIDING = ("falloff", "chemically-activated")
TABLED = ("pressure-dependent-Arrhenius", "Chebyshev")
MIXED = "linear-Burke"
BY_HEAT = "Blowers-Masel"
SMALLEST = 1e-30  # K, in place of 0 as a temperature that divides


def arrhenius(entry: Node, value: object, what: str, order: float | None) -> tuple[float, float, float]:
    """A [SI], b and Ea [J/mol], of a table or a list of three.

    Args:
        entry: What it belongs to.
        value: As it stands in the file.
        what: Its key, for messages.
        order: Of the reaction; None for a number without a unit in place of A.

    Raises:
        MechanismError: It is none.
    """
    if isinstance(value, list):
        if len(value) != 3:
            raise entry.fail(f"{what}: expected [A, b, Ea], got a list of {len(value)}")
        value = type(entry.data)(zip(("A", "b", "Ea"), value, strict=True))
        value.line = entry.data.line
    table = Node.of(value, file=entry.file, what=f"{entry.what}: {what}", units=entry.units, line=entry.data.line)
    if "units" in table:
        raise table.fail("units: give them in the reaction, or with the number as in '26.2 kJ/mol'")
    table.only(("A", "b", "Ea", "P"))
    try:
        found = (
            table.number("A") if order is None else table.units.rate(table.get("A"), order),
            table.number("b", 0.0),
            table.units.activation(table.get("Ea", 0.0)),
        )
    except UnitError as error:
        raise table.fail(str(error)) from error
    except OverflowError as error:
        raise table.fail("A is too large in SI units") from error
    if not math.isfinite(found[0]):
        raise table.fail("A is too large in SI units")
    return found


def refuse_negative(entry: Node, A: float, what: str) -> None:
    """A negative A is a mistake unless the reaction says that it is meant.

    Raises:
        MechanismError: It does not.
    """
    if A < 0 and not entry.flag("negative-A"):
        raise entry.fail(f"{what}: A is negative ({A:g}); say negative-A: true if that is meant")


def _falloff(row: Row, total: float) -> None:
    entry, activated = row.node, row.kind == "chemically-activated"
    for key in ("low-P-rate-constant", "high-P-rate-constant"):
        if key not in entry:
            raise entry.fail(
                "low-P-rate-constant and high-P-rate-constant missing" if key[0] == "l" else f"{key} missing"
            )
    # fall-off: low [M] and high are alike; chemically activated: low and high/[M] are
    lower = total + (0 if activated else 1)
    row.low = arrhenius(entry, entry.get("low-P-rate-constant"), "low-P-rate-constant", lower)
    row.high = arrhenius(entry, entry.get("high-P-rate-constant"), "high-P-rate-constant", lower - 1)
    for A, what in ((row.low[0], "low-P-rate-constant"), (row.high[0], "high-P-rate-constant")):
        refuse_negative(entry, A, what)
        if A == 0:
            raise entry.fail(f"{what}: A is 0; fall-off needs both limits")
    if (row.low[0] < 0) != (row.high[0] < 0):
        raise entry.fail("the rate constants of both limits must have the same sign")
    forms = [key for key in ("Troe", "SRI", "Tsang") if key in entry]
    if len(forms) > 1:
        raise entry.fail(f"{' and '.join(forms)}: one form of fall-off at a time")
    for form in forms:
        table = entry.table(form)
        if form == "Troe":
            table.only(("A", "T3", "T1", "T2"))
            T2 = table.number("T2", 0.0)  # 0 is how files say that there is none
            T3, T1 = (table.number(key) or SMALLEST for key in ("T3", "T1"))
            row.troe = (table.number("A"), T3, T1, T2 or math.inf)
        elif form == "SRI":
            table.only(("A", "B", "C", "D", "E"))
            a, b, c = table.number("A", least=0.0), table.number("B"), table.number("C", least=0.0)
            row.sri = (a, b, c or SMALLEST, table.number("D", 1.0, least=0.0), table.number("E", 0.0))
        else:
            table.only(("A", "B"))
            row.tsang = (table.number("A"), table.number("B", 0.0))


def _refuse_bare_collider(row: Row) -> None:
    """What depends on pressure has its colliders in the rate constant.

    Raises:
        MechanismError: The equation has M as a factor.
    """
    if row.equation.collider == "M" and not row.equation.parenthesised:
        raise row.node.fail("a pressure-dependent rate constant with M is not supported; write (+M) or leave it out")


def _pressures(row: Row, total: float) -> None:
    entry = row.node
    _refuse_bare_collider(row)
    for value in entry.items("rate-constants"):
        if not isinstance(value, dict) or "P" not in value:
            raise entry.fail("rate-constants: expected tables {P, A, b, Ea}")
        try:
            pressure = entry.units.convert(value["P"], entry.units.names["pressure"])
        except UnitError as error:
            raise entry.fail(f"rate-constants: P: {error}") from error
        if pressure <= 0:
            raise entry.fail(f"rate-constants: P: expected a positive pressure, got {pressure:g}")
        row.levels.append((pressure, arrhenius(entry, value, "rate-constants", total)))
    if not row.levels:
        raise entry.fail("rate-constants: the list is empty")
    for level in {pressure for pressure, _ in row.levels}:
        for T in (200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0):
            terms = [rate for pressure, rate in row.levels if pressure == level]
            if sum(A * T**b * math.exp(min(-Ea / (8.314462618 * T), 700.0)) for A, b, Ea in terms) <= 0 and any(
                A != 0 for A, _, _ in terms
            ):
                raise entry.fail(f"rate-constants: at {level:g} Pa the sum is not positive at {T:g} K")


def _chebyshev(row: Row, total: float) -> None:
    entry = row.node
    _refuse_bare_collider(row)
    temperatures, pressures = [], []
    try:
        for value in entry.items("temperature-range"):
            temperatures.append(entry.units.convert(value, "K"))
        for value in entry.items("pressure-range"):
            pressures.append(entry.units.convert(value, entry.units.names["pressure"]))
    except UnitError as error:
        raise entry.fail(f"range: {error}") from error
    for key, span in (("temperature-range", temperatures), ("pressure-range", pressures)):
        if len(span) != 2 or not 0 < span[0] < span[1]:
            raise entry.fail(f"{key}: expected two rising positive numbers")
    data = []
    for line in entry.items("data"):
        if not isinstance(line, list) or not line:
            raise entry.fail("data: expected lists of coefficients, one for each power of temperature")
        data.append([number(value) for value in line])
    if not data or any(len(line) != len(data[0]) for line in data):
        raise entry.fail("data: expected lists of equal length")
    data[0][0] += math.log10(entry.units.rate_unit(total))
    row.chebyshev = (temperatures, pressures, data)


def _by_heat(row: Row, total: float) -> None:
    entry = row.node
    if row.equation.collider is not None:
        raise entry.fail(f"{BY_HEAT} with a collider is not supported; write the species that take part")
    rate = entry.table("rate-constant")
    rate.only(("A", "b", "Ea0", "w"))
    try:
        energies = [rate.units.activation(rate.get(key)) for key in ("Ea0", "w")]
        row.high = (rate.units.rate(rate.get("A"), total), rate.number("b", 0.0), energies[0])
    except UnitError as error:
        raise rate.fail(str(error)) from error
    if not 0 <= energies[0] < energies[1]:
        raise rate.fail(f"expected 0 <= Ea0 < w, got {energies[0]:g} and {energies[1]:g} J/mol")
    refuse_negative(entry, row.high[0], "rate-constant")
    row.bond = energies[1]


READERS = {
    BY_HEAT: _by_heat,
    "falloff": _falloff,
    "chemically-activated": _falloff,
    "pressure-dependent-Arrhenius": _pressures,
    "Chebyshev": _chebyshev,
}
PURE = ("falloff", *TABLED)  # what a collider's own rate constant may be
OF_PURE = ("low-P-rate-constant", "high-P-rate-constant", "Troe", "SRI", "Tsang", "rate-constants", "data")
COLLIDER_KEYS = ("name", "efficiency", "eig0", "type", *OF_PURE, "temperature-range", "pressure-range")


def read_colliders(row: Row, total: float, species: set[str], *, lenient: bool) -> list[Collider]:
    """The colliders of a linear-Burke reaction; the first is M, the reference and all others.

    Args:
        row: The reaction.
        total: Its order without a collider.
        species: Those of the phase.
        lenient: Leave out colliders that the phase does not have, instead of refusing them.

    Raises:
        MechanismError: Something is missing, or cannot be.
    """
    entry = row.node
    _refuse_bare_collider(row)
    nodes = entry.rows("colliders", f"{entry.what}: collider", named="name")
    if not nodes or nodes[0].text("name") != "M":
        raise entry.fail("colliders: the first must be M, which stands for all that are not named")
    scale = "eig0" if "eig0" in nodes[0] else "efficiency"
    found: dict[str, Collider] = {}
    for node in nodes:
        node.only(COLLIDER_KEYS)
        name = node.text("name")
        if name in found:
            raise node.fail("given twice")
        if name != "M" and name not in species:
            if not lenient:
                told = "say skip-undeclared-third-bodies: true in the phase to leave it out"
                raise node.fail(f"not in the phase; {told}")
            continue
        if "efficiency" in node and "eig0" in node:
            raise node.fail("efficiency and eig0: give one of them")
        if scale in node:
            weight = arrhenius(node, node.get(scale), scale, None)
        elif name == "M":
            weight = (1.0, 0.0, 0.0)
        else:
            raise node.fail(f"{scale} missing; all colliders of a reaction have one, of the same kind as that of M")
        if scale == "efficiency" and name == "M" and weight != (1.0, 0.0, 0.0):
            raise node.fail("efficiency: that of M is 1; leave it out")
        rate = _pure(row, node, total)
        if rate is None and name == "M":
            raise node.fail(f"type missing; one of {', '.join(PURE)}")
        if weight[0] < 0 or (weight[0] == 0 and rate is not None):
            raise node.fail(f"{scale}: A: expected a positive number, got {weight[0]:g}")
        found[name] = Collider(name, weight, rate)
    return list(found.values())


def _pure(row: Row, node: Node, total: float) -> Row | None:
    """The rate constant in a collider alone; None where it has none of its own."""
    if "type" not in node:
        if stray := next((key for key in OF_PURE if key in node), None):
            raise node.fail(f"{stray}: type missing; one of {', '.join(PURE)}")
        return None
    kind = node.text("type")
    if kind not in PURE:
        raise node.fail(f"type {short(kind)} is not supported here; supported: {', '.join(PURE)}")
    pure = Row(row.equation, node, kind, row.orders, {}, 1.0)
    READERS[kind](pure, total)
    return pure
