"""Units at the door: a file's unit to SI, by pint. Inside everything is SI."""

import math
import re
from functools import cache
from typing import Any

_SPECIAL = {
    "": (1.0, 0.0),
    "1": (1.0, 0.0),
    "-": (1.0, 0.0),
    "%": (0.01, 0.0),
    "percent": (0.01, 0.0),
    "px": (1.0, 0.0),
}
_AFFINE = {"degC": (1.0, 273.15), "°C": (1.0, 273.15), "C": (1.0, 273.15), "degF": (5 / 9, 459.67 * 5 / 9)}
# endings of headers that are units and no words: "load_N" says newton, "Y_CO" is no coulomb per something
_ENDINGS = (
    *(
        "m",
        "mm",
        "cm",
        "um",
        "nm",
        "km",
        "s",
        "ms",
        "us",
        "min",
        "h",
        "d",
        "day",
        "days",
        "Pa",
        "kPa",
        "MPa",
        "GPa",
        "hPa",
    ),
    *("bar", "mbar", "atm", "psi", "N", "kN", "mN", "g", "kg", "mg", "K", "C", "degC", "degF", "percent", "deg", "rad"),
    *("Hz", "kHz", "J", "kJ", "W", "kW", "mW", "L", "mL", "V", "mV", "rpm", "px"),
)


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


@cache
def to_si(unit: str) -> tuple[float, float]:
    """Factor and shift of a unit: value_SI = factor * value + shift.

    Args:
        unit: As in "cm/s", "MPa", "1/s", "%", "degC". A temperature in degC or degF is shifted: for values, not for
            differences.

    Raises:
        ValueError: It is no unit.
    """
    text = unit.strip()
    if text in _SPECIAL:
        return _SPECIAL[text]
    if text in _AFFINE:
        return _AFFINE[text]
    try:
        quantity = _registry().Quantity(1.0, re.sub(r"(?<=[A-Za-z])(-?\d)", r"**\1", text).replace("****", "**"))
        if not 0 < (factor := float(quantity.to_base_units().magnitude)) < math.inf:
            raise ValueError(f"1 of it is {factor:g} in SI")
        return factor, 0.0
    except Exception as error:  # pint raises its own, tokenize's and Python's
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"unit {unit!r} is not known ({reason}); write it as in 'cm/s', 'MPa', '1/s'") from None


@cache
def dimension(unit: str) -> str:
    """The dimension of a unit in words of pint, as in "[length] / [time]"; "dimensionless" for pure numbers.

    Raises:
        ValueError: It is no unit.
    """
    to_si(unit)  # names what is none
    text = unit.strip()
    if text in _SPECIAL:
        return "pixel" if text == "px" else "dimensionless"
    if text in _AFFINE:
        return "[temperature]"
    text = re.sub(r"(?<=[A-Za-z])(-?\d)", r"**\1", text).replace("****", "**")
    return str(_registry().Quantity(1.0, text).dimensionality)


def split_header(header: str) -> tuple[str, str]:
    """Name and unit of a header: `load [N]` and `load (N)` give ("load", "N"); without brackets the unit is ""."""
    if found := re.fullmatch(r"\s*(.*?)\s*[\[(]\s*([^\[\]()]*)\s*[\])]\s*", header):
        return found[1], found[2]
    return header.strip(), ""


def ending(header: str) -> str:
    """The unit that a header like `stress_MPa` or `S_u_cm_s` ends with; "" where its ending is no unit."""
    parts = header.strip().split("_")
    if len(parts) > 2 and parts[-2] in _ENDINGS and parts[-1] in ("s", "m", "m2", "m3", "L", "h", "day", "min", "Pa"):
        return f"{parts[-2]}/{parts[-1]}"
    if len(parts) > 2 and parts[-2] == "1" and parts[-1] in _ENDINGS:
        return f"1/{parts[-1]}"
    return parts[-1] if len(parts) > 1 and parts[-1] in _ENDINGS else ""
