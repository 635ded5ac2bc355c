"""Several motions in one: as alone, with walls and a plate that moves, other materials, numbers and threads."""

import dataclasses

import pytest
import torch

from simengine import materials, mpm, solve

DT, STEPS = 4e-4, 60


def member(E: float | torch.Tensor, count: int, speed: float, **options) -> tuple[mpm.MPMModel, mpm.MPMState]:
    """A cube of `count` particles along an edge over a plate that comes up, in a box of walls."""
    axis = (torch.arange(count, dtype=torch.float64) + 0.5) * 0.2 / count + 0.35
    x = torch.cartesian_prod(axis, axis, axis)
    plate = mpm.Plane(point=(0.5, 0.33, 0.5), normal=(0.0, 1.0, 0.0), velocity=(0.0, 0.4, 0.0))
    law = materials.plasticine(E=E, nu=0.3, yield_stress=200.0) if count % 2 else materials.jelly(E=E, nu=0.3)
    settings = {"boundaries": [mpm.Walls("sticky"), plate], "num_grids": (8, 9, 10), "dt": DT, **options}
    model = mpm.MPMModel(materials=[law], volume=0.008 / len(x), mass=8.0 / len(x), length=0.8, **settings)
    v = torch.tensor([speed, 0.0, -speed], dtype=torch.float64).expand_as(x)
    return model, mpm.MPMState.at_rest(x, v)


def end(model: mpm.MPMModel, state: mpm.MPMState, threads: int = 1) -> mpm.MPMState:
    return solve.rollout(mpm.MPMSolver(model, threads=threads), state, STEPS, save_every=STEPS)[-1]


@pytest.mark.parametrize("threads", [1, 2])
def test_members_move_as_alone(threads: int) -> None:
    """At 9 m/s one runs 2 cells along x, into the wall that each has: what one does nobody else feels."""
    alone = [member(1e4, 2, 9.0), member(3e4, 3, -2.0), member(2e4, 2, 0.0)]
    model, state = mpm.batch(alone)
    found = mpm.members(end(model, state, threads), [8, 27, 8])
    for own, (single, start) in zip(found, alone, strict=True):
        other = end(single, start)
        for field in dataclasses.fields(mpm.MPMState):
            difference = (getattr(own, field.name) - getattr(other, field.name)).abs()
            assert float(difference.max() if difference.numel() else 0.0) < 1e-9, field.name
        assert float((other.x - start.x).abs().max()) > 1e-3


def test_gradients_of_members_are_those_of_each() -> None:
    """By the modulus of each and by gravity, which all share."""
    numbers = torch.tensor([1e4, 3e4], dtype=torch.float64, requires_grad=True)
    fall = torch.tensor([0.0, -9.8, 0.3], dtype=torch.float64, requires_grad=True)
    pairs = [member(numbers[0], 2, 3.0, gravity=fall), member(numbers[1], 3, -2.0, gravity=fall)]

    def value(states: list[mpm.MPMState]) -> torch.Tensor:
        return sum((state.x * torch.linspace(1, 2, len(state.x)).double()[:, None]).sum() for state in states)

    together = torch.autograd.grad(value(mpm.members(end(*mpm.batch(pairs)), [8, 27])), (numbers, fall))
    apart = torch.autograd.grad(value([end(*pair) for pair in pairs]), (numbers, fall))
    for own, other in zip(together, apart, strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=0) and bool((own != 0).any())


def test_a_single_step_and_the_reference_know_copies(monkeypatch) -> None:
    model, state = mpm.batch([member(1e4, 2, 9.0), member(3e4, 2, -2.0)])
    moved = end(model, state)
    kernels = mpm.MPMSolver(model).step(moved, STEPS)
    monkeypatch.setenv("SIMENGINE_KERNELS", "reference")
    plain = mpm.MPMSolver(model).step(moved, STEPS)
    for field in ("x", "v", "C", "F"):
        assert float((getattr(kernels, field) - getattr(plain, field)).abs().max()) < 1e-10


def test_the_first_that_leaves_is_named() -> None:
    pairs = [member(1e4, 2, 0.0, boundaries=[mpm.Walls("open")]) for _ in range(3)]
    gone = dataclasses.replace(pairs[1][1], v=pairs[1][1].v + 60.0)
    with pytest.raises(mpm.SimulationError, match="left the grid") as caught:
        end(*mpm.batch([pairs[0], (pairs[1][0], gone), pairs[2]]))
    assert 8 <= caught.value.particle < 16


@pytest.mark.parametrize(
    ("options", "words"),
    [({"gravity": (0.0, 0.0, 0.0)}, "gravity"), ({"dt": 1e-4}, "time step"), ({"boundaries": []}, "walls")],
)
def test_a_member_of_another_world_is_refused(options, words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}.* of 1 are not those of 0"):
        mpm.batch([member(1e4, 2, 0.0), member(1e4, 2, 0.0, **options)])


def test_members_need_their_numbers() -> None:
    with pytest.raises(ValueError, match="needs one at least"):
        mpm.batch([])
    model, state = mpm.batch([member(1e4, 2, 0.0), member(1e4, 2, 0.0)])
    with pytest.raises(ValueError, match="members: 0 has contact"):
        mpm.batch([(model, state), (model, state)])
    with pytest.raises(ValueError, match="counts: 9 particles"):
        mpm.members(state, [8, 1])
