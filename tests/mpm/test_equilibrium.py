"""States of rest: closed forms, a plain torch reference, gradients, locking, and what has none."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.materials import jelly, rubber, sand
from simengine.mpm import Box, MPMModel, MPMSolver, MPMState, Plane, Surface, Walls, equilibrium
from simengine.mpm.increment import Increment, settle
from simengine.mpm.patch import Patch
from simengine.mpm.response import Response
from simengine.ops.matter import constitutive_reference
from simengine.ops.matter.mpm.transfer_reference import stencil
from simengine.scene.address import replaced
from simengine.scene.asks import Series
from simengine.scene.base import SceneError
from simengine.scene.loader import load_world
from simengine.solve import rollout

BAR = """
gravity = [-9.8, 0.0, 0.0]
start = "equilibrium"
walls = { kind = "open" }
clamps = [{ name = "top", region = { lower = [5.0, 0.0, 0.0], upper = [5.0, 0.2, 0.2] } }]
loads = [{ name = "weight", region = { lower = [4.2, 0.0, 0.0], upper = [4.2, 0.2, 0.2] }, mass = 0.0 }]
[grid]
lower = [4.0, -0.1, -0.1]
upper = [5.2, 0.3, 0.3]
spacing = 0.1
time_step = 2e-3
num_steps = 200
[[bodies]]
name = "bar"
shape = { type = "box", center = [4.6, 0.1, 0.1], size = [0.8, 0.2, 0.2] }
material = { type = "rubber", density = 1000.0, E = 1e5, nu = 0.0 }
"""
BEAM = BAR.replace("[-9.8, 0.0, 0.0]", "[0.0, -0.2, 0.0]").replace("nu = 0.0", "nu = 0.3")


def world(tmp_path: Path, text: str):
    path = tmp_path / "scene.toml"
    path.write_text(text)
    return load_world(path)


def series(scene, names: tuple[str, ...], times: Sequence[float], **options: bool) -> torch.Tensor:
    ask = Series(names=names, against="time", values=torch.tensor(times, dtype=torch.float64))
    return scene.prepare([ask]).solve([ask], **options).sample(ask)


def test_a_hanging_bar_is_as_long_as_in_closed_form_and_stays_there(tmp_path: Path) -> None:
    """A neo-Hookean bar with nu = 0 has the first Piola stress E (a - 1/a) / 2 at a stretch a, and bears what hangs."""
    scene = replaced(world(tmp_path, BAR), {"loads.0.mass": 20.0})
    rows = series(scene, ("bodies.bar.lower.0", "clamps.top.force.0", "energy.kinetic"), [0.0, 0.002, 0.1, 0.2, 0.4])
    X = (np.arange(800) + 0.5) * 1e-3
    stress = 1000 * 9.8 * (0.8 - X) + 20 * 9.8 / 0.04 * (X < 0.775)  # the mass hangs in the lowest particles
    stretch = stress / 1e5 + np.sqrt((stress / 1e5) ** 2 + 1)
    sag = float(((stretch - 1) * (X < 0.775)).sum() * 1e-3)
    assert float(4.2 - rows[0, 0]) == pytest.approx(sag, rel=0.01)  # 5 mm of 62 at 8 cells: .4 % seen
    assert float(rows[1, 1]) == pytest.approx(-(32 + 20) * 9.8, rel=2e-3)
    assert float((rows[:, 0] - rows[0, 0]).abs().max()) < 0.01 * sag  # nothing swings
    assert float(rows[:, 2].max()) < 1e-4 * 52 * 9.8 * sag


def tip(tmp_path: Path, text: str) -> float:
    """How far the free end of `BEAM` sinks: its last particles, carried on to the end by their deformation."""
    scene = world(tmp_path, text)
    x = torch.as_tensor(scene.particles()[0])
    state = scene.build(device="cpu", double=True)[1]
    last = x[:, 0] < x[:, 0].min() + 1e-9
    arm = torch.tensor([4.2, 0.0, 0.0], dtype=torch.float64) - x[last] * torch.tensor([1.0, 0.0, 0.0])
    moved = state.x[last] + torch.as_tensor(scene.lattice_box()[0]) - x[last]
    turned = ((state.F[last] - torch.eye(3)) @ arm[..., None])[..., 0]
    return float(-(moved + turned)[:, 1].mean())


def timoshenko(nu: float, gravity: float) -> float:
    """q L^4 / (8 E I) + q L^2 / (2 k G A) with k = 5/6."""
    E, a, length, q = 1e5, 0.2, 0.8, 1000 * gravity * 0.04
    return q * length**4 / (8 * E * a**4 / 12) + q * length**2 / (2 * 5 / 6 * E / (2 * (1 + nu)) * a * a)


def by_elements(nu: float, gravity: float) -> float:
    """The same sinking by quadratic elements of scikit-fem, another program, its end held in all directions."""
    fem = pytest.importorskip("skfem")
    from skfem.helpers import ddot, div, sym_grad

    mesh = fem.MeshHex.init_tensor(*(np.linspace(0, size, n + 1) for size, n in ((0.8, 16), (0.2, 4), (0.2, 4))))
    basis = fem.Basis(mesh, fem.ElementVector(fem.ElementHex2()), intorder=4)
    lam, mu = 1e5 * nu / (1 + nu) / (1 - 2 * nu), 0.5e5 / (1 + nu)
    stiff = fem.BilinearForm(lambda u, v, w: lam * div(u) * div(v) + 2 * mu * ddot(sym_grad(u), sym_grad(v)))
    weight = fem.LinearForm(lambda v, w: -1000 * gravity * v[1])
    held = basis.get_dofs(lambda x: np.isclose(x[0], 0.0)).all()
    x = fem.solve(*fem.condense(stiff.assemble(basis), weight.assemble(basis), D=held))
    return float(-x[basis.nodal_dofs[1, mesh.nodes_satisfying(lambda x: np.isclose(x[0], 0.8))]].mean())


@pytest.mark.slow
def test_a_cantilever_bends_as_elements_say(tmp_path: Path) -> None:
    """8 cells long and 2 high, three particles a cell along each axis: within 1 % (-0.6 % seen)."""
    nu, gravity = 0.3, 0.0125
    text = BEAM.replace("-0.2", f"-{gravity}").replace("shape =", "particles_per_cell = 3\nshape =")
    assert tip(tmp_path, text) == pytest.approx(by_elements(nu, gravity), rel=0.01)


def test_layers_of_particles_bend_as_their_sum(tmp_path: Path) -> None:
    """n layers have 1 - 1/n^2 of a full bar's moment of inertia: with four, nu = 0, the beam sinks 6.7 % too far.

    What is left of Timoshenko's sag then is 1.1 %; twice as fine, it sinks 1.6 % too far and 0.1 % is left.
    """
    gravity = 0.0125
    for spacing, layers, within in ((0.1, 4, 0.015), (0.05, 8, 0.003)):
        text = BEAM.replace("-0.2", f"-{gravity}").replace("nu = 0.3", "nu = 0.0")
        sag = tip(tmp_path, text.replace("spacing = 0.1", f"spacing = {spacing}"))
        assert sag * (1 - layers**-2) == pytest.approx(timoshenko(0.0, gravity), rel=within)


def test_gradient_against_differences(tmp_path: Path) -> None:
    """Modulus, Poisson's ratio and hung mass of a bent bar, through all increments, to 1e-6."""
    scene = world(tmp_path, BEAM.replace("-0.2", "-0.6"))
    names = ("bodies.bar.lower.0", "bodies.bar.lower.1", "bodies.bar.upper.1")
    at = {"bodies.0.material.E": 1e5, "bodies.0.material.nu": 0.2, "loads.0.mass": 5.0}
    scene = replaced(scene, at)
    probe = torch.tensor([[1.0, -2.0, 0.7]], dtype=torch.float64)
    tensors = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in at.items()}
    held = series(replaced(scene, tensors), names, [0.0], gradient=True)
    gradient = torch.autograd.grad((held * probe).sum(), list(tensors.values()))
    for key, own in zip(at, gradient, strict=True):
        h = 1e-4 * at[key]
        ends = [float((series(replaced(scene, {key: at[key] + s * h}), names, [0.0]) * probe).sum()) for s in (1, -1)]
        assert float(own) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6), key


