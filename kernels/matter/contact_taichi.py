"""The contact of `kernels/matter/contact.py` in Taichi; what `table`, `kinds` and `field` hold is told there."""

import functools
from types import SimpleNamespace

import taichi as ti

from .contact import SEPARATING, STICKY
from .signed_distance import BOX, CAPSULE, FIELD, SPHERE


@functools.cache
def functions(real, wide):
    """`boundary_velocity` and `boundary_adjoint` for ti.f32 or ti.f64; shared gradients are summed in `wide`."""
    vec3, mat33 = ti.types.vector(3, real), ti.types.matrix(3, 3, real)

    @ti.func
    def contact(r, n, mode, mu):
        out = r
        if mode == STICKY:
            out = vec3(0)
        elif mode == SEPARATING:
            rn = r.dot(n)
            if rn < 0:
                out = r - n * rn
                if mu > 0:
                    length = out.norm()
                    scale = ti.cast(0, real)
                    if length > 0:
                        scale = ti.max(ti.cast(0, real), 1 + mu * rn / length)
                    out *= scale
        return out

    @ti.func
    def contact_adjoint(r, n, mode, mu, out_bar):
        # cotangents of r, n, mu
        r_bar = out_bar
        n_bar = vec3(0)
        mu_bar = ti.cast(0, real)
        if mode == STICKY:
            r_bar = vec3(0)
        elif mode == SEPARATING:
            rn = r.dot(n)
            if rn < 0:
                t = r - n * rn
                t_bar = out_bar
                rn_bar = ti.cast(0, real)
                length = t.norm()
                if length > 0:
                    scale = 1 + mu * rn / length
                    if scale > 0:
                        unit = t / length
                        along = unit.dot(out_bar)
                        t_bar = out_bar * scale - unit * (along * mu * rn / length)
                        rn_bar = mu * along
                        mu_bar = rn * along
                    else:
                        t_bar = vec3(0)
                rn_bar -= n.dot(t_bar)
                r_bar = t_bar + n * rn_bar
                n_bar = r * rn_bar - t_bar * rn
        return r_bar, n_bar, mu_bar

    @ti.func
    def spline(u):
        # the quadratic B-spline at u, its slope and its second derivative
        t = ti.abs(u)
        out = vec3(0.5 * (1.5 - t) ** 2, ti.select(u > 0, t - 1.5, 1.5 - t), 1)
        if t < 0.5:
            out = vec3(0.75 - t * t, -2 * u, -2)
        return out

    @ti.func
    def field_distance(y, size, b, kinds: ti.template(), field: ti.template()):
        # value, gradient and Hessian of the field of body b; far away outside of its box
        n = ti.Vector([kinds[b, 3], kinds[b, 4], kinds[b, 5]])
        h = 2 * size / ti.cast(n - 1, real)
        s = (y + size) / h
        phi = ti.cast(1e9, real)
        g = vec3(0)
        H = mat33(0)
        if s.min() >= 0.5 and (ti.cast(n, real) - s).min() > 1.5:
            base = ti.cast(ti.floor(s - 0.5), ti.i32)
            phi = ti.cast(0, real)
            for q in range(27):
                o = base + ti.Vector([q // 9, q // 3 % 3, q % 3])
                f = field[kinds[b, 2] + (o[0] * n[1] + o[1]) * n[2] + o[2]]
                wx = spline(s[0] - o[0])
                wy = spline(s[1] - o[1])
                wz = spline(s[2] - o[2])
                phi += f * wx[0] * wy[0] * wz[0]
                g += f * vec3(wx[1] * wy[0] * wz[0], wx[0] * wy[1] * wz[0], wx[0] * wy[0] * wz[1])
                xy = wx[1] * wy[1] * wz[0]
                xz = wx[1] * wy[0] * wz[1]
                yz = wx[0] * wy[1] * wz[1]
                xx = wx[2] * wy[0] * wz[0]
                yy = wx[0] * wy[2] * wz[0]
                zz = wx[0] * wy[0] * wz[2]
                H += f * mat33([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            g /= h
            H /= h.outer_product(h)
        return phi, g, H

    @ti.func
    def beyond(y, size):
        # of a box: the part of y outside along each axis, and how far beyond each pair of faces
        a = ti.abs(y) - size
        return ti.max(a, vec3(0)), a

    @ti.func
    def distance(y, size, b, kinds: ti.template(), field: ti.template()):
        # signed distance and outward normal in the frame of body b
        kind = kinds[b, 0]
        q = y
        phi = y[2]
        g = vec3(0, 0, 1)
        if kind == SPHERE or kind == CAPSULE:
            if kind == CAPSULE:
                q[2] = y[2] - ti.min(ti.max(y[2], -size[1]), size[1])
            length = q.norm()
            phi = length - size[0]
            if length > 0:
                g = q / length
        elif kind == BOX:
            q, a = beyond(y, size)
            phi = q.norm()
            if phi > 0:
                g = q / phi
            else:
                phi = a.max()
                g = vec3(0)
                if phi == a[0]:
                    g[0] = 1
                elif phi == a[1]:
                    g[1] = 1
                else:
                    g[2] = 1
            for k in ti.static(range(3)):
                if y[k] < 0:
                    g[k] = -g[k]
        elif kind == FIELD:
            value, slope, _ = field_distance(y, size, b, kinds, field)
            phi = value
            length = slope.norm()
            if length > 0:
                g = slope / length
        return phi, g

    @ti.func
    def distance_adjoint(y, size, b, kinds: ti.template(), field: ti.template(), g, phi_bar, g_bar):
        # cotangent of y from those of the distance and of the normal g
        kind = kinds[b, 0]
        y_bar = g * phi_bar
        c = g_bar
        length = ti.cast(0, real)
        if kind == SPHERE:
            length = y.norm()
        elif kind == CAPSULE:
            z = y[2] - ti.min(ti.max(y[2], -size[1]), size[1])
            length = vec3(y[0], y[1], z).norm()
            if z == 0:
                c[2] = 0
        elif kind == BOX:
            q, _ = beyond(y, size)
            length = q.norm()
            for k in ti.static(range(3)):
                if q[k] <= 0:
                    c[k] = 0
        if length > 0:
            y_bar += (c - g * g.dot(c)) / length
        if kind == FIELD:
            _, slope, H = field_distance(y, size, b, kinds, field)
            length = slope.norm()
            y_bar = slope * phi_bar
            if length > 0:
                y_bar += H @ ((g_bar - g * g.dot(g_bar)) / length)
        return y_bar

    @ti.func
    def column3(table: ti.template(), row, c, k):
        return vec3(table[row, c, k], table[row, c, k + 1], table[row, c, k + 2])

    @ti.func
    def rotation_of(table: ti.template(), row, c):
        return ti.Matrix.rows([column3(table, row, c, 3), column3(table, row, c, 6), column3(table, row, c, 9)])

    @ti.func
    def collide(u, x, row, b, kinds: ti.template(), field: ti.template(), table: ti.template()):
        c = b + 1
        rho = x - column3(table, row, c, 0)
        R = rotation_of(table, row, c)
        phi, g = distance(R.transpose() @ rho, column3(table, row, c, 19), b, kinds, field)
        a = ti.min(ti.max(ti.cast(0.5, real) - phi / table[row, c, 22], ti.cast(0, real)), ti.cast(1, real))
        out = u
        if a > 0:
            r = u - column3(table, row, c, 12) - column3(table, row, c, 15).cross(rho)
            out = u + (contact(r, R @ g, kinds[b, 1], table[row, c, 18]) - r) * (a * a * (3 - 2 * a))
        return out

    @ti.func
    def add3(table_bar: ti.template(), row, c, k, value):
        for i in ti.static(range(3)):
            ti.atomic_add(table_bar[row, c, k + i], ti.cast(value[i], wide))

    @ti.func
    def collide_adjoint(
        u,
        out_bar,
        x,
        row,
        b,
        kinds: ti.template(),
        field: ti.template(),
        table: ti.template(),
        table_bar: ti.template(),
    ):
        c = b + 1
        mode = kinds[b, 1]
        rho = x - column3(table, row, c, 0)
        R = rotation_of(table, row, c)
        width = table[row, c, 22]
        size = column3(table, row, c, 19)
        y = R.transpose() @ rho
        phi, g = distance(y, size, b, kinds, field)
        a = ti.min(ti.max(ti.cast(0.5, real) - phi / width, ti.cast(0, real)), ti.cast(1, real))
        u_bar = out_bar
        if a > 0:
            spin = column3(table, row, c, 15)
            mu = table[row, c, 18]
            n = R @ g
            r = u - column3(table, row, c, 12) - spin.cross(rho)
            s = a * a * (3 - 2 * a)
            s_bar = (contact(r, n, mode, mu) - r).dot(out_bar)
            r_bar, n_bar, mu_bar = contact_adjoint(r, n, mode, mu, out_bar * s)
            r_bar -= out_bar * s
            u_bar = out_bar + r_bar
            phi_bar = -s_bar * 6 * a * (1 - a) / width
            y_bar = distance_adjoint(y, size, b, kinds, field, g, phi_bar, R.transpose() @ n_bar)
            rho_bar = R @ y_bar - r_bar.cross(spin)
            R_bar = n_bar.outer_product(g) + rho.outer_product(y_bar)
            add3(table_bar, row, c, 0, -rho_bar)
            for i in ti.static(range(3)):
                add3(table_bar, row, c, 3 + 3 * i, vec3(R_bar[i, 0], R_bar[i, 1], R_bar[i, 2]))
            add3(table_bar, row, c, 12, -r_bar)
            add3(table_bar, row, c, 15, -rho.cross(r_bar))
            ti.atomic_add(table_bar[row, c, 18], ti.cast(mu_bar, wide))
        return u_bar

    @ti.func
    def face(k, ijk, size, thickness, faces: ti.template()):
        # the mode of face k (-x, +x, -y, ...) where the node lies in its layer, else 0; and its normal
        axis = k // 2
        mode = 0
        n = vec3(0)
        for a in ti.static(range(3)):
            if a == axis:
                n[a] = 1 - 2 * (k % 2)
                if k % 2 == 0 and ijk[a] < thickness:
                    mode = faces[k]
                if k % 2 == 1 and ijk[a] > size[a] - thickness:
                    mode = faces[k]
        return mode, n

    @ti.func
    def boundary_velocity(
        u,
        stages,
        ijk,
        size,
        dx,
        step,
        faces: ti.template(),
        thickness,
        kinds: ti.template(),
        field: ti.template(),
        table: ti.template(),
    ):
        # the first `stages` contacts: six faces, then the bodies
        out = u
        row = ti.min(step, table.shape[0] - 1)
        x = ti.cast(ijk, real) * dx
        for k in range(stages):
            if k < 6:
                mode, n = face(k, ijk, size, thickness, faces)
                if mode > 0:
                    out = contact(out, n, mode, table[row, 0, k])
            else:
                out = collide(out, x, row, k - 6, kinds, field, table)
        return out

    @ti.func
    def boundary_adjoint(
        u,
        out_bar,
        stages,
        ijk,
        size,
        dx,
        step,
        faces: ti.template(),
        thickness,
        kinds: ti.template(),
        field: ti.template(),
        table: ti.template(),
        table_bar: ti.template(),
    ):
        # cotangent of u; adds those of frictions and bodies to table_bar
        u_bar = out_bar
        row = ti.min(step, table.shape[0] - 1)
        x = ti.cast(ijk, real) * dx
        for back in range(stages):
            k = stages - 1 - back
            before = boundary_velocity(u, k, ijk, size, dx, step, faces, thickness, kinds, field, table)
            if k < 6:
                mode, n = face(k, ijk, size, thickness, faces)
                if mode > 0:
                    r_bar, _, mu_bar = contact_adjoint(before, n, mode, table[row, 0, k], u_bar)
                    u_bar = r_bar
                    ti.atomic_add(table_bar[row, 0, k], ti.cast(mu_bar, wide))
            else:
                u_bar = collide_adjoint(before, u_bar, x, row, k - 6, kinds, field, table, table_bar)
        return u_bar

    return SimpleNamespace(
        vec3=vec3, mat33=mat33, boundary_velocity=boundary_velocity, boundary_adjoint=boundary_adjoint
    )
