"""The loop: convergence, interruption, bitwise resume, a killed process, a loss that is not finite."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
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
from simengine.fit.trainings.staged import StagedTraining
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


STOPS = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(("optimiser", "stop"), [*(("adam", stop) for stop in STOPS), ("lbfgs", "SIGINT")])
def test_resume_is_bitwise(optimiser: str, stop: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = rosenbrock(optimiser, 12)
    uninterrupted = fit(whole, directory(tmp_path / "whole"), progress=False)

    torch.manual_seed(3)
    first = rosenbrock(optimiser, 12)
    step, calls = first.step, []

    def five_then_interrupt() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), getattr(signal, stop))
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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        training = rosenbrock("adam", 3)
        step = training.step

        def closed_terminal() -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGHUP)
            return step()

        training.step = closed_terminal  # type: ignore[method-assign]
        assert not fit(training, directory(tmp_path), progress=False).interrupted
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_was_found_survives_a_report_that_fails(tmp_path: Path) -> None:
    training = rosenbrock("adam", 3)

    def finish(out: RunDirectory) -> dict[str, object]:
        raise ImportError("no module named matplotlib")

    training.finish = finish  # type: ignore[method-assign]
    with pytest.raises(ImportError):
        fit(training, directory(tmp_path), progress=False)
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert kept["iterations"] == 3 and kept["loss"] > 0 and kept["complete"] is False


def saved(folder: Path) -> tuple[Path, dict[str, Any]]:
    fit(rosenbrock("adam", 3), directory(folder), progress=False)
    manifest = folder / "checkpoint" / "checkpoint.json"
    return manifest, json.loads(manifest.read_text())


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.pop("sha256"),
        lambda m: m.pop("meta"),
        lambda m: m.pop("file"),
        lambda m: m.update(file=5),
        lambda m: m.update(file="../../../etc/passwd"),
        lambda m: m.update(sha256=None),
        lambda m: m.update(meta=[1]),
        lambda m: m["meta"].pop("iteration"),
        lambda m: m["meta"].update(iteration=-5),
        lambda m: m["meta"].update(iteration=10**9),
        lambda m: m["meta"].update(iteration="2"),
    ],
)
def test_a_damaged_manifest_is_refused_with_its_path(
    damage: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    manifest, content = saved(tmp_path)
    damage(content)
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="start anew with --overwrite") as error:
        fit(rosenbrock("adam", 3), directory(tmp_path), progress=False)
    assert str(manifest.parent) in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["5", "[1, 2]", "{", "", "null", "[" * 100000])
def test_a_manifest_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    manifest, _ = saved(tmp_path)
    manifest.write_text(text)
    with pytest.raises(ValueError, match="no readable checkpoint"):
        fit(rosenbrock("adam", 3), directory(tmp_path), progress=False)


@pytest.mark.parametrize(
    "missing", ["rng_state", "optimiser.state.0.exp_avg", "module.p", "iteration", "optimiser.lr.0"]
)
def test_a_missing_tensor_is_refused(missing: str, tmp_path: Path) -> None:
    """Also with the right sum: nothing starts silently from zero."""
    saved(tmp_path)
    folder = tmp_path / "checkpoint"
    tensors, meta = checkpoint.load(folder)
    del tensors[missing]
    checkpoint.save(folder, tensors, meta, tag=3)
    with pytest.raises(ValueError, match="checkpoint") as error:
        fit(rosenbrock("adam", 3), directory(tmp_path), progress=False)
    assert str(folder) in str(error.value)


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


def test_estimated_noise_is_that_of_scipy() -> None:
    # six points and two parameters, so that degrees of freedom matter
    t = torch.linspace(0, 2, 6, dtype=torch.float64)
    data = 2 * torch.exp(-1.3 * t) + 0.05 * torch.tensor([1.0, -1, 0.5, 1, -0.5, -1], dtype=torch.float64)
    training = LeastSquaresTraining(decay(t), lambda p: p["height"] * torch.exp(-p["rate"] * t) - data)
    while not training.converged:
        training.step()
    found = training.uncertainty()
    values, expected = scipy.optimize.curve_fit(
        lambda t, rate, height: height * np.exp(-rate * t), t.numpy(), data.numpy(), p0=(1.0, 1.0)
    )
    for k, name in enumerate(("rate", "height")):
        assert training.estimates()[name] == pytest.approx(values[k], rel=1e-5)
        assert found["std"][name] == pytest.approx(expected[k, k] ** 0.5, rel=1e-4)


def test_a_step_is_at_most_two_units_of_a_coordinate() -> None:
    parameters = ParameterSet({"a": Parameter(initial=1.0, lower=0.0)})
    training = LeastSquaresTraining(parameters, lambda p: p["a"].reshape(1) - 1e6)
    assert training.step()["step"] == pytest.approx(2.0)


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
    found(blind)
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


def found(training: LeastSquaresTraining) -> dict[str, float]:
    for _ in range(100):
        if training.converged:
            break
        training.step()
    return training.estimates()


@pytest.mark.parametrize("initial", [0.0, 1e-6])
def test_a_small_length_is_found_from_zero(initial: float, tmp_path: Path) -> None:
    """A front 4 um wide at 3 um: started at 0 its place, its bar and its word are those of a start at 1 um."""
    t = torch.linspace(0, 2, 50, dtype=torch.float64)

    def front(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh((t * 1e-5 - p["shift"]) / 4e-6)

    noise = 1e-3 * torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = front({"shift": torch.tensor(3e-6, dtype=torch.float64)}) + noise

    def make() -> LeastSquaresTraining:
        parameters = ParameterSet({"shift": Parameter(initial=initial)})
        return LeastSquaresTraining(parameters, lambda p: front(p) - data, sigma=1e-3)

    training = make()
    place = found(training)["shift"]
    slope = (1 - front({"shift": torch.tensor(3e-6)}).square()) / 4e-6
    std = 1e-3 / float(slope.norm())  # linear theory
    uncertainty = training.uncertainty()
    assert abs(place - 3e-6) < 4 * std
    assert uncertainty["std"]["shift"] == pytest.approx(std, rel=0.02)
    assert uncertainty["identified"]["shift"]
    # what is resumed knows the scale
    first, again = make(), make()
    first.step()
    again.load_state_dict(first.state_dict())
    assert found(again)["shift"] == found(first)["shift"] == place


def test_one_parameter_without_effect_is_named() -> None:
    t = torch.linspace(0, 1, 10, dtype=torch.float64)
    alone = LeastSquaresTraining(
        ParameterSet({"a": Parameter(initial=1.0, lower=0.0)}), lambda p: t + 0 * p["a"], jacobian=None
    )
    assert found(alone) == {"a": 1.0}
    report = alone.uncertainty()
    assert report["identified"] == {"a": False} and report["std"] == {"a": None} and report["conditioning"] is None
    assert report["remarks"] == ["the observations do not depend on a"]
    # beside one that has an effect, that one keeps its standard deviation
    both = ParameterSet({"a": Parameter(initial=1.0), "b": Parameter(initial=1.0)})
    training = LeastSquaresTraining(both, lambda p: p["b"] * t - 2 * t, sigma=0.1)
    found(training)
    report = training.uncertainty()
    assert report["std"]["a"] is None and report["std"]["b"] == pytest.approx(0.1 / float(t.norm()), rel=1e-6)
    assert report["correlation"] == [[None, None], [None, pytest.approx(1.0)]]


def test_what_is_known_only_in_combination_is_not_identified() -> None:
    """The product is known to 1e-4, either factor to 7 %, by a curvature that the model need err little to fake."""
    t = torch.linspace(0, 1, 50, dtype=torch.float64)

    def residual(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return p["a"] * p["b"] * t + 1e-2 * p["a"] * t**2 - t - 1e-2 * t**2

    parameters = ParameterSet({"a": Parameter(initial=1.1, lower=0.0), "b": Parameter(initial=1.0, lower=0.0)})
    training = LeastSquaresTraining(parameters, residual, jacobian=forward_jacobian(residual), sigma=1e-4)
    found(training)
    report = training.uncertainty()
    a = training.estimates()["a"]
    assert abs(report["correlation"][0][1]) > 0.9998 and report["std"]["a"] < 0.2 * a
    assert report["identified"] == {"a": False, "b": False}
    assert sum("only in combination" in remark for remark in report["remarks"]) == 2


def test_the_variance_of_the_noise_is_over_degrees_of_freedom() -> None:
    """A line through 5 points, against numpy's polyfit."""
    t, generator = torch.linspace(0, 1, 5, dtype=torch.float64), torch.Generator().manual_seed(3)
    y = 1 + 2 * t + 0.1 * torch.randn(5, generator=generator, dtype=torch.float64)
    parameters = ParameterSet({"slope": Parameter(initial=1.0), "offset": Parameter(initial=1.0)})
    training = LeastSquaresTraining(parameters, lambda p: p["slope"] * t + p["offset"] - y)
    found(training)
    report = training.uncertainty()
    _, covariance = np.polyfit(t.numpy(), y.numpy(), 1, cov=True)  # scaled by |r|^2 / (m - p)
    assert report["std"]["slope"] == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-6)
    assert report["std"]["offset"] == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-6)


