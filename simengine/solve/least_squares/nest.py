"""Unknowns and residuals in nests of dicts, lists and tensors, complex ones too, as the real vectors of a solve."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree


class Nest:
    """Unknowns of any form as one real vector.

        nest = Nest({"rate": torch.ones((), dtype=torch.float64), "modes": torch.zeros(3, dtype=torch.complex128)})
        solution = least_squares(nest.flattened(residual), nest.flat, args)
        nest.unflat(solution.value)["modes"]

    A complex entry is two real unknowns, its real and its imaginary part.

    Args:
        start: Nest of dicts, lists, tuples and tensors, of one precision.

    Attributes:
        flat: The start as a vector, (n,).

    Raises:
        ValueError: There is no tensor in it, one is of whole numbers, or precisions differ.
    """

    def __init__(self, start: Any) -> None:
        leaves, self._form = pytree.tree_flatten(start)
        for leaf in leaves:
            if not isinstance(leaf, torch.Tensor) or not (leaf.dtype.is_floating_point or leaf.dtype.is_complex):
                got = f"of {leaf.dtype}" if isinstance(leaf, torch.Tensor) else type(leaf).__name__
                raise ValueError(f"start: expected real or complex tensors of floating point, got one {got}")
        if len({leaf.dtype.to_real() for leaf in leaves}) != 1:
            raise ValueError(f"start: expected tensors of one precision, got {[str(leaf.dtype) for leaf in leaves]}")
        self._likes: list[torch.Tensor] = leaves
        self._sizes = [leaf.numel() * (2 if leaf.dtype.is_complex else 1) for leaf in leaves]
        self.flat: torch.Tensor = self.flatten(start)

    def flatten(self, nest: Any) -> torch.Tensor:
        """A nest of the form of the start, as bounds have it, as a vector (n,).

        Raises:
            ValueError: It has another form.
        """
        leaves, form = pytree.tree_flatten(nest)
        if form != self._form or [leaf.shape for leaf in leaves] != [leaf.shape for leaf in self._likes]:
            raise ValueError("nest: expected the form and the shapes of the start")
        return flattened(leaves)

    def unflat(self, y: torch.Tensor) -> Any:
        """The nest of a vector (n,), or of each of a batch (b, n): then its tensors are (b, ...)."""
        found = []
        for part, like in zip(y.split(self._sizes, -1), self._likes, strict=True):
            if like.dtype.is_complex:
                part = torch.complex(*part.unflatten(-1, (2, -1)).unbind(-2))
            found.append(part.reshape((*y.shape[:-1], *like.shape)))
        return pytree.tree_unflatten(found, self._form)

    def flattened(self, function: Callable[[Any, Any], Any]) -> Callable[[torch.Tensor, Any], torch.Tensor]:
        """A residual or constraint of the nest (and `args`), itself of any form, as one of vectors."""
        return lambda y, args: flattened(pytree.tree_flatten(function(self.unflat(y), args))[0])


def flattened(leaves: list[torch.Tensor]) -> torch.Tensor:
    """Tensors one after the other as a real vector, of complex ones the real parts before the imaginary ones."""
    parts = [part for leaf in leaves for part in ((leaf.real, leaf.imag) if leaf.dtype.is_complex else (leaf,))]
    return torch.cat([part.reshape(-1) for part in parts])
