"""Rollouts: captured stretches against single steps, adjoints against one another, ownership of buffers."""

import dataclasses

import pytest
import torch

from simengine import materials, mpm, solve

EVERY = [solve.DirectAdjoint(), solve.CheckpointAdjoint(), solve.CheckpointAdjoint(every=7)]


class StepByStep(solve.AbstractSolver):
    """The same solver without captured stretches."""

    def __init__(self, model: mpm.MPMModel) -> None:
        self.solver = mpm.MPMSolver(model)

    def step(self, state, number=0):
        return self.solver.step(state, number)


class OwnJelly(torch.nn.Module):
    """A user's law of ten lines: fixed corotated elasticity through the polar decomposition."""

    def __init__(self, mu: float, lam: float) -> None:
        super().__init__()
        self.mu = torch.nn.Parameter(torch.tensor(mu, dtype=torch.float64))
        self.lam = torch.nn.Parameter(torch.tensor(lam, dtype=torch.float64))

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        from simengine.ops.matter.svd import polar_svd

        R, _ = polar_svd(F)
        J = torch.linalg.det(F)[:, None, None]
        return (2 * self.mu * (F - R) @ F.mT + self.lam * J * (J - 1) * torch.eye(3, dtype=F.dtype)).to(F.dtype)


def several(E: torch.Tensor) -> tuple[list[materials.Material], torch.Tensor]:
    """Four materials in one cube of 4^3 particles."""
    kinds = [materials.jelly(E=E), materials.plasticine(), materials.snow(), materials.water()]
    return kinds, torch.arange(64) % 4


def run(make_cube, make_model, num_steps=20, adjoint=None, stepwise=False, dtype=torch.float64, save_every=5):
    E = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    kinds, ids = several(E)
    model = make_model(*kinds, material_ids=ids)
    state = make_cube(4, dtype)
    state = dataclasses.replace(state, x=state.x - 0.1, v=state.v.requires_grad_())
    solver = StepByStep(model) if stepwise else mpm.MPMSolver(model)
    trajectory = solve.rollout(solver, state, num_steps, save_every=save_every, adjoint=adjoint)
    return trajectory, (E, state.v)


