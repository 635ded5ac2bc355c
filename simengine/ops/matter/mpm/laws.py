"""Constitutive laws in torch, between the captured launches of a rollout: their values and their gradients."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call


class LawRecord(NamedTuple):
    """One evaluation of a law.

    Attributes:
        inputs: F, and q where the law takes it: leaves of the graph that leads to the outputs; none without a graph.
        outputs: tau, or F, or F and q.
    """

    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Laws:
    """The laws of the particles.

    Attributes:
        elastic: Number of each particle's elastic law, shape (n,), int32; -1 where it is evaluated by torch.
        plastic: Of its return map, the same.
        critical: Packing over that at rest below which a grain presses on nothing [1], shape (n,), 0 for others; None
            where no law has one.
        part: Row of the table with the load on each particle, shape (n,), int32, 0 for none; None where there is none.
        torch: The laws that torch evaluates.
    """

    elastic: torch.Tensor
    plastic: torch.Tensor
    critical: torch.Tensor | None = None
    part: torch.Tensor | None = None
    torch: tuple["TorchLaw", ...] = ()


class TorchLaw:
    """A law that torch evaluates on the particles of one material.

    A module may split its `forward` into `prepared(F)`, tensors that depend on parameters alone, in the dtype of F, and
    `evaluate(F, *prepared)`: then the first is done once for a rollout.

    Args:
        module: Takes F (n, 3, 3), and q (n,) where it has `uses_history`; returns tau (n, 3, 3), or, of a return map, F
            (n, 3, 3), with q (n,) where it has `uses_history`.
        particles: Indices of the material's particles; None for all.
        plastic: Whether the law is a return map.

    Attributes:
        sources: Tensors that the law depends on and that want a gradient, set by `find_sources`.
        leaves: What stands for each in the graphs of evaluations, where none may depend on another.
        rows: Their places among the sources of all laws.
    """

    def __init__(self, module: nn.Module, particles: torch.Tensor | None, *, plastic: bool) -> None:
        self.module: nn.Module = module
        self.particles: torch.Tensor | None = particles
        self.plastic: bool = plastic
        self.history: bool = bool(getattr(module, "uses_history", False))
        self.sources: list[torch.Tensor] = []
        self.leaves: list[torch.Tensor] = []
        self.rows: list[int] = []
        self._tensors = self._now()
        self._call: Callable[..., Any] = module

    def _now(self) -> dict[str, torch.Tensor]:
        return dict([*self.module.named_parameters(), *self.module.named_buffers()])

    def bind(self) -> None:
        """Go on with the tensors of the time this was made, also where `functional_call` has taken them back."""
        if self._call is self.module:
            now = self._now()
            if any(now.get(name) is not tensor for name, tensor in self._tensors.items()):
                self._call = self._with_tensors

    def _with_tensors(self, *arguments: torch.Tensor) -> Any:
        return functional_call(self.module, self._tensors, arguments)

    def __call__(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Evaluate on the material's own F, and q where the law takes it.

        Raises:
            ValueError: The law returned another shape.
        """
        F, found = arguments[0], self._call(*arguments)
        outputs = found if isinstance(found, tuple) else (found,)
        if outputs[0].shape != F.shape:
            raise ValueError(
                f"{type(self.module).__name__} must return {'F' if self.plastic else 'tau'} of shape "
                f"{tuple(F.shape[1:])} each, got {tuple(outputs[0].shape)}"
            )
        return tuple(output.to(F.dtype) for output in outputs)

    def own(self, tensor: torch.Tensor) -> torch.Tensor:
        """The material's values of a tensor of all particles."""
        return tensor if self.particles is None else tensor[self.particles]

    def pick(self, F: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the law takes of all particles' F and q."""
        return (self.own(F), self.own(q)) if self.history else (self.own(F),)

    def put(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Write the material's values into a tensor of all particles."""
        if self.particles is None:
            target.copy_(value)
        else:
            target.index_copy_(0, self.particles, value)

    def replaced(self, tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """A tensor of all particles with the material's values in place of its own; differentiable."""
        return value if self.particles is None else tensor.index_copy(0, self.particles, value)

    def add(self, target: torch.Tensor, value: torch.Tensor) -> None:
        """Add the material's values to a tensor of all particles."""
        if self.particles is None:
            target.add_(value)
        else:
            target.index_add_(0, self.particles, value)

    def evaluate(self, arguments: tuple[torch.Tensor, ...], *, record: bool) -> LawRecord:
        """Evaluate on the material's own F (and q), with a graph from them to the outputs if asked for."""
        if not record:
            with torch.no_grad():
                return LawRecord((), self(*arguments))
        with torch.enable_grad():
            # .data: what is written into other slots of the buffer is no change of what the graph keeps
            inputs = tuple(tensor.data.requires_grad_() for tensor in arguments)
            return LawRecord(inputs, self(*inputs))

    def pull_back(
        self, record: LawRecord, cotangents: Sequence[torch.Tensor]
    ) -> tuple[Sequence[torch.Tensor | None], Sequence[torch.Tensor | None]]:
        """The cotangents of a record's inputs and of the sources from those of all particles' outputs."""
        inputs, count = (*record.inputs, *self.leaves), len(record.inputs)
        pairs = [
            (output, self.own(bar))
            for output, bar in zip(record.outputs, cotangents, strict=False)
            if output.requires_grad
        ]
        if not pairs:
            return [None] * count, [None] * len(self.leaves)
        outputs, bars = zip(*pairs, strict=True)
        # a graph may go on into one of the caller's, which is not ours to free
        found = torch.autograd.grad(outputs, inputs, bars, retain_graph=True, allow_unused=True)
        return found[:count], found[count:]

    def find(self, F: torch.Tensor, q: torch.Tensor) -> None:
        """Set `sources`: prepared tensors, or parameters, buffers, and what else an evaluation's graph leads to."""
        module: Any = self.module
        if _splits(module):
            prepared = module.prepared(F)
            inner = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in prepared]
            self._call = lambda *arguments: module.evaluate(*arguments, *inner)
            self.sources = [tensor for tensor in prepared if tensor.requires_grad]
            self.leaves = [tensor for tensor in inner if tensor.requires_grad]
            return
        if not torch.is_grad_enabled():
            return
        self.sources = [tensor for tensor in self._tensors.values() if tensor.requires_grad]
        if not all(tensor.is_leaf for tensor in self.sources):  # put in by `functional_call`
            self._tensors = {k: t.detach().requires_grad_(t.requires_grad) for k, t in self._tensors.items()}
            self._call = self._with_tensors
        self.leaves = [tensor for tensor in self._tensors.values() if tensor.requires_grad]
        outputs = self(*(tensor.detach() for tensor in self.pick(F, q)))
        seen = {get_gradient_edge(tensor).node for tensor in self.leaves}
        nodes = [output.grad_fn for output in outputs]
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if hasattr(node, "variable"):
                self.sources.append(node.variable)
                self.leaves.append(node.variable)
            nodes += [following for following, _ in node.next_functions]


def _splits(module: nn.Module) -> bool:
    """Whether `evaluate(F, *prepared(F))` is what the module's call does: `forward` is not overridden beyond them."""
    if (
        not hasattr(module, "prepared")
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
    ):
        return False
    owners = [next(c for c in type(module).__mro__ if name in vars(c)) for name in ("forward", "prepared", "evaluate")]
    return all(issubclass(owner, owners[0]) for owner in owners)


def find_sources(laws: Sequence[TorchLaw], F: torch.Tensor, q: torch.Tensor) -> list[torch.Tensor]:
    """Prepare laws for a rollout; tensors that they depend on and that want a gradient, each once.

    Args:
        laws: Of which `sources` and `rows` are set.
        F: Of all particles [1], shape (n, 3, 3): where the laws are evaluated to find out.
        q: Of all particles, shape (n,).
    """
    found: list[torch.Tensor] = []
    places: dict[int, int] = {}
    for law in laws:
        law.find(F, q)
        law.rows = []
        for tensor in law.sources:
            if id(tensor) not in places:
                places[id(tensor)] = len(found)
                found.append(tensor)
            law.rows.append(places[id(tensor)])
    return found
