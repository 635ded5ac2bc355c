"""Fourier neural operators in one to three dimensions, branch-trunk networks, and what they leave as it is."""

import math

import pytest
import torch

from simengine.constraint import AbstractFamily, AllenCahn, Burgers, DiffusionSorption, NavierStokes
from simengine.constraint.basis import Backbone, BranchTrunk, OperatorBasis
from simengine.constraint.fno import FNO, SpectralConvolution

FAMILIES = [
    DiffusionSorption(nt=12, nx=10),
    NavierStokes(nt=8, size=10),
    Burgers(nt=12, nx=10),
    AllenCahn(nt=12, nx=10),
]
NAMES = [type(family).__name__ for family in FAMILIES]


def wave(grid: tuple[int, ...], frequency: tuple[int, ...]) -> torch.Tensor:
    phase = torch.zeros(grid, dtype=torch.float64)
    for axis, (size, k) in enumerate(zip(grid, frequency, strict=True)):
        place = 2 * math.pi * k * torch.arange(size, dtype=torch.float64) / size
        phase = phase + place.reshape([-1 if a == axis else 1 for a in range(len(grid))])
    return phase.cos()


@pytest.mark.parametrize("dimension", [1, 2, 3])
@torch.no_grad()
def test_spectral_convolution_scales_and_shifts_waves(dimension: int) -> None:
    # a wave of one frequency comes out with the amplitude and phase of its weight, on any grid; one beyond is dropped
    layer = SpectralConvolution(1, [3] * dimension)
    kept, dropped = (2, -1, 1)[-dimension:], (0,) * (dimension - 1) + (4,)
    for size in (12, 20):
        grid = (size,) * dimension
        out = layer(wave(grid, kept)[None, None])
        spectrum = torch.fft.rfftn(out[0, 0], norm="forward").abs()
        assert int((spectrum > 1e-12).sum()) <= 2  # nothing but this wave
        corner = {1: 0, 2: 1, 3: 1}[dimension]  # the sign of the frequencies before the last
        where = tuple(k if k >= 0 else k + 3 for k in kept)
        weight = torch.view_as_complex(layer.weight)[(corner, 0, 0, *where)]
        assert float(out.norm()) == pytest.approx(float(weight.abs()) * (0.5 * size**dimension) ** 0.5, rel=1e-10)
        assert float(layer(wave(grid, dropped)[None, None]).abs().max()) < 1e-12


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_operator_knows_no_grid_and_no_origin(dimension: int) -> None:
    torch.manual_seed(0)
    operator = FNO(inputs=1, outputs=2, modes=[2] * dimension, width=6, depth=2)
    coarse, fine = (wave((n,) * dimension, (1,) * dimension)[None, ..., None] for n in (16, 32))
    every = (slice(None),) + (slice(None, None, 2),) * dimension
    with torch.no_grad():
        # the nonlinearity makes frequencies that the coarse grid holds only in part
        assert torch.allclose(operator(fine)[every], operator(coarse), atol=1e-3)
        moved = operator(coarse.roll(3, dims=1))
        assert torch.allclose(moved, operator(coarse).roll(3, dims=1), atol=1e-12)
    assert operator(coarse).shape == (1, *[16] * dimension, 2)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
@torch.no_grad()
def test_initial_values_stay(family: AbstractFamily) -> None:
    members = family.draw(3, torch.Generator().manual_seed(0))
    coordinates = family.coordinates()
    assert coordinates.shape[:-1] == tuple(family.shape) and float(coordinates.abs().max()) <= 1 + 1e-12
    inputs = family.inputs(members).shape[1]
    dimension, hints = len(family.shape), family.hints(members).shape[-1]
    networks = [
        BranchTrunk(inputs=inputs, coordinates=coordinates.shape[-1], size=4, modes=5, width=8, depth=2),
        BranchTrunk(inputs=0, coordinates=coordinates.shape[-1], size=4, width=8, depth=2),
        OperatorBasis(coordinates=coordinates.shape[-1], size=4, modes=[2] * dimension, width=6, depth=2, hints=hints),
    ]
    for network in networks:
        basis, base = Backbone(network)(family, members)
        assert basis.shape == (3, *family.shape, 4) and base.shape == (3, *family.shape)
        assert basis.dtype == torch.float64 and float(basis[:, 1:].abs().max()) > 0
        assert float(basis[:, 0].abs().max()) == 0
        start = next(iter(members.values()))
        assert torch.allclose(base[:, 0], start.reshape(3, *[1] * (dimension - start.ndim), *start.shape[1:]))


@torch.no_grad()
def test_a_trunk_serves_other_grids() -> None:
    torch.manual_seed(0)
    network = Backbone(BranchTrunk(inputs=1, coordinates=4, size=3, modes=4, width=8, depth=2))
    members = {"u0": torch.tensor([0.05, 0.15], dtype=torch.float64)}
    coarse, fine = (network(DiffusionSorption(nt=11, nx=nx), members)[0] for nx in (5, 15))
    assert torch.allclose(fine[:, :, 1::3], coarse, atol=1e-14)  # cell centres of thirds


def test_the_left_boundary_is_exact() -> None:
    # factor and base - 1 vanish at x = 0 in the limit of fine cells, first order in dx
    family = DiffusionSorption(nt=11, nx=4096)
    base, factor = family.lifting({"u0": torch.tensor([0.1], dtype=torch.float64)})
    assert float((base[0, 1:, 0] - 1).abs().max()) < 2e-3 and float(factor[1:, 0].abs().max()) < 2e-3


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="expected 1 to 3 numbers of at least 1"):
        FNO(inputs=1, outputs=1, modes=[2, 2, 2, 2])
    with pytest.raises(ValueError, match="axis 0 of 6 points holds 3 of them, got 4"):
        FNO(inputs=1, outputs=1, modes=[4, 2])(torch.zeros(1, 6, 6, 1, dtype=torch.float64))
