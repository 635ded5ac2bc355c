"""Scenes: worlds, what was observed of them, and what is sought, read strictly from TOML files or Python scripts."""

from simengine.scene.base import AbstractScene, Refused, SceneError
from simengine.scene.grammar import Scene
from simengine.scene.loader import load_scene, load_world, named_scenes, resolved
from simengine.scene.own import OwnMotion, OwnNumber, OwnWorld
from simengine.scene.own_code import detector
from simengine.scene.sought import Inference, Prior, Unknown

__all__ = [
    "AbstractScene",
    "Inference",
    "OwnMotion",
    "OwnNumber",
    "OwnWorld",
    "Prior",
    "Refused",
    "Scene",
    "SceneError",
    "Unknown",
    "detector",
    "load_scene",
    "load_world",
    "named_scenes",
    "resolved",
]
