"""Dead loads, pressures that follow a face, and gravity that changes: closed forms, parity, gradients."""

import dataclasses
import math

import pytest
import torch

from simengine import materials, mpm, solve

H = 0.05  # [m], of a particle


def block(n: int = 4) -> torch.Tensor:
    axis = H * torch.arange(n, dtype=torch.float64)
    return 0.3 + torch.cartesian_prod(axis, axis, axis)


def model_of(E: float | torch.Tensor = 2e4, **options) -> mpm.MPMModel:
    rubber = materials.rubber(E=E, nu=0.3)
    return mpm.MPMModel(num_grids=12, dt=1e-3, materials=[rubber], volume=H**3, mass=1e3 * H**3, **options)


def rough(n: int = 4) -> mpm.MPMState:
    x = block(n)
    v = 0.3 * torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return mpm.MPMState.at_rest(x, v)


def crowded(numbers: dict[str, torch.Tensor], n: int = 4, *, held: bool = False) -> mpm.MPMModel:
    """Two loads that share particles, one of which sets in within a step; a floor or a clamp; gravity that turns."""
    x = block(n)
    top, side = x[:, 1] > x[:, 1].max() - 1e-6, x[:, 0] < 0.31
    path = mpm.RecordedPath(
        torch.tensor([0.0, 0.01, 0.03]), torch.tensor([[0.0, 0, 0], [30.0, 0, 0], [10.0, 0, 0]]), gain=numbers["gain"]
    )
    loads = [
        mpm.Load(top, force=numbers["force"]),
        mpm.Load(
            top | side, pressure=numbers["pressure"], normal=(0.0, 0.6, 0.8), depth=H, begins=numbers["begins"],
            path=path, presses=True,
        ),
    ]  # fmt: skip
    tilt = mpm.Tilt(rate=numbers["rate"], begins=0.0004)
    floor = mpm.Plane(point=(0.0, 0.28, 0.0), normal=(0.0, 1.0, 0.0), surface=mpm.Surface("friction", 0.3))
    clamp = mpm.Box(center=(0.3, 0.2, 0.3), half_size=(0.5, 0.1, 0.5), surface=mpm.Surface("sticky", width=1e-4))
    return model_of(numbers["E"], gravity=tilt, boundaries=[clamp if held else floor, mpm.Loads(loads)])


def tensors(**values) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in values.items()}


NUMBERS = {"force": [1.0, -4.0, 2.0], "pressure": 1e3, "begins": 0.0003, "E": 2e4, "rate": [0.0, 0.4, 2.0], "gain": 1.0}
SMALL = {**NUMBERS, "force": [0.1, -0.4, 0.2], "pressure": 100.0}  # equilibria in the fewest rounds


