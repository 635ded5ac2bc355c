"""What `[reference]` tells, under the names by which the answer is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from simengine.fit.coordinate import Coordinate
from simengine.fit.unknowns import named_groups
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.instrument import AbstractInstrument


def references(
    scene: Scene, instruments: Mapping[str, AbstractInstrument], coordinates: Sequence[Coordinate]
) -> dict[str, Any]:
    """The table by the names of the estimates, however its keys spell them; what is not sought keeps its key.

    Args:
        scene: The scene.
        instruments: Its observations, prepared.
        coordinates: What is sought.

    Raises:
        SceneError: A key names nothing: its comparison would be missing without a word.
    """
    names = {c.name.rpartition(" ")[0] if c.name.rpartition(" ")[2].isdigit() else c.name for c in coordinates}
    by_target = {target: c.name for c in coordinates for target in c.targets}
    found: dict[str, Any] = {}
    for key, value in scene.reference.items():
        if key in names or key in {*by_target.values(), *scene.unknowns, *scene.derived, *scene.world.fields()}:
            found[key] = value
            continue
        try:
            entries = [entry for _, group in named_groups(scene, instruments, key) for entry in group]
        except SceneError as error:
            raise SceneError(f"reference.{str(error).removeprefix('unknowns.')}") from None
        each = value if isinstance(value, list) else [value] * len(entries)
        if len(each) != len(entries):
            raise SceneError(f"reference.{key}: {len(each)} numbers for {len(entries)} entries")
        sought = {by_target[entry[0]]: own for entry, own in zip(entries, each, strict=True) if entry[0] in by_target}
        found |= sought or {key: value}
    return found
