"""The scene of NCLaw's training set: a cube of 10 x 10 x 10 particles thrown into a box."""

import itertools
from collections.abc import Callable

import pytest
import torch

from simengine import materials, mpm

SPACING = 0.5 / 9


def cube(n: int = 10, dtype: torch.dtype = torch.float64) -> mpm.MPMState:
    """The thrown cube; with fewer particles an edge, its corner at the same place."""
    line = torch.linspace(-0.25, 0.25, 10, dtype=torch.float64)[:n]
    arm = torch.tensor(list(itertools.product(line.tolist(), repeat=3)), dtype=torch.float64)
    spin = torch.full_like(arm, 4.0)
    v = torch.tensor([1.0, -1.5, -2.0], dtype=torch.float64) + torch.linalg.cross(spin, arm)
    return mpm.MPMState.at_rest((0.5 + arm).to(dtype), v.to(dtype))


def model(*kinds: materials.Material, **options) -> mpm.MPMModel:
    """NCLaw's low preset."""
    settings = {"num_grids": 20, "dt": 5e-4, "volume": 1.25e-4, "mass": 0.125, "epsilon": 1e-7, **options}
    return mpm.MPMModel(materials=list(kinds), **settings)


@pytest.fixture
def make_cube() -> Callable[..., mpm.MPMState]:
    return cube


@pytest.fixture
def make_model() -> Callable[..., mpm.MPMModel]:
    return model
