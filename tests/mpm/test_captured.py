"""Steps with a learned law as one CUDA graph."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simengine.materials import Identity, Material, plasticine
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.mpm import MPMModel, MPMSolver, MPMState
from simengine.mpm.captured import CapturedSolver
from simengine.solve import rollout


def scene(device: str, *, several: bool = False) -> tuple[MPMSolver, MPMState]:
    line = torch.linspace(0.4, 0.6, 6)
    x = torch.stack(torch.meshgrid(line, line - 0.2, line, indexing="ij"), -1).reshape(-1, 3).to(device)
    laws = Material(EnergyNetwork(width=8, convexity="full"), YieldNetwork(width=4))
    kinds = [laws, plasticine(), Material(EnergyNetwork(width=8), Identity())] if several else [laws]
    ids = torch.arange(len(x)) % 3 if several else None
    model = MPMModel(num_grids=20, dt=5e-4, materials=kinds, material_ids=ids, volume=6.4e-5, mass=0.064).to(device)
    return MPMSolver(model), MPMState.at_rest(x, torch.tensor([0.3, -2.0, 0.1], device=device).expand_as(x))


def test_only_on_cuda() -> None:
    with pytest.raises(ValueError, match="CUDA device only"):
        CapturedSolver(*scene("cpu"))


class Questions(TorchDispatchMode):
    """The operations by which a device is asked something, or given something from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("nonzero", "_local_scalar_dense", "lift_fresh", "masked_select", "equal", "is_nonzero"):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("materials", ["one", "several"])
def test_what_is_captured_says_no_word_to_the_host(materials: str) -> None:
    """Where it did, a capture would fail; the first step may."""
    solver, state = scene("cpu", several=materials == "several")
    constants = solver.constants(state.x)
    solver.advance(state, 0, *constants)
    state = dataclasses.replace(state, F=state.F.requires_grad_())
    with Questions() as mode:
        solver.advance(state, 0, *constants).x.sum().backward()
    assert mode.asked == []
    with Questions() as mode:  # it would notice
        solver.constants(state.x)
    assert "lift_fresh" in mode.asked


@pytest.mark.gpu
@pytest.mark.parametrize("several", [False, True])
def test_replays_equal_steps_forward_and_backward(several: bool) -> None:
    solver, state = scene("cuda", several=several)
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