def small(material, **options):
    """A block of 2 x 3 x 2 cells that stands on a sticky floor."""
    h = 0.1
    axes = [torch.arange(2 * c, dtype=torch.float64) * h / 2 + 0.325 for c in (2, 3, 2)]
    x = torch.cartesian_prod(*axes)
    x[:, 1] += 0.2 - 0.325 + 0.025
    model = MPMModel(
        num_grids=12, dt=1e-3, materials=[material], volume=(h / 2) ** 3, mass=1000 * (h / 2) ** 3, length=1.2,
        **{"boundaries": [Walls("sticky")], **options},
    )  # fmt: skip
    return model, MPMState.at_rest(x)


@pytest.mark.parametrize("make", [rubber, jelly])
def test_parity_with_plain_torch(make) -> None:
    """The displacements of one increment balance the forces of plain torch, by Newton on a dense matrix."""
    model, state = small(make(E=2e4, nu=0.3))
    increment = Increment(model, state)
    u, found = settle(increment, tolerance=1e-12)
    assert found.success
    patch, h = increment.patch, 0.1
    node, w, r = stencil(state.x, model.grid)
    ids = torch.unique(node)
    place = torch.searchsorted(ids, node)
    volume, free = (h / 2) ** 3, ~(patch.held | (patch.stop != 0))
    numbers, coefficients = model.packed(len(state.x), "elasticity")

    def residual(values: torch.Tensor) -> torch.Tensor:
        own = torch.zeros(len(ids), 3, dtype=torch.float64).masked_scatter(free, values)
        G = torch.einsum("nia,nib->nab", own[place], 4 / h**2 * w[..., None] * r)
        F = torch.eye(3, dtype=torch.float64) + G
        tau = constitutive_reference.stress(F, state.q, numbers, coefficients)
        P = volume * tau @ torch.linalg.inv(F).mT
        parts = 4 / h**2 * w[..., None] * torch.einsum("nab,nib->nia", P, r)
        parts = parts + w[..., None] * 1000 * volume * torch.tensor([0.0, 9.8, 0.0], dtype=torch.float64)
        whole = torch.zeros(len(ids), 3, dtype=torch.float64).index_add(0, place.flatten(), parts.flatten(0, 1))
        return (whole + increment.ghost * patch.bent(own) + increment.spring * own)[free]

    mine = u[free] * 0.99
    for _ in range(5):
        mine = mine - torch.linalg.solve(torch.autograd.functional.jacobian(residual, mine), residual(mine))
    assert float((mine - u[free]).abs().max() / mine.abs().max()) < 1e-9
    # what is called equilibrium begins with it: the particles go where their nodes take them
    nodes = torch.zeros(len(ids), 3, dtype=torch.float64).masked_scatter(free, mine)
    moved = torch.einsum("ni,nia->na", w, nodes[place])
    first = equilibrium(model, state, rounds=1).value.x - state.x
    assert float((first - moved).abs().max() / moved.abs().max()) < 1e-6


