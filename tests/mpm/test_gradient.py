"""Gradients of rollouts against central differences in float64, for every law and boundary kind."""

import dataclasses

import pytest
import torch

from simengine import materials, mpm, solve

DT = 5e-4
MATERIALS = {
    "jelly": (materials.jelly, {"E": 1e5, "nu": 0.2}),
    "rubber": (materials.rubber, {"E": 1e5, "nu": 0.2}),
    "plasticine": (materials.plasticine, {"E": 3e5, "nu": 0.25, "yield_stress": 5e3, "hardening": 2e4}),
    "sand": (materials.sand, {"E": 1e6, "nu": 0.2, "friction_angle": 25.0, "cohesion": 1e-3}),
    "water": (materials.water, {"E": 1e5, "nu": 0.3}),
    "tait_water": (materials.tait_water, {"K": 5e4, "gamma": 7.0}),
    "snow": (materials.snow, {"E": 1.4e5, "nu": 0.2, "hardening": 10.0, "critical_compression": 2.5e-2}),
    "paste": (
        lambda **k: materials.paste(**k, dt=DT),
        {"E": 1e5, "nu": 0.3, "yield_stress": 200.0, "consistency": 50.0, "exponent": 0.6},
    ),
}
SIDE = {"orientation": (1.0, 0.2, -0.1, 0.3), "angular_velocity": (0.0, 0.0, 3.0)}


def wedge() -> tuple[torch.Tensor, torch.Tensor]:
    """A closed mesh: a tetrahedron 0.3 m high, its broad side up."""
    corners = torch.tensor([[-0.2, 0.1, -0.2], [0.25, 0.1, -0.2], [0.0, 0.1, 0.25], [0.0, -0.2, 0.0]]).double()
    return corners, torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


# friction, place of a body and its velocity, all differentiable; 5 mm of the lowest particle lie in the body at first
WALLS = {
    "slip": lambda mu, at, velocity: [mpm.Walls()],
    "sticky": lambda mu, at, velocity: [mpm.Walls("sticky")],
    "friction": lambda mu, at, velocity: [mpm.Walls("friction", friction=mu)],
    "periodic": lambda mu, at, velocity: [
        mpm.Walls({"-x": "periodic", "+x": "periodic", "-y": "friction"}, friction=mu)
    ],
    "plane": lambda mu, at, velocity: [
        mpm.Plane(point=at + at.new_tensor([0.5, 0.08, 0.5]), normal=(0.2, 1.0, 0.1), velocity=velocity,
                  surface=mpm.Surface("friction", mu))
    ],
    "sphere": lambda mu, at, velocity: [
        mpm.Sphere(center=at + at.new_tensor([0.413, -0.009, 0.392]), radius=0.15, velocity=velocity,
                   angular_velocity=(0.0, 0.0, 3.0), surface=mpm.Surface("friction", mu))
    ],
    "sticky sphere": lambda mu, at, velocity: [
        mpm.Sphere(center=at + at.new_tensor([0.413, -0.009, 0.392]), radius=0.15, velocity=velocity,
                   surface=mpm.Surface("sticky"))
    ],
    "slip box": lambda mu, at, velocity: [
        mpm.Box(center=at + at.new_tensor([0.413, -0.096, 0.392]), half_size=(0.15, 0.12, 0.2), velocity=velocity,
                **SIDE)
    ],
    "capsule": lambda mu, at, velocity: [
        mpm.Capsule(center=at + at.new_tensor([0.413, -0.02, 0.392]), radius=0.12, half_length=0.1,
                    velocity=velocity, surface=mpm.Surface("friction", mu), **SIDE)
    ],
    "mesh": lambda mu, at, velocity: [
        mpm.MeshBody(*wedge(), center=at + at.new_tensor([0.413, 0.039, 0.392]), resolution=16, velocity=velocity,
                     surface=mpm.Surface("friction", mu))
    ],
}  # fmt: skip


def check(material: str, walls: str, num_steps: int, make_cube, make_model, adjoint=None) -> None:
    """Cosine >= 0.999 and relative error <= 1e-4, over everything a rollout is differentiable in.

    Every coefficient, one coefficient particle by particle, friction, place and velocity of what is hit, gravity, and
    the initial positions and velocities along a random direction each.
    """
    factory, numbers = MATERIALS[material]
    start = make_cube(4)
    # the corner of the cube close to the floor, moving down, so that it touches within the first steps
    x = start.x - start.x.amin(0) + torch.tensor([0.3, 0.16, 0.3], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, *x.shape, generator=generator, dtype=torch.float64)
    probe = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    uneven = torch.randn(len(x), generator=generator, dtype=torch.float64)
    first = next(iter(numbers))
    points = {**dict.fromkeys(numbers, 1.0), "friction": 1.0, "gravity": 1.0}
    scale = {**numbers, "friction": 0.3, "gravity": 9.8, "uneven": 0.1, "place": 0.01, "velocity": 0.5}
    scale |= {"along x": 1e-2, "along v": 1.0}
    names = list(scale)

    def value(z: torch.Tensor) -> torch.Tensor:
        values = {name: scale[name] * z[k] for k, name in enumerate(names)}
        coefficients = {k: values[k] for k in numbers}
        coefficients[first] = coefficients[first] * (1 + values["uneven"] * uneven)
        place = values["place"] * z.new_tensor([0.3, 1.0, -0.2])
        velocity = values["velocity"] * z.new_tensor([0.2, 1.0, 0.5])
        model = make_model(
            factory(**coefficients),
            boundaries=WALLS[walls](values["friction"], place, velocity),
            gravity=values["gravity"] * z.new_tensor([0.1, -1.0, 0.2]),
        )
        state = dataclasses.replace(
            start, x=x + values["along x"] * directions[0], v=start.v + values["along v"] * directions[1]
        )
        last = solve.rollout(mpm.MPMSolver(model), state, num_steps, save_every=num_steps, adjoint=adjoint)[-1]
        return (last.x * probe).sum() + 1e-2 * (last.v * probe).sum()

    z = torch.tensor([points.get(name, 0.0) for name in names], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(z), z)
    difference = torch.zeros_like(gradient)
    step = 1e-6 if num_steps < 100 else 1e-7  # a long motion with friction has kinks closer than 1e-6
    with torch.no_grad():
        for k in range(len(z)):
            h = torch.zeros_like(z)
            h[k] = step
            difference[k] = (value(z + h) - value(z - h)) / (2 * step)
    cosine = (gradient @ difference) / (gradient.norm() * difference.norm())
    error = (gradient - difference).norm() / difference.norm()
    pairs = dict(zip(names, zip(gradient.tolist(), difference.tolist(), strict=True), strict=True))
    assert cosine >= 0.999 and error <= 1e-4, (float(cosine), float(error), pairs)


@pytest.mark.parametrize("walls", list(WALLS))
@pytest.mark.parametrize("material", list(MATERIALS))
def test_every_law_at_every_boundary(material: str, walls: str, make_cube, make_model) -> None:
    check(material, walls, 10, make_cube, make_model)


@pytest.mark.parametrize("num_steps", [1, 100])
@pytest.mark.parametrize("material", list(MATERIALS))
def test_laws(material: str, num_steps: int, make_cube, make_model) -> None:
    check(material, "slip", num_steps, make_cube, make_model)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [100, 400])
@pytest.mark.parametrize("walls", list(WALLS))
@pytest.mark.parametrize("material", list(MATERIALS))
def test_long(material: str, walls: str, num_steps: int, make_cube, make_model) -> None:
    check(material, walls, num_steps, make_cube, make_model, adjoint=solve.CheckpointAdjoint())
