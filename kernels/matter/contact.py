"""Contact of grid nodes with the faces of the grid and with moving rigid bodies, and its adjoint, as Warp functions.

A contact changes the velocity u of a node relative to the body, r = u - u_body, with outward normal n:

    sticky       r -> 0
    separating   r -> r where r.n >= 0, else the tangential part t = r - (r.n) n, shortened by Coulomb friction:
                 t max(0, 1 + mu (r.n) / |t|); mu = 0 is the approach-only free slip

Row of `table` (step, 1 + body, column): position 0:3 [m], rotation matrix body to world 3:12, velocity 12:15 [m/s],
angular velocity 15:18 [rad/s], friction 18, size 19:22 [m], width 22 [m] of the layer over which the contact sets in
(smooth, so that a body's pose has a derivative). Row 0 holds the friction of the six faces in columns 0:6, and in 6:9
the acceleration of all matter beside gravity [m/s^2].
"""

# ruff: noqa: UP018, RUF046 -- int(0) declares a variable of a kernel, 0 a constant

import functools
from types import SimpleNamespace

import warp as wp

from .signed_distance import functions as distance_functions

STICKY, SEPARATING = 1, 2  # 0: no contact
HARD, HARD_STICKY, HARD_SEPARATING = 3, 3, 4  # of bodies that leave nodes alone, see `hard_contact`
COLUMNS = 23


