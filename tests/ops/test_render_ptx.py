"""The renderers' kernels compile for CUDA, both directions and scalars, without a GPU."""

import re
from pathlib import Path

import pytest
import warp as wp
from simengine.kernels import mesh_raster, surfel, volume


@pytest.mark.parametrize("family", ["mesh_raster", "surfel", "volume"])
@pytest.mark.parametrize("scalar", [wp.float32, pytest.param(wp.float64, marks=pytest.mark.slow)])
def test_ptx(family: str, scalar: type, tmp_path: Path) -> None:
    kernels = {
        "mesh_raster": lambda: mesh_raster.kernels(scalar),
        "surfel": lambda: surfel.kernels(scalar, 4),
        "volume": lambda: volume.kernels(scalar, 4),
    }[family]()
    module = next(iter(vars(kernels).values())).module
    wp.compile_aot_module(module, arch=90, use_ptx=True, module_dir=str(tmp_path))
    text = next(tmp_path.glob("*.ptx")).read_text()
    for name in vars(kernels):
        assert len(re.findall(rf"\.entry \w*__{name}_[0-9a-f]{{8}}_", text)) == 1, name
