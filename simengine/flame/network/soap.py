"""SOAP: Adam in the eigenbases of Shampoo's preconditioner (N. Vyas et al., arXiv 2409.11321)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Soap(torch.optim.Optimizer):
    """For parameters that are matrices, in the eigenbases of the means of G G^T and G^T G; for others, Adam.

    Args:
        params: Matrices (p, q), vectors and scalars.
        lr: Step.
        betas: Decay of the means of the gradient, and of its square and the two products.
        eps: Added to the root of the mean square.
        refresh: Steps between two computations of the eigenbases.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        *,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-12,
        refresh: int = 10,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "refresh": refresh})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _move(parameter, self.state[parameter], group)
        return loss


def _move(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One step of one parameter."""
    gradient, (keep, keep_square) = parameter.grad, group["betas"]
    assert gradient is not None
    if not state:
        state["count"], state["mean"], state["square"] = 0, torch.zeros_like(gradient), torch.zeros_like(gradient)
        if gradient.dim() == 2:
            state["products"] = [gradient @ gradient.T, gradient.T @ gradient]
            state["bases"] = [torch.linalg.eigh(product).eigenvectors for product in state["products"]]
    state["count"] += 1
    state["mean"].lerp_(gradient, 1 - keep)
    moved, mean = gradient, state["mean"]
    if "bases" in state:
        left, right = state["bases"]
        moved, mean = left.T @ moved @ right, left.T @ mean @ right
    state["square"].mul_(keep_square).addcmul_(moved, moved, value=1 - keep_square)
    square = state["square"] / (1 - keep_square ** state["count"])
    change = mean / (1 - keep ** state["count"]) / (square.sqrt() + group["eps"])
    if "bases" in state:
        change = left @ change @ right.T
        for product, new in zip(state["products"], (gradient @ gradient.T, gradient.T @ gradient), strict=True):
            product.lerp_(new, 1 - keep_square)
        if state["count"] % group["refresh"] == 0:
            _turn(state)
    parameter.sub_(change, alpha=group["lr"])


def _turn(state: dict[str, Any]) -> None:
    """New eigenbases by a step of orthogonal iteration, with the mean squares in the same order."""
    for k, product in enumerate(state["products"]):
        old = state["bases"][k]
        order = (old.T @ product @ old).diagonal().argsort(descending=True)
        state["square"] = state["square"].index_select(k, order)
        state["bases"][k] = torch.linalg.qr(product @ old[:, order]).Q
