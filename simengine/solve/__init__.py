"""What several areas solve with."""

from simengine.solve.rollout import (
    AbstractAdjoint,
    AbstractSolver,
    CheckpointAdjoint,
    DirectAdjoint,
    Trajectory,
    rollout,
)

__all__ = ["AbstractAdjoint", "AbstractSolver", "CheckpointAdjoint", "DirectAdjoint", "Trajectory", "rollout"]
