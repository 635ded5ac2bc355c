"""Threads that share the particles of a rollout: the same motion, and the same bits each run."""

import dataclasses
import threading

import pytest
import torch

from simengine import materials, mpm, solve


def run(threads: int | None, make_cube, make_model, dtype=torch.float64, adjoint=None, num_steps=12):
    """Four materials, a moving ball with friction and rough walls: every kernel takes part."""
    E = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    velocity = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    ball = mpm.Sphere(center=(0.4, -0.009, 0.4), radius=0.15, velocity=velocity, surface=mpm.Surface("friction", 0.3))
    kinds = [materials.jelly(E=E), materials.plasticine(), materials.snow(), materials.water()]
    model = make_model(
        *kinds, material_ids=torch.arange(125) % 4, boundaries=[mpm.Walls("friction", friction=0.2), ball]
    )
    state = make_cube(5, dtype)
    x = state.x - state.x.amin(0) + torch.tensor([0.3, 0.16, 0.3], dtype=dtype)
    state = dataclasses.replace(state, x=x, v=state.v.requires_grad_())
    trajectory = solve.rollout(mpm.MPMSolver(model, threads=threads), state, num_steps, save_every=4, adjoint=adjoint)
    states, generator = trajectory.states, torch.Generator().manual_seed(2)
    loss = sum(
        (t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum()
        for t in (states.x, states.v, states.F, states.C, states.q)
    )
    return states, torch.autograd.grad(loss, (E, velocity, state.v))


@pytest.mark.parametrize("adjoint", [solve.DirectAdjoint(), solve.CheckpointAdjoint(every=5)])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing_but_rounding(threads: int, adjoint, make_cube, make_model) -> None:
    ours, gradients = run(threads, make_cube, make_model, adjoint=adjoint)
    alone, expected = run(1, make_cube, make_model)
    for name in "xvCFq":
        a, b = getattr(ours, name).detach(), getattr(alone, name).detach()
        assert float((a - b).norm()) <= 1e-12 * float(b.norm()) + 1e-14, name  # sums in another order
    for a, b in zip(gradients, expected, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-10


def test_the_bits_repeat(make_cube, make_model) -> None:
    first, first_bars = run(2, make_cube, make_model, torch.float32)
    for _ in range(5):
        again, again_bars = run(2, make_cube, make_model, torch.float32)
        assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in "xvCFq")
        assert all(torch.equal(a, b) for a, b in zip(first_bars, again_bars, strict=True))


def test_the_number_follows_the_body_and_torch(make_cube, make_model, monkeypatch) -> None:
    """Without a number, one thread for few particles and torch's own number for many."""
    from simengine.ops.matter.mpm.rollout import rollout

    seen: list[int] = []

    def spy(*arguments, schedule, **keywords):
        seen.append(schedule.threads)
        return rollout(*arguments, schedule=schedule, **keywords)

    monkeypatch.setattr("simengine.mpm.solver.rollout", spy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    solver = mpm.MPMSolver(make_model(materials.jelly()))
    solve.rollout(solver, make_cube(4), 1)
    monkeypatch.setattr(mpm.MPMSolver, "THREADED", 64)
    solve.rollout(solver, make_cube(4), 1)
    assert seen == [1, 2]
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        mpm.MPMSolver(make_model(materials.jelly()), threads=0)


def test_an_error_names_the_particle_of_the_whole_body(make_cube, make_model) -> None:
    state = make_cube(4)
    v = torch.zeros_like(state.v)
    v[50] = torch.tensor([0.0, 0.0, 1e4])  # alone it would cross the grid at once; its neighbours hold it for a step
    x = state.x.clone()
    x[50, 0] = 0.8  # away from the others
    model = make_model(materials.jelly(), boundaries=[mpm.Walls("open")])
    found = []
    for threads in (1, 3):
        with pytest.raises(mpm.SimulationError) as caught:
            start = dataclasses.replace(state, x=x, v=v)
            solve.rollout(mpm.MPMSolver(model, threads=threads), start, 5, save_every=5)
        found.append((caught.value.step, caught.value.particle, caught.value.field))
    assert found[0] == found[1] and found[0][1] == 50


def test_more_threads_than_particles(make_cube, make_model) -> None:
    state = make_cube(1)
    ours = solve.rollout(mpm.MPMSolver(make_model(materials.jelly()), threads=4), state, 3)[-1]
    assert torch.equal(ours.x, solve.rollout(mpm.MPMSolver(make_model(materials.jelly())), state, 3)[-1].x)


def test_several_python_threads_each_with_its_own_model(make_cube, make_model) -> None:
    """Captures are one at a time in a process, and take up no launch of another thread: same bits, no error."""
    _, expected = run(1, make_cube, make_model)
    found, errors = [], []

    def work() -> None:
        for _ in range(4):
            try:
                found.append(run(1, make_cube, make_model)[1])
            except Exception as error:
                errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors and len(found) == 12
    assert all(torch.equal(a, b) for gradients in found for a, b in zip(gradients, expected, strict=True))
