"""What cameras see of a motion: bodies that hold together as their surfaces, what flows or falls apart as discs.

A surface is bound once to the particles that fill it (`render/skin.py`) and carried by them: its outline is that of the
body at any resolution. Colours are those of the bodies, without light; an instrument may light them by the normals.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from simengine.ops.light.surfel import composite_surfels
from simengine.render.camera import PinholeCamera
from simengine.render.image import Image
from simengine.render.meshes import TexturedMesh, joined, render_mesh
from simengine.render.particle_surface import particle_surface
from simengine.render.particles import screen_discs
from simengine.render.skin import Skin, bind_skin
from simengine.render.solid_surfaces import ball_surface, box_surface, revolved_surface
from simengine.render.surfels import finish_image
from simengine.scene.asks import View
from simengine.scene.base import SceneError
from simengine.scene.strict import nearest
from simengine.worlds.motion.painted import painted_mesh
from simengine.worlds.motion.shapes import (
    BoxShape,
    CylinderShape,
    MeshShape,
    PointCloud,
    Shape,
    SphereShape,
    SurfelsShape,
)

if TYPE_CHECKING:
    from simengine.worlds.motion.answers import MotionRun
    from simengine.worlds.motion.specs import BodySpec
    from simengine.worlds.motion.world import MPMWorld

CONNECTED = ("energy_network", "jelly", "rubber", "plasticine")  # materials whose bodies have a surface all the way
DISC = 0.4  # standard deviation of a disc, in spacings: its edge is half a spacing from the particle
OPACITY = 0.97
HEAP = 0.75  # spacings from the mean of near particles to their surface: closes the gaps between them
CHANNELS = {"rgb": 3, "alpha": 1, "depth": 1, "normal": 3, "place": 3}


def surface_of(shape: Shape, edge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The surface of a shape: vertices (v, 3) [m] and triangles (f, 3) with sides of about `edge` [m]."""
    if isinstance(shape, PointCloud):
        raise ValueError("a cloud of points has no surface")
    if isinstance(shape, MeshShape | SurfelsShape):
        vertices, faces = (torch.as_tensor(array) for array in shape.triangles())
        return vertices, faces.long()
    if isinstance(shape, BoxShape):
        vertices, faces = box_surface(torch.tensor(shape.size, dtype=torch.float64), edge=edge)
    elif isinstance(shape, SphereShape):
        vertices, faces = ball_surface(shape.radius, edge=edge)
    elif isinstance(shape, CylinderShape):
        r, half = shape.radius, shape.height / 2
        vertices, faces = revolved_surface([(0.0, -half), (r, -half), (r, half), (0.0, half)], edge=edge)
    else:
        a, b = shape.major_radius, shape.minor_radius
        turns = torch.arange(24, dtype=torch.float64) * (2 * torch.pi / 24)
        ring = [(a - b * float(t.cos()), -b * float(t.sin())) for t in turns]
        vertices, faces = revolved_surface([(x, -y) for x, y in ring[::-1]], edge=edge, ring=True)
    return vertices + torch.tensor(shape.center, dtype=torch.float64), faces


def skins_of(world: "MPMWorld") -> tuple[Skin | None, ...]:
    """The surface of each body, bound to the particles of the world; None for what has none."""
    if world.grid.turns:
        raise SceneError("grid.section: cameras do not see what turns around an axis; observe marks, points or forces")
    rest, volume, ids = (torch.as_tensor(array) for array in world.unturned())  # weights know no turn
    found: list[Skin | None] = []
    for index, body in enumerate(world.bodies):
        own = (ids == index).nonzero()[:, 0]
        if body.material.type not in CONNECTED or isinstance(body.shape, PointCloud):  # a cloud shows its particles
            found.append(None)
            continue
        spacing = float(volume[own].mean()) ** (1 / 3)
        try:
            skin = bind_skin(*surface_of(body.shape, spacing), rest[own])
        except ValueError as error:
            raise SceneError(f"bodies.{index}: no camera can see it: {error}") from None
        found.append(Skin(faces=skin.faces, particles=own[skin.particles], weights=skin.weights))
    return tuple(found)


