"""Warp and Taichi kernels. Installed as `simengine.kernels`; the folder name alone belongs to another package."""

if __name__ != "simengine.kernels":
    raise ImportError("import simengine.kernels, not kernels")
