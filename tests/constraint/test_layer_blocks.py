"""Decompositions of the layer: windows, overlap, splits in more than one direction, memory."""

import os
import subprocess
import sys

import pytest
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, RowWeights
from simengine.constraint.basis import principal_basis
from simengine.constraint.blocks import Blocks, decompose, uniform_cuts
from simengine.constraint.system import ExpertSystem
from simengine.solve.least_squares import LevenbergMarquardt
from simengine.solve.least_squares.adjoint import UnrolledAdjoint
from simengine.solve.least_squares.structures.gram import BlockBandedGram
from simengine.solve.least_squares.structures.schur import SchurGram

PDE = DiffusionSorption(nt=51, nx=96)
U0 = 0.07


@pytest.fixture(scope="module")
def basis() -> torch.Tensor:
    """Eight principal components of twelve solutions, which hold the tested one to 1e-4."""
    values = torch.linspace(0.01, 0.19, 12, dtype=torch.float64)
    return principal_basis(torch.stack([torch.tensor(PDE.solve(float(u0))) for u0 in values]), 8)


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    return torch.tensor(PDE.solve(U0))


def solve(basis: torch.Tensor, layer: HardConstraint) -> torch.Tensor:
    with torch.no_grad():
        found = layer(basis, {"u0": torch.tensor([U0], dtype=torch.float64)})
    assert found.solution.success
    return found.field[0]


def relative(field: torch.Tensor, truth: torch.Tensor) -> float:
    return float((field - truth).norm() / truth.norm())


def blocks(**options: object) -> Blocks:
    cuts = [uniform_cuts(51, 2), uniform_cuts(96, 4)]
    return decompose(PDE, cuts, rows_per_block=50, generator=torch.Generator().manual_seed(0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"overlap": 6}, {"overlap": 6, "periodic": (False, True)}])
def test_windows_are_a_partition_of_unity(options: dict[str, object]) -> None:
    made = blocks(**options)
    total = torch.zeros(51 * 96, dtype=torch.float64)
    for points, window in zip(made.points, made.windows, strict=True):
        assert bool((window > 0).all()) and bool((window <= 1).all())
        total.index_add_(0, points, window)
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-15)
    sizes = [len(points) for points in made.points]
    assert sum(sizes) == 51 * 96 if not options else min(sizes) > 51 * 96 / 8


def test_windows_are_smooth() -> None:
    made = blocks(overlap=6)
    window = torch.zeros(51 * 96, dtype=torch.float64).index_put((made.points[1],), made.windows[1]).reshape(51, 96)
    slope = window[:19].diff(dim=1).abs()  # times at which no other cut is near
    assert float(slope.max()) < 1.6 / 12  # 3/2 of the mean slope of a cubic over 12 cells
    assert float(window[:19, :18].max()) == 0 and float(window[:19, 30:42].min()) == 1
    s = (torch.arange(12, dtype=torch.float64) + 0.5) / 12
    torch.testing.assert_close(window[:19, 18:30], (3 * s**2 - 2 * s**3).expand(19, 12))


def test_overlap_samples_rows_beyond_the_cuts() -> None:
    plain, wide = blocks(), blocks(overlap=6, blend=False)
    assert torch.equal(plain.owner, wide.owner)
    outside = [(wide.owner[wide.rows.position[k]] != k).double().mean() for k in range(8)]
    assert min(outside) > 0.05 and all(bool((plain.owner[plain.rows.position[k]] == k).all()) for k in range(8))
    assert all(torch.equal(a, b) for a, b in zip(plain.points, wide.points, strict=True))  # not blended


def test_bad_overlap() -> None:
    with pytest.raises(ValueError, match="overlap: expected 0 to 12 cells, half the narrowest block, got 13"):
        blocks(overlap=13)
    with pytest.raises(ValueError, match="adjoint: the layer has implicit gradients only"):
        HardConstraint(PDE, adjoint=UnrolledAdjoint())


@pytest.mark.parametrize("blend", [True, False])
def test_overlapping_experts_find_the_truth(blend: bool, basis: torch.Tensor, truth: torch.Tensor) -> None:
    field = solve(basis, HardConstraint(PDE, Decomposition(counts=(1, 4), overlap=8, blend=blend)))
    assert relative(field, truth) < 3e-3  # measured 1.4e-3: the time error of Crank-Nicolson at dt = 10


