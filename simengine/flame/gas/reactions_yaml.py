"""Reactions of a mechanism file."""

import math
import re
from collections.abc import Callable

import torch

from simengine.flame.gas.document import Node, short
from simengine.flame.gas.mechanism import Reactions
from simengine.flame.gas.reaction_rows import Equation, Row, chebyshev_table, pressure_table, refuse_duplicates
from simengine.flame.gas.units import UnitError, number

COLLIDING = ("falloff", "chemically-activated")
TABLED = ("pressure-dependent-Arrhenius", "Chebyshev")
KINDS = ("elementary", "three-body", "Arrhenius", "three-body-Arrhenius", *COLLIDING, *TABLED)
KEYS = (
    "equation", "type", "rate-constant", "low-P-rate-constant", "high-P-rate-constant", "rate-constants", "Troe", "SRI",
    "Tsang", "efficiencies", "default-efficiency", "orders", "negative-orders", "nonreactant-orders", "negative-A",
    "duplicate", "units", "temperature-range", "pressure-range", "data",
)  # fmt: skip
SMALLEST = 1e-30  # K, in place of 0 as a temperature that divides


class ReactionReader:
    """Reads the reactions among the species of a phase.

    Args:
        names: The species.
        elements: The elements.
        composition: Atoms of each element in each species, shape (K, E).
        lenient: Leave out efficiencies of species that the phase does not have, instead of refusing them.
    """

    def __init__(
        self, names: tuple[str, ...], elements: tuple[str, ...], composition: torch.Tensor, *, lenient: bool = False
    ) -> None:
        self.names: tuple[str, ...] = names
        self.known: set[str] = set(names)
        self.elements: tuple[str, ...] = elements
        self.lenient: bool = lenient
        rows = zip(names, composition.tolist(), strict=True)
        self.atoms = {name: dict(zip(elements, row, strict=True)) for name, row in rows}
        self.place: dict[str, int] = {name: k for k, name in enumerate(names)}
        self.rows: list[Row] = []

    def read(self, entries: list[Node], *, skip: bool) -> None:
        """Add the reactions of a section; with `skip` without those of species that the phase does not have.

        Raises:
            MechanismError: A reaction is malformed, not balanced or not supported.
        """
        for entry in entries:
            equation = self._equation(entry, skip=skip)
            if equation is not None:
                try:
                    self.rows.append(self._row(entry, equation))
                except UnitError as error:
                    raise entry.fail(str(error)) from error

    # Equations

    def _equation(self, entry: Node, *, skip: bool) -> Equation | None:
        text = entry.text("equation").strip()
        match = re.fullmatch(r"(\S.*?)\s+(<=>|=>|=)\s+(\S.*)", text)
        if match is None:
            raise entry.fail("expected two sides joined by =>, <=> or =, with blanks around it")
        sides: list[dict[str, float]] = []
        colliders: list[tuple[str, bool] | None] = []
        for side in (match[1], match[3]):
            collider = None
            if falloff := re.search(r"\(\+\s*([^)\s][^)]*?)\s*\)\s*$", side):
                collider, side = (falloff[1], True), side[: falloff.start()]
            coefficients = dict[str, float]()
            for term in re.split(r"\s+\+\s+", side.strip()):
                words = term.split()
                if len(words) not in (1, 2):
                    raise entry.fail(f"expected species with coefficients joined by +, got {short(term)}")
                name = words[-1]
                try:
                    count = number(words[0]) if len(words) == 2 else 1.0
                except UnitError as error:
                    raise entry.fail(f"coefficient of {short(name)}: {error}") from error
                if name == "M" and "M" not in self.known:
                    collider = ("M", False)
                elif name not in self.known:
                    if skip:
                        return None
                    raise entry.fail(f"species {short(name)} is not in the phase")
                elif not 0 < count <= 100:
                    raise entry.fail(f"coefficient of {name}: expected a number above 0 and up to 100, got {count:g}")
                else:
                    coefficients[name] = coefficients.get(name, 0.0) + count
            sides.append(coefficients)
            colliders.append(collider)
        if colliders[0] != colliders[1]:
            raise entry.fail("the collider (M or (+M)) must be the same on both sides")
        found, inside = colliders[0] or (None, False)
        equation = Equation(text, sides[0], sides[1], match[2] != "=>", found, inside)
        self._balanced(entry, equation)
        return equation

    def _balanced(self, entry: Node, equation: Equation) -> None:
        for element in self.elements:
            surplus = sum(n * self.atoms[s][element] for s, n in equation.products.items())
            surplus -= sum(n * self.atoms[s][element] for s, n in equation.reactants.items())
            if abs(surplus) > 1e-4:
                raise entry.fail(f"not balanced in {element}: {surplus:+g} atoms; correct the coefficients")

    def _orders(self, entry: Node, equation: Equation) -> dict[str, float]:
        orders = dict(equation.reactants)
        if "orders" in entry:
            given = entry.table("orders")
            if equation.reversible:
                raise entry.fail("explicit orders need an irreversible reaction; write it with =>")
            for name in given.data:
                if name not in self.known:
                    raise entry.fail(f"an order is given for {short(name)}, which is not in the phase")
                order = given.number(name)
                if order < 0 and not entry.flag("negative-orders"):
                    raise entry.fail(f"order of {name} is negative; say negative-orders: true if that is meant")
                if name not in equation.reactants and not entry.flag("nonreactant-orders"):
                    raise entry.fail(f"{name} is no reactant; say nonreactant-orders: true if its order is meant")
                if abs(order) > 20:
                    raise entry.fail(f"order of {name}: expected a number between -20 and 20, got {order:g}")
                orders[name] = order
        return orders

    def _efficiencies(self, entry: Node, equation: Equation) -> tuple[dict[str, float], float]:
        """Those given, and that of all other species."""
        default = entry.number("default-efficiency", 1.0)
        given = dict[str, float]()
        if "efficiencies" in entry:
            table = entry.table("efficiencies")
            for name in table.data:
                if name in self.known:
                    given[name] = table.number(name)
                elif not self.lenient:
                    told = "say skip-undeclared-third-bodies: true in the phase to leave it out"
                    raise entry.fail(f"efficiency of {short(name)}, which is not in the phase; {told}")
        if str(entry.get("type", None)) in TABLED:
            return {}, 1.0  # what counts is the pressure
        if equation.collider not in (None, "M"):
            if equation.collider not in self.known:
                raise entry.fail(f"collider {short(equation.collider)} is not in the phase")
            given, default = {str(equation.collider): 1.0}, 0.0
        return given, default

    # Rates

    def _arrhenius(self, entry: Node, value: object, what: str, order: float) -> tuple[float, float, float]:
        """A [SI], b and Ea [J/mol], of a table or a list of three."""
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
                table.units.rate(table.get("A"), order),
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

    def _positive(self, entry: Node, A: float, what: str) -> None:
        if A < 0 and not entry.flag("negative-A"):
            raise entry.fail(f"{what}: A is negative ({A:g}); say negative-A: true if that is meant")

    def _row(self, entry: Node, equation: Equation) -> Row:
        entry.misspelt(KEYS)
        kind = entry.text("type", "elementary")
        if kind not in KINDS:
            raise entry.fail(f"type {short(kind)} is not supported; supported: {', '.join(KINDS)}")
        if (kind in COLLIDING) != equation.parenthesised and kind not in TABLED:
            told = "a fall-off reaction has type falloff or chemically-activated, and (+M) on both sides"
            raise entry.fail(told)
        row = Row(equation, entry, kind, self._orders(entry, equation), *self._efficiencies(entry, equation))
        total = sum(row.orders.values())
        if kind in COLLIDING:
            self._falloff(row, total)
        elif kind == "Chebyshev":
            self._chebyshev(row, total)
        elif kind == "pressure-dependent-Arrhenius":
            self._pressures(row, total)
        else:
            if "rate-constant" not in entry:
                raise entry.fail("rate-constant missing")
            row.third = equation.collider == "M"
            if kind.startswith("three-body") and not row.third and not self._explicit(equation):
                raise entry.fail("a three-body reaction has a collider, M or a species, on both sides")
            row.high = self._arrhenius(entry, entry.get("rate-constant"), "rate-constant", total + row.third)
            self._positive(entry, row.high[0], "rate-constant")
        return row

    @staticmethod
    def _explicit(equation: Equation) -> bool:
        return bool(set(equation.reactants) & set(equation.products))

    def _falloff(self, row: Row, total: float) -> None:
        entry, activated = row.node, row.kind == "chemically-activated"
        for key in ("low-P-rate-constant", "high-P-rate-constant"):
            if key not in entry:
                raise entry.fail(
                    "low-P-rate-constant and high-P-rate-constant missing" if key[0] == "l" else f"{key} missing"
                )
        # fall-off: low [M] and high are alike; chemically activated: low and high/[M] are
        lower = total + (0 if activated else 1)
        row.low = self._arrhenius(entry, entry.get("low-P-rate-constant"), "low-P-rate-constant", lower)
        row.high = self._arrhenius(entry, entry.get("high-P-rate-constant"), "high-P-rate-constant", lower - 1)
        for A, what in ((row.low[0], "low-P-rate-constant"), (row.high[0], "high-P-rate-constant")):
            self._positive(entry, A, what)
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

    def _pressures(self, row: Row, total: float) -> None:
        entry = row.node
        if row.equation.collider == "M" and not row.equation.parenthesised:
            raise entry.fail("a pressure-dependent rate constant with M is not supported; write (+M) or leave it out")
        for value in entry.items("rate-constants"):
            if not isinstance(value, dict) or "P" not in value:
                raise entry.fail("rate-constants: expected tables {P, A, b, Ea}")
            try:
                pressure = entry.units.convert(value["P"], entry.units.names["pressure"])
            except UnitError as error:
                raise entry.fail(f"rate-constants: P: {error}") from error
            if pressure <= 0:
                raise entry.fail(f"rate-constants: P: expected a positive pressure, got {pressure:g}")
            row.levels.append((pressure, self._arrhenius(entry, value, "rate-constants", total)))
        if not row.levels:
            raise entry.fail("rate-constants: the list is empty")
        for level in {pressure for pressure, _ in row.levels}:
            for T in (200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0):
                terms = [rate for pressure, rate in row.levels if pressure == level]
                if sum(A * T**b * math.exp(min(-Ea / (8.314462618 * T), 700.0)) for A, b, Ea in terms) <= 0 and any(
                    A != 0 for A, _, _ in terms
                ):
                    raise entry.fail(f"rate-constants: at {level:g} Pa the sum is not positive at {T:g} K")

    def _chebyshev(self, row: Row, total: float) -> None:
        entry = row.node
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

    # Together

    def reactions(self) -> Reactions:
        """All reactions read so far as tensors.

        Raises:
            MechanismError: Two are the same without being declared duplicates, or one is declared and alone.
        """
        rows = self.rows
        refuse_duplicates(rows, len(self.names))

        def column(of: Callable[[Row], object], dtype: torch.dtype = torch.float64, width: int = 0) -> torch.Tensor:
            if not rows:
                return torch.zeros((0, width) if width else (0,), dtype=dtype)
            return torch.tensor([of(row) for row in rows], dtype=dtype)

        def matrix(
            of: Callable[[Row], dict[str, float]], rest: Callable[[Row], float] = lambda row: 0.0
        ) -> torch.Tensor:
            """Values by species, and that of all others; (R, K)."""
            values = column(rest)[:, None].repeat(1, len(self.names))
            given = [(r, self.place[s], v) for r, row in enumerate(rows) for s, v in of(row).items()]
            if given:
                r, k, v = zip(*given, strict=True)
                values[torch.tensor(r), torch.tensor(k)] = torch.tensor(v, dtype=torch.float64)
            return values

        return Reactions(
            equations=tuple(row.equation.text for row in rows),
            reactants=matrix(lambda row: row.equation.reactants),
            products=matrix(lambda row: row.equation.products),
            orders=matrix(lambda row: row.orders),
            reversible=column(lambda row: row.equation.reversible, torch.bool),
            A=column(lambda row: row.high[0]),
            b=column(lambda row: row.high[1]),
            Ea=column(lambda row: row.high[2]),
            third_body=column(lambda row: row.third, torch.bool),
            falloff=column(lambda row: row.kind in COLLIDING, torch.bool),
            efficiencies=matrix(lambda row: row.efficiencies, lambda row: row.default_efficiency),
            A_low=column(lambda row: row.low[0]),
            b_low=column(lambda row: row.low[1]),
            Ea_low=column(lambda row: row.low[2]),
            troe=column(lambda row: row.troe is not None, torch.bool),
            troe_parameters=column(lambda row: row.troe or (0.0, 1.0, 1.0, math.inf), width=4),
            activated=column(lambda row: row.kind == "chemically-activated", torch.bool),
            sri=column(lambda row: row.sri is not None, torch.bool),
            sri_parameters=column(lambda row: row.sri or (1.0, 0.0, 1.0, 1.0, 0.0), width=5),
            tsang=column(lambda row: row.tsang is not None, torch.bool),
            tsang_parameters=column(lambda row: row.tsang or (1.0, 0.0), width=2),
            pressures=pressure_table(rows),
            chebyshev=chebyshev_table(rows),
        )
