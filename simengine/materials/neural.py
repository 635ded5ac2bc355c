"""NCLaw's two networks, exactly as published: the baseline that learned laws are compared with.

Ma et al., "Learning Neural Constitutive Laws From Motion Observations for Generalizable PDE Dynamics", ICML 2023,
arXiv 2304.14369. Equivariance under rotation and rest are exact by construction; isotropy, a symmetric Kirchhoff
stress, an energy, dissipation and det F > 0 are not.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from simengine.materials.law import Material
from simengine.ops.matter.svd import polar_svd

WIDTH = 64
PLASTIC_SCALE = 1e-3


def determinant(F: torch.Tensor) -> torch.Tensor:
    """Determinants of matrices (n, 3, 3), shape (n,), as a triple product (its derivative needs no factorisation)."""
    return (F[:, 0] * torch.linalg.cross(F[:, 1], F[:, 2])).sum(1)


class _PublishedNetwork(nn.Module):
    """R sym(MLP(s - 1, F^T F - I, det F - 1)): layers 13-64-64-9, GELU, no bias, Xavier's uniform initialisation.

    Args:
        width: Width of the hidden layers.
    """

    def __init__(self, *, width: int = WIDTH) -> None:
        super().__init__()
        self.first: nn.Linear = nn.Linear(13, width, bias=False)
        self.second: nn.Linear = nn.Linear(width, width, bias=False)
        self.last: nn.Linear = nn.Linear(width, 9, bias=False)
        for layer in (self.first, self.second, self.last):
            nn.init.xavier_uniform_(layer.weight)

    def rotated_symmetric(self, F: torch.Tensor) -> torch.Tensor:
        """R sym(MLP(invariants)) of F [1], both (n, 3, 3)."""
        R, s = polar_svd(F)
        strain = (F.mT @ F).flatten(1)
        identity = torch.eye(3, dtype=F.dtype, device=F.device).flatten()
        inputs = torch.cat((s - 1, strain - identity, determinant(F)[:, None] - 1), dim=1)
        gelu = nn.functional.gelu
        output = self.last(gelu(self.second(gelu(self.first(inputs))))).view(-1, 3, 3)
        return R @ (0.5 * (output + output.mT))


class NeuralElasticity(_PublishedNetwork):
    """tau = R sym(MLP) F^T [Pa], the output unscaled as published (which is why it needs a learning rate of 1)."""

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress [Pa] from F [1], both (n, 3, 3)."""
        return self.rotated_symmetric(F) @ F.mT


class NeuralPlasticity(_PublishedNetwork):
    """F_new = F + 1e-3 R sym(MLP)."""

    def forward(self, F: torch.Tensor) -> torch.Tensor:
        """F [1] after plastic flow from the trial F, both (n, 3, 3)."""
        return F + PLASTIC_SCALE * self.rotated_symmetric(F)


_PUBLISHED_NAMES = {
    "layers.0.fc.weight": "first.weight",
    "layers.1.fc.weight": "second.weight",
    "final_layer.fc.weight": "last.weight",
}


def nclaw(weights: Mapping[str, Any] | None = None) -> Material:
    """NCLaw's pair of networks.

    Args:
        weights: Published weights, three matrices (out, in) per network, as arrays under
            `{elasticity,plasticity}.{layers.0.fc,layers.1.fc,final_layer.fc}.weight`; None for a fresh initialisation.

    Raises:
        ValueError: A matrix is missing or has another shape.
    """
    material = Material(NeuralElasticity(), NeuralPlasticity())
    if weights is None:
        return material
    for part in ("elasticity", "plasticity"):
        network = getattr(material, part)
        for published, own in _PUBLISHED_NAMES.items():
            name, target = f"{part}.{published}", network.get_parameter(own)
            if name not in weights:
                raise ValueError(
                    f"weights: {name!r} is missing; expected the published names, got {sorted(weights)[:6]}"
                )
            value = torch.as_tensor(weights[name])
            if value.shape != target.shape:
                raise ValueError(f"weights: {name} must have shape {tuple(target.shape)}, got {tuple(value.shape)}")
            with torch.no_grad():
                target.copy_(value)
    return material
