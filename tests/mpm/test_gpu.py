"""MPM on a CUDA device: the same results as on the CPU, captured rollouts, nothing that waits inside a step."""

import dataclasses

import pytest
import torch

from simengine import materials, mpm, solve
from simengine.ops.matter import mpm as op
from simengine.ops.matter.mpm.buffers import Buffers, RolloutSchedule
from simengine.ops.matter.mpm.flight import Flight
from simengine.ops.matter.mpm.laws import Laws

gpu = pytest.mark.gpu


def scene(device: str, dtype: torch.dtype, make_cube, make_model):
    """Every kernel takes part: four materials, rough walls, a moving ball and box."""
    E = torch.tensor(1e5, dtype=torch.float64, device=device, requires_grad=True)
    velocity = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, device=device, requires_grad=True)
    kinds = [materials.jelly(E=E), materials.plasticine(), materials.snow(), materials.water()]
    bodies = [
        mpm.Walls("friction", friction=0.2),
        mpm.Sphere(center=(0.41, 0.1, 0.39), radius=0.15, velocity=velocity, surface=mpm.Surface("friction", 0.3)),
        mpm.Box(
            center=(0.61, 0.1, 0.39),
            half_size=(0.1, 0.1, 0.1),
            orientation=(1.0, 0.2, -0.1, 0.3),
            surface=mpm.Surface("sticky"),
        ),
    ]
    model = make_model(*kinds, material_ids=torch.arange(125) % 4, boundaries=bodies).to(device)
    state = make_cube(5, dtype)
    x = state.x - state.x.amin(0) + torch.tensor([0.3, 0.16, 0.3], dtype=dtype)
    state = dataclasses.replace(state, x=x).to(device)
    return model, dataclasses.replace(state, v=state.v.requires_grad_()), (E, velocity)


def gradients(device: str, dtype: torch.dtype, adjoint, make_cube, make_model):
    model, state, leaves = scene(device, dtype, make_cube, make_model)
    trajectory = solve.rollout(mpm.MPMSolver(model), state, 40, save_every=10, adjoint=adjoint)
    states, generator = trajectory.states, torch.Generator().manual_seed(2)
    loss = sum(
        (t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64).to(device)).sum()
        for t in (states.x, states.v, states.F)
    )
    bars = torch.autograd.grad(loss, (*leaves, state.v))
    return states.x.detach().cpu().double(), [bar.cpu().double() for bar in bars]


# sums over particles come in any order on a GPU: rounding, grown over 40 steps of plastic flow and contact
@gpu
@pytest.mark.parametrize(("dtype", "forward", "backward"), [(torch.float64, 1e-12, 1e-9), (torch.float32, 1e-5, 1e-2)])
@pytest.mark.parametrize("adjoint", [solve.DirectAdjoint(), solve.CheckpointAdjoint(every=7)])
def test_rollouts_equal_those_of_the_cpu(dtype, forward, backward, adjoint, make_cube, make_model) -> None:
    ours, ours_bars = gradients("cuda", dtype, adjoint, make_cube, make_model)
    theirs, theirs_bars = gradients("cpu", dtype, solve.DirectAdjoint(), make_cube, make_model)
    assert float((ours - theirs).abs().max()) < forward
    for a, b in zip(ours_bars, theirs_bars, strict=True):
        assert float((a - b).norm() / b.norm()) < backward