@functools.cache
def functions(real):
    """`boundary_velocity` and `boundary_adjoint` for wp.float32 or wp.float64."""
    f = distance_functions(real)
    module, vec3, mat33 = f"simengine_{real.__name__}", f.vec3, f.mat33
    distance, distance_adjoint = f.distance, f.distance_adjoint
    zero, one = real(0.0), real(1.0)

    @wp.func(module=module)
    def contact(r: vec3, n: vec3, mode: int, mu: real):
        out = r
        if mode == STICKY:
            out = vec3()
        elif mode == SEPARATING:
            rn = wp.dot(r, n)
            if rn < zero:
                out = r - n * rn
                if mu > zero:
                    length = wp.length(out)
                    scale = zero
                    if length > zero:
                        scale = wp.max(zero, one + mu * rn / length)
                    out = out * scale
        return out

    @wp.func(module=module)
    def contact_adjoint(r: vec3, n: vec3, mode: int, mu: real, out_bar: vec3):
        # cotangents of r, n, mu
        r_bar = out_bar
        n_bar = vec3()
        mu_bar = zero
        if mode == STICKY:
            r_bar = vec3()
        elif mode == SEPARATING:
            rn = wp.dot(r, n)
            if rn < zero:
                t = r - n * rn
                t_bar = out_bar
                rn_bar = zero
                length = wp.length(t)
                if length > zero:
                    scale = one + mu * rn / length
                    if scale > zero:
                        unit = t / length
                        along = wp.dot(unit, out_bar)
                        t_bar = out_bar * scale - unit * (along * mu * rn / length)
                        rn_bar = mu * along
                        mu_bar = rn * along
                    else:
                        t_bar = vec3()
                rn_bar -= wp.dot(n, t_bar)
                r_bar = t_bar + n * rn_bar
                n_bar = r * rn_bar - t_bar * rn
        return r_bar, n_bar, mu_bar

    @wp.func(module=module)
    def column3(table: wp.array3d(dtype=real), row: int, c: int, k: int):
        return vec3(table[row, c, k], table[row, c, k + 1], table[row, c, k + 2])

    @wp.func(module=module)
    def acceleration(gravity: vec3, table: wp.array3d(dtype=real), step: int):
        # gravity and what the table adds to it
        return gravity + column3(table, wp.min(step, table.shape[0] - 1), 0, 6)

    @wp.func(module=module)
    def rotation_of(table: wp.array3d(dtype=real), row: int, c: int):
        a = column3(table, row, c, 3)
        b = column3(table, row, c, 6)
        d = column3(table, row, c, 9)
        return mat33(a[0], a[1], a[2], b[0], b[1], b[2], d[0], d[1], d[2])

    @wp.func(module=module, inline=False)
    def collide(
        u: vec3,
        x: vec3,
        row: int,
        c: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
    ):
        if kinds[c - 1, 1] >= HARD:
            return u
        rho = x - column3(table, row, c, 0)
        R = rotation_of(table, row, c)
        width = table[row, c, 22]
        phi, g = distance(wp.transpose(R) * rho, column3(table, row, c, 19), c - 1, kinds, field)
        a = wp.clamp(real(0.5) - phi / width, zero, one)
        out = u
        if a > zero:
            body = column3(table, row, c, 12) + wp.cross(column3(table, row, c, 15), rho)
            r = u - body
            out = u + (contact(r, R * g, kinds[c - 1, 1], table[row, c, 18]) - r) * (
                a * a * (real(3.0) - real(2.0) * a)
            )
        return out

    @wp.func(module=module)
    def add3(table_bar: wp.array3d(dtype=wp.float64), row: int, c: int, k: int, value: vec3):
        wp.atomic_add(table_bar, row, c, k, wp.float64(value[0]))
        wp.atomic_add(table_bar, row, c, k + 1, wp.float64(value[1]))
        wp.atomic_add(table_bar, row, c, k + 2, wp.float64(value[2]))

    @wp.func(module=module, inline=False)
    def collide_adjoint(
        u: vec3,
        out_bar: vec3,
        x: vec3,
        row: int,
        c: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
        table_bar: wp.array3d(dtype=wp.float64),
    ):
        if kinds[c - 1, 1] >= HARD:
            return out_bar
        rho = x - column3(table, row, c, 0)
        R = rotation_of(table, row, c)
        width = table[row, c, 22]
        size = column3(table, row, c, 19)
        y = wp.transpose(R) * rho
        phi, g = distance(y, size, c - 1, kinds, field)
        a = wp.clamp(real(0.5) - phi / width, zero, one)
        u_bar = out_bar
        if a > zero:
            spin = column3(table, row, c, 15)
            mu = table[row, c, 18]
            mode = kinds[c - 1, 1]
            n = R * g
            r = u - column3(table, row, c, 12) - wp.cross(spin, rho)
            s = a * a * (real(3.0) - real(2.0) * a)
            s_bar = wp.dot(contact(r, n, mode, mu) - r, out_bar)
            r_bar, n_bar, mu_bar = contact_adjoint(r, n, mode, mu, out_bar * s)
            r_bar -= out_bar * s
            u_bar = out_bar + r_bar
            phi_bar = -s_bar * real(6.0) * a * (one - a) / width
            y_bar = distance_adjoint(y, size, c - 1, kinds, field, g, phi_bar, wp.transpose(R) * n_bar)
            rho_bar = R * y_bar - wp.cross(r_bar, spin)
            R_bar = wp.outer(n_bar, g) + wp.outer(rho, y_bar)
            add3(table_bar, row, c, 0, -rho_bar)
            add3(table_bar, row, c, 3, R_bar[0])
            add3(table_bar, row, c, 6, R_bar[1])
            add3(table_bar, row, c, 9, R_bar[2])
            add3(table_bar, row, c, 12, -r_bar)
            add3(table_bar, row, c, 15, -wp.cross(rho, r_bar))
            wp.atomic_add(table_bar, row, c, 18, wp.float64(mu_bar))
        return u_bar

    @wp.func(module=module)
    def face_mode(k: int, ijk: wp.vec3i, size: wp.vec3i, thickness: int, faces: wp.array(dtype=int)):
        # the mode of face k (-x, +x, -y, ...) where the node lies in its layer, else 0
        axis = k // 2
        mode = int(0)
        if k % 2 == 0:
            if ijk[axis] < thickness:
                mode = faces[k]
        else:
            if ijk[axis] > size[axis] - thickness:
                mode = faces[k]
        return mode

    @wp.func(module=module)
    def face_normal(k: int):
        n = vec3()
        value = one
        if k % 2 == 1:
            value = -one
        if k // 2 == 0:
            n = vec3(value, zero, zero)
        elif k // 2 == 1:
            n = vec3(zero, value, zero)
        else:
            n = vec3(zero, zero, value)
        return n

    @wp.func(module=module, inline=False)
    def boundary_stages(
        u: vec3,
        stages: int,
        ijk: wp.vec3i,
        size: wp.vec3i,
        dx: real,
        row: int,
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
    ):
        # the first `stages` contacts: six faces, then the bodies
        out = u
        k = int(0)
        x = vec3(real(ijk[0]), real(ijk[1]), real(ijk[2])) * dx
        while k < stages:
            if k < 6:
                mode = face_mode(k, ijk, size, thickness, faces)
                if mode > 0:
                    out = contact(out, face_normal(k), mode, table[row, 0, k])
            else:
                out = collide(out, x, row, k - 5, kinds, field, table)
            k += 1
        return out

    @wp.func(module=module)
    def interior(ijk: wp.vec3i, size: wp.vec3i, thickness: int, kinds: wp.array2d(dtype=int)):
        # a node that nothing touches: there is no body, and no face is near
        ok = bool(kinds.shape[0] == 0)
        for a in range(3):
            if ijk[a] < thickness or ijk[a] > size[a] - thickness:
                ok = False
        return ok

    @wp.func(module=module, inline=False)
    def boundary_velocity(
        u: vec3,
        ijk: wp.vec3i,
        size: wp.vec3i,
        dx: real,
        step: int,
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
    ):
        # after all contacts of a node that is not interior
        row = wp.min(step, table.shape[0] - 1)
        return boundary_stages(u, 6 + kinds.shape[0], ijk, size, dx, row, faces, thickness, kinds, field, table)

    @wp.func(module=module, inline=False)
    def boundary_adjoint(
        u: vec3,
        out_bar: vec3,
        ijk: wp.vec3i,
        size: wp.vec3i,
        dx: real,
        step: int,
        faces: wp.array(dtype=int),
        thickness: int,
        kinds: wp.array2d(dtype=int),
        field: wp.array(dtype=real),
        table: wp.array3d(dtype=real),
        table_bar: wp.array3d(dtype=wp.float64),
    ):
        # cotangent of u; adds those of frictions and bodies to table_bar
        u_bar = out_bar
        row = wp.min(step, table.shape[0] - 1)
        x = vec3(real(ijk[0]), real(ijk[1]), real(ijk[2])) * dx
        k = 5 + kinds.shape[0]
        while k >= 0:
            if k < 6:
                mode = face_mode(k, ijk, size, thickness, faces)
                if mode > 0:
                    before = boundary_stages(u, k, ijk, size, dx, row, faces, thickness, kinds, field, table)
                    u_bar, _n_bar, mu_bar = contact_adjoint(before, face_normal(k), mode, table[row, 0, k], u_bar)
                    wp.atomic_add(table_bar, row, 0, k, wp.float64(mu_bar))
            else:
                before = boundary_stages(u, k, ijk, size, dx, row, faces, thickness, kinds, field, table)
                u_bar = collide_adjoint(before, u_bar, x, row, k - 5, kinds, field, table, table_bar)
            k -= 1
        return u_bar

    return SimpleNamespace(
        vec3=vec3,
        mat33=mat33,
        column3=column3,
        rotation_of=rotation_of,
        add3=add3,
        acceleration=acceleration,
        interior=interior,
        boundary_velocity=boundary_velocity,
        boundary_adjoint=boundary_adjoint,
    )
