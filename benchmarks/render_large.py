"""What a user meets at full size: a million surfels at 1080p, and 20 000 trained from 24 photographs.

`simengine bench render_large`; CPU seconds of one process. The training is timed when as many discs are there as it may
have, and multiplied by the steps that a fit takes; photographs are pictures of a bumpy lit ball by the renderer of
meshes.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import simengine as se
from simengine.fit.method import training_of
from simengine.fit.problem import Problem
from simengine.io import write
from simengine.ops.light import surfel
from simengine.render import DirectionalLight, PinholeCamera, TexturedMesh, orbit, render_mesh
from simengine.render.bodies import sphere_mesh
from simengine.render.surfels import intrinsic_matrix

PHOTOGRAPHS, SIDE, COUNT, STEPS, TIMED = 24, 200, 20_000, 600, 12
SCENE = f"""
kind = "surfels"
[surfels]
box = [[-0.8, 0.8], [-0.8, 0.8], [-0.8, 0.8]]
count = {COUNT}
every = 10
[observations.photos]
type = "views"
file = "ball_*.png"
camera = {{ file = "cameras.json" }}
background = [0.0, 0.0, 0.0]
[inference]
method = "adam"
iterations = {STEPS}
"""


def million() -> dict[str, object]:
    """Binning, forward and backward of a million discs, least of two."""
    generator = torch.Generator().manual_seed(0)
    camera = PinholeCamera.look_at((0.0, 0.0, 4.0), width=1920, height=1080)
    centres = camera.to_camera(2 * torch.rand(1_000_000, 3, generator=generator) - 1)
    axes = torch.linalg.qr(torch.randn(1_000_000, 3, 3, generator=generator))[0]
    local = torch.stack([axes[:, 0] * 0.004, axes[:, 1] * 0.0024, centres], dim=-1)
    inputs = [intrinsic_matrix(camera) @ local, 0.1 + 0.8 * torch.rand(1_000_000, generator=generator)]
    inputs.append(torch.rand(1_000_000, 3, generator=generator))
    least = float("inf")
    for _ in range(2):
        leaves = [value.clone().requires_grad_() for value in inputs]
        begin = time.process_time()
        image = surfel.composite_surfels(*leaves, width=1920, height=1080, num_threads=1)
        torch.autograd.grad(image[0].sum() + image[2].sum(), leaves)
        least = min(least, time.process_time() - begin)
    return {"name": "a million surfels at 1920 x 1080, forward, backward", "ours": f"{least:.2f} s", "aim": "2.5 s"}


def photographs(folder: Path) -> None:
    """Pictures of a bumpy ball from all around, and where they were taken."""
    vertices, faces = sphere_mesh(5, radius=0.6)
    bumps = 1 + 0.1 * torch.sin(9 * vertices).prod(1, keepdim=True)
    mesh = TexturedMesh(vertices=vertices * bumps, faces=faces, texture=0.5 + 0.4 * torch.sin(20 * vertices))
    lamp = DirectionalLight(direction=torch.tensor([0.3, 1.0, 0.5]), irradiance=torch.tensor(2.0))
    cameras = orbit(PHOTOGRAPHS, radius=2.5, elevation=0.3, width=SIDE, height=SIDE)
    told = {}
    for k in range(PHOTOGRAPHS):
        picture = render_mesh(mesh, cameras[k], lights=[lamp], ambient=0.3)
        write(folder / f"ball_{k:02d}.png", picture.rgb.numpy())
        fx, fy, cx, cy = cameras[k].intrinsics.tolist()
        told[f"ball_{k:02d}.png"] = {
            "K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
            "R": cameras[k].rotation.tolist(),
            "t": cameras[k].translation.tolist(),
        }
    (folder / "cameras.json").write_text(json.dumps(told))
    (folder / "ball.toml").write_text(SCENE)


def training() -> dict[str, object]:
    """CPU seconds of a fit, by its steps once the discs are as many as they may be."""
    with tempfile.TemporaryDirectory() as name:
        photographs(Path(name))
        begin = time.process_time()
        fit = training_of(Problem(se.load_scene(Path(name) / "ball.toml")))
        made = time.process_time() - begin
        begun, steps = time.process_time(), 0
        while len(fit.cloud["positions"]) < 0.95 * COUNT and steps < 60:  # type: ignore[attr-defined]
            fit.step()
            steps += 1
        before, begin = time.process_time() - begun, time.process_time()
        for _ in range(TIMED):
            fit.step()
        each = (time.process_time() - begin) / TIMED
        count = len(fit.cloud["positions"])  # type: ignore[attr-defined]
    whole = made + before + each * (STEPS - steps)
    return {
        "name": f"{count} surfels from {PHOTOGRAPHS} photographs of {SIDE}^2, {STEPS} steps of {each:.2f} s",
        "ours": f"{whole:.0f} s of CPU",
        "aim": "1200 s of CPU (10 minutes of two cores)",
    }


def main(arguments: Sequence[str] = ()) -> list[dict[str, object]]:
    torch.set_num_threads(1)
    return [million(), training()]


if __name__ == "__main__":
    for entry in main(sys.argv[1:]):
        print(entry)
