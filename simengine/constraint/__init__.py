"""Hard constraints: basis functions in, a field that satisfies a partial differential equation out.

`HardConstraint` is a layer with a batched least-squares solver inside; its experts share a space-time domain and are
solved together. Equations: `DiffusionSorption`, `NavierStokes`.
"""

from simengine.constraint.diffusion_sorption import DiffusionSorption
from simengine.constraint.layer import Constrained, HardConstraint
from simengine.constraint.navier_stokes import NavierStokes
from simengine.constraint.pde import AbstractPDE, Rows

__all__ = ["AbstractPDE", "Constrained", "DiffusionSorption", "HardConstraint", "NavierStokes", "Rows"]
