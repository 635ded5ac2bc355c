"""Homogeneous reactors on the gas of the flames: ignition delays and the perfectly stirred reactor."""

from simengine.flame.reactor.closed import ClosedReactor
from simengine.flame.reactor.ignition import Ignition, ignite, ignite_all, ignition_delay
from simengine.flame.reactor.stirred import Stirred, StirredReactor, stir, stirred

__all__ = [
    "ClosedReactor",
    "Ignition",
    "Stirred",
    "StirredReactor",
    "ignite",
    "ignite_all",
    "ignition_delay",
    "stir",
    "stirred",
]
