"""Hard constraints: basis functions in, a field that satisfies a partial differential equation out.

`HardConstraint` is a layer with a batched least-squares solver inside; its experts share a space-time domain and are
solved together. Equations: `DiffusionSorption`, `NavierStokes`, `Burgers`, `AllenCahn`.
"""

from simengine.constraint.allen_cahn import AllenCahn
from simengine.constraint.blocks import Decomposition
from simengine.constraint.burgers import Burgers
from simengine.constraint.diffusion_sorption import DiffusionSorption
from simengine.constraint.family import AbstractFamily
from simengine.constraint.layer import Constrained, HardConstraint
from simengine.constraint.navier_stokes import NavierStokes
from simengine.constraint.pde import AbstractPDE, Rows
from simengine.constraint.rows import RowWeights
from simengine.constraint.taylor import longest_window, taylor_series

__all__ = [
    "AbstractFamily",
    "AbstractPDE",
    "AllenCahn",
    "Burgers",
    "Constrained",
    "Decomposition",
    "DiffusionSorption",
    "HardConstraint",
    "NavierStokes",
    "RowWeights",
    "Rows",
    "longest_window",
    "taylor_series",
]