def loss(trajectory: solve.Trajectory) -> torch.Tensor:
    states, generator = trajectory.states, torch.Generator().manual_seed(2)
    return sum(
        (t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum()
        for t in (states.x, states.v, states.F, states.C, states.q)
    )


def test_stretch_equals_steps(make_cube, make_model) -> None:
    """The same kernels in the same order: the same bits forward, and gradients up to the order of sums."""
    fused, leaves = run(make_cube, make_model)
    single, leaves_single = run(make_cube, make_model, stepwise=True)
    assert fused.steps == single.steps == (0, 5, 10, 15, 20)
    for name in "xvCFq":
        assert torch.equal(getattr(fused.states, name), getattr(single.states, name)), name
    ours = torch.autograd.grad(loss(fused), leaves)
    theirs = torch.autograd.grad(loss(single), leaves_single)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-12


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("adjoint", EVERY[1:])
@pytest.mark.parametrize("num_steps", [20, 23])
def test_checkpoints_give_the_direct_gradient(adjoint, num_steps, stepwise, make_cube, make_model) -> None:
    direct, leaves = run(make_cube, make_model, num_steps, EVERY[0])
    other, leaves_other = run(make_cube, make_model, num_steps, adjoint, stepwise)
    assert direct.steps == other.steps and direct.steps[-1] == num_steps
    assert torch.equal(direct.states.x, other.states.x)
    for a, b in zip(
        torch.autograd.grad(loss(other), leaves_other), torch.autograd.grad(loss(direct), leaves), strict=True
    ):
        assert float((a - b).norm() / b.norm()) < 1e-12  # the aim is 1e-6; the order of sums differs step by step


@pytest.mark.parametrize("adjoint", EVERY)
def test_two_rollouts_before_either_backward(adjoint, make_cube, make_model) -> None:
    alone, leaves = run(make_cube, make_model, adjoint=adjoint)
    expected = torch.autograd.grad(loss(alone), leaves)
    first, first_leaves = run(make_cube, make_model, adjoint=adjoint)
    second, second_leaves = run(make_cube, make_model, num_steps=13, adjoint=adjoint)
    torch.autograd.grad(loss(second), second_leaves)
    result = torch.autograd.grad(loss(first), first_leaves, retain_graph=True)
    again = torch.autograd.grad(loss(first), first_leaves)
    for a, b, c in zip(expected, result, again, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.parametrize("kernels", ["taichi", "reference"])
def test_other_kernels_go_the_same_way(kernels: str, make_cube, make_model, monkeypatch) -> None:
    """Step by step with Taichi's transfers, or the plain torch ones: the same states and gradients in float64."""
    ours, leaves = run(make_cube, make_model, num_steps=12)
    monkeypatch.setenv("SIMENGINE_KERNELS", kernels)
    if kernels == "taichi":
        pytest.importorskip("taichi", reason="no Taichi for this Python")
    theirs, others = run(make_cube, make_model, num_steps=12)
    assert torch.allclose(ours.states.x, theirs.states.x, rtol=0, atol=1e-13)
    for a, b in zip(torch.autograd.grad(loss(ours), leaves), torch.autograd.grad(loss(theirs), others), strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-10


def test_cotangents_are_left_alone(make_cube, make_model) -> None:
    trajectory, leaves = run(make_cube, make_model)
    cotangent = torch.ones_like(trajectory.states.x)
    torch.autograd.grad(trajectory.states.x, leaves, cotangent)
    assert bool((cotangent == 1).all())


def test_own_law_follows_the_shipped_one(make_cube, make_model) -> None:
    mu, lam = 1e5 / 2.4, 2e4 / (1.2 * 0.6)
    law = OwnJelly(mu, lam)
    own = make_model(materials.Material(law, materials.Identity()))
    E = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    shipped = make_model(materials.jelly(E=E, nu=0.2))
    state = make_cube(4)
    results = []
    for model in (own, shipped):
        trajectory = solve.rollout(mpm.MPMSolver(model), state, 30, save_every=30, adjoint=solve.CheckpointAdjoint())
        results.append(trajectory.states.x[-1])
    assert torch.allclose(results[0], results[1], atol=1e-13)
    ours = torch.autograd.grad(results[0].square().sum(), (law.mu, law.lam))
    theirs = torch.autograd.grad(results[1].square().sum(), E)[0]
    # E scales both moduli: dL/dE = (mu dL/dmu + lam dL/dlam) / E
    assert float((mu * ours[0] + lam * ours[1]) / 1e5) == pytest.approx(float(theirs), rel=1e-9)


def test_own_laws_beside_shipped_ones(make_cube, make_model) -> None:
    """A body of which half has a user's law moves as one with the shipped law throughout."""

    class Kept(torch.nn.Module):
        uses_history = True

        def forward(self, F, q):
            return F, q + 1

    ids = torch.arange(64) % 2
    own = materials.Material(OwnJelly(1e5 / 2.4, 2e4 / 0.72), Kept())
    model = make_model(materials.jelly(), own, material_ids=ids)
    mixed = solve.rollout(mpm.MPMSolver(model), make_cube(4), 20)[-1]
    plain = solve.rollout(mpm.MPMSolver(make_model(materials.jelly())), make_cube(4), 20)[-1]
    assert torch.allclose(mixed.x, plain.x, atol=1e-13)
    assert mixed.q.tolist() == [20.0 * int(i) for i in ids]


def test_own_law_of_wrong_shape_is_refused(make_cube, make_model) -> None:
    class Flat(torch.nn.Module):
        def forward(self, F):
            return F[:, 0]

    model = make_model(materials.Material(Flat(), materials.Identity()))
    with pytest.raises(ValueError, match="Flat must return tau"):
        mpm.MPMSolver(model).step(make_cube(4))


def test_per_particle_coefficients(make_cube, make_model) -> None:
    """One value per particle: its gradient sums to that of one value for all."""
    shared = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    each = torch.full((64,), 1e5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for E in (shared, each):
        last = solve.rollout(mpm.MPMSolver(make_model(materials.jelly(E=E))), make_cube(4), 20)[-1]
        gradients.append(torch.autograd.grad(last.x.square().sum(), E)[0])
    assert gradients[1].shape == (64,)
    assert float(gradients[1].sum()) == pytest.approx(float(gradients[0]), rel=1e-12)
    with pytest.raises(ValueError, match="63 values for 64 particles"):
        solve.rollout(mpm.MPMSolver(make_model(materials.jelly(E=each[:63]))), make_cube(4), 2)


def test_parameters_and_functional_call(make_cube, make_model) -> None:
    """Moduli shared by the two laws of a material are one parameter, and functional_call sets both."""
    E = torch.nn.Parameter(torch.tensor(3e5, dtype=torch.float64))
    model = make_model(materials.plasticine(E=E))
    assert [name for name, _ in model.named_parameters()] == ["materials.0.elasticity.E"]
    state = make_cube(4)

    class Run(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self):
            return solve.rollout(mpm.MPMSolver(self.model), state, 10)[-1].x

    other = torch.func.functional_call(Run(), {"model.materials.0.elasticity.E": torch.tensor(2e5).double()}, ())
    direct = solve.rollout(mpm.MPMSolver(make_model(materials.plasticine(E=2e5))), state, 10)[-1].x
    assert torch.equal(other, direct)


def test_mass_and_volume_have_gradients(make_cube, make_model) -> None:
    mass = torch.full((64,), 0.125, dtype=torch.float64, requires_grad=True)
    volume = torch.full((64,), 1.25e-4, dtype=torch.float64, requires_grad=True)

    def value(mass, volume):
        model = make_model(materials.jelly(), mass=mass, volume=volume)
        return solve.rollout(mpm.MPMSolver(model), make_cube(4), 20)[-1].x.square().sum()

    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(64, generator=generator, dtype=torch.float64)
    for leaf, gradient in zip((mass, volume), torch.autograd.grad(value(mass, volume), (mass, volume)), strict=True):
        h = 1e-6 * leaf.detach() * direction
        ahead = [t.detach() + h if t is leaf else t.detach() for t in (mass, volume)]
        behind = [t.detach() - h if t is leaf else t.detach() for t in (mass, volume)]
        difference = value(*ahead) - value(*behind)
        assert float((2 * h * gradient).sum()) == pytest.approx(float(difference), rel=1e-5)


def test_errors_name_field_step_and_particle(make_cube, make_model) -> None:
    state = make_cube(4)
    v = torch.zeros_like(state.v) + torch.tensor([0.0, 0.0, 200.0])  # crosses the grid of 1 m in 10 steps of 5e-4 s
    model = make_model(materials.jelly(), boundaries=[mpm.Walls("open")])
    with pytest.raises(mpm.SimulationError, match=r"step \d+, particle \d+: the particle left the grid") as caught:
        solve.rollout(mpm.MPMSolver(model), dataclasses.replace(state, v=v), 20, first_step=100, save_every=20)
    stepwise = StepByStep(model)
    with pytest.raises(mpm.SimulationError) as single:
        solve.rollout(stepwise, dataclasses.replace(state, v=v), 20, first_step=100, save_every=20)
    assert (caught.value.step, caught.value.particle) == (single.value.step, single.value.particle)
    assert 100 < caught.value.step < 110
    with pytest.raises(mpm.SimulationError, match="left the grid"):  # seen at the end, too
        solve.rollout(mpm.MPMSolver(model), dataclasses.replace(state, v=4 * v), 2)
    stiff = make_model(materials.jelly(E=1e9))
    with pytest.raises(mpm.SimulationError, match="step"):
        solve.rollout(mpm.MPMSolver(stiff), make_cube(4, torch.float32), 300, save_every=300)


def test_rollout_without_steps(make_cube, make_model) -> None:
    E = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    state = dataclasses.replace(make_cube(4), v=make_cube(4).v.requires_grad_())
    trajectory = solve.rollout(mpm.MPMSolver(make_model(materials.jelly(E=E))), state, 0)
    assert trajectory.steps == (0,) and len(trajectory) == 1
    gradient, zero = torch.autograd.grad(trajectory.states.v.sum(), (state.v, E))
    assert bool((gradient == 1).all()) and float(zero) == 0


def test_bad_arguments(make_cube, make_model) -> None:
    solver = mpm.MPMSolver(make_model(materials.jelly()))
    with pytest.raises(ValueError, match="save_every >= 1"):
        solve.rollout(solver, make_cube(4), 5, save_every=0)
    with pytest.raises(ValueError, match="every must be at least 1"):
        solve.CheckpointAdjoint(every=0)
    with pytest.raises(ValueError, match="mass has 63 values, the state 64"):
        solve.rollout(mpm.MPMSolver(make_model(materials.jelly(), mass=torch.ones(63))), make_cube(4), 5)
    with pytest.raises(ValueError, match=r"material_ids must .* lie in 0..0"):
        make_model(materials.jelly(), material_ids=torch.ones(64))


def test_a_single_step_is_the_first_of_a_rollout(make_cube, make_model) -> None:
    """A step that is told no number stands at the start, where moving bodies are then; the second differs."""
    ball = mpm.Sphere(center=[0.45, 0.5, 0.5], radius=0.1, velocity=[40.0, 0.0, 0.0], surface=mpm.Surface("sticky"))
    solver = mpm.MPMSolver(make_model(materials.jelly(), boundaries=[ball]))
    state = make_cube(4)
    first = solve.rollout(solver, state, 1)[-1]
    torch.testing.assert_close(solver.step(state).v, first.v, rtol=1e-10, atol=1e-10)
    assert float((solver.step(state, 1).v - first.v).abs().max()) > 0.1
