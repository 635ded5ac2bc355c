"""Trainings and optimisations of scenes that explain no observation: what `train` and `optimise` drive."""

from simengine.fit.training import AbstractTraining
from simengine.scene.base import SceneError
from simengine.scene.grammar import Scene
from simengine.scene.kinds import learned_method
from simengine.scene.learning import AbstractObjective

_OTHER = {
    "model": ("[model]", "simengine train"),
    "objective": ("[objective]", "simengine optimise"),
}


def learning_of(scene: Scene, *, table: str = "model", device: str | None = None) -> AbstractTraining:
    """The training of a scene with `[model]`, or the optimisation of one with `[objective]`.

    Args:
        scene: As `simengine.load_scene` gives it.
        table: "model" or "objective".
        device: Torch device; None for the CPU.

    Raises:
        SceneError: The scene has no such table, in one line that names the verb for what it has.
    """
    own = {"model": scene.learner, "objective": scene.objective}
    if (asked := own[table]) is None:
        has = next((_OTHER[name] for name, other in own.items() if other is not None), None)
        has = has or (("[observations]", "simengine fit") if scene.observations else None)
        told = f"this scene has {has[0]}: use `{has[1]}`" if has else "a scene of this verb says it there"
        raise SceneError(f"{table}: the table is missing; {told}")
    if isinstance(asked, AbstractObjective):
        seeks = asked.seeks
        if list(scene.unknowns) != [seeks]:
            raise SceneError(
                f'unknowns: this objective seeks "{seeks}" and nothing else, got {", ".join(scene.unknowns) or "none"}'
            )
    make = learned_method(table, asked.type, "training")
    assert make is not None
    made: AbstractTraining = make(scene, device=device)
    return made
