"""The transfers against plain torch, in value and gradient, and against finite differences; Warp's and Taichi's."""

import dataclasses

import pytest
import torch

from simengine import mpm
from simengine.ops import taichi_bridge
from simengine.ops.matter import mpm as op
from simengine.ops.matter.mpm import transfer_reference as reference

GRID = op.Grid(size=(12, 10, 16), dx=0.1, dt=1e-3, gravity=(0.3, -9.8, 0.1), epsilon=1e-7)


@pytest.fixture(autouse=True, params=["warp", "taichi"])
def kernels(request, monkeypatch) -> str:
    """The language whose kernels run."""
    if request.param == "taichi":
        try:
            taichi_bridge.start()
        except RuntimeError as error:
            pytest.skip(str(error))
    monkeypatch.setenv("SIMENGINE_KERNELS", request.param)
    return request.param


NAMES = ("x", "v", "C", "F", "tau", "mass", "volume", "table")


def inputs(n: int, dtype: torch.dtype, *, near_wall: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    low, extent = (0.12, 0.5) if near_wall else (0.4, 0.2)
    x = low + extent * torch.rand(n, 3, generator=generator, dtype=torch.float64)
    table = torch.zeros(1, 1, 23, dtype=torch.float64)
    table[0, 0, :6] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    values = {
        "x": x,
        "v": normal(n, 3),
        "C": 3 * normal(n, 3, 3),
        "F": torch.eye(3, dtype=torch.float64) + 0.1 * normal(n, 3, 3),
        "tau": 1e3 * normal(n, 3, 3),
        "mass": 0.1 + torch.rand(n, generator=generator, dtype=torch.float64),
        "volume": 1e-4 * (1 + torch.rand(n, generator=generator, dtype=torch.float64)),
        "table": table,
    }
    return {name: value.to(dtype) for name, value in values.items()}


def call(step, values: dict[str, torch.Tensor], grid: op.Grid) -> tuple[torch.Tensor, ...]:
    keywords = {name: values[name] for name in ("mass", "volume", "table")}
    return step(*(values[name] for name in NAMES[:5]), **keywords, grid=grid)


def with_gradients(step, values, grid):
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    outputs = call(step, leaves, grid)
    generator = torch.Generator().manual_seed(5)
    loss = 0.0
    for output in outputs:
        cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        loss = loss + (output.double() * cotangent).sum()
    return outputs, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    value, expected = value.detach().double(), expected.detach().double()
    return float((value - expected).norm() / expected.norm().clamp_min(1e-300))


FACES = {"slip": (2,) * 6, "sticky": (1,) * 6, "mixed": (1, 2, 2, 0, 2, 1), "none": (0,) * 6}


# float64: rounding of sums in another order; float32: 27-fold sums of numbers that cancel, measured 3e-7 and 2e-6, and
# where more cancels, as in the sum over all particles, what the reference itself loses in float32
@pytest.mark.parametrize(("dtype", "forward", "backward"), [(torch.float64, 1e-14, 1e-12), (torch.float32, 2e-6, 1e-5)])
@pytest.mark.parametrize("faces", list(FACES))
def test_parity(dtype: torch.dtype, forward: float, backward: float, faces: str) -> None:
    grid = dataclasses.replace(GRID, faces=FACES[faces])
    values = inputs(80, dtype)
    ours, ours_bar = with_gradients(op.step, values, grid)
    exact = {name: value.double() for name, value in values.items()}
    theirs, theirs_bar = with_gradients(reference.step, exact, grid)
    for name, a, b in zip("xvCF", ours, theirs, strict=True):
        assert error(a, b) < forward, name
    _, rounded_bar = with_gradients(reference.step, values, grid)
    for name, a, b, rounded in zip(NAMES, ours_bar, theirs_bar, rounded_bar, strict=True):
        bound = max(backward, 2 * error(rounded, b))
        assert error(a, b) < bound, name
        if b.norm() > 0:
            cosine = (a.double() * b).sum() / (a.double().norm() * b.norm())
            assert cosine > 1 - bound, name


def test_periodic_parity_and_wrapping() -> None:
    # a periodic axis: particles beyond its ends act on the other side; x itself is not wrapped
    grid = dataclasses.replace(GRID, periodic=(True, False, True), faces=(0, 0, 2, 2, 0, 0))
    values = inputs(60, torch.float64)
    values["x"][:30, 0] += 1.0
    values["x"][:30, 2] -= 0.7
    ours, ours_bar = with_gradients(op.step, values, grid)
    theirs, theirs_bar = with_gradients(reference.step, values, grid)
    for a, b in zip((*ours, *ours_bar), (*theirs, *theirs_bar), strict=True):
        assert error(a, b) < 1e-12 or b.norm() == 0
    shifted = dict(values, x=values["x"] + torch.tensor([1.2, 0.0, -1.6], dtype=torch.float64))
    moved = call(op.step, shifted, grid)
    assert torch.allclose(moved[1], ours[1], atol=1e-11)  # cancellation in x / dx - base


def test_gradcheck() -> None:
    values = inputs(6, torch.float64)
    grid = dataclasses.replace(GRID, faces=(2, 2, 2, 2, 1, 2))
    leaves = [values[name].requires_grad_() for name in NAMES]

    def function(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return call(op.step, dict(zip(NAMES, tensors, strict=True)), grid)

    # stresses are of order 1e3 and volumes of order 1e-4: eps relative to the smallest of the inputs
    assert torch.autograd.gradcheck(function, leaves, eps=1e-7, atol=1e-4, rtol=1e-4)


BODIES = {
    "plane": lambda **k: mpm.Plane(point=(0.3, 0.35, 0.3), normal=(0.3, 1.0, -0.2), **k),
    "sphere": lambda **k: mpm.Sphere(center=(0.3, 0.3, 0.4), radius=0.13, **k),
    "box": lambda **k: mpm.Box(
        center=(0.3, 0.3, 0.4), half_size=(0.13, 0.1, 0.2), orientation=(1.0, 0.2, -0.1, 0.3), **k
    ),
    "capsule": lambda **k: mpm.Capsule(
        center=(0.3, 0.3, 0.4), radius=0.1, half_length=0.1, orientation=(1.0, 0.2, -0.1, 0.3), **k
    ),
    "mesh": lambda **k: mpm.MeshBody(
        *wedge(), center=(0.3, 0.3, 0.4), orientation=(1.0, 0.2, -0.1, 0.3), resolution=16, **k
    ),
}


def wedge() -> tuple[torch.Tensor, torch.Tensor]:
    """A tetrahedron around the origin."""
    vertices = torch.tensor([[0.2, 0.0, -0.1], [-0.15, 0.15, -0.1], [-0.1, -0.2, -0.1], [0.0, 0.0, 0.25]])
    return vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


@pytest.mark.parametrize("kind", ["slip", "sticky", "friction"])
@pytest.mark.parametrize("body", list(BODIES))
def test_parity_with_a_body(body: str, kind: str) -> None:
    """Through a moving rigid body and an acceleration, against plain torch and its autograd (float64)."""
    values = inputs(60, torch.float64, near_wall=False)
    spin = {} if body == "plane" else {"angular_velocity": (0.5, -1.0, 2.0)}
    module = BODIES[body](surface=mpm.Surface(kind, 0.3, GRID.dx), velocity=(0.2, 0.1, -0.4), **spin)
    grid = dataclasses.replace(GRID, kinds=(module.mode,), fields=(module.field,) if body == "mesh" else ())
    rows = module.rows(torch.tensor([0.02], dtype=torch.float64), grid.dx)
    faces = torch.zeros(1, 23, dtype=torch.float64)
    faces[0, 6:9] = torch.tensor([3.0, -2.0, 1.0])
    values["table"] = torch.stack((faces, rows), 1)
    ours, ours_bar = with_gradients(op.step, values, grid)
    theirs, theirs_bar = with_gradients(reference.step, values, grid)
    for name, a, b in zip("xvCF", ours, theirs, strict=True):
        assert error(a, b) < 1e-14, name
    for name, a, b in zip(NAMES, ours_bar, theirs_bar, strict=True):
        if name == "table":  # of a body: position, rotation, velocities, friction; shape and width have no gradient
            a, b = torch.cat((a[0, 0, :9], a[0, 1, :19])), torch.cat((b[0, 0, :9], b[0, 1, :19]))
        assert error(a, b) < 1e-12, name


@pytest.mark.parametrize("kind", ["slip", "sticky", "friction"])
@pytest.mark.parametrize("body", list(BODIES))
def test_gradient_in_pose_velocity_and_friction(body: str, kind: str) -> None:
    """Through a rigid body, the gradient in all its numbers is that of central differences (float64, one step)."""
    values = inputs(60, torch.float64, near_wall=False)
    generator = torch.Generator().manual_seed(1)
    probe = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    spin = {} if body == "plane" else {"angular_velocity": (0.5, -1.0, 2.0)}
    module = BODIES[body](surface=mpm.Surface(kind, 0.3, GRID.dx), velocity=(0.2, 0.1, -0.4), **spin)
    grid = dataclasses.replace(GRID, kinds=(module.mode,), fields=(module.field,) if body == "mesh" else ())
    faces = torch.zeros(1, 23, dtype=torch.float64)

    def value(numbers: dict[str, torch.Tensor]) -> torch.Tensor:
        for name, tensor in numbers.items():
            setattr(module, name, tensor)
        time = torch.tensor([0.02], dtype=torch.float64)
        table = torch.stack((faces, module.rows(time, grid.dx)), 1)
        return (call(op.step, dict(values, table=table), grid)[1] * probe).sum()

    start = {name: buffer.clone() for name, buffer in module.named_buffers()}
    leaves = {name: buffer.clone().requires_grad_() for name, buffer in start.items()}
    gradients = torch.autograd.grad(value(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
    for (name, buffer), gradient in zip(start.items(), gradients, strict=True):
        flat = gradient.reshape(-1)
        for k in range(buffer.numel()):
            h = 1e-6
            side = []
            for sign in (1, -1):
                moved = buffer.clone()
                moved.view(-1)[k] += sign * h
                side.append(value({**start, name: moved}))
            difference = float(side[0] - side[1]) / (2 * h)
            # central differences of a value of order 10 with h = 1e-6: 1e-15 * 10 / 1e-6 = 1e-8, and O(h^2)
            assert abs(float(flat[k]) - difference) < 1e-6 * (1 + abs(difference)), (name, k)


def test_a_body_acts() -> None:
    """A sticky ball that holds all particles makes them take its rigid motion."""
    values = inputs(20, torch.float64, near_wall=False)
    module = mpm.Sphere(
        center=(0.5, 0.5, 0.5),
        radius=0.45,
        velocity=(1.0, 2.0, 3.0),
        angular_velocity=(0.0, 0.0, 2.0),
        surface=mpm.Surface("sticky", width=GRID.dx),
    )
    grid = dataclasses.replace(GRID, kinds=(module.mode,), gravity=(0.0, 0.0, 0.0))
    table = torch.stack((torch.zeros(1, 23).double(), module.rows(torch.zeros(1).double(), grid.dx)), 1)
    _, v, C, _ = call(op.step, dict(values, table=table), grid)
    arm = values["x"] - 0.5
    spin = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) + torch.linalg.cross(spin.expand_as(arm), arm)
    assert torch.allclose(v, expected, atol=1e-12)
    assert torch.allclose(C, torch.tensor([[0, -2.0, 0], [2, 0, 0], [0, 0, 0]]).double().expand_as(C), atol=1e-11)


@pytest.mark.parametrize("n", [0, 1])
def test_few_particles(n: int) -> None:
    values = inputs(n, torch.float64)
    ours, ours_bar = with_gradients(op.step, values, GRID)
    theirs, theirs_bar = with_gradients(reference.step, values, GRID)
    for a, b in zip((*ours, *ours_bar), (*theirs, *theirs_bar), strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-9)


def test_no_residue() -> None:
    """A pass leaves the shared grid clean: the same call gives the same bits again, also after a backward."""
    values = inputs(50, torch.float32)
    first, first_bar = with_gradients(op.step, values, GRID)
    second, second_bar = with_gradients(op.step, values, GRID)
    assert all(torch.equal(a, b) for a, b in zip((*first, *first_bar), (*second, *second_bar), strict=True))


@pytest.mark.parametrize(
    ("name", "change", "field", "particle"),
    [
        ("x", lambda t: t[7].fill_(0.01), "grid", 7),
        ("x", lambda t: t[3].fill_(float("inf")), "x", 3),
        ("x", lambda t: t[3].fill_(1e30), "grid", 3),
        ("v", lambda t: t[4].fill_(float("nan")), "v", 4),
        ("C", lambda t: t[5].fill_(float("nan")), "C", 5),
        ("tau", lambda t: t[6].fill_(float("inf")), "tau", 6),
    ],
)
def test_invalid_particles_are_named(name: str, change, field: str, particle: int) -> None:
    values = inputs(50, torch.float32)
    change(values[name])
    with pytest.raises(op.SimulationError, match=f"step 0, particle {particle}") as caught:
        call(op.step, values, GRID)
    assert caught.value.field == field and caught.value.particle == particle
    good = inputs(50, torch.float32)
    assert torch.equal(call(op.step, good, GRID)[1], call(op.step, good, GRID)[1])


def test_bad_input() -> None:
    values = inputs(5, torch.float32)
    with pytest.raises(ValueError, match=r"tau must have shape \(5, 3, 3\)"):
        call(op.step, dict(values, tau=values["tau"][:4]), GRID)
    with pytest.raises(TypeError, match=r"v must be torch.float32"):
        call(op.step, dict(values, v=values["v"].double()), GRID)
    with pytest.raises(ValueError, match="table must have shape"):
        call(op.step, dict(values, table=values["table"][:, :, :5]), GRID)
    with pytest.raises(TypeError, match="float32 or float64"):
        call(op.step, {name: value.half() for name, value in values.items()}, GRID)
    with pytest.raises(ValueError, match="multiple of 4"):
        dataclasses.replace(GRID, size=(10, 10, 10), periodic=(True, False, False))


def test_double_backward_fails_loudly() -> None:
    values = {name: value.requires_grad_() for name, value in inputs(5, torch.float64).items()}
    (gradient,) = torch.autograd.grad(call(op.step, values, GRID)[1].square().sum(), values["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
