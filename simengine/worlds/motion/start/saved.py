"""The last state of a run, from which another goes on to the last bit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from simengine.io.arrays import read_npz
from simengine.scene.base import SceneError

if TYPE_CHECKING:
    from simengine.mpm import MPMModel, MPMState
    from simengine.worlds.motion.world import MPMWorld

_LATTICE = ("origin", "spacing", "time_step")


def _lattice(world: "MPMWorld") -> dict[str, np.ndarray]:
    """What a state must share with the world that goes on from it."""
    return {
        "origin": world.lattice_box()[0],
        "spacing": np.array(world.grid.dx),
        "time_step": np.array(world.grid.time_step),
    }


def to_save(world: "MPMWorld", state: "MPMState", step: int) -> dict[str, Any]:
    """All of a state, in the coordinates of the lattice, and after which step it is."""
    return {**vars(state), "step": np.int64(step), **_lattice(world)}


def first_step(world: "MPMWorld") -> int:
    """The step that comes first: 0, or that after the state from which the world goes on."""
    return 0 if world.state is None else int(_read(world)["step"])


def _read(world: "MPMWorld") -> dict[str, np.ndarray]:
    assert world.state is not None
    if not world.state.is_file():
        raise SceneError(f"state: {world.state}: no such file; it is the last_state.npz of a run")
    try:
        found = read_npz(world.state)
    except ValueError as error:
        raise SceneError(f"state: {error}") from error
    if missing := [name for name in ("x", "v", "C", "F", "q", "A", "step", *_LATTICE) if name not in found]:
        raise SceneError(f"state: {world.state.name} holds no {missing[0]!r}; it must be the last_state.npz of a run")
    return found


def resumed(world: "MPMWorld", model: "MPMModel") -> "MPMState":
    """The saved state of a world.

    Raises:
        SceneError: The file is no state, or one of other bodies or of another grid.
    """
    import torch

    from simengine.mpm import MPMState

    if world.kind == "melting":
        raise SceneError("state: it does not say what has melted, so no melting scene goes on from it; leave it out")
    if world.start != "given":
        raise SceneError(f"start: {world.start!r} is not how bodies begin that state tells; leave one of them out")
    found = _read(world)
    n, of = len(found["x"]), len(world.particles()[0])
    if n != of:
        raise SceneError(f"state: {world.state} holds {n} particles, the bodies {of}; give the bodies of its run")
    if (branches := found["A"].shape[1]) != model.branches:
        raise SceneError(f"state: its materials have {branches} branches, these {model.branches}; give its run's")
    for name, own in _lattice(world).items():
        if not np.array_equal(found[name], own):
            raise SceneError(f"state: {name} was {found[name].tolist()} there, here {own.tolist()}; give its run's")
    return MPMState(*(torch.from_numpy(found[name]) for name in ("x", "v", "C", "F", "q", "A")))


def refuse_clocks(world: "MPMWorld") -> None:
    """Refuse observations of a world that goes on from a state while something in it moves by the clock.

    Raises:
        SceneError: It names what moves.
    """
    if first_step(world) == 0:
        return
    moving = [f"colliders.{c.name or k}" for k, c in enumerate(world.colliders) if _moves(c)]
    moving += [f"clamps.{clamp.name}" for clamp in world.clamps if _moves(clamp)]
    moving += [f"loads.{load.name}" for load in world.loads if load.begins or load.path is not None]
    moving += ["tilt"] if world.tilt.acts else []
    moving += ["release"] if world.release.until else []
    if moving:
        raise SceneError(
            f"state: observations count the time from it on, but {moving[0]} goes by the time before it; "
            "observe the whole run, or let it stand"
        )


def _moves(spec: Any) -> bool:
    return getattr(spec, "path", None) is not None or any(
        any(getattr(spec, name, ())) for name in ("velocity", "angular_velocity")
    )
