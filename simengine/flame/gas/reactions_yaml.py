"""Reactions of a mechanism file."""

import re
from collections.abc import Callable

import torch

from simengine.flame.gas.document import Node, short
from simengine.flame.gas.mechanism import Reactions
from simengine.flame.gas.rate_tables import (
    barrier_table,
    chebyshev_table,
    column,
    falloff_columns,
    mixture_rules,
    pressure_table,
)
from simengine.flame.gas.rates_yaml import (
    BY_HEAT,
    COLLIDING,
    MIXED,
    READERS,
    TABLED,
    arrhenius,
    read_colliders,
    refuse_negative,
)
from simengine.flame.gas.reaction_rows import ReactionEquation, Row, refuse_duplicates
from simengine.flame.gas.units import UnitError, number

KINDS = ("elementary", "three-body", "Arrhenius", "three-body-Arrhenius", *COLLIDING, *TABLED, MIXED, BY_HEAT)
KEYS = (
    "equation", "type", "rate-constant", "low-P-rate-constant", "high-P-rate-constant", "rate-constants", "Troe", "SRI",
    "Tsang", "efficiencies", "default-efficiency", "orders", "negative-orders", "nonreactant-orders", "negative-A",
    "duplicate", "units", "temperature-range", "pressure-range", "data", "colliders",
)  # fmt: skip


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

    def _equation(self, entry: Node, *, skip: bool) -> ReactionEquation | None:
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
        equation = ReactionEquation(text, sides[0], sides[1], match[2] != "=>", found, inside)
        self._balanced(entry, equation)
        return equation

    def _balanced(self, entry: Node, equation: ReactionEquation) -> None:
        for element in self.elements:
            surplus = sum(n * self.atoms[s][element] for s, n in equation.products.items())
            surplus -= sum(n * self.atoms[s][element] for s, n in equation.reactants.items())
            if abs(surplus) > 1e-4:
                raise entry.fail(f"not balanced in {element}: {surplus:+g} atoms; correct the coefficients")

    def _orders(self, entry: Node, equation: ReactionEquation) -> dict[str, float]:
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

    def _efficiencies(self, entry: Node, equation: ReactionEquation) -> tuple[dict[str, float], float]:
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
        if str(entry.get("type", None)) in (*TABLED, MIXED):
            return {}, 1.0  # what counts is the pressure
        if equation.collider not in (None, "M"):
            if equation.collider not in self.known:
                raise entry.fail(f"collider {short(equation.collider)} is not in the phase")
            given, default = {str(equation.collider): 1.0}, 0.0
        return given, default

    def _row(self, entry: Node, equation: ReactionEquation) -> Row:
        entry.misspelt(KEYS)
        kind = entry.text("type", "elementary")
        if kind not in KINDS:
            raise entry.fail(f"type {short(kind)} is not supported; supported: {', '.join(KINDS)}")
        if (kind in COLLIDING) != equation.parenthesised and kind not in (*TABLED, MIXED):
            told = "a fall-off reaction has type falloff or chemically-activated, and (+M) on both sides"
            raise entry.fail(told)
        row = Row(equation, entry, kind, self._orders(entry, equation), *self._efficiencies(entry, equation))
        total = sum(row.orders.values())
        if kind in READERS:
            READERS[kind](row, total)
        elif kind == MIXED:
            row.colliders = read_colliders(row, total, self.known, lenient=self.lenient)
        else:
            if "rate-constant" not in entry:
                raise entry.fail("rate-constant missing")
            row.third = equation.collider == "M"
            if kind.startswith("three-body") and not row.third and not self._explicit(equation):
                raise entry.fail("a three-body reaction has a collider, M or a species, on both sides")
            row.high = arrhenius(entry, entry.get("rate-constant"), "rate-constant", total + row.third)
            refuse_negative(entry, row.high[0], "rate-constant")
        return row

    @staticmethod
    def _explicit(equation: ReactionEquation) -> bool:
        return bool(set(equation.reactants) & set(equation.products))

    # Together

    def reactions(self) -> Reactions:
        """All reactions read so far as tensors.

        Raises:
            MechanismError: Two are the same without being declared duplicates, or one is declared and alone.
        """
        rows = self.rows
        refuse_duplicates(rows, len(self.names))

        def matrix(
            of: Callable[[Row], dict[str, float]], rest: Callable[[Row], float] = lambda row: 0.0
        ) -> torch.Tensor:
            """Values by species, and that of all others; (R, K)."""
            values = column(rows, rest)[:, None].repeat(1, len(self.names))
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
            reversible=column(rows, lambda row: row.equation.reversible, torch.bool),
            A=column(rows, lambda row: row.high[0]),
            b=column(rows, lambda row: row.high[1]),
            Ea=column(rows, lambda row: row.high[2]),
            third_body=column(rows, lambda row: row.third, torch.bool),
            falloff=column(rows, lambda row: row.kind in COLLIDING, torch.bool),
            efficiencies=matrix(lambda row: row.efficiencies, lambda row: row.default_efficiency),
            A_low=column(rows, lambda row: row.low[0]),
            b_low=column(rows, lambda row: row.low[1]),
            Ea_low=column(rows, lambda row: row.low[2]),
            **falloff_columns(rows),
            pressures=pressure_table(rows),
            chebyshev=chebyshev_table(rows),
            mixtures=mixture_rules(rows, self.names),
            barriers=barrier_table(rows),
        )