def test_stitching_passes_from_block_to_block_along_the_windows() -> None:
    # constant functions 1 and 2 in two blocks: a jump without overlap, a ramp of 2 x 12 cells with it
    ones, weights = torch.ones(1, 51, 96, 1, dtype=torch.float64), torch.tensor([[[1.0], [2.0]]], dtype=torch.float64)
    sharp, soft, owned = (
        HardConstraint(PDE, Decomposition(counts=(1, 2), overlap=overlap, blend=blend)).stitch(ones, weights)[0]
        for overlap, blend in ((0, True), (12, True), (12, False))
    )
    assert float(sharp.diff(dim=1).max()) == 1.0 and torch.equal(sharp, owned)
    assert torch.equal(soft[:, :36], sharp[:, :36]) and torch.equal(soft[:, 60:], sharp[:, 60:])
    assert float(soft.diff(dim=1).min()) >= 0 and float(soft.diff(dim=1).max()) < 1.5 / 24 * 1.01
    independent = HardConstraint(PDE, Decomposition(counts=(1, 2), overlap=12, coupled=False))
    assert torch.equal(independent.stitch(ones, weights)[0], soft)


def test_splits_in_time_and_space(basis: torch.Tensor, truth: torch.Tensor) -> None:
    layer = HardConstraint(PDE, Decomposition(counts=(2, 3)))
    system = ExpertSystem(
        PDE, layer.blocks, PDE.table(basis), None, {"u0": torch.tensor([U0])}, coupled=True, weights=layer.weights
    )
    assert isinstance(system.gram, SchurGram) and len(system.gram.kept) == 3
    assert relative(solve(basis, layer), truth) < 3e-3
    chain = HardConstraint(PDE, Decomposition(counts=(1, 2), periodic=(False, True)))  # both faces join the same two
    assert chain.blocks.is_chain and len(chain.blocks.pairs) == 2
    assert isinstance(
        ExpertSystem(
            PDE, chain.blocks, PDE.table(basis), None, {"u0": torch.tensor([U0])}, coupled=True, weights=chain.weights
        ).gram,
        BlockBandedGram,
    )


UNEQUAL = [[0, 51], [0, 3, 31, 96]]


@pytest.mark.parametrize("coupled", [True, False])
def test_blocks_of_unequal_size_see_all_their_rows(coupled: bool, basis: torch.Tensor) -> None:
    # weights that all experts share make one field, whose residuals are known without any blocks
    layer = HardConstraint(PDE, Decomposition(cuts=UNEQUAL, coupled=coupled))
    only = RowWeights(condition=0.0, ridge=0.0)
    u0 = {"u0": torch.tensor([U0], dtype=torch.float64)}
    system = ExpertSystem(PDE, layer.blocks, PDE.table(basis), None, u0, coupled=coupled, weights=only)
    omega = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = omega.repeat(3)[None] if coupled else omega.expand(3, 8)
    rows, table = PDE.rows(), PDE.table(basis)[0] @ omega
    squares = PDE.residual(table[rows.index], rows.data, u0).square()
    column = rows.position % 96
    expected = torch.stack([squares[(column >= a) & (column < b)].sum() for a, b in ((0, 3), (3, 31), (31, 96))])
    found = 2 * system.cost(y, torch.arange(len(y)))
    assert torch.allclose(found, expected.sum()[None] if coupled else expected, rtol=1e-12)
    lin = system.linearise(y, torch.arange(len(y)))
    gradient = system.optimality(y, system.tensors).detach()
    assert torch.allclose(lin["gradient"], gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))


