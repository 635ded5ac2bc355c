"""The loop: convergence, interruption, bitwise resume, a killed process, a loss that is not finite."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from simengine.fit import (
    GradientTraining,
    LeastSquaresTraining,
    Parameter,
    ParameterSet,
    difference_jacobian,
    fit,
    forward_jacobian,
)
from simengine.fit.loop import NonFiniteLossError
from simengine.fit.result import FitResult
from simengine.fit.training import AbstractTraining
from simengine.io import checkpoint
from simengine.io.run_directory import RunDirectory


def directory(path: Path) -> RunDirectory:
    return RunDirectory.create(path, {"kind": "toy"}, overwrite=False, resume=True)


def rosenbrock(optimiser: str, num_iterations: int) -> GradientTraining:
    module = nn.Module()
    module.p = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

    def objective() -> dict[str, torch.Tensor]:
        x, y = module.p
        noise = torch.rand((), dtype=torch.float64) * 1e-3  # the random state must resume as well
        return {"valley": 100 * (y - x**2) ** 2, "slope": (1 - x + (0 if optimiser == "lbfgs" else noise)) ** 2}

    return GradientTraining(
        module,
        objective,
        num_iterations=num_iterations,
        optimiser=optimiser,
        learning_rate=0.1,
        cosine=optimiser == "adam",
    )


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_resume_is_bitwise(optimiser: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = rosenbrock(optimiser, 12)
    uninterrupted = fit(whole, directory(tmp_path / "whole"), progress=False)

    torch.manual_seed(3)
    first = rosenbrock(optimiser, 12)
    step, calls = first.step, []

    def five_then_interrupt() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    first.step = five_then_interrupt  # type: ignore[method-assign]
    stopped = fit(first, directory(tmp_path / "parts"), progress=False)
    assert stopped.interrupted and stopped.iterations == 5
    torch.manual_seed(99)  # must not matter
    second = rosenbrock(optimiser, 12)
    resumed = fit(second, directory(tmp_path / "parts"), progress=False)
    assert resumed.iterations == uninterrupted.iterations > 5
    assert resumed.history == uninterrupted.history
    assert torch.equal(whole.module.p, second.module.p)


def test_history_of_a_run_that_died_between_checkpoints(tmp_path: Path) -> None:
    class Counts(AbstractTraining):
        num_iterations = 12
        n = 0
        stop: tuple[int, type[Exception] | None] = (99, None)

        def step(self) -> dict[str, float]:
            self.n += 1
            if self.n == self.stop[0]:
                if self.stop[1]:
                    raise self.stop[1]
                os.kill(os.getpid(), signal.SIGINT)
            return {"loss": float(self.n)}

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"n": torch.tensor(self.n)}

        def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
            self.n = int(state["n"])

    def run(iteration: int, error: type[Exception] | None = None) -> FitResult:
        training = Counts()
        training.stop = (iteration, error)
        return fit(training, directory(tmp_path), progress=False)

    run(4)  # interrupted and saved
    with pytest.raises(OSError):
        run(8, OSError)  # logged to 7, saved at 4
    run(9)  # 5 to 7 are logged again
    assert [figures["loss"] for figures in run(99).history] == list(range(1, 13))


@pytest.mark.numeric
def test_lbfgs_finds_the_minimum(tmp_path: Path) -> None:
    training = rosenbrock("lbfgs", 30)
    fit(training, directory(tmp_path), progress=False)
    assert torch.allclose(training.module.p, torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Breaks(AbstractTraining):
        num_iterations = 5
        n = 0

        def step(self) -> dict[str, float]:
            self.n += 1
            return {"loss": 1.0 if self.n < 3 else float("nan")}

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"n": torch.tensor(self.n)}

        def load_state_dict(self, state: object) -> None:
            pass

    with pytest.raises(NonFiniteLossError, match="iteration 3"):
        fit(Breaks(), directory(tmp_path), checkpoint_seconds=0, progress=False)
    assert checkpoint.load(tmp_path / "checkpoint")[1]["iteration"] == 2


_VICTIM = """
import sys, torch, pathlib
from simengine.io import checkpoint
folder = pathlib.Path(sys.argv[1])
for k in range(100000):
    checkpoint.save(folder, {"x": torch.full((20000,), float(k))}, {"iteration": k}, tag=k)
    print(k, flush=True)
