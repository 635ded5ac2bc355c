"""Laws from the balance of momentum along an observed motion, without any rollout: the weak form as MPM discretises it.

Between two observed states the velocity changes by gravity, contact and the divergence of the stress, and one step of
MLS-MPM with its B-splines as test functions is that statement. It is linear in the stress, and the stress of an
`EnergyNetwork` is linear in its moduli and last weights: they follow from a convex least-squares problem.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array

from simengine.materials.neural import determinant
from simengine.materials.neural_energy import EnergyNetwork, hencky_strain
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.ops.matter import mpm
from simengine.solve import rollout

LEAST_COLUMN = 1e-5  # of the largest one: less is the rounding of float32


class LinearLaw(Protocol):
    """An elastic law whose stress is linear in coefficients, or a family of them."""

    def lower_bounds(self) -> torch.Tensor:
        """Of the coefficients, shape (k,), float64."""
        ...

    def set_linear(self, values: torch.Tensor) -> None:
        """Set the coefficients, shape (k,)."""
        ...


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


class Transfers:
    """The linear part of one step for particles at given places: what stress and momentum do to velocities.

    Args:
        model: Grid, masses and volumes; walls are not felt.
        x: Positions [m], shape (n, 3), all of them clear of the edge of the grid.

    Attributes:
        nodes: Indices of the nodes that are touched, shape (nodes, 3).
        gather: Weights, from nodes to particles, shape (n, nodes).
        spread_arms: Weights times each component of the way from particle to node [m], from particles to nodes.
        nodal_mass: [kg], shape (nodes, 1).
    """

    def __init__(self, model: MPMModel, x: torch.Tensor) -> None:
        grid, n = model.grid, len(x)
        self.dt: float = grid.dt
        self.dx: float = grid.dx
        mass, volume = model.body(x)
        self.mass: torch.Tensor = mass[:, None]
        self.volume: torch.Tensor = volume[:, None]
        base = (x / grid.dx - 0.5).floor()
        f = x / grid.dx - base  # 0.5 to 1.5
        weights = torch.stack((0.5 * (1.5 - f).square(), 0.75 - (f - 1).square(), 0.5 * (f - 0.5).square()), dim=1)
        offsets = torch.cartesian_prod(*[torch.arange(3, device=x.device)] * 3)  # (27, 3)
        near = torch.stack([weights[:, offsets[:, a], a] for a in range(3)], dim=-1)  # (n, 27, 3)
        w = near.prod(-1)
        arms = (offsets - f[:, None]) * grid.dx  # from particle to node
        index = base.long()[:, None] + offsets
        _, ny, nz = grid.size
        flat = ((index[..., 0] * ny + index[..., 1]) * nz + index[..., 2]).flatten().cpu().numpy()
        touched = np.zeros(math.prod(grid.size), dtype=bool)
        touched[flat] = True
        numbers = np.flatnonzero(touched)
        self.nodes = np.stack(np.unravel_index(numbers, grid.size), axis=1)
        column, rows = (np.cumsum(touched) - 1)[flat], np.arange(0, 27 * n + 1, 27)

        def sparse(values: torch.Tensor) -> csr_array:
            return csr_array((values.flatten().cpu().numpy(), column, rows), (n, len(numbers)))

        self.gather = sparse(w)
        self.spread_arms = [sparse(w * arms[..., a]).T.tocsr() for a in range(3)]
        self.nodal_mass = self.gather.T @ self.mass.cpu().numpy() + grid.epsilon

    def push(self, tau: torch.Tensor) -> torch.Tensor:
        """Velocity changes [m/s], shape (k, n, 3), by Kirchhoff stresses [Pa], shape (k, n, 3, 3)."""
        k, n = tau.shape[:2]
        scale = -4 * self.dt / self.dx**2
        sides = (tau.permute(3, 1, 0, 2).reshape(3, n, 3 * k) * (scale * self.volume)).cpu().numpy()
        momentum = sum(spread @ side for spread, side in zip(self.spread_arms, sides, strict=True))
        pushed = torch.from_numpy(self.gather @ (momentum / self.nodal_mass))
        return pushed.to(tau).view(n, k, 3).transpose(0, 1)


def follow(model: MPMModel, x: torch.Tensor, v0: torch.Tensor) -> tuple[Motion, torch.Tensor]:
    """The hidden C and F of a body whose positions are known, as the laws of the model would have them.

    Each step starts from the observed positions and the velocities between them, and from the C and F of the step
    before, so that the motion cannot drift away from the observations; with the true law C and F are the true ones.

    Args:
        model: Grid, masses and the laws as known by now.
        x: Observed positions [m], shape (steps + 1, n, 3), the body undeformed at first.
        v0: Velocities at the start [m/s], shape (n, 3).

    Returns:
        The motion, and what the laws miss of the observed velocity after each step [m/s], shape (steps, n, 3).
    """
    change = (x[1:].double() - x[:-1].double()) / model.grid.dt
    v = torch.cat((v0[None], change.to(v0.dtype)))
    solver, state = MPMSolver(model), MPMState.at_rest(x[0], v0)
    C, F, missed = [state.C], [state.F], []
    with torch.no_grad():
        for k in range(len(x) - 1):
            state = solver.step(MPMState(x[k], v[k], C[-1], F[-1], state.q), k)
            C.append(state.C)
            F.append(state.F)
            missed.append(v[k + 1] - state.v)
    return Motion(x, v, torch.stack(C), torch.stack(F)), torch.stack(missed)


def rounding_of_velocities(motion: Motion, dt: float) -> float:
    """Mean square error [m^2/s^2] of velocities that are differences of rounded positions: no law misses less."""
    last_digits = torch.finfo(motion.x.dtype).eps * motion.x.double()
    return float((last_digits / 2 / dt).square().mean()) / 3


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

    def __add__(self, other: "Balance") -> "Balance":
        """Of both motions together."""
        return Balance(
            self.matrix + other.matrix, self.vector + other.vector, self.square + other.square, self.count + other.count
        )

    def of_family(self, basis: torch.Tensor) -> "Balance":
        """The same in the control coefficients of an `EnergyFamily`, for the motion of a member with these weights."""
        matrix = torch.kron(torch.outer(basis, basis), self.matrix)
        return Balance(matrix, torch.kron(basis, self.vector), self.square, self.count)

    def unexplained(self, values: torch.Tensor) -> float:
        """The part of the squared velocity change that the stress with these coefficients leaves, 0 to 1."""
        left = self.square - 2 * values @ self.vector + values @ self.matrix @ values
        return float(left) / self.square


@dataclasses.dataclass(frozen=True)
class Frame:
    """What one step of a motion says about the stress.

    Attributes:
        number: Of the step.
        transfers: From stress to velocity changes.
        inside: Particles whose cells touch no wall, shape (n,): contact is not linear.
        target: Velocity changes that the stress has to explain [m/s], shape (n, 3).
    """

    number: int
    transfers: Transfers
    inside: torch.Tensor
    target: torch.Tensor

    def rows(self, pushes: torch.Tensor) -> torch.Tensor:
        """Velocities (k, n, 3) of the particles inside as columns, float64, shape (3 inside, k)."""
        return pushes[:, self.inside].flatten(1).T.double()


def frames(model: MPMModel, motion: Motion, steps: Iterable[int]) -> list[Frame]:
    """The frames of some steps of a motion in which a particle is clear of the walls.

    Raises:
        ValueError: There is none, or more than gravity and stress pushes particles.
    """
    if model.loads is not None or model.tilt is not None:
        raise ValueError("model: a law is told from motions under gravity alone; loads and a tilt have to be left out")
    grid, found = model.grid, []
    mass, volume = model.body(motion.x[0])
    body = {"mass": mass.contiguous(), "volume": volume.contiguous(), "table": model.table(motion.x[0])}
    high = torch.tensor(grid.size) - grid.thickness
    for k in steps:
        x, C = motion.x[k], motion.C[k]
        base = (x / grid.dx - 0.5).long()
        inside = ((base >= grid.thickness) & (base + 2 <= high)).all(1)
        if not bool(inside.any()):
            continue
        nothing = torch.zeros_like(C)
        ballistic = mpm.step(x, motion.v[k], C, nothing, nothing, grid=grid, number=k, **body)[1]
        found.append(Frame(k, Transfers(model, x), inside, motion.v[k + 1] - ballistic))
    if not found:
        raise ValueError("steps: in none of them is a particle clear of the walls, so the balance says nothing")
    return found


def balance_of(seen: list[Frame], columns: Callable[[Frame], torch.Tensor]) -> Balance:
    """Normal equations of frames, for stresses (k, n, 3, 3) [Pa] that are linear in k coefficients."""
    matrix, vector, square, count = torch.zeros(()), torch.zeros(()), 0.0, 0
    with torch.no_grad():
        for frame in seen:
            A, b = frame.rows(frame.transfers.push(columns(frame))), frame.rows(frame.target[None])[:, 0]
            matrix, vector = matrix + A.T @ A, vector + A.T @ b
            square += float(b.square().sum())
            count += len(b)
    return Balance(matrix, vector, square, count)


def momentum_balance(model: MPMModel, law: EnergyNetwork, motion: Motion, steps: Iterable[int]) -> Balance:
    """Normal equations from the velocity changes of some steps of a motion.

    Args:
        model: Grid, masses and volumes; its materials are not used.
        law: Gives the columns.
        motion: What was observed.
        steps: Numbers of the steps used.

    Raises:
        ValueError: In no step is a particle away from the walls, or there are loads or a tilt.
    """
    return balance_of(frames(model, motion, steps), lambda frame: law.stress_columns(motion.F[frame.number]))


def fit_energy(
    law: LinearLaw,
    balance: Balance,
    *,
    ridge: float = 1e-9,
    around: torch.Tensor | float = 0.0,
    least_column: float = LEAST_COLUMN,
) -> float:
    """Set moduli and last weights of a law from a balance; returns the part of the motion left unexplained.

    Bounded linear least squares: positive moduli, and weights not negative where the law asks for convexity.

    Args:
        law: Changed in place.
        balance: Of the same law.
        ridge: Regularisation relative to the norm of each column.
        around: Coefficients that the regularisation draws to.
        least_column: Relative to the largest one; what leaves less of a trace in the motion stays as in `around`.
    """
    from scipy.optimize import lsq_linear

    scale = balance.matrix.diagonal().clamp_min(1e-300).sqrt()
    around = torch.as_tensor(around, dtype=torch.float64).expand(len(scale))
    eye = torch.eye(len(scale), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(balance.matrix / scale[:, None] / scale + ridge * eye)
    root = values.clamp_min(ridge / 2).sqrt()
    low = ((law.lower_bounds() - around) * scale).numpy()
    right = (vectors.T @ ((balance.vector - balance.matrix @ around) / scale)) / root
    found = lsq_linear((root[:, None] * vectors.T).numpy(), right.numpy(), (low, np.inf), method="bvls", tol=1e-14)
    seen = scale > least_column * scale.max()
    coefficients = torch.where(seen, around + torch.from_numpy(found.x) / scale, around)
    coefficients = torch.maximum(coefficients, law.lower_bounds())
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
        (v0, r0), (v1, r1) = strains(trial.double()), strains(settled.double())
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
        if float(r1[flowed].max()) < noise:  # a fluid
            law.set_line(0.0, 0.0, cap=float(law.cap) / a)
            return int((flowed | capped).sum())
        features = torch.cat((law.features(v1[flowed]), torch.ones(int(flowed.sum()), 1, dtype=torch.float64)), dim=1)
        scale = features.square().mean(0).sqrt().clamp_min(1e-6)
        scaled = features / scale
        normal = scaled.T @ scaled / len(scaled) + ridge * torch.eye(len(scale), dtype=torch.float64)
        found = torch.linalg.solve(normal, scaled.T @ (r1[flowed] / a) / len(scaled)) / scale
        law.weights.copy_(found[:-1])
        law.bias.copy_(found[-1])
        return int((flowed | capped).sum())


def strains(F: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Volume strain and norm of the deviator of H [1], both (m,)."""
    H = hencky_strain(F)
    v = determinant(F).clamp_min(1e-6).log()
    D = H - (v / 3)[:, None, None] * torch.eye(3, dtype=F.dtype, device=F.device)
    return v, D.square().sum((1, 2)).sqrt()
