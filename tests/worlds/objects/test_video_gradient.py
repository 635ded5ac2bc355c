"""The gradient of a video's loss through 600 steps of sand: exact in positions, and in pixels but for small jumps."""

import pytest
import torch

from simengine.scene import load_world
from simengine.worlds.objects.video import check_gradient


@pytest.mark.slow
def test_sand() -> None:
    misfit = load_world("sand_from_video").build()
    parameters = misfit.parameters()
    z = parameters.z.detach() + 0.05
    truth = {name: torch.tensor(misfit.truth[name], dtype=torch.float64) for name in parameters.entries}
    with torch.no_grad():
        target = misfit.simulate(truth)

    def loss(point: torch.Tensor) -> torch.Tensor:
        return (misfit.simulate(parameters(point)) - target).square().mean()

    leaf = z.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(loss(leaf), leaf)
    step = 1e-6
    with torch.no_grad():
        difference = (loss(z + step) - loss(z - step)) / (2 * step)
    assert float(adjoint) == pytest.approx(float(difference), rel=1e-6)  # measured 6e-10
    assert check_gradient(misfit)["relative_error"] < 0.01  # measured 1e-3
