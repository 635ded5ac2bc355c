"""A motion as another renderer shows it: cast rays at its surface in a grey, lit room. For twins; without gradients."""

from typing import TYPE_CHECKING

import torch

from simengine.ops.light.ray_scene import Environment, RaySurface
from simengine.ops.light.raycast import raycast
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image
from simengine.render.meshes import joined

if TYPE_CHECKING:
    from simengine.worlds.motion.view import MotionViewer
    from simengine.worlds.motion.world import MPMWorld

LIGHT = Environment(
    sun_direction=(0.5, -0.6, 0.8),
    sun_irradiance=(1.5, 1.5, 1.5),
    sky_zenith=(0.45, 0.45, 0.45),
    sky_horizon=(0.35, 0.35, 0.35),
    ground_dark=(0.3, 0.3, 0.3),
    ground_light=(0.3, 0.3, 0.3),
)
SAMPLES, SKY_RAYS = 4, 4


class Room:
    """The floor that gravity points to, walls far away, one lamp, soft light from above.

    Bodies that fall apart or flow show the surface around their particles.

    Args:
        world: Whose bodies are in it.
        viewer: Their surfaces.
    """

    def __init__(self, world: "MPMWorld", viewer: "MotionViewer") -> None:
        self.viewer = viewer
        up, height = ground(world)
        side = torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())]
        x = torch.nn.functional.normalize(side - (side @ up) * up, dim=0)
        self._turn = torch.stack([x, torch.linalg.cross(up, x), up])  # to coordinates with z up
        self._drop = torch.tensor([0.0, 0.0, height], dtype=torch.float64)

    def image(self, x: torch.Tensor, camera: PinholeCamera) -> Image:
        """One picture, the room included."""
        mesh = joined([m for m in (self.viewer.surface(x.detach()), *self.viewer.heaps(x.detach())) if m is not None])
        tint, material = torch.unique(mesh.texture, dim=0, return_inverse=True)
        zero = torch.zeros(len(tint))
        surface = RaySurface(
            vertices=(mesh.vertices @ self._turn.T - self._drop).float(),
            faces=mesh.faces,
            material=material[mesh.faces[:, 0]],
            albedo=tint.float(),
            roughness=zero + 0.5,
            reflectance=zero,
            painted=zero > 1,
            part=zero < 1,
        )
        pose = camera.world_to_camera.detach().clone()
        turned = pose[:3, :3] @ self._turn.T
        pose[:3, 3] = pose[:3, 3] + turned @ self._drop
        pose[:3, :3] = turned
        seen = raycast(
            surface,
            LIGHT,
            pose,
            camera.intrinsics.detach(),
            (camera.height, camera.width),
            samples=SAMPLES,
            sky_rays=SKY_RAYS,
        )
        inside = seen.object[..., None].double()
        normal = seen.normal.double() @ turned.T
        depth = seen.depth[..., None].double() * (inside > 0)
        return Image(rgb=seen.radiance.double(), alpha=inside, depth=depth, normal=normal)


def ground(world: "MPMWorld") -> tuple[torch.Tensor, float]:
    """Where gravity comes from, a unit vector (3,), y without any; and the height along it of the wall it points to."""
    up = -torch.tensor(world.gravity, dtype=torch.float64)
    up = up / up.norm() if float(up.norm()) > 0 else torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    low = (world.walls.bound - 1) * world.grid.dx
    corner = torch.where(up >= 0, low, world.grid.length - low).to(up)
    return up, float(up @ corner)
