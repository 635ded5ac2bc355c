"""Functions for kernels that read a grid between its nodes, and add to it there, with vector instructions on CPUs.

Left to itself the compiler takes vectors of channels apart into scalars: a march through a grid is twice as fast with
these. The two nodes of a cell along the last axis lie side by side in memory, so that a cell is four loads.
"""

import functools
from types import SimpleNamespace

import warp as wp


@functools.cache
def functions(scalar: type, channels: int) -> SimpleNamespace:
    """The functions for wp.float32 or wp.float64.

    A grid is an array of vectors of `channels`, node (i, j, k) at (i n1 + j) n2 + k, at least two nodes along each
    axis. Positions are in units of nodes; values are constant beyond the outermost ones.

    Returns:
        `fetch`, the value at a position; `slope`, the derivative by the position of a weighted sum of the channels;
        `scatter`, which adds a value to the nodes with the weights of `fetch`: in parts that no other thread touches
        on CPUs, by atomic additions on GPUs.
    """
    vecf = wp.types.vector(channels, scalar)
    vec3 = wp.types.vector(3, scalar)
    number = "wp::float64" if scalar is wp.float64 else "wp::float32"
    vectors = int(channels & (channels - 1) == 0)
    # V holds the channels of a node, W those of two nodes side by side; p lies in cell q at (a, b, c) in [0, 1]
    place = f"""
    typedef {number} S;
#if defined(__CUDA_ARCH__) || !{vectors}
    typedef wp::vec_t<{channels}, S> V;
    typedef wp::vec_t<{2 * channels}, S> W;
#else
    typedef S V __attribute__((ext_vector_type({channels}), aligned(4)));
    typedef S W __attribute__((ext_vector_type({2 * channels}), aligned(4)));
#endif
#if defined(__CUDA_ARCH__)
    const S x = wp::min(wp::max(p[0], S(0)), S(n0 - 1));
    const S y = wp::min(wp::max(p[1], S(0)), S(n1 - 1));
    const S z = wp::min(wp::max(p[2], S(0)), S(n2 - 1));
    const int i = wp::min((int)x, n0 - 2), j = wp::min((int)y, n1 - 2), k = wp::min((int)z, n2 - 2);
    const S a = x - S(i), b = y - S(j), c = z - S(k);
#else
    typedef S P __attribute__((ext_vector_type(4)));
    typedef int I __attribute__((ext_vector_type(4)));
    const P low = {{0, 0, 0, 0}}, high = {{S(n0 - 1), S(n1 - 1), S(n2 - 1), 0}}, all = {{p[0], p[1], p[2], 0}};
    const I last = {{n0 - 2, n1 - 2, n2 - 2, 0}};
    const P held = __builtin_elementwise_min(__builtin_elementwise_max(all, low), high);
    const I cell = __builtin_elementwise_min(__builtin_convertvector(held, I), last);
    const P weights = held - __builtin_convertvector(cell, P);
    const S a = weights.x, b = weights.y, c = weights.z;
    const int i = cell.x, j = cell.y, k = cell.z;
#endif
    const long long dj = n2, di = (long long)n1 * n2, q = i * di + j * dj + k;
"""
    load = """
    const V* f = (const V*)field.data + q;
    const W w00 = *(const W*)f, w01 = *(const W*)(f + dj), w10 = *(const W*)(f + di), w11 = *(const W*)(f + di + dj);
"""
    fetch_code = f"""{place}{load}
    const W w0 = w00 + b * (w01 - w00), w1 = w10 + b * (w11 - w10);
    const W w = w0 + a * (w1 - w0);
    const V* v = (const V*)&w;
    const V value = v[0] + c * (v[1] - v[0]);
    return *(const wp::vec_t<{channels}, S>*)&value;
"""
    slope_code = f"""{place}{load}
    const W by_j0 = w01 - w00, by_j1 = w11 - w10;
    const W w0 = w00 + b * by_j0, w1 = w10 + b * by_j1;
    const W by_i = w1 - w0, by_j = by_j0 + a * (by_j1 - by_j0), w = w0 + a * by_i;
    const S *u = (const S*)&by_i, *v = (const S*)&by_j, *value = (const S*)&w;
    S s0 = 0, s1 = 0, s2 = 0;
    for (int m = 0; m < {channels}; ++m) {{
        s0 += weight[m] * (u[m] + c * (u[m + {channels}] - u[m]));
        s1 += weight[m] * (v[m] + c * (v[m + {channels}] - v[m]));
        s2 += weight[m] * (value[m + {channels}] - value[m]);
    }}
    return wp::vec_t<3, S>(
        p[0] > S(0) && p[0] < S(n0 - 1) ? s0 : S(0),
        p[1] > S(0) && p[1] < S(n1 - 1) ? s1 : S(0),
        p[2] > S(0) && p[2] < S(n2 - 1) ? s2 : S(0)
    );
"""
    scatter_code = f"""{place}
    V* f = (V*)field.data + q;
    V pair[2];
    pair[1] = c * *(const V*)&value;
    pair[0] = *(const V*)&value - pair[1];
    const W g = *(const W*)pair;
    const W g1 = a * g, g0 = g - g1;
    const W g01 = b * g0, g11 = b * g1;
    const W parts[4] = {{g0 - g01, g01, g1 - g11, g11}};
    V* columns[4] = {{f, f + dj, f + di, f + di + dj}};
    for (int m = 0; m < 4; ++m) {{
#if defined(__CUDA_ARCH__)
        for (int s = 0; s < {2 * channels}; ++s)
            wp::atomic_add((S*)columns[m] + s, ((const S*)&parts[m])[s]);
#else
        *(W*)columns[m] = *(const W*)columns[m] + parts[m];
#endif
    }}
"""

    @wp.func_native(fetch_code)
    def fetch(field: wp.array(dtype=vecf), p: vec3, n0: int, n1: int, n2: int) -> vecf: ...

    @wp.func_native(slope_code)
    def slope(field: wp.array(dtype=vecf), p: vec3, n0: int, n1: int, n2: int, weight: vecf) -> vec3: ...

    @wp.func_native(scatter_code)
    def scatter(field: wp.array(dtype=vecf), p: vec3, n0: int, n1: int, n2: int, value: vecf): ...

    return SimpleNamespace(fetch=fetch, slope=slope, scatter=scatter)
