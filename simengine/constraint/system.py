"""The least-squares problems of the layer, as the iteration and the adjoint see them."""

import dataclasses
from typing import Any

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.rows import ExpertRows, Tensors
from simengine.ops.normal_equations import normal_equations
from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.gram import AbstractGram, BlockBandedGram, DenseGram, Linearisation
from simengine.solve.schur import SchurGram
from simengine.solve.system import AbstractSystem


@dataclasses.dataclass
class _Point:
    """What is known at the last place that the iteration visited."""

    y: torch.Tensor
    which: torch.Tensor
    tensors: Tensors
    fields: torch.Tensor
    values: torch.Tensor
    r: torch.Tensor
    lin: Linearisation | None = None


class ExpertSystem(ExpertRows, AbstractSystem):
    """Weights omega of K experts per problem, coupled or each a problem of its own.

    y is omega, shape (problems, K n) if coupled, (samples K, n) if independent. The table is gathered per block once;
    J is never stored. Rows of the own blocks only are held where the experts are dealt out to several processes.

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
        shard: The part of this process.
    """

    once_differentiable = "the hard-constraint layer is once differentiable: do without second derivatives"

    def __init__(
        self,
        pde: AbstractPDE,
        blocks: Blocks,
        table: torch.Tensor,
        base: torch.Tensor | None,
        parameters: dict[str, torch.Tensor],
        **options: Any,
    ) -> None:
        super().__init__(pde, blocks, table, base, parameters, **options)
        self.gram: AbstractGram = (
            DenseGram()
            if self.experts == 1
            else BlockBandedGram()
            if self.chain
            else SchurGram(self.experts, self._distinct)
        )
        self.solution = self.tensors[0].new_zeros(0)  # where the last solve ended
        self._point: _Point | None = None
        self._gradient: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]] | None = None
        with torch.no_grad():
            self._pair_grams, self._constant = self._constant_grams()

    # -- what the iteration asks for ----------------------------------------------------------------------------------

    def _take(self, which: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kept = self.tensors if len(which) == len(self.tensors[0]) else tuple(t[which] for t in self.tensors)
        return tuple(t.detach() for t in kept)

    def _at(self, y: torch.Tensor, which: torch.Tensor) -> _Point:
        """Residuals at y; those of the last call where nothing has changed."""
        last, y = self._point, y.detach()
        if last is not None and torch.equal(last.which, which) and torch.equal(last.y, y):
            return last
        self._point = None  # two of them at a time would be the peak of memory
        tensors = self._take(which)
        with torch.no_grad():
            fields = self._whole(self._own_fields(y, tensors))
            rows = self._selected(self._rows, which)
            values = self._look_up(fields, rows.index)
        with torch.enable_grad():
            values = values.detach().requires_grad_()
            r = self._local(values, rows.data, tensors)
        self._point = _Point(y, which, tensors, fields, values, r)
        return self._point

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all rows."""
        point = self._at(y, which)
        with torch.no_grad():
            conditions = self._condition_rows(point.fields, point.tensors, which)
            squares = point.r.detach().square().sum(dim=-1) + conditions.square().sum(dim=-1)
            squares = squares + self.ridge**2 * self._omega(point.y).square().sum(dim=-1)
            total = self._shard.join(squares, self._sizes).sum(dim=1)
            omega = point.y.reshape(len(y), self.experts, self.size)
            for c, (a, b) in enumerate(self.pairs):
                jump = omega[:, a] - omega[:, b]
                total = total + torch.einsum("pi,pij,pj->p", jump, self._pair_grams[which, c], jump)
            return 0.5 * total

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """Normal equations of the sampled rows, plus those of the linear rows, whose J^T J is formed once.

        Where functionals of the stitched field enter, J is that of each expert's own functions, which is exact for
        changes that all experts share, but the gradient is that of the cost: the iteration ends at its minimum.
        """
        point = self._at(y, which)
        if point.lin is None:
            coefficient = torch.autograd.grad(point.r, point.values, torch.ones_like(point.r))[0]
            with torch.no_grad():
                conditions = self._condition_rows(point.fields, point.tensors, which)
                point.lin = self._assemble(point.y, point.r.detach(), coefficient, conditions, point.tensors, which)
            point.r = point.r.detach()  # its graph has served
            if self._stitched is not None:
                by_fields = self._field_gradient(point.y, point.tensors, which)[1].detach()
                own = self._to_weights(by_fields, point.tensors) + self.ridge**2 * self._omega(point.y)
                point.lin["gradient"] = self._add_interfaces(own, point.y, which)
        return point.lin

    def _assemble(
        self,
        y: torch.Tensor,
        r: torch.Tensor,
        coefficient: torch.Tensor,
        conditions: torch.Tensor,
        tensors: Tensors,
        which: torch.Tensor,
    ) -> Linearisation:
        rows, fixed = self._selected(self._rows, which), self._selected(self._conditions, which)
        weights = self._condition_weight_of(which).unsqueeze(-1) * fixed.data[0]
        grams, gradients = [], []
        for p in range(len(which)):
            gram, gradient = normal_equations(tensors[0][p], rows.index[p], coefficient[p], r[p])
            _, more = normal_equations(tensors[0][p], fixed.index[p], weights[p], conditions[p])
            grams.append(gram)
            gradients.append(gradient + more)
        blocks = self._shard.join(torch.stack(grams), self._sizes) + self._constant["blocks"][which]
        own = torch.stack(gradients) + self.ridge**2 * self._omega(y)
        lin = {
            "gradient": self._add_interfaces(own, y, which),
            "diagonal": blocks.diagonal(dim1=2, dim2=3).reshape(len(which), -1),
        }
        if self.experts == 1:
            return {**lin, "gram": blocks[:, 0]}
        return {**lin, **{name: value[which] for name, value in self._constant.items()}, "blocks": blocks}

    def _add_interfaces(self, own: torch.Tensor, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """J^T r, shape (p, K n), from that of the blocks held and the interface rows."""
        gradient = self._shard.join(own, self._sizes)
        if self.pairs:
            gradient = gradient.clone()
            omega = y.reshape(gradient.shape)
            for c, (a, b) in enumerate(self.pairs):
                pull = (self._pair_grams[which, c] @ (omega[:, a] - omega[:, b]).unsqueeze(-1)).squeeze(-1)
                gradient[:, a] += pull
                gradient[:, b] -= pull
        return gradient.flatten(1)

    def _constant_grams(self) -> tuple[torch.Tensor, Linearisation]:
        """Per pair w^2 T^T T of its interface rows, shape (p, c, n, n), and J^T J of all linear rows."""
        tensors, n = [t.detach() for t in self.tensors], self.size
        problems, which = len(tensors[0]), torch.arange(len(tensors[0]), device=tensors[0].device)
        fixed, weight = self._selected(self._conditions, which), self._condition_weight_of(which)
        none = torch.zeros_like(weight)
        grams = [
            normal_equations(tensors[0][p], fixed.index[p], weight[p].unsqueeze(-1) * fixed.data[0][p], none[p])[0]
            for p in range(problems)
        ]
        eye = torch.eye(n, dtype=none.dtype, device=none.device)
        blocks = self._shard.join(torch.stack(grams), self._sizes) + self.ridge**2 * eye
        pair_grams = none.new_zeros(problems, len(self.pairs), n, n)
        for k, c in enumerate(self._mine):
            weighted = self._touching_weight[k].unsqueeze(-1) * tensors[2 + k]
            pair_grams[:, c] = weighted.mT @ weighted
        pair_grams = self._shard.total(pair_grams)
        off = none.new_zeros(problems, len(self._distinct), n, n)
        for c, (a, b) in enumerate(self.pairs):
            blocks[:, a] += pair_grams[:, c]
            blocks[:, b] += pair_grams[:, c]
            off[:, self._distinct.index((min(a, b), max(a, b)))] -= pair_grams[:, c]  # symmetric
        if self.experts == 1:
            return pair_grams, {"blocks": blocks}
        return pair_grams, {"blocks": blocks, "lower" if self.chain else "off": off}

    def linear_start(self) -> torch.Tensor:
        """One Gauss-Newton step from where every row sees the reference values of the PDE; shape (problems, K n).

        It needs no start in omega: the rows are linearised about values, not about a combination of basis functions.
        """
        which = torch.arange(len(self.tensors[0]), device=self.tensors[0].device)
        tensors = self._take(which)
        y = tensors[0].new_zeros(len(which), self.experts * self.size)
        rows = self._selected(self._rows, which)
        with torch.enable_grad():
            values = self.pde.reference_values(rows.data, self._parameters(tensors)).to(y)
            values = values.detach().expand(rows.index.shape).clone().requires_grad_()
            r = self._local(values, rows.data, tensors)
            coefficient = torch.autograd.grad(r.sum(), values)[0]
        with torch.no_grad():
            # r(u) = r(v) + r'(v) (u - v) with u = base + T omega, at omega = 0
            base = self._whole(tensors[1])
            r = r.detach() + (coefficient * (self._look_up(base, rows.index) - values)).sum(dim=-1)
            lin = self._assemble(y, r, coefficient, self._condition_rows(base, tensors, which), tensors, which)
            step = self.gram.solve(lin, y.new_full((len(which),), 1e-12), -lin["gradient"])
        return torch.where(step.isfinite(), step, 0.0)

    # -- what the adjoint asks for ------------------------------------------------------------------------------------

    def optimality(self, y: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """J^T r; as the gradient of the cost, by reverse mode, where its own gradient is wanted."""
        which = torch.arange(len(y), device=y.device)
        if not torch.is_grad_enabled():
            return self.linearise(y, which)["gradient"]
        z = y if y.requires_grad else y.detach().requires_grad_()
        return torch.autograd.grad(self._cost(z, tensors, which).sum(), z, create_graph=True)[0]

    def _to_weights(self, by_fields: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """T^T a, shape (p, held, n)."""
        return (tensors[0].mT @ by_fields.unsqueeze(-1)).squeeze(-1)

    def _field_gradient(
        self, y: torch.Tensor, tensors: Tensors, which: torch.Tensor, *, create_graph: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Own fields f, d(cost of equations and conditions)/df, and the parameters as leaves of its graph."""
        with torch.enable_grad():
            fields = self._own_fields(y.detach(), [t.detach() for t in tensors]).requires_grad_()
            constants = [t.detach().requires_grad_(t.requires_grad) for t in tensors[self._first_parameter :]]
            leaves = [*tensors[: self._first_parameter], *constants]
            cost = self._field_costs(self._whole(fields), leaves, which).sum()
            return fields, torch.autograd.grad(cost, fields, create_graph=create_graph)[0], constants

    def solve_hessian(self, y: torch.Tensor, b: torch.Tensor, tensors: Tensors, *, gauss_newton: bool) -> torch.Tensor:
        """Conjugate gradients on the exact Hessian, preconditioned by the factors of J^T J; once differentiable."""
        which = torch.arange(len(y), device=y.device)
        lin = self.linearise(y.detach(), which)
        none = torch.zeros(len(y), dtype=y.dtype, device=y.device)
        b, held = b.detach(), [t.detach() for t in tensors]
        self._gradient = None
        if gauss_newton:
            return self.gram.solve(lin, none, b)
        self._gradient = fields, gradient, _ = self._field_gradient(y, tensors, which, create_graph=True)

        def product(v: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                along = self._own_fields(v, held, base=False)
            bent = torch.autograd.grad(gradient, fields, along, retain_graph=True)[0]
            with torch.no_grad():
                own = self._to_weights(bent, held) + self.ridge**2 * self._omega(v)
                return self._add_interfaces(own, v, which)

        return conjugate_gradients(product, b, precondition=lambda v: self.gram.solve(lin, none, v))

    def pull_back(
        self, y: torch.Tensor, v: torch.Tensor, tensors: Tensors, *, differentiable: bool
    ) -> tuple[torch.Tensor | None, ...]:
        """-v . dF/dtheta from gradients by the fields alone: with a = d cost/d f, that by T is a v^T + a' omega^T."""
        which, y, v = torch.arange(len(y), device=y.device), y.detach(), v.detach()
        made = self._gradient or self._field_gradient(y, tensors, which, create_graph=True)
        fields, gradient, constants = made
        self._gradient, held = None, [t.detach() for t in tensors]
        along = self._own_fields(v, held, base=False)
        wanted = [t for t in constants if t.requires_grad]
        bent, *by_constants = torch.autograd.grad(gradient, [fields, *wanted], along, allow_unused=True)
        found: list[torch.Tensor | None] = [None] * len(tensors)
        if tensors[0].requires_grad:
            columns = torch.stack([gradient.detach(), bent], dim=-1)
            found[0] = torch.matmul(columns, torch.stack([self._omega(-v), self._omega(-y)], dim=-2))
        if tensors[1].requires_grad:
            found[1] = -bent
        omega, change = y.reshape(len(y), self.experts, self.size), v.reshape(len(v), self.experts, self.size)
        for k, c in enumerate(self._mine):
            if tensors[2 + k].requires_grad:
                a, b = self.pairs[c]
                sides = torch.stack([omega[:, a] - omega[:, b], change[:, a] - change[:, b]], dim=-1)  # (p, n, 2)
                jumps = self._touching_weight[k].square().unsqueeze(-1) * (held[2 + k] @ sides)
                found[2 + k] = -(jumps @ sides.flip(-1).mT)
        for k, t in enumerate(constants):
            if t.requires_grad:
                value = by_constants.pop(0)
                found[self._first_parameter + k] = None if value is None else -value
        return tuple(found)
