"""The material point method: the transfers of one step, and whole rollouts of captured steps."""

from simengine.ops.matter.mpm.grid import Grid, SignedDistance, SimulationError, Workspace, rigid_bodies, workspace
from simengine.ops.matter.mpm.transfer import step

__all__ = ["Grid", "SignedDistance", "SimulationError", "Workspace", "rigid_bodies", "step", "workspace"]
