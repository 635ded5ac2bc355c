"""The renderers' kernels compile for CUDA, both directions and scalars, without a GPU."""

import re
from pathlib import Path

import pytest
import warp as wp
from simengine.kernels.light import mesh_raster, surfel, surfel_average, volume


@pytest.mark.parametrize("family", ["mesh_raster", "surfel", "surfel_average", "volume"])
@pytest.mark.parametrize("scalar", [wp.float32, pytest.param(wp.float64, marks=pytest.mark.slow)])
def test_ptx(family: str, scalar: type, tmp_path: Path) -> None:
    kernels = {
        "mesh_raster": lambda: mesh_raster.kernels(scalar),
        "surfel": lambda: surfel.kernels(scalar, 4),
        "surfel_average": lambda: surfel_average.kernels(scalar, 4),
        "volume": lambda: volume.kernels(scalar, 4),
    }[family]()
    entries: list[str] = []
    for module in {kernel.module for kernel in vars(kernels).values()}:
        folder = tmp_path / module.name
        wp.compile_aot_module(module, arch=90, use_ptx=True, module_dir=str(folder))
        entries += re.findall(r"\.entry (\w+)", next(folder.glob("*.ptx")).read_text())
    for name in vars(kernels):
        assert sum(bool(re.search(rf"__{name}_[0-9a-f]{{8}}_", entry)) for entry in entries) == 1, (name, entries)
