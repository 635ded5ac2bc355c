"""What a constitutive law is: modules F -> tau and F -> F, and how the shipped ones reach their kernels."""

import abc
from typing import ClassVar

import torch
from torch import nn

from simengine.materials.dissipation import Dissipation
from simengine.ops.matter import constitutive

Coefficient = float | torch.Tensor
"""A number, a tensor or an `nn.Parameter`: 0-d for the whole material or (n,), one value per particle of it."""


def lame(E: torch.Tensor, nu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lamé coefficients mu, lam [Pa] from Young's modulus E [Pa] and Poisson's ratio nu [1]."""
    E, nu = E.double(), nu.double()
    return E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))


class AbstractLaw(nn.Module):
    """The base of shipped laws. A law of one's own may be any `nn.Module`; it need not derive from this.

    Attributes:
        kind: Number of the law in its kernel.
        uses_history: Whether the law takes (and, if plastic, returns) the history variable q beside F.
        columns: Coefficients that it has, where there are more than all laws have room for.
    """

    kind: ClassVar[int]
    uses_history: bool = False
    columns: ClassVar[int] = 0

    def _set(self, name: str, value: Coefficient, *, above: float = -float("inf"), below: float = float("inf")) -> None:
        """Keep a coefficient: a parameter if it is one, otherwise a float64 buffer.

        Raises:
            ValueError: The value is not strictly between the bounds, or has more than one dimension.
        """
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=torch.float64)
        if tensor.ndim > 1:
            raise ValueError(f"{name} must be a number or one value per particle, got shape {tuple(tensor.shape)}")
        with torch.no_grad():
            if not bool(((tensor > above) & (tensor < below)).all()):
                raise ValueError(f"{name} must lie between {above:g} and {below:g} (exclusive), got {tensor.tolist()}")
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    @abc.abstractmethod
    def coefficients(self) -> tuple[torch.Tensor, ...]:
        """The coefficients the kernel reads, in its order, each 0-d or (n,)."""

    def packed(self, n: int, columns: int) -> torch.Tensor:
        """The coefficients of n particles, shape (n, columns), float64, differentiable.

        Raises:
            ValueError: A coefficient per particle has another length than n.
        """
        values = [c.double() for c in self.coefficients()]
        for value in values:
            if value.ndim and len(value) not in (1, n):
                raise ValueError(f"a coefficient of {type(self).__name__} has {len(value)} values for {n} particles")
        rows = [value.expand(n) for value in values]
        device = values[0].device if values else None
        rows += [torch.zeros((), dtype=torch.float64, device=device).expand(n)] * (columns - len(rows))
        return torch.stack(rows, 1)

    def _ids(self, F: torch.Tensor) -> torch.Tensor:
        return torch.full((len(F),), self.kind, dtype=torch.int32, device=F.device)


class AbstractElasticity(AbstractLaw):
    """A shipped elastic law F -> tau."""

    def forward(self, F: torch.Tensor, q: torch.Tensor | None = None) -> torch.Tensor:
        """Kirchhoff stress tau [Pa], shape (n, 3, 3), of F [1], shape (n, 3, 3), and history q, shape (n,)."""
        q = torch.zeros_like(F[:, 0, 0]) if q is None else q
        columns = max(self.columns, constitutive.elasticity.NUM_COEFFICIENTS)
        coefficients = self.packed(len(F), columns).to(F.device)
        return constitutive.stress(F, q, self._ids(F), coefficients)


class AbstractPlasticity(AbstractLaw):
    """A shipped return map F -> F, or (F, q) -> (F, q) where `uses_history`."""

    def forward(
        self, F: torch.Tensor, q: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """F [1] after plastic flow, shape (n, 3, 3); with the history q, shape (n,), where q is given."""
        history = torch.zeros_like(F[:, 0, 0]) if q is None else q
        coefficients = self.packed(len(F), constitutive.plasticity.NUM_COEFFICIENTS).to(F.device)
        F_new, q_new = constitutive.return_map(F, history, self._ids(F), coefficients)
        return F_new if q is None else (F_new, q_new)


class Material(nn.Module):
    """An elastic and a plastic law.

    Args:
        elasticity: Module F -> tau.
        plasticity: Module F -> F.
        dissipation: Viscosity and Maxwell branches; None for none.
    """

    elasticity: nn.Module
    plasticity: nn.Module
    dissipation: Dissipation | None

    def __init__(self, elasticity: nn.Module, plasticity: nn.Module, dissipation: Dissipation | None = None) -> None:
        super().__init__()
        self.elasticity = elasticity
        self.plasticity = plasticity
        self.dissipation = dissipation
