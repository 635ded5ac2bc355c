"""The one table of names: kinds of worlds and of instruments, imported on use.

A kind of world or an instrument of one's own is a class, and one entry point (`simengine.kinds`,
`simengine.instruments`) that names it as "module:Class", or a call of `register`.
"""

import importlib
from importlib import metadata
from typing import Any

from simengine.scene.base import SceneError
from simengine.scene.strict import nearest
from simengine.shown import shown

KINDS = {
    "mpm": "simengine.worlds.motion.world:MPMScene",
    "melting": "simengine.worlds.motion.melting:MeltingScene",
    "rigid": "simengine.worlds.motion.rigid:RigidWorld",
    "specimen": "simengine.worlds.laws.specimen:SpecimenWorld",
    "flame": "simengine.worlds.flames.world:FlameScene",
    "constraint": "simengine.worlds.fields.world:ConstraintScene",
    "render": "simengine.worlds.objects.world:RenderScene",
    "nclaw": "simengine.worlds.laws.world:NCLawScene",
    "dtn": "simengine.worlds.detectors.world:DTNScene",
    "displacement": "simengine.worlds.objects.displacement:DisplacementWorld",
    "surface": "simengine.worlds.objects.surface:SurfaceWorld",
    "volume": "simengine.worlds.objects.volume:VolumeWorld",
}
INSTRUMENTS = {
    "curve": "simengine.observe.instruments.table:Curve",
    "profiles": "simengine.observe.instruments.table:Profiles",
    "samples": "simengine.observe.instruments.table:Samples",
    "experiments": "simengine.observe.instruments.table:Experiments",
    "markers": "simengine.observe.instruments.markers:Markers",
    "displacements": "simengine.observe.instruments.displacements:Displacements",
    "lamps": "simengine.observe.instruments.lamps:Lamps",
    "projections": "simengine.observe.instruments.projections:Projections",
}
_GROUPS = {"kind": ("simengine.kinds", KINDS), "type": ("simengine.instruments", INSTRUMENTS)}


def register(role: str, name: str, path: str) -> None:
    """Add a name to a table.

    Args:
        role: "kind" for a world, "type" for an instrument.
        name: As a scene writes it.
        path: "module:Class".
    """
    _GROUPS[role][1][name] = path


def named_class(role: str, name: Any) -> type:
    """The class of a kind of world or of an instrument.

    Raises:
        SceneError: There is none of that name.
    """
    group, table = _GROUPS[role]
    if isinstance(name, str) and name not in table:
        for entry in metadata.entry_points(group=group):
            table.setdefault(entry.name, entry.value)
    if not isinstance(name, str) or name not in table:
        what = "no kind of scene" if role == "kind" else "no instrument"
        raise SceneError(f"{role}: {shown(name)} is {what}; {nearest(str(name), table)}")
    module, _, attribute = table[name].partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found
