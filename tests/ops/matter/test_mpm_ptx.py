"""Every MPM kernel, forward and adjoint, compiles to PTX for a current GPU, without one."""

import re
from pathlib import Path

import pytest
import warp as wp
from simengine.kernels.matter import (
    between_bodies,
    dissipation,
    elasticity,
    hard_contact,
    isotropic,
    loads,
    mpm,
    mpm_adjoint,
    packing,
    plasticity,
    svd,
)

CASES = [
    ("transfers", wp.float32, False),
    ("laws", wp.float32, False),
    ("losses", wp.float32, False),
    ("contact", wp.float32, False),
    ("bodies", wp.float32, False),
    ("loads", wp.float32, False),
    ("polar", wp.float32, False),
    ("packing", wp.float32, False),
    ("isotropic", wp.float32, False),
    pytest.param("transfers", wp.float64, False, marks=pytest.mark.slow),
    pytest.param("transfers", wp.float64, True, marks=pytest.mark.slow),
    pytest.param("transfers", wp.float32, True, marks=pytest.mark.slow),
    pytest.param("laws", wp.float64, False, marks=pytest.mark.slow),
    pytest.param("polar", wp.float64, False, marks=pytest.mark.slow),
    pytest.param("isotropic", wp.float64, False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("family", "real", "wraps"), CASES)
def test_ptx(family: str, real: type, wraps: bool, tmp_path: Path) -> None:
    namespaces = {
        "transfers": lambda: {**vars(mpm.kernels(real, wraps)), **vars(mpm_adjoint.kernels(real, wraps))},
        "laws": lambda: {**vars(elasticity.kernels(real)), **vars(plasticity.kernels(real))},
        "losses": lambda: vars(dissipation.kernels(real)),
        "loads": lambda: vars(loads.kernels(real)),
        "contact": lambda: vars(hard_contact.kernels(real)),
        "packing": lambda: vars(packing.kernels(real)),
        "bodies": lambda: vars(between_bodies.kernels(real)),
        "polar": lambda: vars(svd.kernels(real)),
        "isotropic": lambda: vars(isotropic.kernels(real)),
    }[family]()
    entries: list[str] = []
    for module in {kernel.module for kernel in namespaces.values()}:
        folder = tmp_path / module.name
        wp.compile_aot_module(module, arch=90, use_ptx=True, module_dir=str(folder))
        text = next(folder.glob("*.ptx")).read_text()
        entries += re.findall(r"\.entry (\w+)", text)
    for name in namespaces:
        assert sum(bool(re.search(rf"__{name}_[0-9a-f]{{8}}_", entry)) for entry in entries) == 1, (name, entries)
