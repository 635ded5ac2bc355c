"""The hidden units and scales of an isotropic law: what its bridge and its reference share."""

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class IsotropicUnits:
    """What does not learn.

    Attributes:
        slope: g' of the hidden units.
        curvature: Its derivative.
        strain_scale: a [1].
        modulus: M [Pa].
    """

    slope: Callable[[torch.Tensor], torch.Tensor]
    curvature: Callable[[torch.Tensor], torch.Tensor]
    strain_scale: float
    modulus: float
