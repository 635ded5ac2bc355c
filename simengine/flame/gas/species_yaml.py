"""Species of a mechanism file: thermodynamics as NASA-9 polynomials, and Lennard-Jones data."""

import itertools
import math
from typing import NamedTuple

from simengine.flame.gas.document import Node
from simengine.flame.gas.mechanism import LennardJones
from simengine.flame.gas.units import R

DEBYE = 1e-21 / 299792458  # C m
BOLTZMANN = 1.380649e-23  # J/K
GEOMETRY = {"atom": 0.0, "linear": 1.0, "nonlinear": 1.5}


class Thermo(NamedTuple):
    """Polynomials of a species.

    Attributes:
        rows: NASA-9 coefficients of each range: T^-2 ... T^4, then those of h and s.
        limits: Temperatures [K] at which the ranges begin and end.
        pressure: That the entropies refer to [Pa].
    """

    rows: list[list[float]]
    limits: list[float]
    pressure: float


def read_composition(species: Node) -> dict[str, float]:
    """Atoms of each element.

    Raises:
        MechanismError: It is missing or malformed.
    """
    table = species.table("composition")
    return {str(element): table.number(element) for element in table.data}


def read_thermo(species: Node) -> Thermo:
    """NASA-7, NASA-9, Shomate and constant-cp data; the others are special cases of NASA-9.

    Raises:
        MechanismError: The model is another, or its data are malformed.
    """
    entry = species.table("thermo")
    model = entry.text("model")
    if model not in _MODELS:
        raise entry.fail(f"model {model[:40]!r} is not supported; supported: {', '.join(_MODELS)}")
    rows, limits = _MODELS[model](entry)
    if any(b <= a for a, b in itertools.pairwise(limits)) or limits[0] < 0:
        raise entry.fail(f"temperature-ranges: expected rising temperatures, got {limits}"[:200])
    pressure = entry.convert("reference-pressure", "1 atm", entry.units.names["pressure"])
    if pressure <= 0:
        raise entry.fail(f"reference-pressure: expected a positive pressure, got {pressure:g} Pa")
    return Thermo(rows, limits, pressure)


def _ranges(entry: Node, width: int) -> tuple[list[list[float]], list[float]]:
    """The coefficients of each temperature range."""
    limits = entry.numbers("temperature-ranges")
    data = entry.items("data")
    rows = [Node(type(entry.data)({"data": row}), entry.file, entry.what, entry.units).numbers("data") for row in data]
    if len(rows) == 1 and len(limits) == 3:
        rows = rows * 2
    if len(limits) < 2 or len(rows) != len(limits) - 1 or any(len(row) != width for row in rows):
        raise entry.fail(
            f"data: expected {width} coefficients for each of {max(len(limits) - 1, 1)} temperature ranges"
        )
    return rows, limits


def _nasa7(entry: Node) -> tuple[list[list[float]], list[float]]:
    rows, limits = _ranges(entry, 7)
    return [[0.0, 0.0, *row] for row in rows], limits


def _nasa9(entry: Node) -> tuple[list[list[float]], list[float]]:
    return _ranges(entry, 9)


def _shomate(entry: Node) -> tuple[list[list[float]], list[float]]:
    """Powers of T/1000, J/(mol K) and kJ/mol."""
    rows, limits = _ranges(entry, 7)
    out = []
    for A, B, C, D, E, F, G in rows:
        heat = [E * 1e6, 0.0, A, B * 1e-3, C * 1e-6, D * 1e-9, 0.0]
        out.append([a / R for a in (*heat, F * 1e3, G - A * math.log(1000.0))])
    return out, limits


def _constant_cp(entry: Node) -> tuple[list[list[float]], list[float]]:
    entry.misspelt(("model", "T0", "h0", "s0", "cp0", "T-min", "T-max", "reference-pressure", "units"))
    energy, quantity = entry.units.names["energy"], entry.units.names["quantity"]
    T0, h0 = entry.convert("T0", 298.15, "K"), entry.convert("h0", 0.0, f"{energy}/{quantity}")
    s0, cp0 = (entry.convert(key, 0.0, f"{energy}/{quantity}/K") for key in ("s0", "cp0"))
    if T0 <= 0:
        raise entry.fail(f"T0: expected a temperature above 0 K, got {T0:g}")
    row = [0.0, 0.0, cp0, 0.0, 0.0, 0.0, 0.0, h0 - cp0 * T0, s0 - cp0 * math.log(T0)]
    limits = [entry.convert("T-min", 200.0, "K"), entry.convert("T-max", 6000.0, "K")]
    return [[a / R for a in row]], limits


_MODELS = {"NASA7": _nasa7, "NASA9": _nasa9, "Shomate": _shomate, "constant-cp": _constant_cp}


def read_transport(species: Node) -> LennardJones | None:
    """Lennard-Jones data, where a species has any; in K, Angstrom, Debye and Angstrom^3, without units.

    Raises:
        MechanismError: They are incomplete or malformed.
    """
    if "transport" not in species:
        return None
    entry = species.table("transport")
    known = ("model", "geometry", "well-depth", "diameter", "dipole", "polarizability", "rotational-relaxation")
    entry.misspelt(known)
    geometry = entry.text("geometry")
    if geometry not in GEOMETRY:
        raise entry.fail(f"geometry: expected {', '.join(GEOMETRY)}, got {geometry[:40]!r}")
    diameter = entry.number("diameter")
    if diameter <= 0:
        raise entry.fail(f"diameter: expected a positive length in Angstrom, got {diameter:g}")
    return LennardJones(
        geometry=GEOMETRY[geometry],
        well_depth=entry.number("well-depth", least=0.0) * BOLTZMANN,
        diameter=diameter * 1e-10,
        dipole=entry.number("dipole", 0.0, least=0.0) * DEBYE,
        polarizability=entry.number("polarizability", 0.0, least=0.0) * 1e-30,
        rotational_relaxation=entry.number("rotational-relaxation", 0.0, least=0.0),
    )
