"""Forces that are told, on parts of bodies, and their adjoint.

A particle of a part gets, besides what walls and neighbours do, the force and the affine momentum

    f = V (g - cof(F) h),    tau - (G - cof(F) H) F^T

g is a dead load per volume at rest [N/m^3], the same wherever the body moves; h a pressure times the normal of the face
at rest, over the depth of the layer of particles that bears it [Pa/m]: cof(F) n dA is the face as it is deformed
(Nanson), so that the pressure follows it. G = sum g r^T and H = sum h r^T [Pa], of loads on a face, let these act on it
in place of the particles' centres, r before it at rest: so that the outermost particles bear the stress too.

All stand in the row of the table that `part` names, 0 for none: g in columns 0 to 2, h in 3 to 5, G in 6 to 14, xx, xy,
xz, yy, yz and zz of H, which is symmetric, in 15 to 20.
"""

import functools
from types import SimpleNamespace

import warp as wp

from ..cpu import cpu_module
from .contact import functions as contact_functions
from .svd import functions as matrix_functions


@functools.cache
def kernels(real):
    """Kernels `load` and `load_adjoint` for wp.float32 or wp.float64."""
    f, b = matrix_functions(real), contact_functions(real)
    module = cpu_module(f"simengine_loads_{real.__name__}")
    vec3, mat33, array2d, array3d = f.vec3, f.mat33, wp.array2d, wp.array3d
    cofactor, columns, column3, add3 = f.cofactor, f.columns, b.column3, b.add3

    @wp.func(module=module)
    def dead(table: array3d(dtype=real), row: int, own: int):
        one = column3(table, row, own, 6)
        two = column3(table, row, own, 9)
        three = column3(table, row, own, 12)
        return mat33(one[0], one[1], one[2], two[0], two[1], two[2], three[0], three[1], three[2])

    @wp.func(module=module)
    def pressing(table: array3d(dtype=real), row: int, own: int):
        one = column3(table, row, own, 15)
        two = column3(table, row, own, 18)
        return mat33(one[0], one[1], one[2], one[1], two[0], two[1], one[2], two[1], two[2])

    @wp.kernel(module=module, enable_backward=False)
    def load(
        # constants
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        part: wp.array(dtype=int),
        table: array3d(dtype=real),
        # inputs
        F: array2d(dtype=mat33),
        v: array2d(dtype=vec3),
        tau: wp.array(dtype=mat33),
        # outputs
        v_out: wp.array(dtype=vec3),
        tau_out: wp.array(dtype=mat33),
    ):
        """Velocity [m/s] and stress [Pa] with what the loads do to a particle in a step."""
        p = wp.tid()
        t = clock[0]
        row = wp.min(clock[2], table.shape[0] - 1)
        vp = v[t, p]
        stress = tau[p]
        own = part[p]
        if own > 0:
            K = cofactor(F[t, p])
            force = column3(table, row, own, 0) - K * column3(table, row, own, 3)
            vp = vp + force * (dt * volume[p] / mass[p])
            stress = stress - (dead(table, row, own) - K * pressing(table, row, own)) * wp.transpose(F[t, p])
        v_out[p] = vp
        tau_out[p] = stress

    @wp.kernel(module=module, enable_backward=False)
    def load_adjoint(
        # constants
        dt: real,
        clock: wp.array(dtype=int),
        mass: wp.array(dtype=real),
        volume: wp.array(dtype=real),
        part: wp.array(dtype=int),
        table: array3d(dtype=real),
        # inputs
        F: array2d(dtype=mat33),
        v_bar: wp.array(dtype=vec3),
        tau_bar: wp.array(dtype=mat33),
        # outputs
        F_bar_out: wp.array(dtype=mat33),
        body_bar_out: array2d(dtype=wp.float64),
        table_bar_out: array3d(dtype=wp.float64),
    ):
        """Cotangents of F, mass, volume and the table; those of velocity and stress stay as they are."""
        p = wp.tid()
        t = clock[0]
        row = wp.min(clock[2], table.shape[0] - 1)
        own = part[p]
        if own > 0:
            Fp = F[t, p]
            K = cofactor(Fp)
            h = column3(table, row, own, 3)
            H = pressing(table, row, own)
            per = dt / mass[p]
            along = wp.dot(v_bar[p], column3(table, row, own, 0) - K * h) * per
            body_bar_out[p, 0] -= wp.float64(along * volume[p] / mass[p])
            body_bar_out[p, 1] += wp.float64(along)
            w = v_bar[p] * (per * volume[p])
            add3(table_bar_out, row, own, 0, w)
            add3(table_bar_out, row, own, 3, -(wp.transpose(K) * w))
            # of the moment M F^T, M = G - K H
            M_bar = tau_bar[p] * Fp * real(-1.0)
            add3(table_bar_out, row, own, 6, M_bar[0])
            add3(table_bar_out, row, own, 9, M_bar[1])
            add3(table_bar_out, row, own, 12, M_bar[2])
            Q = wp.transpose(K) * M_bar
            add3(table_bar_out, row, own, 15, -vec3(Q[0, 0], Q[0, 1] + Q[1, 0], Q[0, 2] + Q[2, 0]))
            add3(table_bar_out, row, own, 18, -vec3(Q[1, 1], Q[1, 2] + Q[2, 1], Q[2, 2]))
            F_bar = -wp.transpose(tau_bar[p]) * (dead(table, row, own) - K * H)
            # of the cofactor, whose columns are y x z, z x x and x x y, of the columns x, y, z of F
            K_bar = -wp.outer(w, h) - M_bar * H
            x = vec3(Fp[0, 0], Fp[1, 0], Fp[2, 0])
            y = vec3(Fp[0, 1], Fp[1, 1], Fp[2, 1])
            z = vec3(Fp[0, 2], Fp[1, 2], Fp[2, 2])
            k = vec3(K_bar[0, 0], K_bar[1, 0], K_bar[2, 0])
            m = vec3(K_bar[0, 1], K_bar[1, 1], K_bar[2, 1])
            n = vec3(K_bar[0, 2], K_bar[1, 2], K_bar[2, 2])
            F_bar = F_bar + columns(
                wp.cross(m, z) + wp.cross(y, n), wp.cross(z, k) + wp.cross(n, x), wp.cross(k, y) + wp.cross(x, m)
            )
            F_bar_out[p] = F_bar_out[p] + F_bar

    return SimpleNamespace(load=load, load_adjoint=load_adjoint)
