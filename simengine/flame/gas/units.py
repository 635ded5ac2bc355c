"""Units of mechanism files: powers of a few names, and what they are in SI (with the mole, not the kilomole)."""

import math
import re

_SI = {
    "m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "angstrom": 1e-10, "km": 1e3,
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "hr": 3600.0,
    "mol": 1.0, "mmol": 1e-3, "kmol": 1e3, "molec": 1 / 6.02214076e23, "gmol": 1.0,
    "kg": 1.0, "g": 1e-3,
    "J": 1.0, "kJ": 1e3, "cal": 4.184, "kcal": 4184.0, "erg": 1e-7, "eV": 1.602176634e-19,
    "Pa": 1.0, "kPa": 1e3, "MPa": 1e6, "bar": 1e5, "atm": 101325.0, "torr": 101325.0 / 760, "Torr": 101325.0 / 760,
    "K": 1.0, "C": 1.0, "V": 1.0,
}  # fmt: skip
R = 8.31446261815324  # J/(mol K), exact since 2019


class UnitError(ValueError):
    """A unit that is not known, or not of the kind that is needed."""


def factor(text: str) -> float:
    """What one of a compound unit such as `cm^3/mol/s` is in SI.

    Raises:
        UnitError: A name is unknown.
    """
    value, sign = 1.0, 1
    for part in re.split(r"([*/])", text.replace(" ", "")):
        if part in "*/":
            sign = 1 if part == "*" else -1
            continue
        name, _, power = part.partition("^")
        if name == "1" and not power:
            continue
        if name not in _SI:
            raise UnitError(f"unit {name[:40]!r} in {text[:40]!r} is not known; known: {', '.join(_SI)}")
        try:
            value *= _SI[name] ** (sign * number(power or 1))
        except OverflowError as error:
            raise UnitError(f"unit {text[:40]!r} is too large a power") from error
    return value


def number(value: object) -> float:
    """A finite number of a YAML file, which may read 1e5 as text.

    Raises:
        UnitError: It is none.
    """
    try:
        if (
            isinstance(value, (str, int, float))
            and not isinstance(value, bool)
            and math.isfinite(found := float(value))
        ):
            return found
    except (ValueError, OverflowError):
        pass
    kind = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)[:60]
    raise UnitError(f"expected a finite number, got {kind}")


DIMENSIONS = ("length", "mass", "time", "quantity", "pressure", "energy", "activation-energy", "temperature", "current")


class UnitSystem:
    """The units of bare numbers in a file, or in a part of it.

    Args:
        declared: A `units` table: length, quantity, time, activation-energy, pressure and others.

    Raises:
        UnitError: A dimension or unit is not known.
    """

    def __init__(self, declared: object = None) -> None:
        declared = {} if declared is None else declared
        if not isinstance(declared, dict):
            kind = type(declared).__name__
            raise UnitError(f"units: expected a table such as {{length: cm, quantity: mol}}, got a {kind}")
        for name, unit in declared.items():
            if name not in DIMENSIONS:
                raise UnitError(f"units: {str(name)[:40]!r} is not known; known: {', '.join(DIMENSIONS)}")
            if name not in ("temperature", "current"):
                factor(str(unit))
        self.declared: dict[str, str] = {str(name): str(unit) for name, unit in declared.items()}
        self.names: dict[str, str] = {"length": "m", "quantity": "kmol", "time": "s", "pressure": "Pa", **self.declared}
        energy, quantity = self.names.setdefault("energy", "J"), self.names["quantity"]
        self.names.setdefault("activation-energy", f"{energy}/{quantity}")

    def within(self, declared: object) -> "UnitSystem":
        """The units in a part of the file that declares some of its own."""
        return UnitSystem({**self.declared, **UnitSystem(declared).declared})

    def convert(self, value: object, default: str) -> float:
        """A number, or text of a number and its unit, in SI; `default` is the unit of a bare number."""
        if isinstance(value, str) and len(words := value.split(maxsplit=1)) == 2:
            return number(words[0]) * factor(words[1])
        return number(value) * factor(default)

    def rate(self, value: object, order: float) -> float:
        """A pre-exponential factor of a reaction of this order: (m^3/mol)^(order - 1)/s."""
        if isinstance(value, str) and len(value.split(maxsplit=1)) == 2:
            return self.convert(value, "1")
        return number(value) * self.rate_unit(order)

    def rate_unit(self, order: float) -> float:
        """What the unit of a rate constant of this order is in (m^3/mol)^(order - 1)/s."""
        concentration = factor(self.names["quantity"]) / factor(self.names["length"]) ** 3
        return concentration ** (1 - order) / factor(self.names["time"])

    def activation(self, value: object) -> float:
        """An activation energy in J/mol; one in kelvin is times R."""
        unit = self.names["activation-energy"]
        if isinstance(value, str) and len(words := value.split(maxsplit=1)) == 2:
            value, unit = words
        if unit == "K":
            return number(value) * R
        if unit == "eV":
            return number(value) * factor("eV") / factor("molec")
        return number(value) * factor(unit)
