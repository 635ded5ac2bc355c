"""Hard contact of particles with rigid bodies against plain torch and its autograd, and on one particle."""

import dataclasses

import pytest
import torch

from simengine import mpm
from simengine.ops.matter import hard_contact as op
from simengine.ops.matter import hard_contact_reference as reference
from simengine.ops.matter.mpm import Grid

GRID = Grid(size=(12, 10, 16), dx=0.1, dt=1e-3)
NAMES = ("x", "v", "C", "F", "tau", "mass", "volume", "stiffness", "table")
PLACE = {"center": (0.3, 0.3, 0.4), "orientation": (1.0, 0.2, -0.1, 0.3)}
BODIES = {
    "plane": lambda **k: mpm.Plane(point=(0.3, 0.35, 0.3), normal=(0.3, 1.0, -0.2), **k),
    "sphere": lambda **k: mpm.Sphere(center=(0.3, 0.3, 0.4), radius=0.13, **k),
    "box": lambda **k: mpm.Box(half_size=(0.13, 0.1, 0.2), **PLACE, **k),
    "capsule": lambda **k: mpm.Capsule(radius=0.1, half_length=0.1, **PLACE, **k),
    "mesh": lambda **k: mpm.MeshBody(*wedge(), resolution=16, **PLACE, **k),
}


def wedge() -> tuple[torch.Tensor, torch.Tensor]:
    """A tetrahedron around the origin."""
    vertices = torch.tensor([[0.2, 0.0, -0.1], [-0.15, 0.15, -0.1], [-0.1, -0.2, -0.1], [0.0, 0.0, 0.25]])
    return vertices, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def inputs(n: int) -> dict[str, torch.Tensor]:
    """Particles around the bodies, deformed and stressed."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return {
        "x": 0.1 + 0.45 * uniform(n, 3),
        "v": normal(n, 3),
        "C": 3 * normal(n, 3, 3),
        "F": torch.eye(3, dtype=torch.float64) + 0.1 * normal(n, 3, 3),
        "tau": 1e3 * normal(n, 3, 3),
        "mass": 0.1 + uniform(n),
        "volume": 1e-4 * (1 + uniform(n)),
        "stiffness": 1e4 * (1 + uniform(n)),
    }


def with_gradients(contact, values: dict[str, torch.Tensor], grid: Grid):
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    outputs = contact(*(leaves[k] for k in NAMES[:5]), **{k: leaves[k] for k in NAMES[5:]}, grid=grid)
    generator = torch.Generator().manual_seed(5)
    loss = sum((o * torch.randn(o.shape, generator=generator, dtype=torch.float64)).sum() for o in outputs)
    return outputs, torch.autograd.grad(loss, list(leaves.values()))


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    value, expected = value.detach(), expected.detach()
    return float((value - expected).norm() / expected.norm().clamp_min(1e-300))


@pytest.mark.parametrize("kind", ["slip", "sticky", "friction"])
@pytest.mark.parametrize("body", list(BODIES))
def test_parity(body: str, kind: str) -> None:
    """Forward and every gradient, of two bodies at once, a moving one and a floor (float64)."""
    values = inputs(300)
    spin = {} if body == "plane" else {"angular_velocity": (0.5, -1.0, 2.0)}
    modules = [
        BODIES[body](surface=mpm.Surface(kind, 0.3), velocity=(0.2, 0.1, -0.4), **spin),
        mpm.Plane(point=(0.0, 0.2, 0.0), normal=(0.0, 1.0, 0.0), surface=mpm.Surface("friction", 0.5)),
    ]
    fields = (modules[0].field,) if body == "mesh" else ()
    grid = dataclasses.replace(GRID, kinds=tuple(m.mode for m in modules), fields=fields)
    time = torch.tensor([0.02], dtype=torch.float64)
    rows = [torch.zeros(1, 23, dtype=torch.float64), *(m.rows(time, grid.dx) for m in modules)]
    values["table"] = torch.stack(rows, 1)
    ours, ours_bar = with_gradients(op.hard_contact, values, grid)
    theirs, theirs_bar = with_gradients(reference.hard_contact, values, grid)
    touched = (theirs[0] - values["v"]).norm(dim=1) > 0
    assert 20 < int(touched.sum()) < 280
    for name, a, b in zip(("v", "tau"), ours, theirs, strict=True):
        assert error(a, b) < 1e-13, name
    for name, a, b in zip(NAMES, ours_bar, theirs_bar, strict=True):
        if name == "table":  # of a body: position, rotation, velocities, friction; shape and width have no gradient
            a, b = a[0, 1:, :19].clone(), b[0, 1:, :19].clone()
            if kind != "friction":
                a[0, 18] = b[0, 18] = 0.0  # has none there
        assert error(a, b) < 1e-11, name


@pytest.mark.parametrize("stiffness", [1e3, 1e6])
def test_a_uniform_pressure_is_held_without_sinking_in(stiffness: float) -> None:
    """A particle whose surface just touches gets the force of its own stress at its own face, whatever the spring."""
    x = torch.tensor([[0.5, 0.5, 0.025 * 0.9]], dtype=torch.float64)
    F = torch.diag(torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64))[None]
    tau = torch.diag(torch.tensor([0.0, 0.0, -700.0], dtype=torch.float64))[None]
    plane = mpm.Plane(point=(0.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0))
    grid = dataclasses.replace(GRID, kinds=(plane.mode,))
    rows = torch.zeros(1, 23, dtype=torch.float64), plane.rows(torch.zeros(1, dtype=torch.float64), grid.dx)
    one = torch.ones(1, dtype=torch.float64)
    v, stress = op.hard_contact(
        x, torch.zeros_like(x), torch.zeros_like(F), F, tau,
        mass=one, volume=one * 0.05**3, stiffness=one * stiffness, table=torch.stack(rows, 1), grid=grid,
    )  # fmt: skip
    assert float(v[0, 2]) == pytest.approx(
        GRID.dt * 700.0 / 0.9 * 0.05**2, rel=1e-9
    )  # nominal stress on the cube's face
    assert float(stress[0, 2, 2]) == pytest.approx(-350.0, rel=1e-9)  # the half of the moment that points outward
