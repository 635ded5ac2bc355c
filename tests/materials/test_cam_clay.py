"""Cam-clay on a grid: parity with the specimen's own return map, gradients, a layer that is pressed (verification)."""

import math

import numpy as np
import pytest
import torch

from simengine import materials, mpm, solve
from simengine.materials.cam_clay import CamClayFlow
from simengine.worlds.laws.points.cam_clay import CamClay

NUMBERS = {"M": 1.1, "compression": 0.12, "swelling": 0.03, "G": 4e6, "preconsolidation": 2e5, "reference": 1e5}


def stretched(count: int, size: float, seed: int) -> torch.Tensor:
    """F of random strains and turns."""
    generator = torch.Generator().manual_seed(seed)
    H, W = torch.randn(2, count, 3, 3, generator=generator, dtype=torch.float64)
    return torch.linalg.matrix_exp(size * (H + H.mT)) @ torch.linalg.matrix_exp(W - W.mT)


def test_it_is_the_specimens_law() -> None:
    """Stress, elastic part and memory of random trial states on both sides of the critical state, and of F = I."""
    F = torch.cat(
        [stretched(60, 0.004, 1), stretched(40, 0.03, 2), torch.eye(3).double()[None], 0.99 * torch.eye(3)[None]]
    )
    q = torch.linspace(-0.03, 0.02, len(F), dtype=torch.float64)
    law, point = materials.cam_clay(**NUMBERS), CamClay(**NUMBERS)
    back, memory = law.plasticity(F, q)
    tau = law.elasticity(back, memory)
    dry = 0
    for k in range(len(F)):
        stress, elastic, kept = point.advance(F[k : k + 1].numpy(), float(q[k]), 1.0)
        np.testing.assert_allclose(tau[k], stress[0], rtol=1e-8, atol=1e-8 * np.abs(stress).max())
        np.testing.assert_allclose((back[k] @ back[k].T), elastic[0] @ elastic[0].T, rtol=1e-9, atol=1e-9)
        assert float(memory[k]) == pytest.approx(float(kept[0]), abs=1e-10)
        dry += float(memory[k]) > float(q[k]) + 1e-6
    assert int((memory < q - 1e-6).sum()) > 10 and dry > 10 and bool((memory == q).any())


def test_gradients_of_the_law() -> None:
    """In F, memory and all numbers, elastic and flowing, at three equal stretches too."""
    F, q = torch.cat([stretched(5, 0.006, 3), 0.98 * torch.eye(3)[None]]), torch.linspace(-0.02, 0.01, 6).double()
    values = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in NUMBERS.values()]

    def answer(F: torch.Tensor, q: torch.Tensor, *numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        law = materials.cam_clay(*numbers)
        back, memory = law.plasticity(F, q)
        return law.elasticity(back, memory) / 1e5, memory

    inputs = (F.requires_grad_(), q.requires_grad_(), *values)
    outputs = answer(*inputs)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in outputs]

    def total(*now: torch.Tensor) -> torch.Tensor:
        return sum(((w * part).sum() for w, part in zip(weights, answer(*now), strict=True)), torch.zeros(()))

    gradients = torch.autograd.grad(total(*inputs), inputs)
    with torch.no_grad():
        for k, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            way = torch.randn(value.shape, generator=generator, dtype=torch.float64) * value.abs().clamp_min(1e-2)
            h = 1e-6
            ends = [total(*(v + s * h * way if j == k else v for j, v in enumerate(inputs))) for s in (1, -1)]
            difference = float(ends[0] - ends[1]) / (2 * h)
            assert float((gradient * way).sum()) == pytest.approx(difference, rel=1e-5), list(NUMBERS)[k - 2]


