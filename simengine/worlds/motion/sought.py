"""The parameters of a fit from the table of a scene, with the bounds that a name implies."""

import math
from collections.abc import Mapping

from simengine.fit.parameters import Parameter, ParameterSet
from simengine.scene.base import SceneError
from simengine.worlds.motion.world import ParameterSpec

# numbers of a scene that are positive whatever their bounds say, by the last part of their key
POSITIVE = ("E", "yield_stress", "friction_angle", "friction", "density")


def scene_parameters(table: Mapping[str, ParameterSpec], *, key: str) -> ParameterSet:
    """The set to search.

    Args:
        table: Dotted key of a number of the scene -> where its search starts.
        key: Of the table itself, for messages.

    Raises:
        SceneError: A start lies beyond the bounds of its parameter.
    """
    entries = {}
    for name, entry in table.items():
        last = name.rpartition(".")[2]
        lower = 0.0 if last in POSITIVE else -0.99 if last == "nu" else -math.inf
        upper = 0.5 if last == "nu" else math.inf
        try:
            entries[name] = Parameter(
                initial=entry.initial,
                lower=lower if entry.lower is None else entry.lower,
                upper=upper if entry.upper is None else entry.upper,
            )
        except ValueError as error:
            raise SceneError(f"{key}.{name}: {error}") from error
    return ParameterSet(entries)
