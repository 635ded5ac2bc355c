"""The parameters of a fit from the table of a scene, with the bounds of its schema."""

import math
from collections.abc import Mapping

from simengine.fit.trainings.parameters import Parameter, ParameterSet
from simengine.scene.address import bounds
from simengine.scene.base import AbstractScene, SceneError
from simengine.worlds.motion.world import ParameterSpec


def scene_parameters(
    table: Mapping[str, ParameterSpec], *, key: str, scene: AbstractScene | None = None
) -> ParameterSet:
    """The set to search.

    Args:
        table: Dotted key of a number of the scene -> where its search starts. Its own bounds are narrowed to those that
            the scene's schema has for the key.
        key: Of the table itself, for messages.
        scene: Whose numbers these are; None where they are no scene's.

    Raises:
        SceneError: A start lies beyond the bounds of its parameter.
    """
    entries = {}
    for name, entry in table.items():
        low, high = (-math.inf, math.inf) if scene is None else bounds(scene, name)
        try:
            entries[name] = Parameter(
                initial=entry.initial,
                lower=low if entry.lower is None else max(low, entry.lower),
                upper=high if entry.upper is None else min(high, entry.upper),
                scale=entry.scale,
            )
        except ValueError as error:
            raise SceneError(f"{key}.{name}: {error}") from error
    return ParameterSet(entries)
