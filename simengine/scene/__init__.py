"""Scenes: worlds, what was observed of them, and what is sought, read strictly from TOML files or Python scripts."""

from simengine.scene.asks import Cloud, Fields, Rays, Series, Table, Tracks, View
from simengine.scene.base import AbstractWorld, Refused, SceneError
from simengine.scene.grammar import Scene, scene_of
from simengine.scene.loader import load_scene, load_world, named_scenes, resolved
from simengine.scene.own import OwnMotion, OwnNumber, OwnWorld
from simengine.scene.own_code import detector
from simengine.scene.sought import Inference, Prior, Unknown

__all__ = [
    "AbstractWorld",
    "Cloud",
    "Fields",
    "Inference",
    "OwnMotion",
    "OwnNumber",
    "OwnWorld",
    "Prior",
    "Rays",
    "Refused",
    "Scene",
    "SceneError",
    "Series",
    "Table",
    "Tracks",
    "Unknown",
    "View",
    "detector",
    "load_scene",
    "load_world",
    "named_scenes",
    "resolved",
    "scene_of",
]