def _look_of(body: "BodySpec", skin: Skin, colour: torch.Tensor) -> TexturedMesh:
    """A body's surface, its vertices not placed yet, in its colour or in what its file says of its materials."""
    vertices = torch.zeros(len(skin.particles), 3, dtype=torch.float64)
    painted = body.shape.painted() if isinstance(body.shape, MeshShape) else None
    if painted is not None:
        return painted_mesh(painted).with_vertices(vertices)
    texture = colour.expand(len(vertices), 3)
    # a normal for each triangle: means would round off the edges of a box
    return TexturedMesh(vertices=vertices, faces=skin.faces, texture=texture, smooth=False)


class MotionViewer:
    """Pictures of the particles of a run.

    Args:
        world: Whose bodies they are, with floats.
        skins: Of `skins_of`.
        ids: Body of each particle, (n,).
        spacing: Of the particles of each body [m].
    """

    def __init__(
        self, world: "MPMWorld", skins: tuple[Skin | None, ...], ids: torch.Tensor, spacing: tuple[float, ...]
    ) -> None:
        colours = torch.tensor([body.color for body in world.bodies], dtype=torch.float64)
        self._ids, self._colours, self._spacing = ids, colours, spacing
        self._skins = [(k, skin) for k, skin in enumerate(skins) if skin is not None]
        loose = torch.tensor([skin is None for skin in skins])[ids]
        self._loose = loose.nonzero()[:, 0]
        self._disc_colours = colours[ids[self._loose]]
        self._scale = DISC * torch.tensor(spacing, dtype=torch.float64)[ids[self._loose]]
        self._mesh = None
        if self._skins:
            self._mesh = joined([_look_of(world.bodies[k], skin, colours[k]) for k, skin in self._skins])

    def surface(self, x: torch.Tensor) -> TexturedMesh | None:
        """The surfaces of the bodies that have one, where the particles (n, 3) are."""
        if self._mesh is None:
            return None
        return self._mesh.with_vertices(torch.cat([skin.carried(x) for _, skin in self._skins]))

    def heaps(self, x: torch.Tensor, colours: torch.Tensor | None = None) -> list[TexturedMesh]:
        """Surfaces around the particles of bodies that have none of their own, without a gradient; slow.

        Args:
            x: Of all particles [m], (n, 3).
            colours: Of all particles, (n, 3); None for those of the bodies.
        """
        found = []
        for k in self._ids[self._loose].unique().tolist():
            own = self._loose[self._ids[self._loose] == k]
            tint = self._colours[k].expand(len(own), 3) if colours is None else colours[own]
            found.append(particle_surface(x[own], colours=tint, radius=HEAP * self._spacing[k]))
        return found

    def solid(self, x: torch.Tensor, colours: torch.Tensor | None = None) -> TexturedMesh:
        """All surfaces as one, for figures; arguments as of `heaps`."""
        mesh, heaps = self.surface(x), self.heaps(x, colours)
        if colours is not None:  # one kind of normals for all: colours of vertices go with no materials
            heaps = [dataclasses.replace(heap, smooth=False) for heap in heaps]
        if mesh is not None and colours is not None:
            carried = torch.cat([skin.carried(colours) for _, skin in self._skins]).clamp(0.0, 1.0)
            mesh = dataclasses.replace(mesh, texture=carried, materials=None)
        return joined([part for part in (mesh, *heaps) if part is not None])

    def image(self, x: torch.Tensor, camera: PinholeCamera, then: torch.Tensor | None = None) -> Image:
        """One picture over black.

        Args:
            x: Of all particles [m], (n, 3).
            camera: A single one.
            then: Where they are at another time [m], (n, 3): in place of colours what is seen shows where it is then.
        """
        parts = []
        mesh = self.surface(x)
        if mesh is not None:
            if then is not None:
                places = torch.cat([skin.carried(then) for _, skin in self._skins])
                mesh = dataclasses.replace(mesh, texture=places, materials=None)
            parts.append(render_mesh(mesh, camera))
        if len(self._loose):
            colours = self._disc_colours if then is None else then[self._loose]
            parts.append(self._discs(x[self._loose], camera, colours))
        return parts[0] if len(parts) == 1 else _together(parts[0], parts[1])

    def _discs(self, x: torch.Tensor, camera: PinholeCamera, colours: torch.Tensor) -> Image:
        blended, alpha, depth, median = composite_surfels(
            screen_discs(x, camera, self._scale),
            x.new_full((len(x),), OPACITY),
            colours.contiguous(),
            width=camera.width,
            height=camera.height,
            num_threads=1,
        )
        image = finish_image(blended, alpha, depth, median, background=0.0, normals=False)
        away = torch.zeros_like(image.rgb)
        away[..., 2] = -1.0  # discs face the camera
        return Image(rgb=image.rgb, alpha=image.alpha, depth=image.depth, normal=away * (image.alpha > 0))


