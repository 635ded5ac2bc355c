"""What a world of a volume says of itself beside a reference."""

from pathlib import Path

import numpy as np
import torch

from simengine.scene.loader import make_scene
from simengine.worlds.objects.volume import VolumeWorld


def test_the_threshold_that_suits_a_picture_best(tmp_path: Path) -> None:
    """A cell is filled above the threshold, not at it: of 1, 2, ..., 59 the first that parts 15 from 30 is 15."""
    from PIL import Image

    Image.fromarray(np.array([[0, 255], [0, 255]], dtype=np.uint8)).save(tmp_path / "true.png")
    data = {"kind": "volume", "volume": {"box": [[0.0, 1.0], [0.0, 1.0]], "cells": [2, 2]}}
    world = make_scene(data, directory=tmp_path, locate=lambda key: key)
    assert isinstance(world, VolumeWorld)
    field = torch.tensor([[0.0, 15.0], [30.0, 60.0]], dtype=torch.float64)  # along x, then up
    told = world.beside("volume.attenuation", field, {"file": "true.png", "threshold": 45.0})
    assert told["matthews, best threshold"] == 1.0 and told["best threshold"] == 15.0
    assert abs(told["matthews"] - 3**-0.5) < 1e-12  # of two filled one is found: (1 * 2 - 0)/sqrt(1 * 2 * 2 * 3)