@gpu
def test_single_steps_equal_those_of_the_cpu(make_cube, make_model) -> None:
    ends = []
    for device in ("cpu", "cuda"):
        model, state, leaves = scene(device, torch.float64, make_cube, make_model)
        solver = mpm.MPMSolver(model)
        end = state
        for number in range(5):
            end = solver.step(end, number)
        bars = torch.autograd.grad(end.x.square().sum(), (*leaves, state.v))
        op.workspace(model.grid, state.x).raise_flagged()
        ends.append([end.x.detach().cpu(), *(bar.cpu() for bar in bars)])
    for a, b in zip(*ends, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-9


def flight(model: mpm.MPMModel, state: mpm.MPMState, steps: int) -> Flight:
    """A flight of two slots, loaded with a state."""
    n = len(state.x)
    mass, volume = model.body(state.x)
    elastic, plastic = model.packed(n, "elasticity"), model.packed(n, "plasticity")
    table, losses, stiffness = model.table(state.x, 0, steps), model.losses(n), model.stiffness(state.x)
    constants = [mass, volume, table, elastic[1], plastic[1], losses, stiffness]
    laws, schedule = Laws(elastic[0], plastic[0]), RolloutSchedule((0, steps), 2, history=model.keeps_history)
    made = Flight(Buffers(model.grid, state.x, 2, laws, constants, schedule), recording=False)
    made.load((state.x, state.v, state.C, state.F, state.q, state.A), 0)
    return made


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
def test_a_flight_takes_the_steps_of_a_rollout(device, make_cube, make_model) -> None:
    model, state, _ = scene(device, torch.float64, make_cube, make_model)
    with torch.no_grad():
        expected = solve.rollout(mpm.MPMSolver(model), state, 3)[-1]
        side = torch.cuda.Stream() if device == "cuda" else None  # the default stream cannot be captured
        with torch.cuda.stream(side):
            made = flight(model, state, 3)
            for _ in range(3):
                made.forward()
        made.raise_flagged()
    x, v, *_ = made.buffers.state(3)
    assert float((x - expected.x).abs().max()) < 1e-12
    assert float((v - expected.v).abs().max()) < 1e-10


@gpu
def test_nothing_waits_inside_a_step(make_model) -> None:
    """A thousand steps of 200k particles are handed over long before the device has done them."""
    line = torch.linspace(0.2, 0.8, 58)
    x = torch.cartesian_prod(line, line, line).cuda()
    model = make_model(materials.jelly(), num_grids=64, dt=1e-4, volume=(0.6 / 57) ** 3, mass=1.0).cuda()
    state = mpm.MPMState.at_rest(x, torch.zeros_like(x))
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        made = flight(model, state, 1001)
        made.forward()
        torch.cuda.synchronize()
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")  # torch raises where it would wait
        try:
            for _ in range(1000):
                made.forward()
            done = torch.cuda.Event()
            done.record()
            assert not done.query()
        finally:
            torch.cuda.set_sync_debug_mode(before)
        torch.cuda.synchronize()
        made.raise_flagged()


@gpu
def test_replays_follow_torchs_stream(make_cube, make_model) -> None:
    """What torch writes before a rollout on a stream of its own is what the rollout reads, and the other way round."""
    model, state, _ = scene("cuda", torch.float64, make_cube, make_model)
    solver = mpm.MPMSolver(model)
    with torch.no_grad():
        expected = solve.rollout(solver, state, 20, save_every=20)[-1].x
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(50_000_000)  # tens of milliseconds in which the copy below is late
            late = dataclasses.replace(state, x=state.x.clone())
            found = solve.rollout(solver, late, 20, save_every=20)[-1].x.clone()
        torch.cuda.synchronize()
    assert float((found - expected).abs().max()) < 1e-12


@gpu
def test_an_error_is_found_at_the_next_output(make_cube, make_model) -> None:
    model = make_model(materials.jelly(), boundaries=[mpm.Walls("open")]).cuda()
    state = make_cube(4).to("cuda")
    v = torch.zeros_like(state.v) + torch.tensor([0.0, 0.0, 200.0], dtype=torch.float64, device="cuda")
    with pytest.raises(mpm.SimulationError, match="left the grid"):
        solve.rollout(mpm.MPMSolver(model), dataclasses.replace(state, v=v), 20, save_every=20)


@gpu
def test_two_rollouts_before_either_backward(make_cube, make_model) -> None:
    model, state, leaves = scene("cuda", torch.float64, make_cube, make_model)
    solver = mpm.MPMSolver(model)
    alone = torch.autograd.grad(solve.rollout(solver, state, 10)[-1].x.square().sum(), leaves)
    first = solve.rollout(solver, state, 10)[-1].x.square().sum()
    second = solve.rollout(solver, state, 13)[-1].x.square().sum()
    torch.autograd.grad(second, leaves)
    for a, b in zip(alone, torch.autograd.grad(first, leaves), strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-9