def end(numbers: dict[str, torch.Tensor], kind: str, steps: int) -> torch.Tensor:
    n, held = (4, False) if kind == "explicit" else (2, True)
    model = crowded(numbers, n, held=held)
    solver = mpm.MPMSolver(model) if kind == "explicit" else mpm.ImplicitSolver(model, kind)
    adjoint = solve.CheckpointAdjoint(every=7)
    last = solve.rollout(solver, rough(n), steps, save_every=steps, adjoint=adjoint)[-1]
    probe = torch.randn(2, *last.x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return (probe[0] * last.x).sum() + 0.1 * (probe[1] * last.v).sum()


@pytest.mark.parametrize(("kind", "steps"), [("explicit", 40), ("implicit", 2), ("quasistatic", 1)])
def test_gradients_against_differences(kind: str, steps: int) -> None:
    """Force, pressure, its begin, its path's gain, the rate of turning and the modulus, to 1e-5."""
    numbers = tensors(**(NUMBERS if kind == "explicit" else SMALL))
    found = torch.autograd.grad(end(numbers, kind, steps), list(numbers.values()))
    for (name, value), own in zip(numbers.items(), found, strict=True):
        h = (1e-4 if name == "E" else 1e-3) * value.detach().abs().max() * torch.ones_like(value)
        with torch.no_grad():
            ends = [end({**numbers, name: value + sign * h}, kind, steps) for sign in (1, -1)]
        difference = float((ends[0] - ends[1]) / (2 * h.max()))
        assert float(own.sum()) == pytest.approx(difference, rel=1e-5), name
        assert difference != 0, name


def test_kernels_as_plain_torch() -> None:
    """A rollout by captured kernels, with friction at a floor, as steps whose loads are plain torch, to 1e-12."""
    numbers = tensors(**NUMBERS)
    with torch.no_grad():
        solver, state = mpm.MPMSolver(crowded(numbers)), rough()
        last = solve.rollout(solver, state, 20, save_every=20)[-1]
        for k in range(20):
            state = solver.step(state, k)
    assert float((last.x - state.x).abs().max()) < 1e-13
    assert float((last.v - state.v).abs().max()) < 1e-12


def test_threads_share_the_loads() -> None:
    """The gradient of a load by two threads is that by one."""
    numbers = tensors(**NUMBERS)
    rows = []
    for threads in (1, 2):
        last = solve.rollout(mpm.MPMSolver(crowded(numbers), threads=threads), rough(), 12, save_every=12)[-1]
        rows.append(torch.autograd.grad(last.x[:, 1].sum(), [numbers["force"], numbers["pressure"]]))
    for one, two in zip(*rows, strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=0)


def test_a_pressure_follows_its_face_and_a_force_does_not() -> None:
    """On a free block that spins: v = p A / m times the integral of -(cos wt, sin wt), and f t / m."""
    x, spin, steps = block(), 6.0, 200
    face = x[:, 0] > x[:, 0].max() - 1e-6
    turn = torch.tensor([[0.0, -spin, 0.0], [spin, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    v = (x - x.mean(0)) @ turn.T
    shift = torch.tensor([0.15, 0.15, 0.1], dtype=torch.float64)  # to the middle of the grid
    mass, area = len(x) * 1e3 * H**3, (4 * H) ** 2

    def speed(**options) -> torch.Tensor:
        loads = mpm.Loads([mpm.Load(face, **options)])
        model = mpm.MPMModel(
            num_grids=24, length=1.2, dt=1e-3, materials=[materials.rubber(E=3e5, nu=0.0)], volume=H**3,
            mass=1e3 * H**3, boundaries=[loads], gravity=(0.0, 0.0, 0.0),
        )  # fmt: skip
        with torch.no_grad():
            start = dataclasses.replace(mpm.MPMState.at_rest(x + shift, v), C=turn.expand(len(x), 3, 3).clone())
            last = solve.rollout(mpm.MPMSolver(model), start, steps, save_every=steps)[-1]
        return last.v.mean(0)

    t = steps * 1e-3
    dead = speed(force=(-4.0, 1.0, 0.0))
    assert dead.tolist() == pytest.approx([-4.0 * t / mass, 1.0 * t / mass, 0.0], rel=1e-9, abs=1e-12)
    follows = speed(pressure=500.0, normal=(1.0, 0.0, 0.0), depth=H)
    whole = 500 * area / (mass * spin)
    expected = [-whole * math.sin(spin * t), -whole * (1 - math.cos(spin * t)), 0.0]
    assert follows.tolist() == pytest.approx(expected, rel=0.02, abs=1e-9)  # the face is stretched by the spin


def test_gravity_that_turns() -> None:
    """A body that falls freely has the integral of gravity, by its steps; what turns until a time stays there."""
    rate, until = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64), 0.1
    model = model_of(gravity=mpm.Tilt(rate=rate, begins=0.02, until=until), boundaries=[mpm.Walls("open")])
    with torch.no_grad():
        last = solve.rollout(mpm.MPMSolver(model), mpm.MPMState.at_rest(block()), 150, save_every=150)[-1]
    angle = 3.0 * (torch.arange(150, dtype=torch.float64) * 1e-3).clamp(0.02, until).sub(0.02)
    own = 9.8e-3 * torch.stack([angle.sin(), -angle.cos()]).sum(1)
    assert last.v[:, :2].mean(0).tolist() == pytest.approx(own.tolist(), rel=1e-9)
    assert own[0] > 0.1


def test_what_knows_no_loads_says_so() -> None:
    part = torch.ones(64, dtype=torch.bool)
    model = model_of(boundaries=[mpm.Loads([mpm.Load(part, force=(1.0, 0.0, 0.0))])])
    state = mpm.MPMState.at_rest(block())
    with pytest.raises(ValueError, match="loads"):
        mpm.batch([(model, state), (model, state)])
    with pytest.raises(ValueError, match="64 particles, the state has 27"):
        mpm.MPMSolver(model).step(mpm.MPMState.at_rest(block(3)))
    with pytest.raises(ValueError, match="normal"):
        mpm.Load(part, pressure=1.0)
    with pytest.raises(ValueError, match="one particle at least"):
        mpm.Load(~part)
    with pytest.raises(ValueError, match="lies before"):
        mpm.Tilt(begins=1.0, until=0.5)
