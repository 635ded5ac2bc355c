"""Units of mechanism files: powers of a few names, and what they are in SI (with the mole, not the kilomole)."""

import re

from simengine.shown import shown

_SI = {
    "m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "angstrom": 1e-10, "km": 1e3,
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "hr": 3600.0,
    "mol": 1.0, "kmol": 1e3, "molec": 1 / 6.02214076e23, "gmol": 1.0,
    "kg": 1.0, "g": 1e-3,
    "J": 1.0, "kJ": 1e3, "cal": 4.184, "kcal": 4184.0, "erg": 1e-7, "eV": 1.602176634e-19,
    "Pa": 1.0, "kPa": 1e3, "MPa": 1e6, "bar": 1e5, "atm": 101325.0, "torr": 101325.0 / 760, "dyn/cm^2": 0.1,
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
            raise UnitError(f"unit {shown(name)} in {shown(text)} is not known; known: {', '.join(_SI)}")
        value *= _SI[name] ** (sign * float(power or 1))
    return value


def number(value: object) -> float:
    """A number of a YAML file, which may read 1e5 as text.

    Raises:
        UnitError: It is none.
    """
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UnitError(f"expected a number, got {shown(value)}") from None


class Units:
    """The default units of a file.

    Args:
        declared: The file's `units` table: length, quantity, time, activation-energy, pressure and others.
    """

    def __init__(self, declared: dict[str, str] | None = None) -> None:
        self.names = {"length": "m", "quantity": "kmol", "time": "s", "pressure": "Pa", **(declared or {})}
        energy, quantity = self.names.get("energy", "J"), self.names["quantity"]
        self.names.setdefault("activation-energy", f"{energy}/{quantity}")

    def convert(self, value: object, default: str) -> float:
        """A number, or text of a number and its unit, in SI; `default` is the unit of a bare number."""
        if isinstance(value, str) and len(words := value.split(maxsplit=1)) == 2:
            return number(words[0]) * factor(words[1])
        return number(value) * factor(default)

    def rate(self, value: object, order: float) -> float:
        """A pre-exponential factor of a reaction of this order: (m^3/mol)^(order - 1)/s."""
        if isinstance(value, str) and len(value.split(maxsplit=1)) == 2:
            return self.convert(value, "1")
        concentration = factor(self.names["quantity"]) / factor(self.names["length"]) ** 3
        return number(value) * concentration ** (1 - order) / factor(self.names["time"])

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
