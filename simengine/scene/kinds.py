"""The one table of names: kinds of worlds, what is done with them, and instruments; imported on use.

Worlds are data and know how to build; what runs, checks, pictures and fits them is named here, and imports them.

A kind of world or an instrument of one's own is a class, and one entry point (`simengine.kinds`,
`simengine.instruments`) that names it as "module:Class", or a call of `register`.
"""

import contextlib
import importlib
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from simengine.scene.errors import SceneError
from simengine.scene.strict import nearest
from simengine.shown import shown

if TYPE_CHECKING:
    from simengine.scene.learning import AbstractLearner, AbstractObjective

KINDS = {
    "mpm": "simengine.worlds.motion.world:MPMWorld",
    "melting": "simengine.worlds.motion.melting:MeltingWorld",
    "rigid": "simengine.worlds.motion.rigid.world:RigidWorld",
    "specimen": "simengine.worlds.laws.specimen:SpecimenWorld",
    "flame": "simengine.worlds.flames.world:FlameWorld",
    "pde": "simengine.worlds.fields.pde:PDEWorld",
    "constraint": "simengine.worlds.fields.world:ConstraintWorld",
    "nclaw": "simengine.worlds.laws.world:NCLawWorld",
    "pictures": "simengine.worlds.objects.given:PicturesWorld",
    "dtn": "simengine.worlds.detectors.world:DTNWorld",
    "renders": "simengine.worlds.detectors.renders:RendersWorld",
    "solids": "simengine.worlds.learned.populations:SolidsWorld",
    "samples": "simengine.worlds.learned.populations:SamplesWorld",
    "displacement": "simengine.worlds.objects.displacement:DisplacementWorld",
    "maps": "simengine.worlds.objects.maps:MapsWorld",
    "surface": "simengine.worlds.objects.surface:SurfaceWorld",
    "surfels": "simengine.worlds.objects.surfels:SurfelsWorld",
    "radiance": "simengine.worlds.objects.radiance:RadianceWorld",
    "volume": "simengine.worlds.objects.volume:VolumeWorld",
}
INSTRUMENTS = {
    "curve": "simengine.observe.instruments.table:Curve",
    "profiles": "simengine.observe.instruments.table:Profiles",
    "samples": "simengine.observe.instruments.table:Samples",
    "grids": "simengine.observe.instruments.grids:Grids",
    "experiments": "simengine.observe.instruments.experiments:Experiments",
    "markers": "simengine.observe.instruments.marks.markers:Markers",
    **dict.fromkeys(("pictures", "video", "views"), "simengine.observe.instruments.pictures:Pictures"),
    "detections": "simengine.observe.instruments.boxes.detections:Detections",
    "labelled": "simengine.observe.instruments.boxes.detections:Detections",
    "distribution": "simengine.observe.instruments.distribution:Distribution",
    "displacements": "simengine.observe.instruments.displacements:Displacements",
    "flashes": "simengine.observe.instruments.flashes:Flashes",
    "lamps": "simengine.observe.instruments.lamps:Lamps",
    "projections": "simengine.observe.instruments.projections:Projections",
}
MODELS = {  # type of [model] -> what it is, what trains it, what uses it on something new
    "operator": {
        "spec": "simengine.worlds.fields.specs:OperatorLearner",
        "training": "simengine.worlds.fields.training:training",
        "use": "simengine.worlds.fields.use:solve_member",
    },
    "transformation": {
        "spec": "simengine.worlds.detectors.world:AppearanceNetworkSpec",
        "training": "simengine.worlds.detectors.renders_network:training",
        "use": "simengine.worlds.detectors.use:wear_texture",
    },
    "detector": {
        "spec": "simengine.worlds.detectors.world:TrainedDetectorSpec",
        "training": "simengine.worlds.detectors.small:training",
        "use": "simengine.worlds.detectors.use:detect_in",
    },
    "picture_detector": {
        "spec": "simengine.worlds.objects.labelled:PictureDetector",
        "training": "simengine.worlds.objects.labelled:training",
        "check": "simengine.worlds.objects.labelled:check",
    },
    "law": {
        "spec": "simengine.worlds.laws.world:LawLearner",
        "training": "simengine.worlds.laws.training:training_of",
        "use": "simengine.worlds.laws.use:move_by_law",
    },
    "maps": {
        "spec": "simengine.worlds.learned.svbrdf.spec:SVBRDFSpec",
        "training": "simengine.worlds.learned.svbrdf.training:training",
        "use": "simengine.worlds.learned.svbrdf.use:maps_of_photograph",
    },
    "views": {
        "spec": "simengine.worlds.learned.views_from_few.spec:ViewSynthesisSpec",
        "training": "simengine.worlds.learned.views_from_few.training:training",
        "use": "simengine.worlds.learned.views_from_few.use:views_of_photographs",
    },
    "shape": {
        "spec": "simengine.worlds.learned.pix2shape.spec:Pix2ShapeSpec",
        "training": "simengine.worlds.learned.pix2shape.training:training",
    },
}
OBJECTIVES = {  # type of [objective] -> what it is, and what makes it small
    "camouflage": {
        "spec": "simengine.worlds.detectors.world:CamouflageSpec",
        "training": "simengine.worlds.detectors.camouflage:training",
    },
    "score": {
        "spec": "simengine.worlds.objects.paint_search:ScoreObjective",
        "training": "simengine.worlds.objects.paint_search:training",
        "check": "simengine.worlds.objects.paint_search:check",
    },
}
_TRAINED = "; for `simengine train` what is trained into [model], on what and how into [examples] and [training]"
NEW_FORM = {  # old tables -> what says the same now
    "fit": "what was measured goes into [observations.NAME], what is sought into [unknowns], how into [inference], "
    f"known values into [reference]{_TRAINED}",
    "task": "what is there goes into the world, what was measured into [observations.NAME], what is sought into "
    f"[unknowns]{_TRAINED}; for `simengine optimise` what is made small into [objective]",
    "learning": "what was measured goes into [observations.NAME], numbers that are sought into [unknowns]; for "
    "`simengine train` the law goes into [model], how it learns into [examples] and [training]",
}
GONE_TASKS = {  # of the kind render, which is no more -> the shipped scene that says it as it is said now
    "material_maps": "material_from_flashes",
    "flame_image": "flame_from_image",
    "law_video": "law_from_video",
    "tomography": "tomography_blob",
    "camera_pose": "camera_from_silhouette",
    "video": "elasticity_from_video",
    "pix2shape": "shape_from_pictures",
    "view_synthesis": "new_views",
    "svbrdf": "material_from_one_picture",
}
METHODS = {  # of kinds; a kind that inherits from another has the methods of that too
    "mpm": {
        "run": "simengine.worlds.motion.run:simulate",
        "check": "simengine.worlds.motion.preflight:preflight",
        "render": "simengine.worlds.motion.run:render",
        "show": "simengine.worlds.motion.run:film",
    },
}
_GROUPS = {"kind": ("simengine.kinds", KINDS), "type": ("simengine.instruments", INSTRUMENTS)}
_LEARNED = {"model": MODELS, "objective": OBJECTIVES}


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
    try:
        found: type = imported(table[name])
    except ImportError as error:
        raise SceneError(f"{role}: {name!r} is {table[name]}, which cannot be imported: {error}") from error
    return found


