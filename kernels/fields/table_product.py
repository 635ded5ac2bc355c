"""Kernels for combinations of table entries by the weights of blocks: f = T omega, T^T a, and outer products.

T has the rows t[entries_ke] of block k; it is read where it lies and never copied.
"""

import functools
import math
from types import SimpleNamespace

import warp as wp

LANES = 8  # numbers of an entry that a processor multiplies at a time, or fewer where they do not divide n


@functools.cache
def kernels(scalar: type, n: int) -> SimpleNamespace:
    """The kernels for wp.float32 or wp.float64 and entries of n numbers."""
    module = wp.get_module(f"simengine.kernels.fields.table_product.{scalar.__name__}.{n}")
    module.options.update(enable_backward=False, max_unroll=1)
    kernel = functools.partial(wp.kernel, module=module, enable_backward=False)

    vec = wp.types.vector(n, scalar)
    lanes = math.gcd(n, LANES)
    pack, packs = wp.types.vector(lanes, scalar), n // lanes
    zero, one = wp.constant(scalar(0.0)), wp.constant(scalar(1.0))

    @kernel
    def products(
        # constants
        stretch: int,
        count: int,
        # inputs
        table: wp.array(dtype=pack, ndim=3),  # (sample, entry, pack)
        entries: wp.array(dtype=wp.int64, ndim=2),  # (block, e)
        sample: wp.array(dtype=wp.int64),  # (problem,)
        omega: wp.array(dtype=pack, ndim=3),  # (problem, block, pack)
        # outputs
        fields_out: wp.array(dtype=scalar, ndim=3),  # (problem, block, e)
    ):
        p, k, s = wp.tid()
        owner = int(sample[p])
        for e in range(s * stretch, wp.min((s + 1) * stretch, count)):
            entry = int(entries[k, e])
            products = pack(zero)
            for i in range(packs):
                products += wp.cw_mul(table[owner, entry, i], omega[p, k, i])
            fields_out[p, k, e] = wp.dot(products, pack(one))

    @kernel
    def sums(
        # constants
        stretch: int,
        count: int,
        # inputs
        table: wp.array(dtype=vec, ndim=2),
        entries: wp.array(dtype=wp.int64, ndim=2),
        sample: wp.array(dtype=wp.int64),
        fields: wp.array(dtype=scalar, ndim=3),
        # outputs
        omega_out: wp.array(dtype=vec, ndim=3),  # (problem, block, stretch)
    ):
        p, k, s = wp.tid()
        total = vec(zero)
        for e in range(s * stretch, wp.min((s + 1) * stretch, count)):
            total += fields[p, k, e] * table[int(sample[p]), int(entries[k, e])]
        omega_out[p, k, s] = total

    @kernel
    def outer(
        # inputs
        entries: wp.array(dtype=wp.int64, ndim=2),
        sample: wp.array(dtype=wp.int64),
        fields: wp.array(dtype=scalar, ndim=3),
        omega: wp.array(dtype=vec, ndim=2),
        # outputs
        table_out: wp.array(dtype=vec, ndim=2),  # added to
    ):
        p, k, e = wp.tid()
        wp.atomic_add(table_out, int(sample[p]), int(entries[k, e]), fields[p, k, e] * omega[p, k])

    return SimpleNamespace(products=products, sums=sums, outer=outer)
