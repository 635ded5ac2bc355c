"""Elasticity with three axes: engineering constants in closed form, on and off the axes, finite strain, motion."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simengine import materials, mpm, solve
from simengine.scene.address import replaced
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.grammar import make_world

E, NU, G = (12e9, 9e8, 5e8), (0.37, 0.47, 0.35), (9e8, 7e8, 6e7)  # a softwood: along, across the rings, along them
WOOD: dict[str, Any] = {"type": "orthotropic", "E": list(E), "nu": list(NU), "G": list(G)}


def specimen(test: str, **more: Any) -> Any:
    data = {"kind": "specimen", "material": WOOD | more, "test": {"type": test}}
    return make_world(data, directory=Path(), locate=lambda key: "scene.toml")


def answers(world: Any, against: str, values: Any, *names: str) -> np.ndarray:
    ask = Series(names=names, against=against, values=torch.as_tensor(values, dtype=torch.float64))
    return world.solve((ask,)).sample(ask).numpy()


def turn_to(axis: int) -> list[float]:
    """Turns that bring axis 1 (0), 2 or 3 of the material to x."""
    return [[0.0, 0.0, 0.0], [0.0, 0.0, -math.pi / 2], [0.0, math.pi / 2, 0.0]][axis]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_pull_along_an_axis_shows_its_constants(axis: int) -> None:
    """Verification, at any strain: nominal stress E l (l^2 - 1) / 2 and sides sqrt(1 - nu (l^2 - 1))."""
    stretch = np.array([0.9, 0.999999, 1.2])
    shown = answers(
        specimen("uniaxial", turn=turn_to(axis)),
        "stretch",
        stretch,
        "nominal_stress",
        "second_stretch",
        "transverse_stretch",
    )
    grown = stretch**2 - 1
    np.testing.assert_allclose(shown[:, 0], E[axis] * stretch * grown / 2, rtol=1e-8)
    ratio = {(0, 1): NU[0], (0, 2): NU[1], (1, 2): NU[2]}
    ratio |= {(j, i): nu * E[j] / E[i] for (i, j), nu in ratio.items()}
    second, third = {0: (1, 2), 1: (0, 2), 2: (1, 0)}[axis]  # what lies along y and z then
    np.testing.assert_allclose(shown[:, 1], np.sqrt(1 - ratio[axis, second] * grown), rtol=1e-9)
    np.testing.assert_allclose(shown[:, 2], np.sqrt(1 - ratio[axis, third] * grown), rtol=1e-9)


@pytest.mark.parametrize("degrees", [10, 30, 45, 75])
def test_a_pull_off_the_axes_follows_the_rule_of_laminates(degrees: float) -> None:
    """1 / E(a) = cos^4 / E1 + (1 / G12 - 2 nu12 / E1) sin^2 cos^2 + sin^4 / E2, at a strain of 1e-7."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    expected = 1 / (c**4 / E[0] + (1 / G[0] - 2 * NU[0] / E[0]) * s**2 * c**2 + s**4 / E[1])
    world = specimen("uniaxial", turn=[0.0, 0.0, math.radians(degrees)])
    found = answers(world, "strain", [-1e-7, 1e-7], "cauchy_stress")[:, 0]
    assert (found[1] - found[0]) / 2e-7 == pytest.approx(expected, rel=1e-6)


def test_shear_and_held_sides_show_the_other_constants() -> None:
    shear = answers(specimen("simple_shear"), "shear", [1e-7], "shear_stress")[0, 0]
    assert shear == pytest.approx(1e-7 * G[0], rel=1e-6)
    across = answers(specimen("simple_shear", turn=[math.pi / 2, 0.0, 0.0]), "shear", [1e-7], "shear_stress")[0, 0]
    assert across == pytest.approx(1e-7 * G[1], rel=1e-6)
    planar = answers(specimen("planar"), "strain", [1e-7], "nominal_stress")[0, 0]  # held along y: E1 / (1 - nu12 nu21)
    assert planar == pytest.approx(1e-7 * E[0] / (1 - NU[0] ** 2 * E[1] / E[0]), rel=1e-6)