def classes(role: str) -> dict[str, type]:
    """The class of every name of a table, of installed packages too; what cannot be imported is left out."""
    group, table = _GROUPS[role]
    found = {}
    for name in {**table, **{entry.name: "" for entry in metadata.entry_points(group=group)}}:
        with contextlib.suppress(SceneError):
            found[name] = named_class(role, name)
    return found


def learned_class(table: str, name: Any) -> "type[AbstractLearner] | type[AbstractObjective]":
    """The class of a type of `[model]` or `[objective]`.

    Raises:
        SceneError: There is none of that name.
    """
    known = _LEARNED[table]
    if not isinstance(name, str) or name not in known:
        raise SceneError(f"{table}.type: {shown(name)} is nothing that is known here; {nearest(str(name), known)}")
    found: type[AbstractLearner] | type[AbstractObjective] = imported(known[name]["spec"])
    return found


def learned_classes(table: str) -> "dict[str, type[AbstractLearner] | type[AbstractObjective]]":
    """Every type of `[model]` or `[objective]` with its class."""
    return {name: learned_class(table, name) for name in _LEARNED[table]}


def learned_method(table: str, name: str, verb: str) -> Callable[..., Any] | None:
    """What does `verb` (training, use) for a type of `[model]` or `[objective]`, or None."""
    path = _LEARNED[table][name].get(verb)
    found: Callable[..., Any] | None = None if path is None else imported(path)
    return found


def imported(path: str) -> Any:
    """What "module:name" names."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def method_of(world: type, verb: str) -> Callable[..., Any] | None:
    """What does `verb` (run, check, render, show, training) with worlds of a class, or None.

    Args:
        world: The class; its own kind is looked up before those that it inherits from.
        verb: Key of `METHODS[kind]`.
    """
    for cls in world.__mro__:
        path = METHODS.get(vars(cls).get("kind", ""), {}).get(verb)
        if path is not None:
            found: Callable[..., Any] = imported(path)
            return found
    return None
