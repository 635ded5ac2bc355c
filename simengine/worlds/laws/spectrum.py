"""Linear viscoelasticity of a relaxation spectrum, G(t) = equilibrium + sum moduli exp(-t / times), in closed form."""

import dataclasses
from typing import Annotated, Literal

import torch

from simengine.scene.strict import NonNegative, Positive, Range
from simengine.worlds.laws.elastic import tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maxwell:
    """Branches of a spring and a dashpot side by side (generalised Maxwell), at small strain.

    Attributes:
        times: Relaxation time of each branch [s].
        moduli: Shear modulus of each branch [Pa].
        equilibrium: Shear modulus that never relaxes [Pa]; 0 for a melt.
        nu: Poisson's ratio, the same at all times [1]; only tests along the axes feel it.
    """

    type: Literal["maxwell"] = "maxwell"
    times: tuple[Positive, ...]
    moduli: tuple[Positive, ...]
    equilibrium: NonNegative = 0.0
    nu: Annotated[float, Range(gt=-1, le=0.5)] = 0.5

    def __post_init__(self) -> None:
        if len(self.times) != len(self.moduli) or not self.times:
            raise ValueError(f"moduli: {len(self.moduli)} numbers for {len(self.times)} times")

    def relaxation(self, t: torch.Tensor) -> torch.Tensor:
        """G(t) [Pa], (m,)."""
        return tensor(self.equilibrium) + torch.exp(-t[:, None] / tensor(self.times)) @ tensor(self.moduli)

    def startup(self, t: torch.Tensor) -> torch.Tensor:
        """Integral of G to t [Pa s], (m,): the stress at constant shear rate over that rate."""
        grown = -torch.expm1(-t[:, None] / tensor(self.times))
        return tensor(self.equilibrium) * t + grown @ (tensor(self.moduli) * tensor(self.times))

    def dynamic(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Storage and loss modulus [Pa], (m,), at angular frequencies [rad/s]."""
        x = w[:, None] * tensor(self.times)
        weight = tensor(self.moduli) / (1 + x.square())
        return tensor(self.equilibrium) + (x.square() * weight).sum(1), (x * weight).sum(1)

    def creep(self, t: torch.Tensor) -> torch.Tensor:
        """J(t) [1/Pa], (m,), exactly: the dashpots' strains follow w' = -M w + v s/G, M = diag(1/times) - v v^T/G.

        w_i is the strain of dashpot i times sqrt(moduli_i times_i), v_i = sqrt(moduli_i / times_i), G the sum of all
        moduli; M is symmetric, its eigenvalues are the inverse retardation times, 0 is flow.
        """
        times, moduli = tensor(self.times), tensor(self.moduli)
        total = moduli.sum() + tensor(self.equilibrium)
        v = (moduli / times).sqrt()
        rates, modes = torch.linalg.eigh(torch.diag(1 / times) - torch.outer(v, v) / total)
        x = rates * t[:, None]
        flows = x < 1e-9
        safe = torch.where(flows, torch.ones_like(x), x)
        grown = t[:, None] * torch.where(flows, 1 - x / 2, -torch.expm1(-safe) / safe)
        return 1 / total + grown @ (modes.T @ v).square() / total.square()
