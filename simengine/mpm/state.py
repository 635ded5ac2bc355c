"""What varies in time."""

import dataclasses
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class MPMState:
    """Particles at one time. All tensors share dtype (float32 or float64) and device.

    Attributes:
        x: Positions [m], shape (n, 3).
        v: Velocities [m/s], shape (n, 3).
        C: Velocity gradients of APIC, C_ij = dv_i/dx_j [1/s], shape (n, 3, 3).
        F: Elastic deformation gradients [1], shape (n, 3, 3).
        q: History of the material, shape (n,): plastic strain, or log det F_plastic for snow [1].
        A: What each Maxwell branch has relaxed of the stress on the undeformed body [Pa], shape (n, branches, 3, 3);
            None for no branches.
    """

    x: torch.Tensor
    v: torch.Tensor
    C: torch.Tensor
    F: torch.Tensor
    q: torch.Tensor
    A: torch.Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.A is None:
            object.__setattr__(self, "A", self.q.new_zeros(*self.q.shape, 0, 3, 3))

    @classmethod
    def at_rest(cls, x: torch.Tensor, v: torch.Tensor | None = None, *, branches: int = 0) -> "MPMState":
        """Undeformed particles: C = 0, F = I, q = 0, A = 0.

        Args:
            x: Positions [m], shape (n, 3).
            v: Velocities [m/s], shape (n, 3); None for zero.
            branches: Maxwell branches of the model (`MPMModel.branches`).

        Raises:
            ValueError: x is not of shape (n, 3), or v not of x's.
        """
        if x.ndim != 2 or x.shape[1] != 3:
            raise ValueError(f"x must have shape (n, 3), got {tuple(x.shape)}")
        v = torch.zeros_like(x) if v is None else v
        if v.shape != x.shape:
            raise ValueError(f"v must have the shape of x, {tuple(x.shape)}, got {tuple(v.shape)}")
        C = x.new_zeros(len(x), 3, 3)
        F = torch.eye(3, dtype=x.dtype, device=x.device).expand(len(x), 3, 3).contiguous()
        return cls(x, v.to(x), C, F, x.new_zeros(len(x)), x.new_zeros(len(x), branches, 3, 3))

    def detach(self) -> "MPMState":
        """The same state without its history of operations."""
        return self.map(lambda tensor: tensor.detach())

    def to(self, target: torch.dtype | torch.device | str) -> "MPMState":
        """The state on another device or in another dtype."""
        return self.map(lambda tensor: tensor.to(target))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "MPMState":
        """The state with `function` applied to each tensor."""
        return MPMState(*(function(getattr(self, field.name)) for field in dataclasses.fields(self)))
