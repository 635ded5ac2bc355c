"""Homogeneous reactors on the gas of the flames: ignition delays and the perfectly stirred reactor."""

from simengine.flame.reactor.closed import ClosedReactor
from simengine.flame.reactor.ignition import Ignition, ignite, ignition_delay
from simengine.flame.reactor.stirred import StirredReactor, stirred

__all__ = ["ClosedReactor", "Ignition", "StirredReactor", "ignite", "ignition_delay", "stirred"]
