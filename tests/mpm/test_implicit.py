"""Quasi-static and implicit steps: closed form, the explicit motion, order, gradients, refusals."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from simengine.materials import plasticine, rubber
from simengine.mpm import ImplicitSolver, MPMModel, MPMSolver, MPMState, Walls
from simengine.mpm.increment import CellTangent, Increment
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.solve import CheckpointAdjoint, DirectAdjoint, rollout

PRESS = """
gravity = [0.0, 0.0, 0.0]
walls = {{ kind = "open" }}
output = {{ save_every = 1 }}
[grid]
lower = [-0.05, -0.02, -0.05]
upper = [0.05, 0.07, 0.05]
spacing = 0.01
integrator = "quasistatic"
time_step = 1.0
num_steps = 1
{more}
[[bodies]]
name = "block"
shape = {{ type = "box", center = [0.001, {middle}, 0.0], size = [0.03, 0.03, 0.03] }}
material = {{ type = "rubber", E = 3e5, nu = {nu} }}
[[colliders]]
name = "bottom"
type = "plane"
point = [0.0, {low}, 0.0]
normal = [0.0, 1.0, 0.0]
[[colliders]]
name = "top"
type = "plane"
point = [0.0, {high}, 0.0]
normal = [0.0, -1.0, 0.0]
velocity = [0.0, -0.0012, 0.0]
"""


def pressed(tmp_path: Path, place: float, nu: float, more: str = "") -> torch.Tensor:
    path = tmp_path / "press.toml"
    path.write_text(PRESS.format(middle=place + 0.015, low=place, high=place + 0.03, nu=nu, more=more))
    names = ("colliders.top.force.1", "colliders.bottom.force.1")
    ask = Series(names=names, against="time", values=torch.tensor([1.0], dtype=torch.float64))
    world = load_world(path)
    return world.prepare([ask]).solve([ask]).sample(ask)[0]


def stress(stretch: float, E: float, nu: float) -> float:
    """First Piola stress of the neo-Hookean law along a pressed axis, the sides free; by bisection."""
    mu, lam, low, high = E / 2 / (1 + nu), E * nu / (1 + nu) / (1 - 2 * nu), 0.5, 1.5
    for _ in range(60):
        side = (low + high) / 2
        J = side**2 * stretch
        low, high = (low, side) if mu * (side**2 - 1) + lam / 2 * (J * J - 1) > 0 else (side, high)
    return (mu * (stretch**2 - 1) + lam / 2 * (J * J - 1)) / stretch


@pytest.mark.parametrize(
    ("place", "nu", "more"),
    [(0.0013, 0.3, ""), pytest.param(0.0071, 0.49, 'volume = "cells"', marks=pytest.mark.slow)],
)
def test_a_pressed_block_bears_what_it_should(tmp_path: Path, place: float, nu: float, more: str) -> None:
    """3 cells high, 4 % shorter in one step between slip plates off the nodes: the force is right within 2 %."""
    top, bottom = pressed(tmp_path, place, nu, more)
    assert float(top) == pytest.approx(-stress(0.96, 3e5, nu) * 0.03**2, rel=0.02)
    assert float(bottom) == pytest.approx(-float(top), rel=2e-3)


def test_a_plate_that_has_not_closed_yet_pushes_with_next_to_nothing(tmp_path: Path) -> None:
    """The block floats between the plates and goes with the upper one; what it bears is below what rounding tells."""
    path = tmp_path / "press.toml"
    text = PRESS.format(middle=0.0163, low=0.0003, high=0.0322, nu=0.3, more="")
    path.write_text(text.replace('type = "plane"', 'type = "plane"\nkind = "friction"\nfriction = 0.3'))
    ask = Series(names=("colliders.top.force.1",), against="time", values=torch.tensor([1.0], dtype=torch.float64))
    world = load_world(path)
    assert abs(float(world.prepare([ask]).solve([ask]).sample(ask)[0])) < 1e-3


@pytest.mark.slow
def test_plates_that_hold_make_a_block_harder(tmp_path: Path) -> None:
    """Nearly incompressible: the force lies above that between slip plates, by less than a third, on both alike.

    A bonded block's modulus is about 1 + 2 S^2 times E (Gent and Lindley 1959), 1.13 at S = 1/4, here on 3 cells.
    """
    path = tmp_path / "press.toml"
    text = PRESS.format(middle=0.0151, low=0.0001, high=0.0301, nu=0.49, more='volume = "cells"')
    path.write_text(text.replace('type = "plane"', 'type = "plane"\nkind = "sticky"'))
    names = ("colliders.top.force.1", "colliders.bottom.force.1")
    ask = Series(names=names, against="time", values=torch.tensor([1.0], dtype=torch.float64))
    world = load_world(path)
    top, bottom = world.prepare([ask]).solve([ask]).sample(ask)[0]
    free = -stress(0.96, 3e5, 0.49) * 0.03**2
    assert free < float(top) < 1.34 * free
    assert float(bottom) == pytest.approx(-float(top), rel=1e-2)


def column(material, dt: float, **options) -> tuple[MPMModel, MPMState]:
    """A block of 2 x 3 x 2 cells on a sticky floor, thrown sideways in its first shear mode."""
    h = 0.1
    x = torch.cartesian_prod(*[torch.arange(2 * c, dtype=torch.float64) * h / 2 + 0.325 for c in (2, 3, 2)])
    x[:, 1] -= 0.1
    model = MPMModel(
        num_grids=12, dt=dt, materials=[material], volume=(h / 2) ** 3, mass=1000 * (h / 2) ** 3, length=1.2,
        gravity=(0.0, 0.0, 0.0), boundaries=[Walls("sticky")], **options,
    )  # fmt: skip
    v = torch.zeros_like(x)
    v[:, 0] = 0.05 * torch.sin(math.pi / 2 * (x[:, 1] - 0.2) / 0.3)
    return model, MPMState.at_rest(x, v)


def test_implicit_steps_follow_the_explicit_motion() -> None:
    """With the same steps, since what the transfers lose goes by the step: by the order of the rules, (w dt)^2 / 12."""
    model, state = column(rubber(E=2e4, nu=0.3), 2e-3)
    ends = [rollout(solver(model), state, 6, save_every=6)[-1] for solver in (MPMSolver, ImplicitSolver)]
    shifts = [end.x - state.x for end in ends]
    assert float((shifts[0] - shifts[1]).norm() / shifts[0].norm()) < 2e-3


def test_a_step_far_beyond_the_explicit_one_stays_bounded() -> None:
    """Sound crosses 50 cells a step; the swing ends below what its energy allows, and does not grow."""
    model, state = column(rubber(E=1e8, nu=0.3), 0.014)
    with torch.no_grad():
        states = rollout(ImplicitSolver(model), state, 5).states
    kinetic = states.v.square().sum((1, 2))
    assert float(kinetic.max()) <= float(kinetic[0]) * (1 + 1e-6)
    assert float((states.x - state.x).abs().max()) < 0.05 * 0.014


@pytest.mark.parametrize("kind", [pytest.param("quasistatic", marks=pytest.mark.slow), "implicit"])
def test_gradient_against_differences(kind) -> None:
    """Two steps by modulus and gravity, of a body that flows a little too, to 1e-5 (the flow has a kink nearby).

    The gradient is as exact at the default tolerance; a difference over 1e-5 of the modulus is not, since it divides by
    1e-5 where each of its ends was left (1e-4 off at rest, 4e-9 with these balances).
    """
    probe = torch.randn(96, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(E: torch.Tensor, fall: torch.Tensor, tolerance: float = 1e-9) -> torch.Tensor:
        model, state = column(plasticine(E=E, nu=0.3, yield_stress=150.0, hardening=5e3), 0.02)
        model.gravity = torch.stack([fall * 0.3, -fall, 0 * fall])
        states = rollout(ImplicitSolver(model, kind, tolerance=tolerance), state, 2, save_every=2)[-1]
        return (probe * states.x).sum() + (probe * states.v).sum() * 0.01 + states.q.sum()

    at = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (2e4, 2.0)]
    gradient = torch.autograd.grad(value(*at), at)
    for k, own in enumerate(gradient):
        ends = []
        for sign in (1, -1):
            moved = [float(a.detach()) * (1 + sign * 1e-5 * (j == k)) for j, a in enumerate(at)]
            with torch.no_grad():
                ends.append(float(value(*(torch.tensor(a, dtype=torch.float64) for a in moved), 1e-12)))
        assert float(own) == pytest.approx((ends[0] - ends[1]) / (2e-5 * float(at[k].detach())), rel=1e-5)


def test_a_checkpoint_runs_no_step_for_a_tangent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hooks gave what a tangent needs back by running the whole stretch again: six steps of a plate never ended."""
    count = [0]
    plain = Increment.tangent

    def counted(self: Increment, u: torch.Tensor) -> CellTangent:
        count[0] += 1
        return plain(self, u)

    monkeypatch.setattr(Increment, "tangent", counted)
    E, found = torch.tensor(2e4, dtype=torch.float64, requires_grad=True), []
    for adjoint in (DirectAdjoint(), CheckpointAdjoint(2)):
        count[0] = 0
        model, state = column(rubber(E=E, nu=0.3), 0.02)
        end = rollout(ImplicitSolver(model), state, 4, save_every=4, adjoint=adjoint)[-1]
        found.append((count[0], end.x.detach(), torch.autograd.grad(end.x.square().sum(), E)[0]))
    (direct, x, slope), (held, again, other) = found
    assert held == direct
    assert torch.equal(x, again) and float(other) == pytest.approx(float(slope), rel=1e-9)


def test_what_explicit_steps_alone_can_do_is_refused(tmp_path: Path) -> None:
    text = PRESS.format(middle=0.015, low=0.0, high=0.03, nu=0.3, more="")
    path = tmp_path / "scene.toml"
    path.write_text(text.replace('kind = "open"', 'kind = "friction"'))
    world = load_world(path)
    with pytest.raises(SceneError, match=r"grid\.integrator: walls of kind friction"):
        world.solver(world.build(device="cpu")[0])
    path.write_text(text.replace('integrator = "quasistatic"', 'volume = "cells"'))
    with pytest.raises(SceneError, match="volume"):
        load_world(path)
    model, state = column(rubber(E=2e4, nu=0.3), 0.02)
    thrown = dataclasses.replace(state, v=state.v + torch.tensor([0.0, 90.0, 0.0], dtype=torch.float64))
    with pytest.raises(RuntimeError, match="step 0"):
        rollout(ImplicitSolver(model), thrown, 3)
