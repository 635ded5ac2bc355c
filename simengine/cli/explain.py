"""`simengine explain`."""

from simengine.cli.common import AsJson, Overrides, emit


def explain(key: str, scene: str, *, overrides: Overrides = None, as_json: AsJson = False) -> int:
    """Say what a number of a scene is: its value, unit, bounds and meaning.

    Args:
        key: Dotted key, as in bodies.jelly.material.E.
        scene: A file, or the name of a shipped scene.
    """
    from simengine.scene import load_world
    from simengine.scene.address import named, numbers, resolve
    from simengine.scene.schema import in_words

    world = load_world(scene, overrides or ())
    table = numbers(world)
    found = {}
    for one in resolve(world, key):
        n = table[one]
        found[named(world, one)] = {
            "value": n.value,
            "unit": n.unit,
            "range": in_words(n.range) or "any number",
            "meaning": n.sentence,
        }
    emit(found, as_json=as_json, title=f"{key} of {scene}")
    return 0
