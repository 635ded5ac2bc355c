"""Equations at scattered points: neither mesh nor grid, weights of the nearest points that reproduce polynomials."""

from simengine.constraint.cloud.assembled import AssembledEquation
from simengine.constraint.cloud.meshless import Meshless, PointField
from simengine.constraint.cloud.points import PointSet

__all__ = ["AssembledEquation", "Meshless", "PointField", "PointSet"]
