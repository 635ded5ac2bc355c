"""Contact between deformable bodies (verification): pulled apart, slid, thrown at each other; and gradients."""

import math

import pytest
import torch
from simengine.kernels.matter.pair_contact import STIFFNESS

from simengine import mpm, solve
from simengine.materials import rubber

DX, SPACING, DENSITY, E, NU = 0.05, 0.025, 1000.0, 1e5, 0.3


def block(cells: tuple[int, int, int], corner: tuple[float, float, float]) -> torch.Tensor:
    """A lattice of particles, two a cell along each axis."""
    axes = [(torch.arange(2 * n, dtype=torch.float64) + 0.5) * SPACING for n in cells]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) + torch.tensor(corner).double()


def model_of(contact: mpm.Contact | None, dt: float = 4e-4, stiff: float = E, **options) -> mpm.MPMModel:
    settings = {"num_grids": 20, "length": 20 * DX, "gravity": (0.0, 0.0, 0.0), "boundaries": [mpm.Walls("open")]}
    body = {"volume": SPACING**3, "mass": DENSITY * SPACING**3, "materials": [rubber(E=stiff, nu=NU)]}
    return mpm.MPMModel(dt=dt, contact=contact, **{**settings, **body, **options})


def two(lower: torch.Tensor, upper: torch.Tensor, velocity: tuple[float, float, float]) -> mpm.MPMState:
    """The upper one moves."""
    v = torch.cat((torch.zeros_like(lower), torch.tensor(velocity).double().expand_as(upper)))
    return mpm.MPMState.at_rest(torch.cat((lower, upper)), v)


def test_cubes_pulled_apart_keep_nothing_of_each_other() -> None:
    """Sharing a field the lower keeps a fifth of the speed; with contact nothing, to rounding."""
    lower, upper = block((4, 4, 4), (0.3, 0.3, 0.25)), block((4, 4, 4), (0.3, 0.3, 0.45))
    start, n = two(lower, upper, (0.0, 0.0, 0.5)), len(lower)
    shared, apart, stuck = (
        solve.rollout(mpm.MPMSolver(model_of(c)), start, 400, save_every=400)[-1].v
        for c in (None, mpm.Contact((n, n)), mpm.Contact((n, n), "sticky"))
    )
    assert float(shared[:n, 2].mean()) > 0.1
    assert float(apart[:n].abs().max()) < 1e-12 and float((apart[n:, 2] - 0.5).abs().max()) < 1e-12
    assert torch.allclose(stuck, shared, atol=1e-12)  # as one field


def test_a_cube_slides_off_without_dragging() -> None:
    """Without friction the lower stays: 0.7 % of the speed measured, from the edges; 24 % where they share a field."""
    lower, upper = block((4, 4, 4), (0.3, 0.3, 0.25)), block((4, 4, 4), (0.3, 0.3, 0.45))
    n = len(lower)
    v = solve.rollout(mpm.MPMSolver(model_of(mpm.Contact((n, n)))), two(lower, upper, (1.0, 0.0, 0.0)), 400).states.v
    assert float(v[-1, :n, 0].mean().abs()) < 0.015
    assert float(v[-1].mean(0)[0]) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_an_elastic_impact_keeps_momentum(off: float) -> None:
    """Two cubes of 4 cells: momentum to rounding; they part at 0.72 of their speed wherever the nodes lie, whatever
    the step (a cube thrown at a rigid plane: 0.73), the rest is in their vibrations.
    """
    speeds = []
    for dt in (4e-4, 1e-4):
        lower, upper = block((4, 4, 4), (0.3, 0.3, 0.2 + off * DX)), block((4, 4, 4), (0.3, 0.3, 0.42 + off * DX))
        start, n = two(lower, upper, (0.0, 0.0, -1.0)), len(lower)
        v = solve.rollout(mpm.MPMSolver(model_of(mpm.Contact((n, n)), dt)), start, round(0.1 / dt), save_every=50)
        last = v[-1].v
        assert float((last.mean(0) - start.v.mean(0)).abs().max()) < 1e-12
        speeds.append(float(last[n:, 2].mean() - last[:n, 2].mean()))
    assert speeds[0] == pytest.approx(speeds[1], rel=0.04) and 0.6 < speeds[0] < 1.0


