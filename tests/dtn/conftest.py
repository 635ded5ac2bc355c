"""Views shared by the tests of the differentiable transformation network."""

import pytest
import torch
from torchvision_operators import give_operators

from simengine.dtn.bodies.car import car
from simengine.dtn.sampler import ViewSampler
from simengine.dtn.views import ViewSet, render_views

give_operators()


@pytest.fixture(scope="session")
def views() -> ViewSet:
    """Twelve views of the car at 64 x 64."""
    torch.set_num_threads(1)
    return render_views(car(), ViewSampler(seed=7), range(12), (64, 64))
