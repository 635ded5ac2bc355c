"""Scenes of which new views are made: boxes and balls, bent bodies of particles, and frames of a simulated motion."""

import dataclasses
import math

import torch
from torch import nn

from simengine.mpm import MPMSolver
from simengine.render import PinholeCamera, Surfels, render_surfels
from simengine.solve import rollout
from simengine.worlds.learned.solids import FAR, Paint, Solids, cameras, cast, painted, random_paint, random_solids
from simengine.worlds.learned.views_from_few.spec import ViewSynthesisSpec
from simengine.worlds.learned.views_from_few.visibility import inside
from simengine.worlds.motion.world import MPMWorld

HIDDEN = 0.15  # [m], how far behind the surface that a camera sees a point must be to count as hidden from it
PARTICLES = 5000  # on the surfaces of the bodies of a scene


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A scene as the given cameras see it, and as another one does.

    Attributes:
        camera: The given cameras and, last, the other one: a batch of v + 1.
        pictures: Linear RGB, shape (v + 1, h, w, 3).
        depth: True depths [m], shape (v + 1, h, w).
    """

    camera: PinholeCamera
    pictures: torch.Tensor
    depth: torch.Tensor

    @property
    def given(self) -> tuple[torch.Tensor, PinholeCamera]:
        """Pictures and cameras that are given."""
        return self.pictures[:-1], self.camera[:-1]

    def hidden(self) -> torch.Tensor:
        """Pixels of the other view whose surface some given camera does not see and another one does, (h, w), bool."""
        target = self.camera[-1]
        along = target.directions() @ target.rotation
        points = (target.position + along * self.depth[-1][..., None]).view(-1, 3)
        pictures, given = self.given
        projected = given.project(points)
        pixel, z = projected[..., :2], projected[..., 2]
        known = inside(pixel, z, given)
        h, w = pictures.shape[1:3]
        column, row = pixel[..., 0].long().clamp(0, w - 1), pixel[..., 1].long().clamp(0, h - 1)
        surface = self.depth[torch.arange(len(pictures))[:, None], row, column]
        behind = known & (z > surface + HIDDEN)
        seen = known & ~behind
        return (behind.any(0) & seen.any(0)).view(target.height, target.width)


def random_views(spec: ViewSynthesisSpec) -> torch.Tensor:
    """Poses [rad] of the given cameras and, last, of another one among them, shape (v + 1, 2)."""
    low, high = spec.elevation
    even = torch.linspace(-0.5, 0.5, spec.views)
    azimuth = torch.cat([spec.spread * even, spec.spread * (torch.rand(1) - 0.5) * 0.8]) + 360 * torch.rand(1)
    elevation = low + (high - low) * torch.rand(spec.views + 1)
    return torch.stack([azimuth, elevation], dim=-1) * (math.pi / 180)


def pictured(solids: Solids, paint: Paint, camera: PinholeCamera) -> Example:
    """One scene seen by a batch of cameras."""
    views = len(camera.world_to_camera)
    hits = cast(solids.repeated(views), camera)
    again = torch.zeros(views, dtype=torch.long)
    return Example(camera=camera, pictures=painted(hits, paint[again]).clamp(0, 1), depth=hits.depth.clamp_max(FAR))


def random_example(spec: ViewSynthesisSpec) -> Example:
    """A new scene of boxes and balls, from torch's global generator."""
    solids = random_solids(1, bodies=spec.bodies)
    return pictured(solids, random_paint(solids), cameras(random_views(spec), spec.size))


def random_particle_example(spec: ViewSynthesisSpec) -> Example:
    """A new scene of bent bodies of particles, some in the air, from torch's global generator."""
    solids = random_solids(1, bodies=spec.bodies)
    local = 2 * torch.rand(PARTICLES, 3) - 1
    number = torch.randint(spec.bodies, (PARTICLES,))
    local = torch.where(
        solids.ball[0, number, None], nn.functional.normalize(local, dim=-1), local / local.abs().amax(1, keepdim=True)
    )
    x = solids.centres[0, number] + ((solids.half[0, number] * local)[:, None] @ solids.axes[0, number])[:, 0]
    x = x + 0.06 * (5 * x @ torch.randn(3, 3)).sin()
    x = x + (torch.rand(spec.bodies, 1) * torch.tensor([0.0, 0.4, 0.0]))[number]
    colours = (0.2 + 0.5 * torch.rand(3) + 0.25 * (13 * x @ torch.randn(3, 3)).sin()).clamp(0, 1)
    above = x[:, 1].clamp_min(0)
    x = torch.stack([x[:, 0], above, x[:, 2]], dim=-1)
    return particles_pictured(x, colours, 0.045, bare_floor(cameras(random_views(spec), spec.size)))


def bare_floor(camera: PinholeCamera) -> Example:
    """A painted floor on which nothing stands."""
    nothing = Solids(  # a body under the floor
        centres=torch.tensor([[[0.0, -9.0, 0.0]]]),
        axes=torch.eye(3).view(1, 1, 3, 3),
        half=torch.full((1, 1, 3), 0.1),
        ball=torch.ones(1, 1, dtype=torch.bool),
        floor=0.0,
    )
    return pictured(nothing, random_paint(nothing), camera)


def particles_pictured(x: torch.Tensor, colours: torch.Tensor, radius: float, empty: Example) -> Example:
    """Discs of a radius [m] at x (n, 3), with colours (n, 3), that face each camera, before a scene without them."""
    pictures, depths = [], []
    for k in range(len(empty.pictures)):
        camera = empty.camera[k]
        image = render_surfels(Surfels.oriented(x, camera.position - x, scale=radius, colours=colours), camera)
        pictures.append(image.rgb + (1 - image.alpha) * empty.pictures[k])
        depths.append(torch.where(image.alpha[..., 0] > 0.5, image.depth[..., 0], empty.depth[k]))
    return Example(camera=empty.camera, pictures=torch.stack(pictures).clamp(0, 1), depth=torch.stack(depths))


def moving_examples(spec: ViewSynthesisSpec, motion: MPMWorld, *, seed: int) -> list[Example]:
    """Frames of a simulated motion on a painted floor; the unit cube of the simulation is 2.4 m wide in the scene."""
    torch.manual_seed(seed)
    poses = random_views(spec)
    every = motion.grid.num_steps // spec.frames
    model, state = motion.build(device="cpu")
    with torch.no_grad():
        x = rollout(MPMSolver(model), state, motion.grid.num_steps, save_every=every).states.x[1:]
    scale = 2.4 / motion.grid.length
    floor = motion.grid.dx * motion.walls.bound
    x = (x - torch.tensor([0.5 * motion.grid.length, floor, 0.5 * motion.grid.length])) * scale
    sines = (13 * x[0] @ torch.randn(3, 3)).sin()
    colours = (torch.tensor([body.color for body in motion.bodies]).mean(0) + 0.25 + 0.25 * sines).clamp(0, 1)
    empty = bare_floor(cameras(poses, spec.size))
    radius = 0.6 * scale * motion.grid.dx / motion.bodies[0].particles_per_cell
    return [particles_pictured(frame, colours, radius, empty) for frame in x]
