"""One-dimensional laminar flames: mechanisms, gas, equations, a differentiable solver, physics-informed networks."""

from simengine.flame.emission import Emission
from simengine.flame.equations.burner import BurnerFlame
from simengine.flame.equations.counterflow import CounterflowFlame, DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.free import FreeFlame
from simengine.flame.equations.simplified import SimplifiedFlame
from simengine.flame.equations.single_nozzle import ImpingingFlame, TwinFlame
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.network.field_network import FieldNetwork
from simengine.flame.network.training import NetworkTrainer
from simengine.flame.solver.solution import FlameSolution
from simengine.flame.solver.solve import GridSolver, SpectralSolver

__all__ = [
    "BurnerFlame",
    "CounterflowFlame",
    "DiffusionFlame",
    "Emission",
    "FieldNetwork",
    "FlameSolution",
    "FreeFlame",
    "Gas",
    "GridSolver",
    "ImpingingFlame",
    "Mixture",
    "NetworkTrainer",
    "SimplifiedFlame",
    "SpectralSolver",
    "TwinFlame",
    "load_mechanism",
]
