"""What several areas solve with."""

from simengine.solve.rollout import CheckpointAdjoint, DirectAdjoint, Trajectory, rollout

__all__ = ["CheckpointAdjoint", "DirectAdjoint", "Trajectory", "rollout"]
