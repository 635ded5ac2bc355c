"""The pressure of a fluid, learned from positions in one passage."""

import math

import pytest
import torch

from simengine.mpm import MPMModel, Walls
from simengine.worlds.laws.balance import with_material
from simengine.worlds.laws.pressure import PressureTraining, spread_over_volumes, volume_units
from simengine.worlds.laws.stages import learner
from simengine.worlds.laws.training import training
from simengine.worlds.laws.world import LawLearner, LawSpec, NCLawWorld
from simengine.worlds.motion.materials import Water
from simengine.worlds.motion.momentum_balance import Motion, record
from simengine.worlds.motion.shapes import BoxShape

WATER = Water(E=1e5, nu=0.3)
LAM = 1e5 * 0.3 / (1.3 * 0.4)


def splash(num_steps: int, *, fluid: bool = True) -> tuple[MPMModel, Motion]:
    """A learner's model and the motion of a small cube of water that runs into the floor."""
    spec = LawSpec(width=20, convexity="shear", plastic=True)
    cube = BoxShape(center=(0.5, 0.31, 0.5), size=(0.3, 0.3, 0.3), counts=(6, 6, 6))
    scene = NCLawWorld(material=WATER)
    truth, state = scene.experiment(shape=cube, num_steps=num_steps).build(device="cpu")
    model = with_material(truth, learner(spec, seed=0))
    if fluid:
        model.materials[0].plasticity.set_line(0.0, 0.0)  # type: ignore[operator]
    return model, record(truth, state, num_steps)


def pressure_error(model: MPMModel, motion: Motion) -> float:
    """Of the stress at the volumes that occurred, relative to its norm."""
    F = motion.F[1::10].flatten(0, 1)
    J = torch.linalg.det(F.double())
    exact = LAM * J * (J - 1)
    with torch.no_grad():
        tau = model.materials[0].elasticity(F)[:, 0, 0]  # type: ignore[operator]
    return float((tau - exact).norm() / exact.norm())


def learn(train: PressureTraining) -> float:
    while not train.converged and train.iteration < train.num_iterations:
        loss = train.step()["loss"]
    return loss


@pytest.mark.numeric
def test_pressure_is_learned_from_positions() -> None:
    model, motion = splash(200)
    train = PressureTraining(model, [motion])
    loss = learn(train)
    J = torch.linalg.det(motion.F.double())
    assert float(J.min()) < 0.8  # the motion compresses it
    assert loss < 2 * train.noise  # nothing is missed but the rounding of the positions
    assert pressure_error(model, motion) < 1e-3  # velocities are differences of rounded positions


@pytest.mark.numeric
def test_several_motions_are_learned_from() -> None:
    """The deep motion teaches the volumes it reaches, whether it comes first or last; the gentle one alone does not.

    Measured: 1.3e-3 from the gentle one alone, 0.9e-4 to 1.2e-4 from both, whatever the vectors of the processor.
    """
    (gentle, deep), errors = [splash(n)[1] for n in (60, 200)], []
    for motions in ([gentle], [gentle, deep], [deep, gentle]):
        train = PressureTraining(splash(60)[0], motions, passes=1)
        assert train.num_iterations == sum(math.ceil(len(motion) / train.stretch) for motion in motions)
        learn(train)
        errors.append(pressure_error(train.model, deep))
    alone, *both = errors
    assert max(both) < 0.3 * alone


def test_derivatives_of_the_hidden_state() -> None:
    """dC and dv against central differences, through an impact on the floor."""
    step, unit, hidden = 1e-3, 3, []
    for sign in (-1, 0, 1):
        model, motion = splash(160)
        energy = model.materials[0].elasticity.double()  # type: ignore[operator]
        train = PressureTraining(model, [motion], every=1000, stretch=150)  # never corrected
        spread_over_volumes(energy)
        place = int(volume_units(energy)[-unit])
        with torch.no_grad():
            energy.raw_weights[place] += 0.5 + sign * step
        train.step, train.iteration = _follow_only(train), 0  # type: ignore[method-assign]
        train.step()
        hidden.append({name: train._state[name].clone() for name in ("C", "v")})
    minus, here, plus = hidden
    for name in ("C", "v"):
        difference = (plus[name] - minus[name])[..., 0] / (2 * step)
        exact = here[name][..., -unit]
        assert float(difference.norm()) > 0
        assert float((exact - difference).norm() / difference.norm()) < 1e-3


def _follow_only(train: PressureTraining):
    """A step that neither spreads the units nor corrects."""
    from simengine.worlds.laws.pressure import _Pressure

    def step() -> dict[str, float]:
        pressure, motion = _Pressure(train.energy), train.motions[0]
        n, size = motion.x.shape[1], len(pressure)
        shapes = {"C": (n, 3, 3, 1 + size), "v": (n, 1 + size), "G": (size, size), "g": (size,)}
        train._state = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        for k in range(150):
            train._follow(pressure, motion, k)
        return {}

    return step


def test_learning_a_pressure_resumes() -> None:
    motion = splash(30)[1]
    whole, first, second = (PressureTraining(splash(30)[0], [motion], stretch=10, passes=1) for _ in range(3))
    figures = [whole.step() for _ in range(3)]
    first.step()
    second.load_state_dict(first.state_dict())
    assert [second.step() for _ in range(2)] == figures[1:]
    torch.testing.assert_close(second.energy.linear(), whole.energy.linear(), rtol=0, atol=0)


def test_what_is_no_fluid_leaves_nothing_to_do() -> None:
    model, motion = splash(10, fluid=False)
    assert PressureTraining(model, [motion]).converged
    model.boundaries[0] = Walls("sticky")
    with pytest.raises(ValueError, match="slip walls"):
        PressureTraining(model, [motion])


def test_water_is_learned_from_the_positions_of_a_throw() -> None:
    """The whole training: the search tells a fluid, and the passage finds its pressure."""
    law = LawLearner(width=16, convexity="shear", plastic=True, observe="positions")
    scene = NCLawWorld(material=WATER, num_steps=150)
    train = training(scene, law, device="cpu")
    while not train.converged:
        loss = train.step()["loss"]
    assert math.isfinite(loss) and loss < 2e-9
    truth, state = scene.experiment().build(device="cpu")
    model = with_material(truth, train.stages[0].model.materials[0])  # type: ignore[attr-defined]
    assert pressure_error(model, record(truth, state, 150)) < 1e-3
