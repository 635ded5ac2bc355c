"""Flows between round nozzles and between slots: beside the inviscid solutions, and reverse sweeps."""

import math

import pytest
import torch

from simengine.flame.equations.base import local_jacobian
from simengine.flame.equations.counterflow import CounterflowFlame, DiffusionFlame
from simengine.flame.equations.detailed import Mixture
from simengine.flame.equations.single_nozzle import TwinFlame
from simengine.flame.equations.stagnation import Geometry
from simengine.flame.gas.mechanism_yaml import load_mechanism
from simengine.flame.gas.thermochemistry import Gas
from simengine.flame.solver.lighting import unburnt
from simengine.flame.solver.solve import GridSolver

CONDITIONS = {"mixture": Mixture({"CH4": 1.0}), "p": torch.tensor(101325.0), "T_in": torch.tensor(300.0)}


@pytest.fixture(scope="module")
def gas() -> Gas:
    return Gas(load_mechanism("methane_1step"), smoothing=1e-7)


@pytest.mark.parametrize(
    ("geometry", "factor", "error"),
    # u = U cos(pi x/(2 L)), in which nothing slides, and u = U (1 - (x/L)^2), with a thin layer of shear
    [("planar", math.pi / 2, 1e-3), ("axisymmetric", 1.0, 2e-2)],
)
def test_fast_cold_streams_have_the_curvature_of_inviscid_ones(
    gas: Gas, geometry: Geometry, factor: float, error: float
) -> None:
    """Air against air, 17 m/s from nozzles 2 cm apart: Lambda = -rho (U/L)^2 times 1, or (pi/2)^2 between slots."""
    flux = torch.tensor(20.0, dtype=torch.float64)
    air = {"O2": 1.0, "N2": 3.76}
    streams = CounterflowFlame(
        gas=gas,
        **CONDITIONS,
        phi=torch.tensor(1e-6),
        opposed=air,
        mass_flux_left=flux,
        mass_flux_right=flux,
        geometry=geometry,
    )
    found = unburnt(streams, GridSolver().set_refine_criteria(slope=0.02, curve=0.05))
    inviscid = -(factor**2) * 20.0**2 / float(streams.rho_in[0]) / 0.01**2
    assert float(found.eigenvalue[0]) == pytest.approx(inviscid, rel=error)


@pytest.mark.parametrize("kind", [DiffusionFlame, TwinFlame])
def test_local_derivatives_between_slots_are_those_of_reverse_sweeps(gas: Gas, kind: type[DiffusionFlame]) -> None:
    flame = kind(gas=gas, **CONDITIONS, phi=torch.tensor(1.0), geometry="planar")
    x = torch.linspace(0, flame.length, 7, dtype=torch.float64)[None, None]
    y, z = flame.guess(x)
    dy, at = (
        100 * torch.cos(torch.arange(y.numel()).reshape(y.shape).double()),
        z[:, None, None, None].expand(1, 1, 7, 1),
    )
    own, swept = flame.local_jacobian(y, dy, at), local_jacobian(flame.flux_and_source, y, dy, at)
    for mine, theirs in zip(own, swept, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