def test_rows_of_a_sample_stand_for_as_many_as_any_other() -> None:
    generator = torch.Generator().manual_seed(0)
    made = decompose(PDE, UNEQUAL, rows_per_block=400, generator=generator)
    assert made.rows.weight is not None
    available = torch.tensor([3.0, 28.0, 65.0], dtype=torch.float64) * 48  # cells times intervals after the skipped
    taken = (made.rows.weight > 0).sum(dim=1)
    assert taken.tolist() == [144, 400, 400]
    share = made.rows.weight.square().sum(dim=1)
    assert torch.allclose(share / share.sum(), available / available.sum(), rtol=1e-12)
    assert float(share.sum()) == pytest.approx(944)  # beside conditions the equations weigh as much as ever
    for k, (low, high) in enumerate(((0, 3), (3, 31), (31, 96))):
        held = made.rows.position[k, : taken[k]]
        assert len(held.unique()) == taken[k] and bool(((held % 96 >= low) & (held % 96 < high)).all())
    assert decompose(PDE, [[0, 51], [0, 48, 96]], rows_per_block=400, generator=generator).rows.weight is None


def test_a_block_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cuts: no equation lies in the block of points \(0 to 2, 0 to 30\)"):
        # the first two times are given, not solved for
        HardConstraint(PDE, Decomposition(cuts=[[0, 2, 51], [0, 30, 96]]))


@pytest.mark.parametrize("counts", [(2, 2), (1, 3)])
def test_gradients_of_overlapping_experts_against_finite_differences(counts: tuple[int, int]) -> None:
    pde = DiffusionSorption(nt=10, nx=18)
    t = torch.linspace(0, 1, 10, dtype=torch.float64)[:, None]
    x = ((torch.arange(18, dtype=torch.float64) + 0.5) / 18)[None]
    basis = torch.stack([x**0 + 0 * t, x + 0 * t, torch.exp(-6 * x) + 0 * t, t * x], dim=-1)[None].clone()
    base, u0 = (0.05 * t * (1 - x))[None].clone(), torch.tensor([0.1], dtype=torch.float64)
    solver = LevenbergMarquardt(tolerance=1e-13, max_iterations=200)
    blocks = Decomposition(counts=counts, overlap=2)
    if counts == (1, 3):  # rows have weights of their own
        blocks = Decomposition(cuts=[[0, 10], [0, 4, 11, 18]], rows_per_block=30, overlap=2)
    layer = HardConstraint(pde, blocks, solver=solver, throw=True)
    cotangent = torch.randn(1, 10, 18, dtype=torch.float64)

    def value(basis: torch.Tensor, base: torch.Tensor, u0: torch.Tensor) -> torch.Tensor:
        found = layer(basis, {"u0": u0}, base)
        assert float(found.solution.stats["cost"]) > 1e-2  # the residual does not vanish
        return (found.field * cotangent).sum() + found.weights.sum()

    leaves = [leaf.requires_grad_() for leaf in (basis, base, u0)]
    gradients = torch.autograd.grad(value(*leaves), leaves)
    for k, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        direction, h = torch.randn_like(leaf) * leaf.detach().abs().mean(), 1e-6
        with torch.no_grad():
            ends = [value(*(b + s * h * direction if i == k else b for i, b in enumerate(leaves))) for s in (1, -1)]
        # the aim is 1e-4; rounding of the solution over h leaves 1e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-6)


MEMORY = """
import sys, torch
from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint
torch.set_num_threads(1)

def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return 1024 * int(line.split()[1])

def peak(layer):
    # resident size at its highest during a call, over that before it, in units of rows x N x 8 bytes
    basis = torch.rand(1, *layer.pde.shape, 16, dtype=torch.float64)
    u0 = torch.tensor([0.05], dtype=torch.float64)
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # sets the high-water mark back
    with torch.no_grad():
        found = layer(basis, dict(u0=u0))
    blocks, rows = layer.blocks.rows.index.shape[:2]
    return (status("VmHWM") - before) / (blocks * rows * 16 * 8)

count, rows = int(sys.argv[1]), int(sys.argv[2])
# code and kernels are loaded first
peak(HardConstraint(DiffusionSorption(nt=11, nx=64), Decomposition(counts=(1, min(count, 2)))))
print(peak(HardConstraint(DiffusionSorption(), Decomposition(counts=(1, count), rows_per_block=rows))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("count", "rows"), [(1, 80_000), (4, 20_000), (16, 5_000)])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_that_of_the_rows(count: int, rows: int) -> None:
    # in units of rows x N x 8 bytes, of which J alone would take one and its rows' entries six
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(count), str(rows)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert 0.1 < float(done.stdout) < 2.0
