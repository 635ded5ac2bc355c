"""Whether the columns of an observation can be what their units say."""

from simengine.scene.base import AbstractWorld, SceneError
from simengine.scene.instrument import Measured


def check_plausible(name: str, measured: Measured, world: AbstractWorld) -> None:
    """Refuse a column that is in no unit it can be in, or beyond what it can be without telling a unit.

    Raises:
        SceneError: It names the column, the value and how to tell the unit.
    """
    used = measured.mask.any(1)
    columns = {**measured.at, **{c: measured.values[:, k] for k, c in enumerate(measured.names)}}
    plausible = world.plausible()
    told = {column: unit for column, unit in measured.told.items() if column not in plausible}
    known = world.abscissas()
    if any(column not in known for column in told):
        known = {**known, **world.scalars()}  # a world of one's own is solved for that
    for column, unit in told.items():
        _check_dimension(name, column, unit, known.get(column, ""))
    for column, (unit, least, most) in plausible.items():
        if column not in columns:
            continue
        own = measured.told.get(column, "")
        _check_dimension(name, column, own, unit)
        values = columns[column][used]
        values = values[~values.isnan()]
        if not own and len(values) and not (least <= float(values.min()) and float(values.max()) <= most):
            worst = float(values.max()) if float(values.max()) > most else float(values.min())
            raise SceneError(
                f"observations.{name}: {column}: {worst:g} {unit} is beyond {least:g} to {most:g}; tell the unit of "
                f"the column, as in '{column} [{_EXAMPLES.get(unit, unit)}]' (or '[{unit}]' if that is meant)"
            )


def _check_dimension(name: str, column: str, told: str, unit: str) -> None:
    from simengine.io.units import dimension, to_si

    if told and unit and not _is_number(told) and dimension(told) != dimension(unit):
        factor = f"{to_si(told)[0] * WEIGHT:g}" if (dimension(told), unit) == ("[mass]", "N") else "FACTOR"
        raise SceneError(
            f"observations.{name}: {column} is told in {told}; it has to be in {unit} or the like, or be given by a "
            f"factor to {unit}: columns.{column} = {{ column = HEADER, unit = {factor} }}"
        )


WEIGHT = 9.80665  # of a kilogram, by which scales and testing machines tell forces [N/kg]
_EXAMPLES = {"m/s": "cm/s", "K": "degC", "Pa": "atm"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