"""


def test_kill_9_leaves_a_loadable_checkpoint(tmp_path: Path) -> None:
    for delay in (0.0, 0.013, 0.031, 0.052):
        process = subprocess.Popen([sys.executable, "-c", _VICTIM, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        tensors, meta = checkpoint.load(tmp_path)
        assert float(tensors["x"][0]) == meta["iteration"]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"x": torch.zeros(100)}, {}, tag=1)
    file = next(tmp_path.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="SHA-256"):
        checkpoint.load(tmp_path)


def decay(t: torch.Tensor) -> ParameterSet:
    return ParameterSet({"rate": Parameter(initial=3.0, lower=0.0), "height": Parameter(initial=0.5, upper=5.0)})


@pytest.mark.numeric
def test_least_squares_recovers_with_the_right_spread(tmp_path: Path) -> None:
    # y = h exp(-k t) + noise; over many draws the reported standard deviation is that of the estimates (linear theory,
    # 100 draws: the ratio scatters by 1/sqrt(200) = 7 %, three times that allowed)
    t = torch.linspace(0, 2, 40, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    errors, stds = [], []
    for draw in range(100):
        noise = 0.01 * torch.randn(40, generator=generator, dtype=torch.float64)
        data = 2 * torch.exp(-1.3 * t) + noise
        training = LeastSquaresTraining(
            decay(t), lambda p, data=data: p["height"] * torch.exp(-p["rate"] * t) - data, num_iterations=50
        )
        while not training.converged:
            training.step()
        errors.append(training.estimates()["rate"] - 1.3)
        stds.append(training.uncertainty()["std"]["rate"])
        if draw == 0:
            result = fit(training, directory(tmp_path), progress=False)
            assert result.summary["identified"] == {"rate": True, "height": True}
    spread = torch.tensor(errors).square().mean().sqrt() / torch.tensor(stds).mean()
    assert 0.79 < float(spread) < 1.21


@pytest.mark.numeric
def test_parity_of_jacobians() -> None:
    t = torch.linspace(0, 2, 40, dtype=torch.float64)

    def residual(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return p["height"] * torch.exp(-p["rate"] * t)

    r, exact = forward_jacobian(residual)(decay(t))
    for central, tolerance in ((True, 1e-7), (False, 1e-4)):  # truncation of the differences, see the docstring
        same, j = difference_jacobian(residual, central=central)(decay(t))
        assert torch.equal(r, same)
        assert float((j - exact).norm() / exact.norm()) < tolerance


def test_what_the_data_do_not_tell_is_said() -> None:
    t = torch.linspace(0, 1, 10, dtype=torch.float64)
    parameters = ParameterSet({"a": Parameter(initial=1.0, lower=0.0), "b": Parameter(initial=2.0, lower=0.0)})
    training = LeastSquaresTraining(parameters, lambda p: p["a"] * p["b"] * t - 3 * t, sigma=0.01)
    for _ in range(10):
        training.step()
    uncertainty = training.uncertainty()
    assert uncertainty["conditioning"] > 1e6 and not any(uncertainty["identified"].values())
    blind = LeastSquaresTraining(parameters, lambda p: p["a"] * t - 3 * t)
    assert blind.uncertainty()["identified"] == {"a": True, "b": False}


@pytest.mark.parametrize(
    "parameter",
    [
        Parameter(initial=2.0),
        Parameter(initial=2.0, lower=0.0),
        Parameter(initial=2.0, upper=7.0),
        Parameter(initial=0.2, lower=0.0, upper=0.5),
    ],
)
def test_bijections(parameter: Parameter) -> None:
    z = torch.tensor([parameter.unconstrain(parameter.initial)], dtype=torch.float64)
    assert float(parameter.constrain(z)) == pytest.approx(parameter.initial, rel=1e-14)
    for shift in (-3.0, 0.5, 3.0):
        value = float(parameter.constrain(z + shift))
        assert parameter.lower < value < parameter.upper
        assert parameter.unconstrain(value) == pytest.approx(float(z) + shift, rel=1e-9)
    with pytest.raises(ValueError, match="must lie between"):
        Parameter(initial=1.0, lower=2.0)
