"""NCLaw's two networks trained by our momentum balance: their class, our data and objective, no rollout.

They are not linear in their weights, so that each round is a descent (L-BFGS, strong Wolfe), not a solve. The elastic
network explains the velocity changes of the same frames that ours are solved from; the plastic one maps F before the
flow of a step to F after it, over the same steps.
"""

import warnings
from collections.abc import Callable

import torch

from simengine.materials import Material
from simengine.materials.neural import NeuralElasticity, NeuralPlasticity
from simengine.mpm import MPMModel
from simengine.worlds.motion.momentum_balance import Frame, Motion, frames, trial_deformations


class Push:
    """`Transfers.push` of one frame with a derivative: velocity changes [m/s], (n, 3), by stresses [Pa], (n, 3, 3)."""

    def __init__(self, frame: Frame) -> None:
        own = frame.transfers
        scale = -4 * own.dt / own.dx**2 * own.volume.double()
        self._spread = [_torch(s) for s in own.spread_arms]
        self._gather, self._scale = _torch(own.gather), scale
        self._mass = torch.from_numpy(own.nodal_mass).double()

    def __call__(self, tau: torch.Tensor) -> torch.Tensor:
        momentum = sum(spread @ (self._scale * tau[:, :, a]) for a, spread in enumerate(self._spread))
        found: torch.Tensor = self._gather @ (momentum / self._mass)
        return found


def train(model: MPMModel, motion: Motion, *, number: int, iterations: int, seed: int) -> tuple[Material, float]:
    """Both networks, and the part of the squared velocity changes that the elastic one leaves.

    Args:
        model: Grid, masses and volumes; its materials are not used.
        motion: The states seen.
        number: Frames of it, evenly spread.
        iterations: Of L-BFGS for each network, at most; about one and a quarter evaluations each.
        seed: Of the initial weights.
    """
    torch.manual_seed(seed)
    elasticity, plasticity = NeuralElasticity().double(), NeuralPlasticity().double()
    steps = [round(k) for k in torch.linspace(0, len(motion) - 1, number).tolist()]
    seen = frames(model, motion, steps)
    pushes = [Push(frame) for frame in seen]
    F = torch.cat([motion.F[frame.number] for frame in seen]).double()
    targets = torch.cat([frame.target[frame.inside] for frame in seen]).double()
    inside, n = [frame.inside for frame in seen], motion.x.shape[1]
    size = _stress_scale(seen, pushes, F.view(len(seen), n, 3, 3), targets)

    def unexplained() -> torch.Tensor:
        tau = size * elasticity(F).view(len(seen), n, 3, 3)
        moved = torch.cat([push(own)[held] for push, own, held in zip(pushes, tau, inside, strict=True)])
        return (moved - targets).square().sum() / targets.square().sum()

    left = _descend(elasticity, unexplained, iterations)
    with torch.no_grad():
        elasticity.last.weight *= size  # its output is linear in them: the published, unscaled form
    trial = trial_deformations(motion, model.grid.dt)[steps].reshape(-1, 3, 3).double()
    settled = motion.F[1:][steps].reshape(-1, 3, 3).double()
    flowed = (settled - trial).square().sum()
    if float(flowed) > 1e-8 * len(trial) * 1e-4:
        _descend(plasticity, lambda: (plasticity(trial) - settled).square().sum() / flowed, iterations)
    else:
        with torch.no_grad():
            plasticity.last.weight.zero_()
    return Material(elasticity.float(), plasticity.float()), left


def _stress_scale(seen: list[Frame], pushes: list[Push], F: torch.Tensor, targets: torch.Tensor) -> float:
    """A modulus [Pa] by which the stress 2 H of a linear solid explains the velocity changes best: a unit of stress."""
    eye = torch.eye(3, dtype=torch.float64)
    strain = F @ F.mT - eye
    moved = torch.cat([p(own)[f.inside] for p, own, f in zip(pushes, strain, seen, strict=True)])
    return abs(float((moved * targets).sum() / moved.square().sum()))


def _descend(network: torch.nn.Module, objective: Callable[[], torch.Tensor], iterations: int) -> float:
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=iterations, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-14, max_eval=2 * iterations,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return float(objective())


def _torch(matrix: object) -> torch.Tensor:
    """A scipy CSR matrix as a sparse tensor, float64."""
    parts = [torch.from_numpy(getattr(matrix, name)).long() for name in ("indptr", "indices")]
    values = torch.from_numpy(matrix.data).double()  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # torch: this format is in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(*parts, values, size=matrix.shape)  # type: ignore[attr-defined]
