"""One-dimensional laminar flames: mechanisms, gas, equations, a differentiable solver, physics-informed networks."""

from simengine.flame.emission import Emission
from simengine.flame.simplified import SimplifiedFlame
from simengine.flame.solution import FlameSolution
from simengine.flame.solver import SpectralSolver

__all__ = ["Emission", "FlameSolution", "SimplifiedFlame", "SpectralSolver"]
