"""The stiffness of a material with three axes, as Warp functions generic in the scalar.

In its axes, S_ii = sum_j C_ij E_jj and S_ij = 2 G_ij E_ij. Columns of `coefficients`: C11, C22, C33, C23, C13, C12,
G23, G13, G12 [Pa], then by rows the matrix whose columns are the axes.
"""

import functools
from types import SimpleNamespace

import warp as wp

from .svd import functions as matrix_functions


@functools.cache
def functions(real):
    """The functions for `real` (wp.float32 or wp.float64) in the module `simengine_<real>`."""
    module, mat33 = f"simengine_{real.__name__}", matrix_functions(real).mat33
    two = real(2.0)

    @wp.func(module=module)
    def axes_of(coefficients: wp.array2d(dtype=wp.float64), p: int):
        # the matrix of the axes of particle p
        Q = mat33()
        for k in range(9):
            Q[k // 3, k % 3] = real(coefficients[p, 9 + k])
        return Q

    @wp.func(module=module)
    def stiffened(coefficients: wp.array2d(dtype=wp.float64), p: int, E: mat33):
        # C : E, both symmetric and in the axes
        C12 = real(coefficients[p, 5])
        C13 = real(coefficients[p, 4])
        C23 = real(coefficients[p, 3])
        xx = real(coefficients[p, 0]) * E[0, 0] + C12 * E[1, 1] + C13 * E[2, 2]
        yy = C12 * E[0, 0] + real(coefficients[p, 1]) * E[1, 1] + C23 * E[2, 2]
        zz = C13 * E[0, 0] + C23 * E[1, 1] + real(coefficients[p, 2]) * E[2, 2]
        yz = two * real(coefficients[p, 6]) * E[1, 2]
        xz = two * real(coefficients[p, 7]) * E[0, 2]
        xy = two * real(coefficients[p, 8]) * E[0, 1]
        return mat33(xx, xy, xz, xy, yy, yz, xz, yz, zz)

    @wp.func(module=module)
    def stiffness_adjoint(bar: wp.array2d(dtype=wp.float64), p: int, E: mat33, S_bar: mat33):
        # adds the cotangents of the nine stiffnesses
        for k in range(3):
            i = (k + 1) % 3
            j = (k + 2) % 3
            bar[p, k] += wp.float64(S_bar[k, k] * E[k, k])
            bar[p, 3 + k] += wp.float64(S_bar[i, i] * E[j, j] + S_bar[j, j] * E[i, i])
            bar[p, 6 + k] += wp.float64(two * (S_bar[i, j] + S_bar[j, i]) * E[i, j])

    return SimpleNamespace(axes_of=axes_of, stiffened=stiffened, stiffness_adjoint=stiffness_adjoint)
