"""A flame as cameras see it: a sheet of gas in space, whose light comes from temperature and heat release.

The gas takes up none of its own light, so a picture is linear in the light of the cells: integrals along the rays, and
derivatives of a picture are pictures of the derivatives of the light.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import torch

from simengine.flame.emission import Emission
from simengine.ops.light.line_integral import line_integrals
from simengine.render.camera import PinholeCamera
from simengine.scene.asks import View
from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, Positive, Range, Unit, nearest

if TYPE_CHECKING:
    from simengine.flame.equations.base import AbstractFlame, AbstractFlameProblem

CHANNELS = {"rgb": 3, "alpha": 1}
SUBPIXELS = 4  # along each side of a pixel, of the other renderer


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameBody:
    """A flat sheet in space: the line of numbers along x, fresh gas first, the same along y and z.

    Attributes:
        span: First and last x that shine [m].
        extent: Along y and along z, about the axis x [m].
        position: Where x = 0 of the flame lies along x [m].
        cells: Along x, each of one light.
    """

    span: tuple[Annotated[float, Range(), Unit("m")], Annotated[float, Range(), Unit("m")]] = (-0.5e-3, 1e-3)
    extent: tuple[Positive, Positive] = (1e-3, 1e-3)
    position: Annotated[float, Range(), Unit("m")] = 0.0
    cells: Annotated[int, Range(ge=8, le=16384)] = 240

    def __post_init__(self) -> None:
        first, last = self.span
        if not first < last:
            raise ValueError(f"span: expected a first x below the last, got {list(self.span)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlameLight:
    """How the gas shines.

    Attributes:
        kappa: Absorption coefficient of grey gas or soot; how much it glows [1/m].
        efficiency: Share of the heat release given off as light of reaction [1].
    """

    kappa: Annotated[float, Range(ge=0), Unit("1/m")] = 0.1
    efficiency: NonNegative = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """What of a flame only pictures tell.

    Attributes:
        body: How it stands in space; without it no camera sees it.
        light: How it shines.
    """

    body: FlameBody | None = None
    light: FlameLight | None = None

    def __post_init__(self) -> None:
        if self.light is not None and self.body is None:
            raise ValueError("light: only pictures show it, and they need [flame.body]")


def check_view(spec: Shown, ask: View) -> None:
    """Refuse what no camera sees of a flame.

    Raises:
        SceneError: The flame has no body, or a channel is not light.
    """
    if spec.body is None:
        raise SceneError("flame.body: pictures need to know how the flame stands in space; add [flame.body]")
    for name in ask.channels:
        if name not in CHANNELS:
            raise SceneError(
                f"a flame has no channel {name!r}, it glows: compare = 'photometric', appearance = 'world'; "
                f"{nearest(name, CHANNELS)}"
            )


def radiance(spec: Shown, flame: "AbstractFlame", problem: "AbstractFlameProblem", state: torch.Tensor) -> torch.Tensor:
    """Light of the cells, radiance per length (cells, 3) [W/(m^3 sr)], differentiable in everything but the span.

    Args:
        spec: Body and light; numbers may be tensors.
        flame: Equations, whose numbers may be tensors.
        problem: That were solved.
        state: The solution.
    """
    body, light = spec.body, spec.light or FlameLight()
    assert body is not None
    first, last = (float(x) for x in body.span)
    x = first + (last - first) * (torch.arange(body.cells, dtype=torch.float64) + 0.5) / body.cells
    edges = problem.mesh.edges.detach()
    place = (x - body.position).clamp(float(edges.min()), float(edges.max()))  # fresh and burnt gas go on as they are
    fields, z = problem.unpack(state)
    profiles = flame.profiles(problem.mesh.interpolate(fields, place[None]), z[:, 0, 0, 0])
    shine = Emission(kappa=light.kappa, efficiency=light.efficiency)
    return shine(profiles["T"][0], profiles["heat"][0])


def pictures(body: FlameBody, light: torch.Tensor, ask: View) -> torch.Tensor:
    """What cameras see of cells of some light, (f, h, w, channels) [W/(m^2 sr)].

    Args:
        body: Where the cells are.
        light: (cells, 3).
        ask: With `renderer = "raycast"` a pixel is the mean over its area, not the light in its middle.
    """
    across, deep = (float(n) for n in body.extent)
    lower = (float(body.span[0]), -across / 2, -deep / 2)
    upper = (float(body.span[1]), across / 2, deep / 2)
    middle = (torch.tensor(lower, dtype=torch.float64) + torch.tensor(upper, dtype=torch.float64)) / 2
    finer = SUBPIXELS if ask.renderer == "raycast" else 1
    height, width = ask.size
    frames = []
    for pose, intrinsics in zip(ask.world_to_camera.detach(), ask.intrinsics.detach(), strict=True):
        camera = PinholeCamera(
            world_to_camera=pose.double(),
            intrinsics=intrinsics.double() * finer,
            width=width * finer,
            height=height * finer,
        )
        origins, directions = (rays.reshape(-1, 3) for rays in camera.rays())
        ahead = ((middle - origins) * directions).sum(-1) > 0
        colours = [
            line_integrals(light[:, c].contiguous()[:, None, None], lower, upper, origins, directions) * ahead
            for c in range(3)
        ]
        whole = torch.stack(colours, -1).reshape(height, finer, width, finer, 3).mean((1, 3))
        parts = {"rgb": whole, "alpha": torch.zeros_like(whole[..., :1])}  # what is behind is seen through it
        frames.append(torch.cat([parts[name] for name in ask.channels], -1))
    return torch.stack(frames)
