"""Materials of a scene that have a file of their own, beside those of `simengine.worlds.motion.materials`."""
