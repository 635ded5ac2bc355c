"""Named scenes, loaded by `simengine.load_scene(name)`."""
