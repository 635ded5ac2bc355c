"""Scenes: plain, frozen data, from a TOML file, a script or the name of a shipped one."""

from simengine.scene.base import AbstractScene, SceneError
from simengine.scene.loader import load_scene, named_scenes, resolved

__all__ = ["AbstractScene", "SceneError", "load_scene", "named_scenes", "resolved"]
