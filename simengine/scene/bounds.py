"""The bounds of one number of a scene, as its schema states them."""

import dataclasses
import math
import typing
from typing import Annotated, Any

from simengine.scene.strict import Range, _hints


def bounds(scene: Any, key: str) -> tuple[float, float]:
    """Between what the number at a dotted key of a scene must lie, from the `Range` of its field.

    Args:
        scene: A scene, or any dataclass that `strict` reads.
        key: As in `bodies.0.material.friction_angle`.

    Returns:
        Lower and upper bound, infinite where there is none, or where nothing in the scene has this key.
    """
    value, hint = scene, None
    low, high = -math.inf, math.inf
    for part in key.split("."):
        if dataclasses.is_dataclass(value) and part in {f.name for f in dataclasses.fields(value)}:
            hint = _hints(type(value))[part]
            value = getattr(value, part)
            low, high = -math.inf, math.inf
            if typing.get_origin(hint) is Annotated:
                for bound in typing.get_args(hint)[1:]:
                    if isinstance(bound, Range):
                        low, high = max(low, bound.gt, bound.ge), min(high, bound.lt, bound.le)
        elif isinstance(value, tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]  # the bounds of a vector are those of each entry
        else:
            return -math.inf, math.inf
    return low, high