def _together(a: Image, b: Image) -> Image:
    """Two pictures over black, the nearer one before the other in each pixel."""
    first = (b.alpha <= 0) | ((a.alpha > 0) & (a.depth <= b.depth))

    def over(x: torch.Tensor, y: torch.Tensor, *, weighted: bool) -> torch.Tensor:
        front, back = torch.where(first, x, y), torch.where(first, y, x)
        near, far = torch.where(first, a.alpha, b.alpha), torch.where(first, b.alpha, a.alpha)
        if weighted:  # means over what covers the pixel
            return (near * front + (1 - near) * far * back) / (near + (1 - near) * far).clamp_min(1e-12)
        return front + (1 - near) * back

    assert a.normal is not None and b.normal is not None
    return Image(
        rgb=over(a.rgb, b.rgb, weighted=False),
        alpha=over(a.alpha, b.alpha, weighted=False),
        depth=over(a.depth, b.depth, weighted=True),
        normal=over(a.normal, b.normal, weighted=True),
    )


def pictures(run: "MotionRun", ask: View) -> torch.Tensor:
    """The answer to a view, (f, h, w, channels)."""
    for name in ask.channels:
        if name not in CHANNELS:
            raise SceneError(f"a motion has no channel {name!r}; {nearest(name, CHANNELS)}")
    height, width = ask.size
    count = len(ask.world_to_camera)
    times = ask.times if ask.times is not None else torch.zeros(count, dtype=torch.float64)
    row, back = run.rows(times)
    frames = []
    placed = "place" in ask.channels
    then, after = run.rows(times if ask.place_times is None else ask.place_times)
    draw: Callable[[torch.Tensor, PinholeCamera], Image] = run.viewer.image
    if ask.renderer == "raycast":
        if placed:
            raise SceneError("renderer: cast rays tell no places; compare = 'flow' and such appearances take `own`")
        from simengine.worlds.motion.room import Room

        draw = Room(run.world, run.viewer).image
    for k in range(count):
        camera = PinholeCamera(
            world_to_camera=ask.world_to_camera[k], intrinsics=ask.intrinsics[k], width=width, height=height
        )
        x = run.x[row[k]] - back[k] * run.v[row[k]]
        parts = {}
        if placed:
            image = run.viewer.image(x, camera, run.x[then[k]] - after[k] * run.v[then[k]])
            parts = {"place": image.rgb, "alpha": image.alpha, "depth": image.depth}
        if not parts.keys() >= set(ask.channels):
            image = draw(x, camera)
            parts |= {name: _channel(image, name) for name in ask.channels if name not in parts}
        frames.append(torch.cat([parts[name] for name in ask.channels], -1))
    return torch.stack(frames)


def _channel(image: Image, name: str) -> torch.Tensor:
    value = getattr(image, name)
    assert isinstance(value, torch.Tensor)
    return value