def test_a_trial_that_is_refused_counts_as_a_bad_one() -> None:
    """ln p = -4 from p = 3: the first step leads to p < 0, where a law refuses, as torch.log does not."""

    def residual(p: dict[str, torch.Tensor]) -> torch.Tensor:
        if float(p["p"]) <= 0:
            raise ValueError(f"p must be positive, got {float(p['p'])}")
        return torch.log(p["p"])[None] + 4

    training = LeastSquaresTraining(ParameterSet({"p": Parameter(initial=3.0)}), residual)
    assert found(training)["p"] == pytest.approx(math.exp(-4), rel=1e-5)

    calls = iter(range(100))

    def hopeless(p: dict[str, torch.Tensor]) -> torch.Tensor:
        if next(calls) > 1:
            raise ValueError("nothing here")
        return p["p"][None]

    with pytest.raises(ValueError, match="nothing here"):
        LeastSquaresTraining(ParameterSet({"p": Parameter(initial=3.0)}), hopeless).step()


def test_the_gradient_is_clipped() -> None:
    """One step of plain descent as torch makes it: with L-BFGS its first step is min(1, 1/|g|_1) lr g."""
    target = torch.full((4,), 100.0)
    steps = []
    for limit in (None, 1e-3):
        module = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.zeros_(module.weight)
        norms: list[float] = []
        training = GradientTraining(
            module,
            lambda module=module: {"loss": (module.weight[0] - target).square().sum()},
            num_iterations=1,
            clip_norm=limit,
        )
        original = training.optimiser.step

        def watch(closure, module=module, norms=norms, original=original):
            value = original(closure)
            norms.append(float(module.weight.grad.norm()))
            return value

        training.optimiser.step = watch  # type: ignore[method-assign]
        training.step()
        steps.append(norms[0])
    assert steps[0] == pytest.approx(400.0) and steps[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_stage_ends_after_its_iterations_or_when_it_has_converged() -> None:
    """Two of three iterations, then the next; one that has converged early, or has nothing to do, gives way at once."""

    class Counted(AbstractTraining):
        def __init__(self, num_iterations: int, converged_after: int) -> None:
            self.num_iterations, self._after, self.done = num_iterations, converged_after, 0

        @property
        def converged(self) -> bool:
            return self.done >= self._after

        def step(self) -> dict[str, float]:
            self.done += 1
            return {"loss": 1.0 / self.done}

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"done": torch.tensor([self.done])}

        def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
            self.done = int(state["done"])

        def estimates(self) -> dict[str, float]:
            return {"done": float(self.done)}

        def finish(self, out: RunDirectory) -> dict[str, Any]:
            return {"done": self.done}

    staged = StagedTraining([Counted(2, 9), Counted(5, 1), Counted(4, 0), Counted(3, 3)])
    assert staged.num_iterations == 14
    stages = []
    while not staged.converged:
        stages.append(staged.step()["stage"])
    assert stages == [0, 0, 1, 3, 3, 3]
    again = StagedTraining([Counted(2, 9), Counted(5, 1)])
    again.step()
    resumed = StagedTraining([Counted(2, 9), Counted(5, 1)])
    resumed.load_state_dict(again.state_dict())
    assert [resumed.step()["stage"] for _ in range(2)] == [0, 1] and resumed.converged
    with pytest.raises(ValueError, match="at least one training"):
        StagedTraining([])
