"""Seconds of CPU on one core for forward and backward of surfels and volumes, beside plain torch.

Plain torch holds every disc in every pixel and every sample of every ray, so it is timed on smaller problems only.
`simengine bench render -- --threads` measures the wall time of one thread and of two instead, for a machine with two
free cores; `-- --cuda` times a GPU, beside gsplat's 2-D Gaussians where `pip install gsplat` could build them.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from simengine.ops.light import surfel, surfel_reference, volume, volume_reference
from simengine.render import PhongMaterial, PinholeCamera, PointLight, TexturedMesh, render_mesh, shade_depth
from simengine.render.bodies import sphere_mesh
from simengine.render.surfels import intrinsic_matrix
from simengine.render.volumes import intersect_box


def scattered(n: int, camera: PinholeCamera, channels: int) -> tuple[torch.Tensor, ...]:
    """Random discs in a box 2 m wide that fills the picture, in camera coordinates.

    Returns:
        Centres (n, 3), rotations (n, 3, 3), opacity (n,), features (n, channels).
    """
    generator = torch.Generator().manual_seed(0)
    centres = camera.to_camera(2 * torch.rand(n, 3, generator=generator) - 1)
    axes = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))[0]
    opacity = 0.1 + 0.8 * torch.rand(n, generator=generator)
    return centres, axes, opacity, torch.rand(n, channels, generator=generator)


def discs(n: int, camera: PinholeCamera, *, scale: float, channels: int = 8) -> list[torch.Tensor]:
    """The same, as `composite_surfels` takes them; a disc is `scale` long [m], and 0.6 of that wide."""
    centres, axes, opacity, features = scattered(n, camera, channels)
    local = torch.stack([axes[:, 0] * scale, axes[:, 1] * scale * 0.6, centres], dim=-1)
    return [intrinsic_matrix(camera) @ local, opacity, features]


def rays(size: int, cells: int, samples: float | None = None) -> tuple[list[torch.Tensor], float]:
    """A random grid in [-1, 1]^3, the rays of a picture of it, and the step that gives so many samples in all."""
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=size, height=size)
    origins, directions = (value.reshape(-1, 3) for value in camera.rays())
    near, far = intersect_box(origins, directions, -torch.ones(3), torch.ones(3))
    step = 2 / cells if samples is None else float((far - near).sum()) / samples
    field = torch.rand(cells, cells, cells, 4, generator=torch.Generator().manual_seed(0))
    return [field, (origins + 1) * cells / 2 - 0.5, directions * cells / 2, near, far], step


def seconds(
    function: Callable[..., tuple[torch.Tensor, ...]],
    inputs: list[torch.Tensor],
    repeats: int = 3,
    wanted: int | None = None,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Least time of forward and backward to the first `wanted` of the inputs, all if None."""
    inputs = [value.clone().requires_grad_(wanted is None or k < wanted) for k, value in enumerate(inputs)]
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        outputs = [value for value in function(*inputs) if value.requires_grad]
        torch.autograd.grad(outputs, inputs[:wanted], [torch.ones_like(value) for value in outputs])
        best = min(best, clock() - start)
    return best