def test_the_stiffness_is_the_inverse_of_the_compliance() -> None:
    """And an isotropic material written with three equal axes is Saint Venant and Kirchhoff's, whatever the turn."""
    C = materials.Orthotropic(E, NU, G).stiffness().numpy()
    n21, n31, n32 = NU[0] * E[1] / E[0], NU[1] * E[2] / E[0], NU[2] * E[2] / E[1]
    d = 1 - NU[0] * n21 - NU[1] * n31 - NU[2] * n32 - 2 * n21 * n32 * NU[1]
    assert C[0, 0] == pytest.approx(E[0] * (1 - NU[2] * n32) / d, rel=1e-12)
    assert C[0, 1] == pytest.approx(E[0] * (n21 + n31 * NU[2]) / d, rel=1e-12)
    assert C[1, 2] == pytest.approx(E[1] * (n32 + NU[0] * n31) / d, rel=1e-12)
    F = (
        torch.eye(3, dtype=torch.float64)
        + 0.1 * torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    )
    alike = materials.Orthotropic((2.6,) * 3, (0.3,) * 3, (1.0,) * 3, (0.3, -0.2, 0.7))(F)
    green = (F.mT @ F - torch.eye(3)) / 2
    S = 2 * green + 1.5 * green.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] * torch.eye(3)
    torch.testing.assert_close(alike, F @ S @ F.mT, rtol=1e-12, atol=1e-12)


def test_gradients_of_a_pull_against_differences() -> None:
    """Of the tests of a specimen in each number, the turn too, off the axes."""
    world = specimen("uniaxial", turn=[0.2, -0.3, 0.5])
    ask = Series(
        names=("nominal_stress", "transverse_stretch"), against="stretch", values=torch.tensor([0.97, 1.05]).double()
    )
    keys = ["E.0", "E.2", "nu.0", "nu.2", "G.0", "G.2", "turn.0", "turn.2"]
    start = [world.material.variables()[key] for key in keys]

    def value(numbers: list[torch.Tensor], *, gradient: bool) -> torch.Tensor:
        held = replaced(world, {f"material.{key}": number for key, number in zip(keys, numbers, strict=True)})
        found = held.solve((ask,), gradient=gradient).sample(ask)
        return (found * torch.tensor([1e-8, 1.0]).double()).sum()

    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in start]
    gradient = torch.autograd.grad(value(at, gradient=True), at)
    for k, own in enumerate(gradient):
        h = 1e-6 * abs(start[k])
        ends = [
            value([t.detach() + (s * h if j == k else 0.0) for j, t in enumerate(at)], gradient=False) for s in (1, -1)
        ]
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=2e-5), keys[k]


@pytest.mark.parametrize("implicit", [False, True])
def test_a_block_in_motion_has_its_gradient(implicit: bool) -> None:
    """By moduli and turn, 40 explicit steps or two implicit ones: kernels and tangents against differences."""

    def value(E1: torch.Tensor, nu12: torch.Tensor, G13: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        one = torch.ones((), dtype=torch.float64)
        law = materials.orthotropic(
            torch.stack([E1, 4e3 * one, 3e3 * one]), torch.stack([nu12, 0.2 * one, 0.3 * one]),
            torch.stack([2e3 * one, G13, 1e3 * one]), torch.stack([0.3 * one, angle, 0 * one]),
        )  # fmt: skip
        axis = 0.4 + 0.05 * torch.arange(2 if implicit else 4, dtype=torch.float64)
        x = torch.cartesian_prod(axis, axis - 0.15, axis)
        model = mpm.MPMModel(num_grids=12, dt=2e-2 if implicit else 1e-3, materials=[law], volume=1.25e-4, mass=0.125)
        state = mpm.MPMState.at_rest(
            x, 5 * (x - x.mean(0)) @ torch.tensor([[0.0, 1, 0], [0, 0, 2], [1, 0, 0]]).double()
        )
        solver = mpm.ImplicitSolver(model) if implicit else mpm.MPMSolver(model)
        last = solve.rollout(solver, state, 2 if implicit else 40)[-1]
        return (last.x * torch.linspace(-1, 1, x.numel()).double().reshape(x.shape)).sum() + last.v.square().sum()

    start = (9e3, 0.25, 1.5e3, 0.4)
    at = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in start]
    gradient = torch.autograd.grad(value(*at), at)
    for k, own in enumerate(gradient):
        h = 1e-4 * start[k]
        with torch.no_grad():
            ends = [value(*(t + (s * h if j == k else 0.0) for j, t in enumerate(at))) for s in (1.0, -1.0)]
        assert float(own) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"nu": [4.0, 0.1, 0.1]}, r"nu.0: \|nu_12\| must be below sqrt\(E_1 / E_2\) = 3.651, got 4"),
        ({"E": [1e9, 1e9, 1e9], "nu": [0.7, 0.7, 0.7]}, "nu: 0.7, 0.7, 0.7 together give a negative stiffness"),
        ({"G": [1e8, 0.0, 1e8]}, "G"),
        ({"E": [1e9, 1e9]}, "E"),
    ],
)
def test_what_would_give_energy_away_is_refused_by_name(more: dict[str, Any], words: str) -> None:
    with pytest.raises(SceneError, match=words):
        specimen("uniaxial", **more)
