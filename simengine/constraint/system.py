"""The least-squares problems of the layer: sampled PDE rows, conditions, interface rows and a ridge."""

from collections.abc import Sequence

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.stitching import StitchedFunctionals
from simengine.ops.normal_equations import normal_equations
from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.gram import AbstractGram, BlockBandedGram, DenseGram, Linearisation
from simengine.solve.system import AbstractSystem


class ExpertSystem(AbstractSystem):
    """Weights omega of K experts per problem, coupled or each a problem of its own.

    y is omega, shape (problems, K n) if coupled, (samples K, n) if independent. The table is gathered per block once; a
    linearisation holds the Jacobian of one block at a time.

    Args:
        pde: The equation.
        blocks: The decomposition.
        table: Functionals of the basis, shape (samples, entries, n), float64.
        base: Functionals of what is added to the combination of basis functions, shape (samples, entries); or None.
        parameters: Constants by name, each of shape (samples, ...).
        coupled: Solve neighbours together, with interface rows.
        condition_weight: Weight of initial and boundary conditions.
        interface_weight: Weight of interface rows.
        ridge: Weight of omega itself.
    """

    once_differentiable = "the hard-constraint layer is once differentiable: do without second derivatives"

    def __init__(
        self,
        pde: AbstractPDE,
        blocks: Blocks,
        table: torch.Tensor,
        base: torch.Tensor | None,
        parameters: dict[str, torch.Tensor],
        *,
        coupled: bool,
        condition_weight: float = 1.0,
        interface_weight: float = 1.0,
        ridge: float = 0.0,
    ) -> None:
        self.pde, self.ridge = pde, ridge
        samples, num = len(table), blocks.num_blocks
        self.experts = num if coupled else 1
        local = table[:, blocks.entries]  # (samples, K, q, n)
        local_base = torch.zeros_like(local[..., 0]) if base is None else base[:, blocks.entries]
        shape = (samples, num) if coupled else (samples * num, 1)
        self.names = list(parameters)
        expanded = [p if coupled else p.repeat_interleave(num, dim=0) for p in parameters.values()]
        self.tensors = (
            local.reshape(*shape, *local.shape[2:]),
            local_base.reshape(*shape, -1),
            *expanded,
        )
        self.size = local.shape[-1]
        self._stitched = StitchedFunctionals(pde, blocks) if self.experts > 1 and pde.of_the_stitched_field else None

        def per_problem(value: torch.Tensor) -> torch.Tensor:
            return value.expand(samples, *value.shape).reshape(*shape, *value.shape[1:])

        self._rows = (per_problem(blocks.rows.index), tuple(per_problem(d) for d in blocks.rows.data))
        self._conditions = (per_problem(blocks.conditions.index), tuple(per_problem(d) for d in blocks.conditions.data))
        self._condition_position = per_problem(blocks.conditions.position)
        self._condition_weight = condition_weight * per_problem(blocks.condition_weight)
        self._pairs = blocks.pairs if coupled else blocks.pairs[:0]
        self._interface = blocks.interface
        self._interface_weight = interface_weight * blocks.interface_weight
        self.chain = blocks.is_chain and self.experts > 1
        self.gram: AbstractGram = BlockBandedGram() if self.chain else DenseGram()
        self.offset: torch.Tensor | None = None
        with torch.no_grad():
            self._constant = self._constant_gram()

    # -- residuals, differentiable ------------------------------------------------------------------------------------

    def _fields(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """All functionals of u, shape (p, K, q)."""
        table, base = tensors[:2]
        omega = y.reshape(len(y), self.experts, self.size, 1)
        fields = (table @ omega).squeeze(-1) + base
        return fields if self._stitched is None else self._stitched(fields)

    def _parameters(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: value.reshape(*value.shape, *[1] * (3 - value.ndim)) if value.ndim < 3 else value
            for name, value in zip(self.names, tensors[2:], strict=True)
        }

    @staticmethod
    def _look_up(fields: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return fields.gather(2, index.flatten(2)).reshape(index.shape)

    def _local(
        self, values: torch.Tensor, data: tuple[torch.Tensor, ...], tensors: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        return self.pde.residual(values, data, self._parameters(tensors))

    def _linear(
        self, y: torch.Tensor, fields: torch.Tensor, tensors: Sequence[torch.Tensor], which: torch.Tensor
    ) -> list[torch.Tensor]:
        """Residuals of conditions, interfaces and ridge, each (p, ...)."""
        index, data = self._conditions[0][which], tuple(d[which] for d in self._conditions[1])
        reached = (data[0] * self._look_up(fields, index)).sum(dim=-1)
        target = self.pde.targets(data, self._condition_position[which], self._parameters(tensors))
        parts = [self._condition_weight[which] * (reached - target)]
        if len(self._pairs):
            left, right = (
                fields[:, self._pairs[:, side]].gather(2, self._interface[:, side].expand(len(y), -1, -1))
                for side in (0, 1)
            )
            parts.append(self._interface_weight * (left - right))
        return [*parts, self.ridge * y]

    def _cost(self, y: torch.Tensor, tensors: Sequence[torch.Tensor], which: torch.Tensor) -> torch.Tensor:
        fields = self._fields(y, tensors)
        r = self._local(self._look_up(fields, self._rows[0][which]), tuple(d[which] for d in self._rows[1]), tensors)
        squares = [part.square().flatten(1).sum(dim=1) for part in (r, *self._linear(y, fields, tensors, which))]
        return 0.5 * torch.stack(squares).sum(dim=0)

    # -- what the iteration asks for ----------------------------------------------------------------------------------

    def _take(self, which: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.tensors if len(which) == len(self.tensors[0]) else tuple(t[which] for t in self.tensors)

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all rows."""
        with torch.no_grad():
            return self._cost(y, self._take(which), which)

    def differentiable_cost(self, y: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all problems at weights that are held, differentiable in `tensors`; shape (problems,)."""
        return self._cost(y.detach(), self.tensors, torch.arange(len(y)))

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """Normal equations of the sampled rows, plus those of the linear rows, which are assembled once.

        Where functionals of the stitched field enter, J is that of each expert's own functions, which is exact for
        changes that all experts share, but the gradient is that of the cost: the iteration ends at its minimum.
        """
        with torch.no_grad():
            tensors = self._take(which)
            fields = self._fields(y, tensors)
            values = self._look_up(fields, self._rows[0][which])
            data = tuple(d[which] for d in self._rows[1])
            linear = self._linear_gradient(y, fields, tensors, which)
            lin = self._assemble(values, data, tensors, which, linear)
        if self._stitched is not None:
            with torch.enable_grad():
                z = y.detach().requires_grad_()
                cost = self._cost(z, [t.detach() for t in tensors], which).sum()
            lin["gradient"] = torch.autograd.grad(cost, z)[0]
        return lin

    def _assemble(
        self,
        values: torch.Tensor,
        data: tuple[torch.Tensor, ...],
        tensors: Sequence[torch.Tensor],
        which: torch.Tensor,
        linear: torch.Tensor,
    ) -> Linearisation:
        with torch.enable_grad():
            values = values.detach().requires_grad_()
            r = self._local(values, data, [t.detach() for t in tensors])
            coefficient = torch.autograd.grad(r.sum(), values)[0]
        table = tensors[0].detach()
        gram, gradient = normal_equations(
            table.flatten(0, 1), self._rows[0][which].flatten(0, 1), coefficient.flatten(0, 1), r.detach().flatten(0, 1)
        )
        n = self.size
        blocks = gram.reshape(len(values), self.experts, n, n) + self._constant["blocks"][which]
        lin = {
            "gradient": gradient.reshape(len(values), -1) + linear,
            "diagonal": blocks.diagonal(dim1=2, dim2=3).reshape(len(values), -1),
        }
        if self.chain:
            return {**lin, "blocks": blocks, "lower": self._constant["lower"][which]}
        if self.experts == 1:
            return {**lin, "gram": blocks[:, 0]}
        full = self._constant["full"][which].clone()
        for k in range(self.experts):
            full[:, k * n : (k + 1) * n, k * n : (k + 1) * n] += blocks[:, k]
        return {**lin, "gram": full}

    def _linear_gradient(
        self, y: torch.Tensor, fields: torch.Tensor, tensors: Sequence[torch.Tensor], which: torch.Tensor
    ) -> torch.Tensor:
        """J^T r of the linear rows, through the fields: table^T (d cost / d fields)."""
        with torch.enable_grad():
            fields, z = fields.detach().requires_grad_(), y.detach().requires_grad_()
            squares = [part.square().sum() for part in self._linear(z, fields, [t.detach() for t in tensors], which)]
            by_fields, by_y = torch.autograd.grad(0.5 * torch.stack(squares).sum(), (fields, z))
        return (tensors[0].detach().mT @ by_fields.unsqueeze(-1)).flatten(1) + by_y

    def _constant_gram(self) -> dict[str, torch.Tensor]:
        """J^T J of conditions, interfaces and ridge."""
        table = self.tensors[0].detach()
        problems, n = len(table), self.size
        index, data = self._conditions
        weight = self._condition_weight.unsqueeze(-1) * data[0]
        zero = torch.zeros_like(weight[..., 0])
        gram, _ = normal_equations(table.flatten(0, 1), index.flatten(0, 1), weight.flatten(0, 1), zero.flatten(0, 1))
        blocks = gram.reshape(problems, self.experts, n, n) + self.ridge**2 * torch.eye(n, dtype=table.dtype)
        lower = torch.zeros(problems, max(self.experts - 1, 0), n, n, dtype=table.dtype)
        off: list[tuple[int, int, torch.Tensor]] = []
        for c, (a, b) in enumerate(self._pairs.tolist()):
            w = self._interface_weight[c, :, None]
            left, right = w * table[:, a][:, self._interface[c, 0]], w * table[:, b][:, self._interface[c, 1]]
            blocks[:, a] += left.mT @ left
            blocks[:, b] += right.mT @ right
            if self.chain:
                lower[:, a] -= right.mT @ left
            else:
                off.append((a, b, -right.mT @ left))
        constant = {"blocks": blocks}
        if self.chain:
            constant["lower"] = lower
        elif self.experts > 1:
            full = torch.zeros(problems, self.experts * n, self.experts * n, dtype=table.dtype)
            for a, b, block in off:
                full[:, b * n : (b + 1) * n, a * n : (a + 1) * n] += block
                full[:, a * n : (a + 1) * n, b * n : (b + 1) * n] += block.mT
            constant["full"] = full
        return constant

    def linear_start(self) -> torch.Tensor:
        """One Gauss-Newton step from where every row sees the reference values of the PDE; shape (problems, K n).

        It needs no start in omega: the rows are linearised about values, not about a combination of basis functions.
        """
        which = torch.arange(len(self.tensors[0]))
        table, base = self.tensors[0].detach(), self.tensors[1].detach()
        y = torch.zeros(len(table), self.experts * self.size, dtype=table.dtype)
        with torch.no_grad():
            index, data = self._rows
            values = self.pde.reference_values(data, self._parameters(self.tensors)).expand(index.shape)
            # r(u) = r(v) + r'(v) (u - v) with u = base + T omega, at omega = 0
            lin = self._assemble(values, data, self.tensors, which, self._linear_gradient(y, base, self.tensors, which))
            with torch.enable_grad():
                v = values.detach().requires_grad_()
                r = self._local(v, data, [t.detach() for t in self.tensors])
                coefficient = torch.autograd.grad(r.sum(), v)[0]
            shift = (coefficient * (self._look_up(base, index) - values)).sum(dim=-1)
            weighted = torch.zeros_like(base).scatter_add_(
                2, index.flatten(2), (coefficient * shift.unsqueeze(-1)).flatten(2)
            )
            gradient = lin["gradient"] + (table.mT @ weighted.unsqueeze(-1)).flatten(1)
            step = self.gram.solve(lin, torch.full((len(table),), 1e-12, dtype=table.dtype), -gradient)
        return torch.where(step.isfinite(), step, 0.0)

    # -- what the adjoint asks for ------------------------------------------------------------------------------------

    def optimality(self, y: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """J^T r as the gradient of the cost, by reverse mode; no Jacobian is formed."""
        which = torch.arange(len(y))
        with torch.enable_grad():
            z = y if y.requires_grad else y.detach().requires_grad_()
            return torch.autograd.grad(self._cost(z, tensors, which).sum(), z, create_graph=True)[0]

    def solve_hessian(
        self, y: torch.Tensor, b: torch.Tensor, tensors: Sequence[torch.Tensor], *, gauss_newton: bool
    ) -> torch.Tensor:
        """Conjugate gradients on the exact Hessian, preconditioned by the factors of J^T J; once differentiable."""
        which = torch.arange(len(y))
        lin = self.linearise(y.detach(), which)
        none = torch.zeros(len(y), dtype=y.dtype)

        def precondition(v: torch.Tensor) -> torch.Tensor:
            return self.gram.solve(lin, none, v)

        b = b.detach()
        if gauss_newton:
            return precondition(b)
        z = y.detach().requires_grad_()
        gradient = self.optimality(z, [t.detach() for t in tensors])

        def product(v: torch.Tensor) -> torch.Tensor:
            return torch.autograd.grad(gradient, z, v, retain_graph=True)[0]

        return conjugate_gradients(product, b, precondition=precondition)