@pytest.mark.parametrize("whole", [False, True])
def test_particles_see_an_affine_motion_of_their_nodes_as_it_is(whole: bool) -> None:
    """Weights sum to one and reproduce positions, so u = A x + c is seen as (A x_p + c, A), by whole cells as well."""
    model, state = small(rubber(E=2e4, nu=0.3))
    ids, size = torch.unique(stencil(state.x, model.grid)[0]), model.grid.size
    nodes = 0.1 * torch.stack((ids // (size[1] * size[2]), ids // size[2] % size[1], ids % size[2]), 1).double()
    A = torch.tensor([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6], [-0.7, 0.8, 0.9]], dtype=torch.float64)
    c = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    patch = Patch(model, state, whole=whole)
    y = patch.motion(nodes @ A.T + c)
    torch.testing.assert_close(y[..., 0], state.x @ A.T + c, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(y[..., 1:], A.expand(len(state.x), 3, 3), rtol=1e-11, atol=1e-11)
    if whole:  # two particles along each axis of 2 x 3 x 2 cells: eight to a cell
        assert torch.bincount(patch.cell).tolist() == [8] * 12


@pytest.mark.slow
def test_a_beam_that_keeps_its_volume_does_not_lock(tmp_path: Path) -> None:
    """The sag of a cantilever at nu = .4995 is that at .45 within 6 % (the clamp) by cells; by particles it is half."""

    def sag(nu: float, *, cells: bool) -> float:
        model, state = replaced(
            world(tmp_path, BEAM.replace('start = "equilibrium"', "")), {"bodies.0.material.nu": nu}
        ).build(device="cpu", double=True)
        u, found = settle(Increment(model, state, cells=cells))
        assert found.success
        return float(-u[:, 1].min())

    soft = sag(0.45, cells=True)
    assert sag(0.4995, cells=True) == pytest.approx(soft, rel=0.06)
    assert sag(0.4995, cells=False) < 0.75 * soft


def test_a_block_lies_on_a_plane_and_on_a_wall() -> None:
    """At rest on hard contact or a slip wall: the floor bears the weight, and explicit steps leave it there."""
    for boundaries in ([Walls("slip")], [Walls("open"), Plane(point=[0, 0.23, 0], normal=[0, 1, 0])]):
        model, state = small(rubber(E=2e4, nu=0.3), boundaries=boundaries)
        if len(boundaries) == 2:
            state = dataclasses.replace(state, x=state.x + torch.tensor([0.0, 0.03, 0.0], dtype=torch.float64))
        found = equilibrium(model, state).check()
        moved = rollout(MPMSolver(model), found.value, 200, save_every=200)[-1].x - found.value.x
        sag = float((found.value.x - state.x).abs().max())
        assert 1e-4 < sag < 0.05
        assert float(moved.abs().max()) < 0.15 * sag


def test_what_has_no_state_of_rest_says_so(tmp_path: Path) -> None:
    model, state = small(sand(E=1e5, nu=0.3, friction_angle=30.0))
    with pytest.raises(ValueError, match="flows"):
        equilibrium(model, state)
    free = BAR.replace(next(line for line in BAR.splitlines() if line.startswith("clamps")), "")
    with pytest.raises(SceneError, match=r"start: no state of rest.*clamp"):
        world(tmp_path, free).build(device="cpu")
    model, state = small(rubber(E=1e5, nu=0.3), boundaries=[Walls("friction", friction=0.3)])
    with pytest.raises(ValueError, match="friction"):
        equilibrium(model, state)
    model, state = small(
        rubber(E=1e5, nu=0.3), boundaries=[Box(center=[0, 0, 0], half_size=[1, 1, 1], surface=Surface(width=0.1))]
    )
    with pytest.raises(ValueError, match="width"):
        equilibrium(model, state)


def test_a_state_with_volumes_of_cells_keeps_one_pressure_in_each(make_model, make_cube) -> None:
    """The law is asked at the cell's volume; its mean stress over J is then one number in a cell, p/bar of its mean."""
    state = make_cube(3)
    F = torch.eye(3).double() + 0.1 * torch.randn(27, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    model = make_model(jelly(1e5, 0.4).double())
    cell, J = torch.arange(27) % 4, torch.linalg.det(F)
    bent, tau = Response(model, dataclasses.replace(state, F=F), mean=cell).kept()
    own = model.stress(bent, state.q)
    for k in range(4):
        here = cell == k
        torch.testing.assert_close(torch.linalg.det(bent[here]), J[here].mean().expand(int(here.sum())))
        mean = own[here].diagonal(dim1=1, dim2=2).mean() / J[here].mean()
        torch.testing.assert_close(tau[here].diagonal(dim1=1, dim2=2).mean(1) / J[here], mean.expand(int(here.sum())))
    change = (tau - own) / (tau - own)[:, :1, :1]
    torch.testing.assert_close(change, torch.eye(3).double().expand(27, 3, 3), rtol=1e-6, atol=1e-6)
