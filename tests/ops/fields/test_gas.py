"""Kernels of gas properties and rates against plain torch: values, gradients, Jacobians, bad input."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import warp as wp
from simengine.kernels.fields import gas as kernel_module

from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.ops.fields import gas, gas_reference
from simengine.ops.fields.gas_reference import Kinetics, Rates


def _kinetics(name: str) -> Kinetics:
    if name == "methane_1step":
        return Gas(load_mechanism(name), smoothing=1e-6).kinetics
    cantera = pytest.importorskip("cantera")
    return Gas(load_mechanism(Path(cantera.__file__).parent / "data" / f"{name}.yaml"), smoothing=1e-6).kinetics


def _states(kinetics: Kinetics, n: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    T = torch.tensor(rng.uniform(300, 3000, n), dtype=dtype)
    C = torch.tensor(10 * rng.dirichlet(np.ones(kinetics.nasa.shape[0]), n), dtype=dtype)
    return T, C


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    if not expected.numel():
        return 0.0
    size = expected.abs().flatten(1).amax(1).clamp_min(1e-30) if expected.dim() > 1 else expected.abs().amax()
    return float(((found - expected).abs().reshape(len(expected), -1).amax(1) / size).max())


@pytest.mark.parametrize("name", ["methane_1step", "h2o2", "gri30"])
def test_thermodynamics_and_rates_agree(name: str) -> None:
    k = _kinetics(name)
    T, C = _states(k, 50)
    C[3, 1] = 0.0
    expected = (f(k, T) for f in (gas_reference.cp_over_R, gas_reference.h_over_RT, gas_reference.s_over_R))
    *found, slope = gas.thermo(k, T)
    for a, b in zip(found, expected, strict=True):
        assert _error(a, b) < 1e-13
    assert _error(slope, gas_reference.cp_slope_over_R(k, T)) < 1e-12
    assert _error(gas.production(k, T, C), gas_reference.production(k, T, C, k.rates)) < 1e-12


@pytest.mark.parametrize("name", ["methane_1step", "h2o2", "gri30"])
def test_gradients_agree(name: str) -> None:
    k = _kinetics(name)
    T, C = _states(k, 20)
    weights = 1 / gas_reference.production(k, T, C, k.rates).abs().amax(1, keepdim=True)
    gradients = []
    for op in (gas.production, gas_reference.production):
        r = k.rates
        leaves = [t.clone().requires_grad_() for t in (T, C, r.A, r.b, r.Ea, r.A_low, r.b_low, r.Ea_low)]
        rates = Rates(*leaves[2:5], r.orders, *leaves[5:])
        (op(k, leaves[0], leaves[1], rates) * weights).cos().sum().backward()
        gradients.append([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])
    assert name == "methane_1step" or all(bool((low[k.falloff] != 0).all()) for low in gradients[0][5:])
    for found, expected in zip(*gradients, strict=True):
        assert float((found - expected).abs().max()) <= 1e-11 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["methane_1step", "h2o2"])
def test_jacobians_agree(name: str) -> None:
    k = _kinetics(name)
    T, C = _states(k, 10)
    for found, expected in zip(
        gas.production_jacobian(k, T, C), gas_reference.production_jacobian(k, T, C, k.rates), strict=True
    ):
        assert _error(found, expected) < 1e-11


def test_gradcheck() -> None:
    k = _kinetics("h2o2")
    T, C = _states(k, 2)
    scale = gas_reference.production(k, T, C, k.rates).abs().amax(1, keepdim=True)
    T, C = T.requires_grad_(), C.requires_grad_()
    assert torch.autograd.gradcheck(lambda t, c: gas.production(k, t, c) / scale, (T, C), eps=1e-6, atol=1e-6)


def test_float32_is_close_to_float64() -> None:
    k = _kinetics("h2o2")
    T, C = _states(k, 30)
    # rate constants are exp of numbers up to 50: 50 times the rounding of 6e-8, and sums that cancel
    assert _error(gas.production(k, T.float(), C.float()).double(), gas.production(k, T, C)) < 1e-3


@pytest.mark.parametrize("n", [0, 1])
def test_few_points(n: int) -> None:
    k = _kinetics("methane_1step")
    T, C = _states(k, n)
    T.requires_grad_()
    w = gas.production(k, T, C)
    assert w.shape == (n, 5)
    w.sum().backward()
    assert T.grad.shape == (n,)
    assert [tuple(t.shape) for t in gas.production_jacobian(k, T, C)] == [(n, 5), (n, 5), (n, 5, 5)]


def test_wrong_input_is_named() -> None:
    k = _kinetics("methane_1step")
    T, C = _states(k, 3)
    with pytest.raises(ValueError, match=r"C: expected shape \(3, 5\)"):
        gas.production(k, T, C[:, :4])
    with pytest.raises(ValueError, match=r"T: expected shape \(n,\)"):
        gas.production(k, T[None], C)
    with pytest.raises(ValueError, match="above 0 K, got -1"):
        gas.production(k, torch.full_like(T, -1.0), C)
    with pytest.raises(TypeError, match="float32 or float64"):
        gas.thermo(k, T.long())
    other = dataclasses.replace(k.rates, orders=k.rates.orders + 0.1)
    with pytest.raises(ValueError, match="orders"):
        gas.production(k, T, C, other)


def test_the_environment_can_choose_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", "reference")
    k = _kinetics("methane_1step")
    T, C = _states(k, 3)
    assert torch.equal(gas.production(k, T, C), gas_reference.production(k, T, C, k.rates))


@pytest.mark.parametrize("scalar", [wp.float32, wp.float64])
def test_ptx(scalar: type, tmp_path: Path) -> None:
    kernels = kernel_module.kernels(scalar)
    wp.compile_aot_module(kernels.progress.module, arch=90, use_ptx=True, module_dir=str(tmp_path))
    text = next(tmp_path.glob("*.ptx")).read_text()
    for name in vars(kernels):
        assert f"__{name}_" in text or f"{name}_" in text, name
