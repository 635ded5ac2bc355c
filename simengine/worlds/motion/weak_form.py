"""Parameters of laws of known form from the balance of momentum along an observed motion: no rollout, nearly convex.

Positions observed at frames are interpolated by cubic splines in time. What the particles do then gives C and, by the
return map, F; at each frame the stress of the laws must explain the acceleration, with one step of MLS-MPM and its
B-splines as the test functions. Moduli enter linearly, which is why this finds the way from far off, where the
misfit of positions has ridges: the waves of a body know mu and lambda mostly by one combination.
"""

import dataclasses

import numpy as np
import torch

from simengine.mpm import MPMModel
from simengine.ops.matter import mpm
from simengine.scene.base import SceneError
from simengine.worlds.motion.world import MPMScene

MAX_FRAMES = 40  # at which the balance is asked for


class MomentumBalance:
    """Accelerations that the stress does not explain, at some frames of an observed motion.

    Args:
        scene: Whose numbers are sought.
        x: Observed positions [m], shape (frames, n, 3), float64.
        steps: Step of the simulation of each frame, the first 0.

    Raises:
        SceneError: There are too few frames, or no particle is ever clear of the walls.
    """

    def __init__(self, scene: MPMScene, x: torch.Tensor, steps: np.ndarray) -> None:
        from scipy.interpolate import CubicSpline

        if len(x) < 4:
            raise SceneError(f'fit.start: "momentum_balance" needs at least 4 observed frames, got {len(x)}')
        self.scene = scene
        model, state = scene.build(device="cpu", double=True)
        grid = model.grid
        start = ((1, state.v.flatten().numpy()), "not-a-knot")
        path = CubicSpline(steps * grid.dt, x.flatten(1).numpy(), bc_type=start)
        times = np.arange(steps[-1] + 1) * grid.dt
        self._x = torch.from_numpy(path(times)).view(len(times), -1, 3)
        # symplectic Euler: the velocity after a step is the difference of positions over it
        v = torch.cat((state.v[None], self._x.diff(dim=0) / grid.dt))
        self._free = dataclasses.replace(grid, faces=(0,) * 6, gravity=(0.0, 0.0, 0.0))
        self._body = self._constants(model)
        self._C = [state.C]
        with torch.no_grad():
            for k in range(len(times) - 1):
                self._C.append(self._step(k, v[k], self._C[-1], torch.zeros_like(state.C))[2])
            self._frames = np.unique(np.linspace(1, len(steps) - 2, MAX_FRAMES).astype(int))
            self._frames = np.unique(steps[self._frames])
            self._inside, self._wanted = [], []
            gravity = torch.tensor(grid.gravity, dtype=torch.float64)
            high = torch.tensor(grid.size) - grid.thickness
            for k in self._frames:
                base = (self._x[k] / grid.dx - 0.5).long()
                self._inside.append(((base >= grid.thickness) & (base + 2 <= high)).all(1))
                carried = self._step(k, v[k], self._C[k], torch.zeros_like(state.C))[1]
                self._wanted.append(((v[k + 1] - carried) / grid.dt - gravity)[self._inside[-1]])
        if not any(bool(inside.any()) for inside in self._inside):
            raise SceneError('fit.start: "momentum_balance" needs particles that are clear of the walls; leave it out')

    @staticmethod
    def _constants(model: MPMModel) -> dict[str, torch.Tensor]:
        like = torch.zeros(0, dtype=torch.float64)
        n = len(model.volume)
        mass, volume = model.body(like.new_zeros(n, 3))
        return {"mass": mass.contiguous(), "volume": volume.contiguous(), "table": model.table(like)}

    def _step(self, k: int, v: torch.Tensor, C: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, ...]:
        eye = torch.eye(3, dtype=torch.float64).expand_as(C).contiguous()
        b = self._body
        return mpm.step(
            self._x[k], v, C, eye, tau, mass=b["mass"], volume=b["volume"], table=b["table"], grid=self._free, number=k
        )

    def residual(self, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """Accelerations left over [m/s^2], flat."""
        model, state = self.scene.build(device="cpu", double=True, values=values)
        dt, F, q = model.grid.dt, state.F, state.q
        eye = torch.eye(3, dtype=torch.float64)
        rest = torch.zeros_like(state.v), torch.zeros_like(state.C)
        left, wanted = [], iter(zip(self._inside, self._wanted, strict=True))
        for k in range(int(self._frames[-1]) + 1):
            if k in self._frames:
                inside, acceleration = next(wanted)
                pushed = self._step(k, *rest, model.stress(F, q))[1][inside] / dt
                left.append((pushed - acceleration).flatten())
            F, q = model.return_map((eye + dt * self._C[k + 1]) @ F, q)
        return torch.cat(left)