def layer(numbers: dict[str, torch.Tensor | float], steps: int) -> tuple[mpm.MPMModel, solve.Trajectory]:
    """Clay between a floor, sides without friction and a plate that presses it by 4 % in 0.2 s."""
    h, dt, speed = 0.1, 5e-4, 0.08
    axis = (torch.arange(8, dtype=torch.float64) + 0.5) * h / 2
    x = torch.cartesian_prod(axis, axis, axis) + 0.33
    low, high = 0.33, 0.33 + 4 * h
    planes: list[torch.nn.Module] = []
    for k in range(3):
        e = torch.eye(3, dtype=torch.float64)[k]
        planes += [
            mpm.Plane(point=low * e, normal=e),
            mpm.Plane(point=high * e, normal=-e, velocity=-speed * e if k == 1 else 0 * e),
        ]
    model = mpm.MPMModel(
        num_grids=12, length=1.2, dt=dt, materials=[materials.cam_clay(**numbers)], volume=(h / 2) ** 3,
        mass=2000 * (h / 2) ** 3, gravity=(0.0, 0.0, 0.0),
        boundaries=[mpm.Walls(dict.fromkeys(("-x", "+x", "-y", "+y", "-z", "+z"), "open")), *planes],
    )  # fmt: skip
    model.materials[0].dissipation = materials.Dissipation(torch.tensor(2e3), torch.zeros(0), torch.zeros(0))
    start = mpm.MPMState.at_rest(x, torch.stack([0 * x[:, 0], -speed * (x[:, 1] - low) / (high - low), 0 * x[:, 0]], 1))
    return model, solve.rollout(mpm.MPMSolver(model), start, steps, save_every=steps, adjoint=solve.CheckpointAdjoint())


def test_a_layer_is_pressed_as_the_specimen() -> None:
    """4 % between slip plates: mean stresses and memory against the specimen's law, at a point of its mean volume.

    That falls by .0423: the springs of contact keep plates and body a hundredth of a cell apart, the sides too, which
    the point does not know. Measured: .05 % along the push, 1.1 % across, memory .9 %.
    """
    steps = 400
    with torch.no_grad():
        model, trajectory = layer(NUMBERS, steps)
        last = trajectory[-1]
        tau = model.stress(last.F, last.q).mean(0)
    pressed = 1 - float((torch.linalg.det(last.F) * last.q.exp()).mean())
    assert pressed == pytest.approx(0.04, abs=0.003)
    point, F, memory = CamClay(**NUMBERS), np.eye(3)[None], 0.0
    for k in range(steps):
        push = np.diag([1.0, (1 - pressed * (k + 1) / steps) / (1 - pressed * k / steps), 1.0])
        stress, F, kept = point.advance(push @ F, memory, 1.0)
        memory = float(kept[0])
    assert memory < -0.005 and float(last.q.mean()) == pytest.approx(memory, rel=0.02)
    for k in range(3):
        assert float(tau[k, k]) == pytest.approx(float(stress[0, k, k]), rel=0.005 if k == 1 else 0.02)
    assert float(-tau[1, 1]) > 1.5 * NUMBERS["reference"]


def test_gradients_of_a_pressed_layer() -> None:
    """In M, compression and G, 60 steps, the last of them flowing."""
    names = ("M", "compression", "G")

    def answer(at: torch.Tensor) -> torch.Tensor:
        numbers = {**NUMBERS, "reference": 1.9e5, **{n: NUMBERS[n] * v for n, v in zip(names, at, strict=True)}}
        model, trajectory = layer(numbers, 60)
        last = trajectory[-1]
        return last.q.sum() + 1e-5 * model.stress(last.F, last.q)[:, 1, 1].mean() + last.v[:, 1].sum()

    at = torch.ones(3, dtype=torch.float64, requires_grad=True)
    value = answer(at)
    (gradient,) = torch.autograd.grad(value, at)
    with torch.no_grad():
        for k in range(3):
            step = torch.zeros(3, dtype=torch.float64)
            step[k] = 1e-6
            difference = float(answer(1 + step) - answer(1 - step)) / 2e-6
            assert float(gradient[k]) == pytest.approx(difference, rel=1e-4) and math.isfinite(difference)


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="swelling must lie below compression"):
        CamClayFlow(**{**NUMBERS, "swelling": 0.2})
    with pytest.raises(ValueError, match="reference must not lie above"):
        CamClayFlow(**{**NUMBERS, "reference": 3e5})
    with pytest.raises(ValueError, match="M must be positive"):
        CamClayFlow(**{**NUMBERS, "M": -1.0})
