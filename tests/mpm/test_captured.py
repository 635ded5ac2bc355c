"""Steps with a learned law as one CUDA graph."""

import pytest
import torch

from simengine.materials import Material
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.mpm.captured import CapturedSolver
from simengine.solve import rollout


def scene(device: str) -> tuple[MPMSolver, MPMState]:
    line = torch.linspace(0.4, 0.6, 6)
    x = torch.stack(torch.meshgrid(line, line - 0.2, line, indexing="ij"), -1).reshape(-1, 3).to(device)
    laws = Material(EnergyNetwork(width=8, convexity="full"), YieldNetwork(width=4))
    model = MPMModel(num_grids=20, dt=5e-4, materials=[laws], volume=6.4e-5, mass=0.064).to(device)
    return MPMSolver(model), MPMState.at_rest(x, torch.tensor([0.3, -2.0, 0.1], device=device).expand_as(x))


def test_only_on_cuda() -> None:
    with pytest.raises(ValueError, match="CUDA device only"):
        CapturedSolver(*scene("cpu"))


@pytest.mark.gpu
def test_replays_equal_steps_forward_and_backward() -> None:
    solver, state = scene("cuda")
    captured = CapturedSolver(solver, state)
    results = []
    for one in (solver, captured):
        solver.model.zero_grad()
        end = state
        for _ in range(40):
            end = one.step(end)
        end.x.square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in solver.model.parameters() if p.grad is not None])
        results.append((end.x.detach(), gradient))
    captured.raise_flagged(state)
    # the same launches; sums over particles of one node come in any order
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-6)


@pytest.mark.gpu
def test_a_learned_rollout_on_cuda_is_that_on_the_cpu() -> None:
    ends = []
    weights = None
    for device in ("cpu", "cuda"):
        solver, state = scene(device)
        weights = weights or {k: v.cpu() for k, v in solver.model.state_dict().items()}
        solver.model.load_state_dict(weights)
        with torch.no_grad():
            ends.append(rollout(solver, state, 100, save_every=100)[-1].x.cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-5)  # float32 over 100 steps
