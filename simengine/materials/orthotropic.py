"""Elasticity with three axes, of wood, laminates, muscle: a shipped law beside the isotropic ones."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from simengine.materials.law import AbstractElasticity
from simengine.ops.matter.constitutive import elasticity as kernel
from simengine.solve.rotation import rotation_matrix

Three = Sequence[float] | torch.Tensor
PAIRS = ((0, 1), (0, 2), (1, 2))  # of the axes 1, 2, 3, as nu_12, nu_13, nu_23 and G_12, G_13, G_23 are given


def refuse_unstable(E: Sequence[float], nu: Sequence[float], G: Sequence[float]) -> None:
    """Say by name why a material would give energy away: its stiffness must be positive definite (Lempriere 1968).

    Args:
        E: E_1, E_2, E_3 [Pa].
        nu: nu_12, nu_13, nu_23 [1]: contraction along the second axis in a pull along the first.
        G: G_12, G_13, G_23 [Pa].

    Raises:
        ValueError: It names the number and its bound.
    """
    for name, values in (("E", E), ("G", G)):
        for k, value in enumerate(values):
            if not value > 0:
                raise ValueError(f"{name}.{k}: must be above 0 Pa, got {value:g}")
    for k, (i, j) in enumerate(PAIRS):
        bound = (E[i] / E[j]) ** 0.5
        if not abs(nu[k]) < bound:
            raise ValueError(
                f"nu.{k}: |nu_{i + 1}{j + 1}| must be below sqrt(E_{i + 1} / E_{j + 1}) = {bound:.4g}, got {nu[k]:g}"
            )
    a, b, c = nu
    left = 1 - a * a * E[1] / E[0] - b * b * E[2] / E[0] - c * c * E[2] / E[1] - 2 * a * b * c * E[2] / E[0]
    if not left > 0:
        raise ValueError(
            f"nu: {a:g}, {b:g}, {c:g} together give a negative stiffness (1 - nu_12 nu_21 - nu_13 nu_31 - nu_23 nu_32 "
            f"- 2 nu_21 nu_32 nu_13 = {left:.3g} must be above 0); make one of them smaller"
        )


class Orthotropic(AbstractElasticity):
    """F S F^T with S linear in Green's strain, and the undeformed material's axes (Saint Venant-Kirchhoff).

    For strains of some ten per cent: like every law that is linear in Green's strain it grows softer in compression and
    bears nothing more from a stretch of 0.58 on.

    Args:
        E: Young's moduli E_1, E_2, E_3 [Pa].
        nu: Poisson's ratios nu_12, nu_13, nu_23 [1]; nu_21 = nu_12 E_2 / E_1.
        G: Shear moduli G_12, G_13, G_23 [Pa].
        turn: Rotation vector that turns x, y, z into the axes 1, 2, 3 [rad].

    Raises:
        ValueError: The stiffness is not positive definite.
    """

    kind: ClassVar[int] = kernel.ORTHOTROPIC
    columns = 18

    E: torch.Tensor
    nu: torch.Tensor
    G: torch.Tensor
    turn: torch.Tensor

    def __init__(self, E: Three, nu: Three, G: Three, turn: Three = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        for name, value in (("E", E), ("nu", nu), ("G", G), ("turn", turn)):
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.float64)
            if tensor.shape != (3,):
                raise ValueError(f"{name} must have three entries, got shape {tuple(tensor.shape)}")
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        refuse_unstable(self.E.tolist(), self.nu.tolist(), self.G.tolist())

    def stiffness(self) -> torch.Tensor:
        """C of the normal strains, the inverse of [[1/E_1, -nu_12/E_1, ...], ...] [Pa], (3, 3)."""
        E, nu = self.E.double(), self.nu.double()
        a, b, c = nu[0] / E[0], nu[1] / E[0], nu[2] / E[1]
        rows = ((1 / E[0], -a, -b), (-a, 1 / E[1], -c), (-b, -c, 1 / E[2]))
        return torch.linalg.inv(torch.stack([torch.stack(row) for row in rows]))

    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """C11, C22, C33, C23, C13, C12, G23, G13, G12 [Pa], and the matrix of the axes by rows [1]."""
        C, (G12, G13, G23) = self.stiffness(), self.G.double().unbind()
        normal = (C[0, 0], C[1, 1], C[2, 2], C[1, 2], C[0, 2], C[0, 1])
        return (*normal, G23, G13, G12, *rotation_matrix(self.turn.double()).flatten().unbind())