def test_friction_between_bodies_is_coulombs() -> None:
    """A block on a slab that a slope tilts: it stays below atan(mu), and beyond slides at g (sin - mu cos).

    Each node is on the cone; the front edge of a block of 4 cells adds 3.4 % to the friction.
    """
    mu, g = 0.3, 9.8
    slab, top = block((12, 6, 2), (0.15, 0.2, 0.1625)), block((4, 4, 2), (0.2, 0.25, 0.2625))
    floor = mpm.Plane(point=(0.0, 0.0, 0.1625), normal=(0.0, 0.0, 1.0), surface=mpm.Surface("sticky"))
    contact = mpm.Contact((len(slab), len(top)), friction=mu)
    found = {}
    for degrees in (10.0, 25.0):
        a = math.radians(degrees)
        options = {"gravity": (g * math.sin(a), 0.0, -g * math.cos(a)), "boundaries": [mpm.Walls("open"), floor]}
        model = model_of(contact, 2e-4, stiff=1e6, **options)
        with torch.no_grad():
            states = solve.rollout(mpm.MPMSolver(model), two(slab, top, (0.0, 0.0, 0.0)), 1200, save_every=400).states
        found[degrees] = states.v[:, len(slab) :, 0].mean(1)
    assert float(found[10.0][-1]) < 2e-3  # free it would run at 0.4 m/s
    speeding, a = float(found[25.0][3] - found[25.0][1]) / 0.16, math.radians(25.0)
    assert (math.sin(a) - speeding / g) / math.cos(a) == pytest.approx(mu, rel=0.05)


@pytest.mark.parametrize("threads", [1, 2])
def test_gradient_of_a_rollout(threads: int) -> None:
    """Of an oblique impact by E, friction and the speed, against central differences (float64)."""
    lower, upper = block((2, 2, 2), (0.3, 0.3, 0.31)), block((2, 2, 2), (0.34, 0.32, 0.412))
    n = len(lower)

    def value(numbers: torch.Tensor) -> torch.Tensor:
        contact = mpm.Contact((n, n), friction=numbers[1])
        model = model_of(contact, stiff=1e5 * numbers[0])
        start = two(lower, upper, (0.0, 0.0, 0.0))
        v = torch.cat((torch.zeros_like(lower), numbers[2] * torch.tensor([1.0, 0.2, -2.0]).double().expand_as(upper)))
        solver = mpm.MPMSolver(model, threads=threads)
        last = solve.rollout(solver, mpm.MPMState.at_rest(start.x, v), 100, save_every=100)[-1]
        return (last.x[:n, 0] * torch.linspace(1, 2, n).double()).sum() + (last.v[n:, 2]).sum()

    at = torch.tensor([1.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(at), at)
    for k in range(3):
        h = torch.zeros(3, dtype=torch.float64)
        h[k] = 1e-6
        with torch.no_grad():
            difference = (value(at + h) - value(at - h)) / 2e-6
        assert float(gradient[k]) == pytest.approx(float(difference), rel=1e-5)
        assert abs(float(difference)) > 1e-6


def test_a_pair_has_the_mean_margin_and_the_harmonic_mean_stiffness() -> None:
    """Springs in a row: 2 a b / (a + b); a body of squared spacing s ends .22 s early, less .005 of slack [cells]."""
    moduli = torch.tensor([1e5, 3e5, 8e5, 8e5, 8e5], dtype=torch.float64)  # means 2e5 and 8e5
    spacings = torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25], dtype=torch.float64)
    friction, margin, stiffness = (
        mpm.Contact((2, 3), friction=0.3).rows(moduli, spacings).flatten().reshape(3, -1)[:, 0]
    )
    assert float(friction) == pytest.approx(0.3)
    assert float(margin) == pytest.approx(0.22 * (0.25 + 0.0625) / 2 - 0.005)
    assert float(stiffness) == pytest.approx(STIFFNESS * 2 * 2e5 * 8e5 / 1e6)
