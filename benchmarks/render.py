"""Seconds of CPU on one core for forward and backward of surfels and volumes, beside plain torch.

Plain torch holds every disc in every pixel and every sample of every ray, so it is timed on smaller problems only.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from simengine.ops import surfel, surfel_reference, volume, volume_reference
from simengine.render import PhongMaterial, PinholeCamera, PointLight, TexturedMesh, render_mesh, shade_depth
from simengine.render.bodies import sphere_mesh
from simengine.render.surfels import intrinsic_matrix
from simengine.render.volumes import intersect_box


def discs(n: int, camera: PinholeCamera, *, scale: float, channels: int = 8) -> list[torch.Tensor]:
    """Random discs in a box 2 m wide that fills the picture."""
    generator = torch.Generator().manual_seed(0)
    centres = camera.to_camera(2 * torch.rand(n, 3, generator=generator) - 1)
    axes = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator))[0]
    local = torch.stack([axes[:, 0] * scale, axes[:, 1] * scale * 0.6, centres], dim=-1)
    opacity = 0.1 + 0.8 * torch.rand(n, generator=generator)
    return [intrinsic_matrix(camera) @ local, opacity, torch.rand(n, channels, generator=generator)]


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
) -> float:
    """Least CPU time of forward and backward to the first `wanted` of the inputs, all if None."""
    inputs = [value.clone().requires_grad_(wanted is None or k < wanted) for k, value in enumerate(inputs)]
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        outputs = [value for value in function(*inputs) if value.requires_grad]
        torch.autograd.grad(outputs, inputs[:wanted], [torch.ones_like(value) for value in outputs])
        best = min(best, time.process_time() - start)
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


def main() -> list[dict[str, object]]:
    torch.set_num_threads(1)
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
    for entry in main():
        print(entry)
