"""Kernels for J^T J and J^T r of rows that combine a few table entries, and their hand-written adjoint.

A row is j_i = sum_a c_ia t[index_ia] with table entries t of n numbers. On CUDA a thread walks over a stretch of the
rows of one problem, forms one row at a time and adds j_i[b] j_i and r_i j_i to sums of its own, so J is never stored,
and the order of the sums does not depend on threads. On a CPU matrix products of a few thousand rows at a time are
faster: `rows` forms them. The adjoint forms the rows again.
"""

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def kernels(scalar: type, n: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64 and entries of n numbers."""
    module = wp.get_module(f"simengine.kernels.fields.normal_equations.{scalar.__name__}.{n}")
    module.options.update(enable_backward=False, max_unroll=16)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)
    func = functools.partial(wp.func, module=module)

    vec = wp.types.vector(n, scalar)
    zero = wp.constant(scalar(0.0))

    @func
    def combine(
        owner: int,
        p: int,
        i: int,
        size: int,
        table: wp.array(dtype=vec, ndim=2),
        index: wp.array(dtype=wp.int64, ndim=3),
        coefficient: wp.array(dtype=scalar, ndim=3),
    ):
        # row i of problem p of J, whose entries are those of `owner`
        j = vec(zero)
        for a in range(size):
            j += coefficient[p, i, a] * table[owner, int(index[p, i, a])]
        return j

    @kernel
    def rows(
        # constants
        p: int,
        owner: int,
        first: int,
        size: int,
        # inputs, of any strides
        table: wp.array(dtype=vec, ndim=2),
        index: wp.array(dtype=wp.int64, ndim=3),
        coefficient: wp.array(dtype=scalar, ndim=3),
        # outputs
        j_out: wp.array(dtype=vec),
    ):
        """Rows `first` and following of problem p of J."""
        i = wp.tid()
        j_out[i] = combine(owner, p, first + i, size, table, index, coefficient)

    @kernel
    def accumulate(
        # constants
        stretch: int,
        num_rows: int,
        size: int,
        separate: int,  # 1: a table for each problem; 0: one for all
        # inputs, of any strides
        table: wp.array(dtype=vec, ndim=2),  # (problem, entry)
        index: wp.array(dtype=wp.int64, ndim=3),  # (problem, row, size)
        coefficient: wp.array(dtype=scalar, ndim=3),  # (problem, row, size)
        residual: wp.array(dtype=scalar, ndim=2),  # (problem, row)
        # outputs
        gram_out: wp.array(dtype=vec, ndim=3),  # (problem, stretch, n), zero at first
        gradient_out: wp.array(dtype=vec, ndim=2),  # (problem, stretch)
    ):
        """One stretch of rows, and column b of its J^T J."""
        p, s, b = wp.tid()
        gradient = vec(zero)
        for i in range(s * stretch, wp.min((s + 1) * stretch, num_rows)):
            j = combine(p * separate, p, i, size, table, index, coefficient)
            gram_out[p, s, b] += j[b] * j
            gradient += residual[p, i] * j
        if b == 0:
            gradient_out[p, s] = gradient

    @kernel
    def accumulate_adjoint(
        # constants
        size: int,
        separate: int,
        # inputs, of any strides
        table: wp.array(dtype=vec, ndim=2),
        index: wp.array(dtype=wp.int64, ndim=3),
        coefficient: wp.array(dtype=scalar, ndim=3),
        residual: wp.array(dtype=scalar, ndim=2),
        adj_gram: wp.array(dtype=vec, ndim=2),  # (problem, n), symmetric part times two
        adj_gradient: wp.array(dtype=vec),  # (problem,)
        # outputs
        table_out: wp.array(dtype=vec, ndim=2),  # zero at first
        coefficient_out: wp.array(dtype=scalar, ndim=3),
        residual_out: wp.array(dtype=scalar, ndim=2),
    ):
        """One row: its adjoint (G + G^T) j + r g, passed on to what it is made of."""
        p, i = wp.tid()
        owner = p * separate
        j = combine(owner, p, i, size, table, index, coefficient)
        adj = residual[p, i] * adj_gradient[p]
        for b in range(n):
            adj += j[b] * adj_gram[p, b]
        residual_out[p, i] = wp.dot(j, adj_gradient[p])
        for a in range(size):
            entry = int(index[p, i, a])
            coefficient_out[p, i, a] = wp.dot(table[owner, entry], adj)
            wp.atomic_add(table_out, owner, entry, coefficient[p, i, a] * adj)

    return SimpleNamespace(rows=rows, accumulate=accumulate, accumulate_adjoint=accumulate_adjoint)
