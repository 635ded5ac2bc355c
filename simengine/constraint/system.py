"""The least-squares problems of the layer, as the iteration and the adjoints see them."""

import dataclasses
from typing import Any

import torch

from simengine.constraint.blocks import Blocks
from simengine.constraint.pde import AbstractPDE
from simengine.constraint.rows import ExpertRows, Tensors
from simengine.ops.fields.normal_equations import normal_equations
from simengine.ops.fields.table_product import add_outer, table_sums
from simengine.solve.conjugate_gradients import conjugate_gradients
from simengine.solve.least_squares.condition import AbstractSystem
from simengine.solve.least_squares.structures.gram import AbstractGram, BlockBandedGram, DenseGram, Linearisation
from simengine.solve.least_squares.structures.schur import SchurGram


@dataclasses.dataclass
class _VisitedPoint:
    """What is known at the last place that the iteration visited."""

    y: torch.Tensor
    which: torch.Tensor
    own: torch.Tensor
    fields: torch.Tensor
    r: torch.Tensor
    by_values: torch.Tensor | None
    lin: Linearisation | None = None


class ExpertSystem(ExpertRows, AbstractSystem):
    """Weights omega of K experts per problem, coupled or each a problem of its own.

    y is omega, shape (problems, K n) if coupled, (samples K, n) if independent. Neither the Jacobian nor the table's
    entries of a block are stored: rows are gathered where they are combined. Rows of the own blocks only are held where
    the experts are dealt out to several processes.

    Args:
        pde: The equation.
        blocks: The decomposition.
        table: Functionals of the basis, shape (samples, entries, n), float64.
        base: Functionals of what is added to the combination of basis functions, shape (samples, entries); or None.
        parameters: Constants by name, each of shape (samples, ...).
        options: `coupled`, solve neighbours together, with interface rows; `weights`, of rows beside the equation's;
            `shard`, the part of this process.
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
        self._distinct = sorted({(min(pair), max(pair)) for pair in self.pairs})
        self._sides = torch.tensor(self.pairs, device=table.device).reshape(-1, 2).T
        self.gram: AbstractGram = DenseGram()
        if self.experts > 1:
            self.gram = BlockBandedGram() if self.chain else SchurGram(self.experts, self._distinct)
        self.solution: torch.Tensor = table.new_zeros(0)  # where the last solve ended
        self._point: _VisitedPoint | None = None
        self._gradient: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]] | None = None
        self._places = self._in_table(self._rows.index)
        with torch.no_grad():
            self._fixed = self._fixed_rows()
            self._pair_grams, self._constant = self._constant_grams()

    # -- what the iteration asks for ----------------------------------------------------------------------------------

    def _in_table(self, index: torch.Tensor) -> torch.Tensor:
        """Entries of the whole table from those of the blocks, in the memory order of the index."""
        return self._entries.gather(1, index.mT.flatten(1)).reshape(index.mT.shape).mT

    def _held_tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(t.detach() for t in self.tensors)

    def _at(self, y: torch.Tensor, which: torch.Tensor) -> _VisitedPoint:
        """Residuals at y; those of the last call where nothing has changed."""
        last, y = self._point, y.detach()
        if last is not None and torch.equal(last.which, which) and torch.equal(last.y, y):
            return last
        self._point = None  # two of them at a time would be the peak of memory
        tensors = self._held_tensors()
        with torch.no_grad():
            own = self._own_fields(y, tensors, which)
            fields = self._whole(own)
            self._point = _VisitedPoint(y, which, own, fields, *self._evaluated(None, fields, tensors, which))
        return self._point

    def cost(self, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """1/2 |r|^2 of all rows."""
        point = self._at(y, which)
        with torch.no_grad():
            conditions = self._condition_rows(point.fields, self._held_tensors(), which)
            squares = point.r.square().sum(dim=-1) + conditions.square().sum(dim=-1)
            squares = squares + self.ridge**2 * self._omega(point.y).square().sum(dim=-1)
            total = self._shard.join(squares, self._sizes).sum(dim=1)
            if self.pairs:
                jump, pull = self._pulls(point.y, which)
                total = total + (jump * pull).sum(dim=(1, 2))
            return 0.5 * total

    def _pulls(self, y: torch.Tensor, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Differences of neighbours' weights and what interface rows make of them, each (p, pairs, n)."""
        omega = y.reshape(len(y), self.experts, self.size)
        jump = omega[:, self._sides[0]] - omega[:, self._sides[1]]
        return jump, (self._pair_grams[which] @ jump.unsqueeze(-1)).squeeze(-1)

    def linearise(self, y: torch.Tensor, which: torch.Tensor) -> Linearisation:
        """Normal equations of the sampled rows, plus those of the linear rows, whose J^T J is formed once.

        Where functionals of the stitched field enter, J is that of each expert's own functions, which is exact for
        changes that all experts share, but the gradient is that of the cost: the iteration ends at its minimum.
        """
        point = self._at(y, which)
        if point.lin is None:
            tensors = self._held_tensors()
            with torch.no_grad():
                assert point.by_values is not None
                point.lin = self._assemble(point.y, point.r, point.by_values, which)
                if self._stitched is not None:
                    conditions = self._condition_rows(point.fields, tensors, which)
                    by_fields = self._stitched.transposed(self._by_fields(point.r, point.by_values, conditions, which))
                    own = self._to_weights(by_fields, tensors, which) + self.ridge**2 * self._omega(point.y)
                    point.lin["gradient"] = self._add_interfaces(self._shard.join(own, self._sizes), point.y, which)
                point.by_values = None
        return point.lin

    def _by_fields(
        self, r: torch.Tensor, by_values: torch.Tensor, conditions: torch.Tensor, which: torch.Tensor
    ) -> torch.Tensor:
        """Derivatives of the cost of equations and conditions by the functionals, shape (p, held, q)."""
        out = r.new_zeros(len(which), *self._entries.shape)
        fixed = conditions.unsqueeze(-1) * self._condition_coefficients(which)
        for rows, value in ((self._rows, r.unsqueeze(-1) * by_values), (self._conditions, fixed)):
            out.scatter_add_(2, self._selected(rows, which).index.mT.flatten(2), value.mT.flatten(2))
        return out

    def _assemble(
        self, y: torch.Tensor, r: torch.Tensor, by_values: torch.Tensor, which: torch.Tensor
    ) -> Linearisation:
        table, places = self.tensors[0].detach(), self._blocks(self._places, which)
        grams, gradients = [], []
        for p, sample in enumerate(self._sample(which).tolist()):
            gram, gradient = normal_equations(table[sample : sample + 1], places[p], by_values[p], r[p], trusted=True)
            grams.append(gram)
            gradients.append(gradient)
        fixed_gram, fixed_gradient = (value[which] for value in self._fixed)
        own = torch.stack(gradients) + (fixed_gram @ self._omega(y).unsqueeze(-1)).squeeze(-1) + fixed_gradient
        # one message between processes: the gradient as a further row of each block's matrix
        both = self._shard.join(torch.cat([torch.stack(grams), own.unsqueeze(2)], dim=2), self._sizes)
        blocks = both[:, :, :-1] + self._constant["blocks"][which]
        lin = {
            "gradient": self._add_interfaces(both[:, :, -1], y, which),
            "diagonal": blocks.diagonal(dim1=2, dim2=3).reshape(len(which), -1),
        }
        if self.experts == 1:
            return {**lin, "gram": blocks[:, 0]}
        return {**lin, **{name: value[which] for name, value in self._constant.items()}, "blocks": blocks}

    def _condition_coefficients(self, which: torch.Tensor) -> torch.Tensor:
        weight = self._blocks(self._condition_weight, which).unsqueeze(-1)
        return weight * self._blocks(self._conditions.data[0], which)

    def _add_interfaces(self, gradient: torch.Tensor, y: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """J^T r, shape (p, K n), from that of the blocks, (p, K, n), and the interface rows."""
        if self.pairs:
            _, pull = self._pulls(y, which)
            gradient = gradient.index_add(1, self._sides[0], pull).index_add(1, self._sides[1], pull, alpha=-1)
        return gradient.flatten(1)

    def _fixed_rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """J^T J and J^T r at 0 of conditions and the ridge, of the blocks held: (p, held, n, n) and (p, held, n)."""
        tensors = self._held_tensors()
        which = torch.arange(self.problems, device=tensors[0].device)
        places = self._blocks(self._in_table(self._conditions.index), which)
        weights = self._condition_coefficients(which)
        r = self._condition_rows(self._whole(self._base_fields(tensors, which)), tensors, which)
        found = [
            normal_equations(tensors[0][sample : sample + 1], places[p], weights[p], r[p])
            for p, sample in enumerate(self._sample(which).tolist())
        ]
        gram, gradient = (torch.stack(values) for values in zip(*found, strict=True))
        return gram + self.ridge**2 * torch.eye(self.size, dtype=gram.dtype, device=gram.device), gradient

    def _constant_grams(self) -> tuple[torch.Tensor, Linearisation]:
        """Per pair w^2 T^T T of its interface rows, shape (p, c, n, n), and J^T J of all linear rows."""
        table, n = self.tensors[0].detach(), self.size
        blocks = self._shard.join(self._fixed[0], self._sizes)
        if self._shard.size == 1:
            blocks = blocks.clone()
        pair_grams = table.new_zeros(self.problems, len(self.pairs), n, n)
        for c, place, weight in zip(self._mine, self._touching, self._touching_weight, strict=True):
            weighted = weight.unsqueeze(-1) * table.index_select(1, place)
            pair_grams[:, c] = weighted.mT @ weighted
        pair_grams = self._shard.total(pair_grams)
        off = table.new_zeros(self.problems, len(self._distinct), n, n)
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
        tensors = self._held_tensors()
        which = torch.arange(self.problems, device=tensors[0].device)
        y = tensors[0].new_zeros(self.problems, self.experts * self.size)
        rows = self._selected(self._rows, which)
        with torch.no_grad():
            values = self.pde.reference_values(rows.data, self._parameters(tensors, which)).to(y)
            r, by_values = self._evaluated(values, None, tensors, which)
            # r(u) = r(v) + r'(v) (u - v) with u = base + T omega, at omega = 0
            base = self._whole(self._base_fields(tensors, which))
            r += (by_values * (self._look_up(base, rows.index) - values)).sum(dim=-1)
            lin = self._assemble(y, r, by_values, which)
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

    def _to_weights(self, by_fields: torch.Tensor, tensors: Tensors, which: torch.Tensor) -> torch.Tensor:
        """T^T a, shape (p, held, n)."""
        out = by_fields.new_empty(*by_fields.shape[:2], self.size)
        for place, sample, entries in self._groups(which):
            out[place] = table_sums(tensors[0], entries, by_fields[place], sample)
        return out

    def _field_gradient(
        self, y: torch.Tensor, tensors: Tensors, which: torch.Tensor, *, create_graph: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Own fields f, d(cost of equations and conditions)/df, and the parameters as leaves of its graph."""
        held = [t.detach() for t in tensors]
        with torch.enable_grad():
            fields = self._at(y, which).own.detach().requires_grad_()
            constants = [t.detach().requires_grad_(t.requires_grad) for t in tensors[2:]]
            cost = self._field_costs(self._whole(fields), [*held[:2], *constants], which).sum()
            return fields, torch.autograd.grad(cost, fields, create_graph=create_graph)[0], constants

    def solve_hessian(self, y: torch.Tensor, b: torch.Tensor, tensors: Tensors, *, gauss_newton: bool) -> torch.Tensor:
        """Conjugate gradients on the exact Hessian, preconditioned by the factors of J^T J; once differentiable."""
        which = torch.arange(len(y), device=y.device)
        with torch.no_grad():
            lin = self.linearise(y.detach(), which)
            none, b = torch.zeros(len(y), dtype=y.dtype, device=y.device), b.detach()
            self._gradient = None
            if gauss_newton:
                return self.gram.solve(lin, none, b)
            return conjugate_gradients(
                lambda v: self.hessian_product(y, v, tensors), b, precondition=lambda v: self.gram.solve(lin, none, v)
            )

    def hessian_product(self, y: torch.Tensor, v: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """H v, through the fields: T^T (d^2 cost/df^2) T v, and the linear rows."""
        which, held = torch.arange(len(y), device=y.device), [t.detach() for t in tensors]
        if self._gradient is None:
            self._gradient = self._field_gradient(y, tensors, which, create_graph=True)
        fields, gradient, _ = self._gradient
        with torch.no_grad():
            along = self._own_fields(v.detach(), held, which, base=False)
        bent = torch.autograd.grad(gradient, fields, along, retain_graph=True)[0]
        with torch.no_grad():
            own = self._to_weights(bent, held, which) + self.ridge**2 * self._omega(v)
            return self._add_interfaces(self._shard.join(own, self._sizes), v, which)

    def pull_back(
        self, y: torch.Tensor, v: torch.Tensor, tensors: Tensors, *, differentiable: bool
    ) -> tuple[torch.Tensor | None, ...]:
        """-v . dF/dtheta from gradients by the fields alone: with a = d cost/d f, that by T is a v^T + a' omega^T."""
        which, y, v = torch.arange(len(y), device=y.device), y.detach(), v.detach()
        fields, gradient, constants = self._gradient or self._field_gradient(y, tensors, which, create_graph=True)
        self._gradient, held = None, [t.detach() for t in tensors]
        with torch.no_grad():
            along = self._own_fields(v, held, which, base=False)
        wanted = [t for t in constants if t.requires_grad]
        bent, *by_constants = torch.autograd.grad(gradient, [fields, *wanted], along, allow_unused=True)
        gradient, found = gradient.detach(), []
        with torch.no_grad():
            # problems of which nothing is asked may be those that failed, with residuals that are not finite
            asked = (v != 0).any(dim=1)
            gradient, bent = (torch.where(asked[:, None, None], value, 0.0) for value in (gradient, bent))
            needed = asked if self.coupled else asked.reshape(-1, self._num).any(dim=1)
            by_table = by_base = None
            if tensors[0].requires_grad:
                by_table = torch.zeros_like(held[0], memory_format=torch.contiguous_format)
                for place, sample, entries in self._groups(which):
                    add_outer(by_table, entries, gradient[place], self._omega(-v)[place], sample)
                    add_outer(by_table, entries, bent[place], self._omega(-y)[place], sample)
                self._add_interface_tables(by_table, torch.where(asked[:, None], y, 0.0), v)
            if tensors[1].requires_grad:
                flat = self._blocks(self._entries, which).reshape(len(held[1]), -1)
                by_base = torch.zeros_like(held[1]).scatter_add(1, flat, -bent.reshape(flat.shape))
            found = [by_table, by_base]
            for t in constants:
                value = by_constants.pop(0) if t.requires_grad else None
                if value is not None:
                    value = torch.where(needed.reshape(-1, *[1] * (value.ndim - 1)), -value, 0.0)
                found.append(value)
        return tuple(found)

    def _add_interface_tables(self, by_table: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> None:
        """The part of interface rows, e = b . d with d = omega_a - omega_b: -w^2 (e dd^T + de d^T)."""
        omega, change = (value.reshape(len(value), self.experts, self.size) for value in (y, v))
        for c, place, weight in zip(self._mine, self._touching, self._touching_weight, strict=True):
            a, b = self.pairs[c]
            sides = torch.stack([omega[:, a] - omega[:, b], change[:, a] - change[:, b]], dim=-1)  # (p, n, 2)
            jumps = weight.square().unsqueeze(-1) * (self.tensors[0].detach().index_select(1, place) @ sides)
            by_table.index_add_(1, place, jumps @ sides.flip(-1).mT, alpha=-1)
