"""The Taichi volume march on Vulkan against the float64 reference; Mesa's lavapipe (mesa-vulkan-drivers) is enough."""

import os
import subprocess
import sys

import pytest

PARITY = """
import sys
import torch
from simengine.ops import taichi_bridge
from simengine.ops.light import volume, volume_reference

torch.set_num_threads(1)
torch.manual_seed(0)
ti = taichi_bridge.start()
if ti.lang.impl.current_cfg().arch != ti.vulkan:
    sys.exit(77)
field = torch.rand(20, 9, 12, 3, dtype=torch.float64)
field[:, :, 8:] = 0  # the farther of the bricks of 8^3 cells hold something at their first nodes only
field[9:] = 0
origins = torch.rand(50, 3, dtype=torch.float64) * torch.tensor([19.0, 8, 11])
directions = 8 * torch.randn(50, 3, dtype=torch.float64)
near, far = torch.rand(50, dtype=torch.float64) - 1, torch.rand(50, dtype=torch.float64) + 0.2
exact = [value.requires_grad_() for value in (field, origins, directions, near, far)]
single = [value.detach().float().requires_grad_() for value in exact]
for emission in (False, True):
    for sparse in (False, True):
        ours = volume.march_rays(*single, step=0.05, emission=emission, sparse=sparse)
        reference = volume_reference.march_rays(*exact, step=0.05, emission=emission, sparse=sparse)
        cotangents = [torch.randn_like(value) for value in reference]
        gradients = torch.autograd.grad(ours, single, [value.float() for value in cotangents])
        expected = torch.autograd.grad(reference, exact, cotangents)
        for a, b in zip((*ours, *gradients), (*reference, *expected), strict=True):
            error = float((a.double() - b).norm() / b.norm())
            # rounding of some 30 float32 steps; a sample that moves over a cell's face moves its slope too
            assert error < 2e-4, (emission, sparse, error)
"""


def test_parity_on_vulkan() -> None:
    # in a process of its own: Taichi runs on one architecture per process, and a broken driver may end it
    environment = {**os.environ, "SIMENGINE_KERNELS": "taichi", "TI_ARCH": "vulkan"}
    result = subprocess.run(
        [sys.executable, "-c", PARITY], env=environment, capture_output=True, text=True, timeout=300
    )
    if result.returncode == 77 or "vulkan" in result.stderr.lower().rpartition("traceback")[0]:
        pytest.skip("no Vulkan driver; Debian's mesa-vulkan-drivers brings one that needs no GPU")
    assert result.returncode == 0, result.stderr[-2000:]
