"""One-dimensional laminar flames: mechanisms, gas, equations, a differentiable solver, physics-informed networks."""

from simengine.flame.emission import Emission
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import SpectralSolver

__all__ = ["Emission", "FlameSolution", "SimplifiedFlame", "SpectralSolver"]
