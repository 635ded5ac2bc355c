"""Every key of a scene, changed to another valid value, changes what comes of the scene, or is refused.

A key may show in what is built, in the inverse problem, in its first steps, or in the results of a run; the cheap ones
are looked at first. The specs themselves are not looked into: a key must reach what computes. What a case lists as
`idle` has no effect there, for the reason told; that every key acts in some case is a test of its own.
"""

import tempfile
from pathlib import Path

import pytest
from key_cases import detectors, fields, flames, laws, learned, motions, objects
from key_cases.judge import SCHEMA, acting, leaves, scene_of

from simengine.io.run_directory import RunDirectory
from simengine.scene.kinds import KINDS
from simengine.scene.loader import resolved

CASES = {
    name: case
    for module in (detectors, fields, flames, laws, learned, motions, objects)
    for name, case in module.CASES.items()
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes' files lie."""
    path = tmp_path_factory.mktemp("keys")
    with tempfile.TemporaryDirectory() as out:
        scene = scene_of(motions.mpm(output={"save_every": 1, "video": False}), path)
        scene.run(RunDirectory.create(out, resolved(scene), overwrite=False, resume=False), device="cpu", force=True)
        (path / "observed.npz").write_bytes((Path(out) / "states.npz").read_bytes())
    return path


# What no case above holds, and why
UNJUDGED = {
    "Grid NetworkSpec FlameScene GasSpec ReactionNumbers SpeciesNumbers": "show in solved flames: minutes each",
    "LitFlame": "a flame in a picture: minutes",
    "Creep Equibiaxial Planar Relaxation SimpleShear TestSpec Triaxial Uniaxial": "specimens: no case of theirs yet",
    "ArrudaBoyce Gent Hyperfoam Linear Logarithmic Maxwell Metal MooneyRivlin Ogden Power Voce Yeoh": "laws of points: "
    "held to closed forms in tests/worlds/laws, not key by key yet",
    "Ball Contact Drag RigidBody RigidPlane": "rigid worlds: no case of theirs yet",
    "BoxSpec ClampSpec LoadSpec Region": "supports of motions: no case of theirs yet",
    "PaintSpec PicturesSpec PlacedSpec": "pictures that are given: no case of theirs yet",
    "SheetSpec SurfaceSpec VolumeSpec": "fields that are sought: no case of theirs yet",
    "AbstractEquation": "equations of a user's script",
    "Experts NetworkFit BranchTrunkSpec OperatorSpec ConstraintScene": "show in trainings only: minutes",
    "VideoSpec FlameImageSpec LawVideoSpec LawSpec": "films and pictures of solved problems: minutes each",
    "Pix2ShapeSpec ViewSynthesisSpec SVBRDFSpec": "networks that are trained: minutes each",
    "NCLawScene LearningSpec": "laws that are learned: minutes each",
    "DTNScene CarSpec MeshSpec ViewSampler DetectorSpec CamouflageSpec": "networks that are trained: minutes each",
}


def test_every_table_is_judged_or_listed(folder: Path) -> None:
    judged = {type(scene_of(case.data, folder)).__name__ for case in CASES.values() if "" in case.below}
    for case in CASES.values():
        scene = scene_of(case.data, folder)
        judged |= {owner.__name__ for key, _, _, (owner, _) in leaves(scene, type(scene)) if key.startswith(case.below)}
    listed = {name for names in UNJUDGED for name in names.split()}
    kinds = {target.rpartition(":")[2] for target in KINDS.values()}
    assert {cls.__name__ for cls in SCHEMA if SCHEMA[cls]} - kinds <= judged | listed
    assert not (judged & listed) - {"NetworkSpec"}, "judged, so no longer to be listed"  # two classes have that name


@pytest.mark.parametrize("name", CASES)
def test_every_key_acts_or_is_refused(name: str, folder: Path) -> None:
    case = CASES[name]
    acts, idle = acting(case, folder)
    known = {key: reason for key in idle for end, reason in case.idle.items() if key.endswith(end)}
    assert not set(idle) - set(known), "these keys are accepted and do nothing"
    assert not [end for end in case.idle if any(key.endswith(end) for key in acts)], "listed as idle, but it acts"
