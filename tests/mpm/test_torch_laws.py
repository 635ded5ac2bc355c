"""Rollouts with laws in torch between captured launches: the same as single steps, whatever a law depends on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from simengine import materials, mpm, solve
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork


class StepByStep(solve.AbstractSolver):
    """The same solver without captured stretches."""

    def __init__(self, model: mpm.MPMModel) -> None:
        self.solver = mpm.MPMSolver(model)

    def step(self, state: Any, number: int = 0) -> Any:
        return self.solver.step(state, number)


class Springs(torch.nn.Module):
    """tau = stiffness (F F^T - I), the stiffness from wherever the caller has it."""

    def __init__(self, stiffness: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.stiffness = stiffness

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        return self.stiffness() * (F @ F.mT - torch.eye(3, dtype=F.dtype))


class Fading(torch.nn.Module):
    """A stress that falls with the history, and a return map that counts: q is the number of steps, as a fraction."""

    uses_history = True

    def __init__(self, plastic: bool) -> None:
        super().__init__()
        self.plastic = plastic
        self.rate = torch.nn.Parameter(torch.tensor(0.05, dtype=torch.float64))

    def forward(self, F: torch.Tensor, q: torch.Tensor) -> Any:
        if self.plastic:
            return F * (1 - 1e-3 * self.rate * q)[:, None, None], q + self.rate
        return 2e4 * torch.exp(-q)[:, None, None] * (F @ F.mT - torch.eye(3, dtype=F.dtype))


def learned(dtype: torch.dtype = torch.float64) -> materials.Material:
    """A stiff energy and a flow that sets in early."""
    elastic = EnergyNetwork(width=6, modulus=1e5, convexity="full", seed=3)
    flow = YieldNetwork(width=4, strain_scale=0.02, cap=0.01)
    with torch.no_grad():
        flow.weights.copy_(torch.tensor([0.1, -0.2, 0.3, 0.1]))
    return materials.Material(elastic, flow).to(dtype)


def scene(make_cube: Any, make_model: Any) -> tuple[mpm.MPMModel, mpm.MPMState, list[torch.Tensor]]:
    """A learned, a shipped and a user's law, a moving ball, rough walls."""
    velocity = torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64, requires_grad=True)
    ball = mpm.Sphere(center=(0.4, -0.009, 0.4), radius=0.15, velocity=velocity, surface=mpm.Surface("friction", 0.3))
    own = materials.Material(Fading(False), Fading(True))
    E = torch.tensor(1e5, dtype=torch.float64, requires_grad=True)
    kinds = [learned(), materials.plasticine(E=E), own, materials.jelly()]
    walls = mpm.Walls("friction", friction=0.2)
    model = make_model(*kinds, material_ids=torch.arange(125) % 4, boundaries=[walls, ball])
    state = make_cube(5)
    x = state.x - state.x.amin(0) + torch.tensor([0.3, 0.16, 0.3], dtype=torch.float64)
    state = dataclasses.replace(state, x=x, v=state.v.requires_grad_())
    return model, state, [E, velocity, state.v, *(p for p in model.parameters())]


