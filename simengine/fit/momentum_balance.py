"""Laws from the balance of momentum along an observed motion, without any rollout: the weak form as MPM discretises it.

Between two observed states the velocity changes by gravity, contact and the divergence of the stress, and one step of
MLS-MPM with its B-splines as test functions is that statement. It is linear in the stress, and the stress of an
`EnergyNetwork` is linear in its moduli and last weights: they follow from a convex least-squares problem.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch

from simengine.materials.neural import determinant
from simengine.materials.neural_energy import EnergyNetwork, hencky_strain
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.ops import mpm
from simengine.solve import rollout

LEAST_MODULUS = 1e-2  # of mu and kappa in units of M: keeps the growth of the energy


@dataclasses.dataclass(frozen=True)
class Motion:
    """States of a motion at every step.

    Attributes:
        x: Positions [m], shape (steps + 1, n, 3).
        v: Velocities [m/s], shape (steps + 1, n, 3).
        C: Velocity gradients [1/s], shape (steps + 1, n, 3, 3).
        F: Elastic deformation gradients [1], shape (steps + 1, n, 3, 3).
    """

    x: torch.Tensor
    v: torch.Tensor
    C: torch.Tensor
    F: torch.Tensor

    def __len__(self) -> int:
        return len(self.x) - 1


def record(model: MPMModel, state: MPMState, num_steps: int) -> Motion:
    """Simulate, keeping the state at every step."""
    with torch.no_grad():
        states = rollout(MPMSolver(model), state, num_steps).states
    return Motion(states.x, states.v, states.C, states.F)


def follow(model: MPMModel, x: torch.Tensor, v0: torch.Tensor) -> Motion:
    """The hidden C and F of a body whose positions are known, as the laws of the model would have them.

    Each step starts from the observed positions and the velocities between them, and from the C and F of the step
    before, so that the motion cannot drift away from the observations; with the true law C and F are the true ones.

    Args:
        model: Grid, masses and the laws as known by now.
        x: Observed positions [m], shape (steps + 1, n, 3), the body undeformed at first.
        v0: Velocities at the start [m/s], shape (n, 3).
    """
    change = (x[1:].double() - x[:-1].double()) / model.grid.dt
    v = torch.cat((v0[None], change.to(v0.dtype)))
    solver, state = MPMSolver(model), MPMState.at_rest(x[0], v0)
    C, F = [state.C], [state.F]
    with torch.no_grad():
        for k in range(len(x) - 1):
            after = solver.step(MPMState(x[k], v[k], C[-1], F[-1], state.q), k)
            C.append(after.C)
            F.append(after.F)
    return Motion(x, v, torch.stack(C), torch.stack(F))


@dataclasses.dataclass(frozen=True)
class Balance:
    """Normal equations of the momentum balance in the linear coefficients of a law, float64.

    Attributes:
        matrix: Shape (p, p).
        vector: Shape (p,).
        square: Sum of squared velocity changes to be explained [m^2/s^2].
        count: Number of equations.
    """

    matrix: torch.Tensor
    vector: torch.Tensor
    square: float
    count: int

    def unexplained(self, values: torch.Tensor) -> float:
        """The part of the squared velocity change that the stress with these coefficients leaves, 0 to 1."""
        left = self.square - 2 * values @ self.vector + values @ self.matrix @ values
        return float(left) / self.square


def momentum_balance(model: MPMModel, law: EnergyNetwork, motion: Motion, steps: Iterable[int]) -> Balance:
    """Normal equations from the velocity changes of some steps of a motion.

    Particles whose cells touch a wall are left out: contact is not linear.

    Args:
        model: Grid, masses and volumes; its materials are not used.
        law: Gives the columns.
        motion: What was observed.
        steps: Numbers of the steps used.

    Raises:
        ValueError: In no step is a particle away from the walls.
    """
    grid = model.grid
    free = dataclasses.replace(grid, faces=(0,) * 6, gravity=(0.0, 0.0, 0.0))
    mass, volume = model.body(motion.x[0])
    body = {"mass": mass.contiguous(), "volume": volume.contiguous(), "table": model.table(motion.x[0])}
    high = torch.tensor(grid.size) - grid.thickness
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    square, count = 0.0, 0
    with torch.no_grad():
        for k in steps:
            x, v, C, F = motion.x[k], motion.v[k], motion.C[k], motion.F[k]
            base = (x / grid.dx - 0.5).long()
            inside = ((base >= grid.thickness) & (base + 2 <= high)).all(1)
            if not bool(inside.any()):
                continue
            nothing = torch.zeros_like(C)
            ballistic = mpm.step(x, v, C, F, nothing, grid=grid, number=k, **body)[1]
            target = (motion.v[k + 1] - ballistic)[inside].flatten().double()
            pushes = [
                mpm.step(x, torch.zeros_like(v), nothing, F, column, grid=free, number=k, **body)[1][inside].flatten()
                for column in law.stress_columns(F)
            ]
            columns = torch.stack(pushes, dim=1).double()
            parts.append((columns.T @ columns, columns.T @ target))
            square += float(target.square().sum())
            count += len(target)
    if not parts:
        raise ValueError("steps: in none of them is a particle clear of the walls, so the balance says nothing")
    matrix = torch.stack([part[0] for part in parts]).sum(0)
    vector = torch.stack([part[1] for part in parts]).sum(0)
    return Balance(matrix, vector, square, count)


def fit_energy(law: EnergyNetwork, balance: Balance, *, ridge: float = 1e-9) -> float:
    """Set moduli and last weights of a law from a balance; returns the part of the motion left unexplained.

    Bounded linear least squares: positive moduli, and weights not negative where the law asks for convexity.

    Args:
        law: Changed in place.
        balance: Of the same law.
        ridge: Regularisation relative to the norm of each column.
    """
    from scipy.optimize import lsq_linear

    scale = balance.matrix.diagonal().clamp_min(1e-300).sqrt()
    p = len(scale)
    eye = torch.eye(p, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(balance.matrix / scale[:, None] / scale + ridge * eye)
    root = values.clamp_min(ridge / 2).sqrt()
    low = np.full(p, -np.inf)
    low[:2] = LEAST_MODULUS * scale[:2].numpy()
    low[2:][~law.free.numpy()] = 0.0
    right = (vectors.T @ (balance.vector / scale)) / root
    found = lsq_linear((root[:, None] * vectors.T).numpy(), right.numpy(), (low, np.inf), method="bvls", tol=1e-14)
    coefficients = torch.from_numpy(np.maximum(found.x, low)) / scale
    law.set_linear(coefficients)
    return balance.unexplained(coefficients)


def trial_deformations(motion: Motion, dt: float) -> torch.Tensor:
    """F before the return map of each step, (I + dt C) F of the step before [1], shape (steps, n, 3, 3)."""
    eye = torch.eye(3, dtype=motion.F.dtype, device=motion.F.device)
    return (eye + dt * motion.C[1:]) @ motion.F[:-1]


def fit_yield(law: YieldNetwork, trial: torch.Tensor, settled: torch.Tensor, *, ridge: float = 1e-6) -> int:
    """Set the yield surface and the cap of a law from pairs of F before and after plastic flow.

    Args:
        law: Changed in place.
        trial: F before [1], shape (m, 3, 3).
        settled: F after [1], shape (m, 3, 3).
        ridge: Regularisation of the last layer.

    Returns:
        The number of pairs in which the material flowed; the law has no yield limit if there are none.
    """
    with torch.no_grad():
        (v0, r0), (v1, r1) = _strains(trial.double()), _strains(settled.double())
        noise = 1e-5  # strains of float32
        capped = v0 - v1 > noise
        if bool(capped.any()):
            law.cap.fill_(float(v1[capped].median().clamp_min(0)))
        else:
            law.cap.fill_(float("inf"))
        law.cap.requires_grad_(bool(capped.any()))
        flowed = (r0 - r1 > noise) & ~capped
        a = float(law.strain_scale)
        if int(flowed.sum()) == 0:
            law.bias.fill_(1e3)  # never reached
            return int(capped.sum())
        features = torch.cat((law.features(v1[flowed]), torch.ones(int(flowed.sum()), 1, dtype=torch.float64)), dim=1)
        scale = features.square().mean(0).sqrt().clamp_min(1e-6)
        scaled = features / scale
        normal = scaled.T @ scaled / len(scaled) + ridge * torch.eye(len(scale), dtype=torch.float64)
        found = torch.linalg.solve(normal, scaled.T @ (r1[flowed] / a) / len(scaled)) / scale
        law.weights.copy_(found[:-1])
        law.bias.copy_(found[-1])
        return int((flowed | capped).sum())


def _strains(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Volume strain and norm of the deviator of H [1], both (m,)."""
    H = hencky_strain(F)
    v = determinant(F).clamp_min(1e-6).log()
    D = H - (v / 3)[:, None, None] * torch.eye(3, dtype=F.dtype, device=F.device)
    return v, D.square().sum((1, 2)).sqrt()
