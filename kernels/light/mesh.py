"""Which points lie inside a closed triangle mesh, and how far they are from it. Forward only."""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def inside(
    # constants
    max_distance: float,
    threshold: float,
    # inputs
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    # outputs
    inside_out: wp.array(dtype=wp.uint8),
):
    """Marks points [m] whose winding number is above `threshold`, which holds for meshes with small holes too."""
    p = wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[p], max_distance, 2.0, threshold)
    if query.result and query.sign < 0.0:
        inside_out[p] = wp.uint8(1)


@wp.kernel
def signed_distance(
    # constants
    max_distance: float,
    threshold: float,
    # inputs
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    # outputs
    distance_out: wp.array(dtype=float),
):
    """Distance [m] to the nearest triangle, negative where the winding number is above `threshold`."""
    p = wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[p], max_distance, 2.0, threshold)
    nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
    distance_out[p] = query.sign * wp.length(points[p] - nearest)