def gradient(solver: solve.AbstractSolver, state: mpm.MPMState, leaves: list[torch.Tensor], **options: Any) -> Any:
    trajectory = solve.rollout(solver, state, 14, save_every=5, **options)
    states, generator = trajectory.states, torch.Generator().manual_seed(2)
    loss = sum(
        (t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum()
        for t in (states.x, states.v, states.F, states.C, states.q)
    )
    return trajectory, torch.autograd.grad(loss, leaves, allow_unused=True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("adjoint", [solve.DirectAdjoint(), solve.CheckpointAdjoint(every=4)])
def test_rollout_equals_steps(adjoint: solve.AbstractAdjoint, threads: int, make_cube, make_model) -> None:
    """The same bits forward on one thread, and gradients of everything to rounding."""
    model, state, leaves = scene(make_cube, make_model)
    ours, bars = gradient(mpm.MPMSolver(model, threads=threads), state, leaves, adjoint=adjoint, first_step=3)
    steps, expected = gradient(StepByStep(model), state, leaves, first_step=3)
    for name in "xvCFq":
        a, b = getattr(ours.states, name).detach(), getattr(steps.states, name).detach()
        assert torch.equal(a, b) if threads == 1 else torch.allclose(a, b, rtol=1e-10, atol=1e-12), name
    assert steps.states.q[-1, 2].item() > 0.5  # the user's history counts
    used = 0
    for a, b in zip(bars, expected, strict=True):
        if b is not None and float(b.norm()) > 0:
            assert float((a - b).norm() / b.norm()) < 1e-9
            used += 1
    assert used >= 13


def test_two_rollouts_before_either_backward(make_cube, make_model) -> None:
    model = make_model(learned(torch.float32))
    weights = list(model.parameters())
    state = make_cube(4, torch.float32)
    results = []
    for _ in range(2):
        results.append(solve.rollout(mpm.MPMSolver(model), state, 9, save_every=9).states.x[-1].square().sum())
    first = torch.autograd.grad(results[0], weights, allow_unused=True, retain_graph=True)
    second = torch.autograd.grad(results[1], weights, allow_unused=True)
    again = torch.autograd.grad(results[0], weights, allow_unused=True)
    for a, b, c in zip(first, second, again, strict=True):
        assert a is b is c is None or (torch.equal(a, b) and torch.equal(a, c))


@pytest.mark.parametrize("adjoint", [solve.DirectAdjoint(), solve.CheckpointAdjoint(every=3)])
@pytest.mark.parametrize("kind", ["a leaf", "of a graph"])
def test_what_a_law_holds_unregistered_has_its_gradient(kind: str, adjoint, make_cube, make_model) -> None:
    root = torch.tensor(200.0, dtype=torch.float64, requires_grad=True)
    stiffness = root if kind == "a leaf" else root.square()
    model = make_model(materials.Material(Springs(lambda: stiffness), materials.Identity()))
    bars = []
    for solver in (mpm.MPMSolver(model), StepByStep(model)):
        end = solve.rollout(solver, make_cube(3), 8, save_every=8, adjoint=adjoint).states.x[-1]
        bars.append(torch.autograd.grad(end.square().sum(), root, retain_graph=True)[0])
    assert float(bars[1]) != 0
    assert bars[0].item() == pytest.approx(bars[1].item(), rel=1e-10)


@pytest.mark.parametrize("adjoint", [solve.DirectAdjoint(), solve.CheckpointAdjoint(every=3)])
@pytest.mark.parametrize("law", ["prepared", "plain"])
def test_functional_call(law: str, adjoint, make_cube, make_model) -> None:
    """Parameters put in for one call, of a graph of the caller's: also where steps run again in the backward pass."""
    made = learned().elasticity if law == "prepared" else Fading(False)
    name = "log_moduli" if law == "prepared" else "rate"
    if law == "plain":
        made.forward = lambda F, q: 1e6 * made.rate * (F @ F.mT - torch.eye(3, dtype=F.dtype))  # type: ignore[method-assign]
    model = make_model(materials.Material(made, materials.Identity()))
    state = make_cube(3)

    class Run(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> torch.Tensor:
            solver = mpm.MPMSolver(self.model)
            return solve.rollout(solver, state, 8, save_every=8, adjoint=adjoint).states.x[-1].square().sum()

    old = getattr(made, name).detach().clone()
    root = (old * 0.5).requires_grad_()
    value = torch.func.functional_call(Run(), {f"model.materials.0.elasticity.{name}": 2.5 * root}, ())
    (bar,) = torch.autograd.grad(value, root)
    with torch.no_grad():
        getattr(made, name).copy_(1.25 * old)
    expected_value = Run()()
    (expected,) = torch.autograd.grad(expected_value, getattr(made, name))
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-14)
    assert float((bar - 2.5 * expected).norm()) <= 1e-10 * float(expected.norm()) > 0


def test_a_constant_law_has_no_gradient(make_cube, make_model) -> None:
    model = make_model(materials.Material(Springs(lambda: torch.zeros(())), materials.Identity()))
    state = make_cube(3)
    v = state.v.requires_grad_()
    end = solve.rollout(mpm.MPMSolver(model), dataclasses.replace(state, v=v), 5, save_every=5).states.x[-1]
    (bar,) = torch.autograd.grad(end.sum(), v)
    # free flight, but for the epsilon that is added to masses
    assert torch.allclose(bar.sum(0), torch.full((3,), 27 * 5 * 5e-4, dtype=torch.float64), rtol=1e-4)


def test_an_error_of_the_motion_comes_before_that_of_the_law(make_cube, make_model) -> None:
    class Picky(Springs):
        def forward(self, F: torch.Tensor) -> torch.Tensor:
            if not bool(torch.isfinite(F).all()):
                raise ArithmeticError("a law that cannot bear it")
            return super().forward(F)

    model = make_model(materials.Material(Picky(lambda: torch.tensor(1e9, dtype=torch.float64)), materials.Identity()))
    with pytest.raises(mpm.SimulationError):
        solve.rollout(mpm.MPMSolver(model), make_cube(4), 200, save_every=200)


def test_history_that_no_return_map_changes_stays(make_cube, make_model) -> None:
    """Snow's stress with no plasticity: q, log det F_plastic, is what it was."""
    model = make_model(materials.Material(materials.Snow(1e5, 0.2, 10.0), materials.Identity()))
    state = dataclasses.replace(make_cube(3), q=torch.full((27,), -0.1, dtype=torch.float64))
    ours = solve.rollout(mpm.MPMSolver(model), state, 7)
    steps = solve.rollout(StepByStep(model), state, 7)
    assert torch.equal(ours.states.x, steps.states.x)
    assert bool((ours.states.q == -0.1).all())


def test_a_subclass_with_a_forward_of_its_own_is_called(make_cube, make_model) -> None:
    class Doubled(EnergyNetwork):
        def forward(self, F: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(F)

    ends = []
    for law in (EnergyNetwork(width=6, modulus=2e5), Doubled(width=6, modulus=1e5)):
        model = make_model(materials.Material(law, materials.Identity()))
        ends.append(solve.rollout(mpm.MPMSolver(model), make_cube(3), 10)[-1].x)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-9)  # moduli are read as float32
