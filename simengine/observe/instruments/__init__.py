"""The instruments: one file each, named in `simengine.scene.kinds`."""