def ball_seconds() -> float:
    """A textured mesh that fills half of the picture, with gradients to vertices and texture."""
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=256, height=256)
    lamp = PointLight(position=torch.tensor([2.0, 3.0, 4.0]), intensity=torch.tensor(40.0))
    vertices, faces = sphere_mesh(4)

    def picture(points: torch.Tensor, texture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (render_mesh(TexturedMesh(vertices=points, faces=faces, texture=texture), camera, lights=[lamp]).rgb,)

    return seconds(picture, [vertices, torch.rand(len(vertices), 3)], 5)


def row(name: str, ours: float, reference: float | None = None) -> dict[str, object]:
    """A row of the table; a problem too large for plain torch has no ratio."""
    known = {} if reference is None else {"reference": f"torch {reference:.3f} s", "ratio": round(reference / ours, 1)}
    return {"name": name, "ours": f"{ours:.3f} s", "reference": "", "ratio": "", **known}


def surfels_and_volume() -> tuple[tuple[str, Callable[..., tuple[torch.Tensor, ...]], list[torch.Tensor], int], ...]:
    """The two large problems: name, function that takes `num_threads`, inputs, how many of them want a gradient."""
    inputs = discs(100_000, PinholeCamera.look_at((0.0, 0.0, 4.0), width=512, height=512), scale=0.01)
    lit, step = rays(512, 128, 17.4e6)
    return (
        ("100000 surfels at 512^2", partial(surfel.composite_surfels, width=512, height=512), inputs, 3),
        ("volume 128^3 at 512^2", partial(volume.march_rays, step=step), lit, 1),
    )


def thread_rows() -> list[dict[str, object]]:
    """Wall time of one thread and of two, taken in turn; means something on two free cores only."""
    rows: list[dict[str, object]] = []
    for name, function, inputs, wanted in surfels_and_volume():
        least = [float("inf")] * 2
        for _ in range(5):
            for k in range(2):
                threads = partial(function, num_threads=k + 1)
                least[k] = min(least[k], seconds(threads, inputs, 1, wanted, time.perf_counter))
        rows.append({"name": f"{name}, wall time of two threads", "ours": f"{least[1]:.3f} s"})
        rows[-1] |= {"reference": f"one thread {least[0]:.3f} s", "ratio": round(least[0] / least[1], 2)}
    return rows


def cuda_rows() -> list[dict[str, object]]:
    """A GPU: surfels beside gsplat's, and the volume beside the memory traffic of its samples.

    A sample reads eight nodes of 16 bytes forward and again backward, and there reads and writes their gradients.

    Raises:
        RuntimeError: There is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("--cuda: torch finds no CUDA device here")

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    problems = surfels_and_volume()
    ours = [
        seconds(function, [x.cuda() for x in inputs], 10, wanted, clock) for _, function, inputs, wanted in problems
    ]
    rows = [row(f"{problem[0]}, {torch.cuda.get_device_name()}", t) for problem, t in zip(problems, ours, strict=True)]
    copied = torch.ones(1 << 28, device="cuda")
    start = clock()
    for _ in range(20):
        copied.clone()
    copying = 40 * copied.nbytes / (clock() - start)
    bound = 17.4e6 * 8 * 16 * 4 / copying
    rows[1] |= {"reference": f"its samples' traffic at {copying / 1e9:.0f} GB/s: {bound:.4f} s"}
    rows[1] |= {"ratio": round(bound / ours[1], 2)}
    if importlib.util.find_spec("gsplat") is None:
        print("gsplat is not installed: no comparison with it (pip install gsplat)")
        return rows
    theirs = seconds(gsplat_picture(), gsplat_discs(), 10, 4, clock)
    rows[0] |= {
        "reference": f"gsplat 2DGS {theirs:.4f} s",
        "ratio": round(theirs / float(str(rows[0]["ours"])[:-2]), 2),
    }
    return rows


def gsplat_discs() -> list[torch.Tensor]:
    """The discs of `surfels_and_volume` as gsplat takes them: means, opacity, features, scales, quaternions."""
    from scipy.spatial.transform import Rotation

    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=512, height=512)
    means, axes, opacity, features = scattered(100_000, camera, 8)
    frames = torch.stack([axes[:, 0], axes[:, 1], torch.linalg.cross(axes[:, 0], axes[:, 1])], dim=-1)
    xyzw = torch.from_numpy(Rotation.from_matrix(frames.numpy()).as_quat()).float()
    scales = torch.tensor([0.01, 0.006, 1.0]).expand(100_000, 3)
    return [value.cuda().contiguous() for value in (means, opacity, features, scales, xyzw.roll(1, dims=-1))]


def gsplat_picture() -> Callable[..., tuple[torch.Tensor, ...]]:
    """Colour and alpha by gsplat, of discs in camera coordinates."""
    from gsplat import rasterization_2dgs

    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=512, height=512)
    view, K = torch.eye(4, device="cuda")[None], intrinsic_matrix(camera).cuda()[None]

    def picture(
        means: torch.Tensor, opacity: torch.Tensor, features: torch.Tensor, scales: torch.Tensor, quats: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return tuple(rasterization_2dgs(means, quats, scales, opacity, features, view, K, 512, 512)[:2])

    return picture


def main(arguments: Sequence[str] = ()) -> list[dict[str, object]]:
    parser = argparse.ArgumentParser(prog="bench render", description=__doc__)
    parser.add_argument("--threads", action="store_true", help="wall time of one thread and of two")
    parser.add_argument("--cuda", action="store_true", help="a GPU, beside gsplat")
    options = parser.parse_args(list(arguments))
    torch.set_num_threads(1)
    if options.threads or options.cuda:
        return [*(thread_rows() if options.threads else ()), *(cuda_rows() if options.cuda else ())]
    rows = []
    for n, size, scale, compare in (
        (1_000, 96, 0.05, True),
        (10_000, 256, 0.02, False),
        (100_000, 512, 0.01, False),
    ):
        inputs = discs(n, PinholeCamera.look_at((0.0, 0.0, 4.0), width=size, height=size), scale=scale)
        ours = seconds(lambda *values, s=size: surfel.composite_surfels(*values, width=s, height=s), inputs)
        theirs = None
        if compare:
            theirs = seconds(
                lambda *values, s=size: surfel_reference.composite_surfels(*values, width=s, height=s)[:3], inputs, 1
            )
        rows.append(row(f"{n} surfels at {size}^2, binning, forward, backward", ours, theirs))
    for cells, size, samples, compare in ((32, 96, None, True), (128, 512, 17.4e6, False)):
        inputs, step = rays(size, cells, samples)
        for wanted, what in ((1, "to the grid"), (None, "to grid and rays")):
            ours = seconds(lambda *values, d=step: volume.march_rays(*values, step=d), inputs, wanted=wanted)
            theirs = None
            if compare:
                plain = partial(volume_reference.march_rays, step=step)
                theirs = seconds(plain, inputs, 1, wanted=wanted)
            rows.append(row(f"volume {cells}^3 at {size}^2, forward, backward {what}", ours, theirs))
    # a ball that fills a tenth of the box
    grid = torch.linspace(-1, 1, 128).square()
    inputs[0] *= (grid[:, None, None] + grid[:, None] + grid < 0.58**2)[..., None]
    full = seconds(lambda *values: volume.march_rays(*values, step=step), inputs, wanted=1)
    sparse = seconds(lambda *values: volume.march_rays(*values, step=step, sparse=True), inputs, wanted=1)
    rows.append({"name": "volume 128^3 at 512^2, a tenth full, sparse", "ours": f"{sparse:.3f} s"})
    rows[-1] |= {"reference": f"not sparse {full:.3f} s", "ratio": round(full / sparse, 1)}
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=128, height=128)
    lamp = PointLight(position=torch.tensor([0.5, -1.0, 0.0]), intensity=torch.tensor(9.0))
    maps = [3 + 0.2 * torch.rand(128, 128), torch.rand(128, 128, 3)]
    ours = seconds(lambda d, a: (shade_depth(d, camera, PhongMaterial(albedo=a), [lamp]),), maps, 10)
    rows.append(row("depth image to shaded picture at 128^2, forward, backward", ours))
    rows.append(row("lit ball of 5120 triangles at 256^2, forward, backward", ball_seconds()))
    return rows


if __name__ == "__main__":
    for entry in main(sys.argv[1:]):
        print(entry)
