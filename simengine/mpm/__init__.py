"""Explicit MLS-MPM with APIC and quadratic B-splines, differentiable end to end; docs/mpm.md is the page for users."""

from simengine.mpm.axisymmetry import AxisymmetricSolver
from simengine.mpm.batch import batch, members
from simengine.mpm.boundaries import Walls
from simengine.mpm.contact import Contact
from simengine.mpm.equilibrium import equilibrium
from simengine.mpm.implicit import ImplicitSolver
from simengine.mpm.loads import Load, Loads
from simengine.mpm.memory import forecast_memory
from simengine.mpm.mesh_body import MeshBody
from simengine.mpm.model import MPMModel
from simengine.mpm.recorded_path import RecordedPath
from simengine.mpm.rigid_bodies import Box, Capsule, Plane, Sphere, Surface
from simengine.mpm.solver import MPMSolver
from simengine.mpm.stability import cfl_numbers, recommended_dt, swept_numbers
from simengine.mpm.state import MPMState
from simengine.mpm.tilt import Tilt
from simengine.ops.matter.mpm import SimulationError

__all__ = [
    "AxisymmetricSolver",
    "Box",
    "Capsule",
    "Contact",
    "ImplicitSolver",
    "Load",
    "Loads",
    "MPMModel",
    "MPMSolver",
    "MPMState",
    "MeshBody",
    "Plane",
    "RecordedPath",
    "SimulationError",
    "Sphere",
    "Surface",
    "Tilt",
    "Walls",
    "batch",
    "cfl_numbers",
    "equilibrium",
    "forecast_memory",
    "members",
    "recommended_dt",
    "swept_numbers",
]
