"""Pieces of an increment, each against its formula."""

import pytest
import torch

from simengine.materials import Dissipation, rubber
from simengine.mpm import MPMModel, MPMState
from simengine.mpm.increment import TangentSolves
from simengine.mpm.response import Response

VISCOSITY = 7.0  # [Pa s]


def test_the_blocks_of_free_displacements_are_symmetric_and_held_ones_are_one() -> None:
    """(B + B^T) / 2 on what is free: what conjugate gradients may be preconditioned with."""
    block = torch.tensor([[[4.0, 1.0, 0.5], [0.0, 3.0, 2.0], [1.5, 0.0, 5.0]]], dtype=torch.float64)
    free = torch.tensor([[True, False, True]])
    expected = torch.tensor([[[4.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 5.0]]], dtype=torch.float64)
    assert torch.equal(TangentSolves._on_free(block, free), expected)


@pytest.mark.parametrize("span", [0.0, 0.01, 0.04])
def test_viscosity_resists_the_rate_of_an_increment(span: float) -> None:
    """A shear of 0.02 within a span is a rate of 0.02 / span [1/s]; an increment without a span has no rate."""
    law = rubber(E=1e4, nu=0.3)
    elastic = MPMModel(num_grids=8, dt=1e-3, materials=[law], volume=2e-3, mass=1.0, gravity=(0.0, 0.0, 0.0))
    viscous = rubber(E=1e4, nu=0.3)
    viscous.dissipation = Dissipation(VISCOSITY)
    lossy = MPMModel(num_grids=8, dt=1e-3, materials=[viscous], volume=2e-3, mass=1.0, gravity=(0.0, 0.0, 0.0))
    state = MPMState.at_rest(torch.full((1, 3), 0.5, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    y = torch.zeros(1, 3, 4, dtype=torch.float64)
    y[0, 0, 2] = 0.02  # du_x / dy
    with torch.no_grad():
        both = [Response(model, state, span=span, relaxed=False).forces(y)[0, :, 1:] for model in (elastic, lossy)]
    added = both[1] - both[0]  # V tau (I + G)^-T
    back = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + y[0, :, 1:])
    rate = y[0, :, 1:] @ back / span if span else torch.zeros(3, 3, dtype=torch.float64)
    tau = VISCOSITY * (rate + rate.T)
    assert torch.allclose(added, 2e-3 * tau @ back.T, rtol=1e-9, atol=1e-15)
    assert span == 0 or float(added[0, 1]) == pytest.approx(2e-3 * VISCOSITY * 0.02 / span, rel=1e-3)
