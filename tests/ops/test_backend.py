"""Which kernel language runs, and that the two live in one process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from simengine.ops import bridge, taichi_bridge


@pytest.mark.parametrize(
    ("wanted", "available", "device", "chosen"),
    [
        ("", ("warp", "taichi"), "cpu", "warp"),
        ("", ("warp", "taichi"), "meta", "taichi"),  # a device that Warp cannot reach
        ("", ("warp",), "meta", "reference"),
        ("taichi", ("warp", "taichi"), "cpu", "taichi"),
        ("taichi", ("warp",), "cpu", "warp"),  # an op without a Taichi kernel
        ("warp", ("taichi", "warp"), "cpu", "warp"),
        ("reference", ("warp", "taichi"), "cpu", "reference"),
    ],
)
def test_the_device_decides_and_the_environment_overrides(wanted, available, device, chosen, monkeypatch) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", wanted)
    assert bridge.backend(*available, on=torch.empty(0, device=device)) == chosen


def test_what_was_saved_is_read_once() -> None:
    """By every `backward`: within a checkpoint tensors come once, and steps one by one run under one."""
    found = [
        (path.name, sum(isinstance(part, ast.Attribute) and part.attr == "saved_tensors" for part in ast.walk(node)))
        for path in Path(bridge.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "backward"
    ]
    assert len(found) > 15 and [name for name, count in found if count > 1] == []


def test_an_unknown_backend_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("SIMENGINE_KERNELS", "metal")
    with pytest.raises(ValueError, match="SIMENGINE_KERNELS='metal': expected warp, taichi or reference"):
        bridge.backend("warp")


def test_taichi_refuses_half_precision() -> None:
    with pytest.raises(TypeError, match="float32 or float64"):
        taichi_bridge.scalar(torch.zeros(1).half())


ORDERS = {
    "taichi first": "import taichi; import warp; import torch",
    "torch, taichi, warp": "import torch; import taichi; import warp",
    "warp first": "import warp; import torch; import taichi",
}
BOTH = """
{imports}
from simengine.ops import taichi_bridge
from simengine.ops.matter import svd
F = torch.eye(3).expand(2, 3, 3) * 2.0
assert torch.equal(svd.polar_svd(F)[1], torch.full((2, 3), 2.0))  # a Warp kernel
ti = taichi_bridge.start()
field = ti.field(ti.f32, 3)
field.fill(7.0)  # a Taichi kernel
assert field.to_torch().tolist() == [7.0] * 3
assert torch.equal(svd.polar_svd(F)[1], torch.full((2, 3), 2.0))
"""


@pytest.mark.parametrize("order", list(ORDERS))
def test_imports_in_any_order(order: str) -> None:
    code = BOTH.format(imports=ORDERS[order])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_taichi_starts_without_a_banner() -> None:
    code = "from simengine.ops import taichi_bridge; taichi_bridge.start()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_finite_values_whose_sum_overflows_are_finite() -> None:
    large = torch.full((4,), 3e38)
    assert bridge.all_finite(large) and bridge.all_finite(torch.zeros(0))
    for value in (float("inf"), float("nan")):
        assert not bridge.all_finite(torch.tensor([1.0, value]))
    assert not bridge.all_finite(torch.tensor([float("inf"), -float("inf")]))
