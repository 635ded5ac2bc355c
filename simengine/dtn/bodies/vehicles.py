"""What else is found on a road, each a class of its own: a van, a bicycle, a stop sign; noses to +x, on the ground.

What is labelled of each is its instance 1: all of it, but of a sign without its pole, as people draw boxes.
"""

import dataclasses
import math

import torch

from simengine.dtn.bodies.builder import VEHICLE, Look, MeshBuilder, Point, Regions
from simengine.ops.light.ray_scene import RaySurface

Colour = tuple[float, float, float]
PARTS: dict[str, Look] = {
    **VEHICLE,
    "steel": ((0.35, 0.35, 0.36), 0.4, 0.2),
    "white": ((0.78, 0.78, 0.76), 0.5, 0.03),
    "red": ((0.50, 0.02, 0.025), 0.5, 0.03),
}
# stations of the van: x, bottom, top, half width [m]
VAN = (
    (-2.62, 0.42, 2.05, 0.86),
    (-2.60, 0.35, 2.22, 0.94),
    (-2.45, 0.30, 2.30, 0.97),
    (0.85, 0.26, 2.32, 0.98),
    (1.45, 0.26, 2.22, 0.98),
    (2.05, 0.27, 1.28, 0.97),
    (2.45, 0.29, 1.10, 0.93),
    (2.62, 0.36, 0.98, 0.84),
    (2.68, 0.44, 0.80, 0.72),
)
FONT = {
    "S": ("01110", "10001", "10000", "01110", "00001", "10001", "01110"),
    "T": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "O": ("01110", "10001", "10001", "10001", "10001", "10001", "01110"),
    "P": ("11110", "10001", "10001", "11110", "10000", "10000", "10000"),
}


def _builder(colour: Colour) -> MeshBuilder:
    return MeshBuilder({**PARTS, "body": (colour, 0.3, 0.04), "pole": (colour, 0.5, 0.04)})


def _labelled(b: MeshBuilder, *, crease: float) -> RaySurface:
    """What was put together; all but poles is instance 1."""
    seen = torch.tensor([int(name != "pole") for name in b.materials])
    return dataclasses.replace(b.surface(painted=None, part=False, crease=crease), instance=seen)


def van(colour: Colour) -> RaySurface:
    """A delivery van of 5.3 x 2.0 x 2.3 m.

    Args:
        colour: Linear albedo of its body.
    """
    b = _builder(colour)
    panes: Regions = (
        ("glass", (1.40, 2.10), (4, 5, 6)),
        ("glass", (0.85, 1.45), (3, 7)),
        ("headlamp", (2.10, 2.60), (2, 8)),
    )
    b.loft([_van_section(*station) for station in VAN], "body", parts=panes)
    for side in (-1.0, 1.0):
        for x in (1.75, -1.65):
            b.disc(x, (side * 0.70, side * 0.99), 0.41, 0.40, "trim", sides=24)
            b.disc(x, (side * 0.75, side * 1.00), 0.33, 0.33, "tyre", sides=24)
            b.disc(x, (side * 0.80, side * 1.005), 0.33, 0.20, "rim", sides=16)
        b.box((0.80, min(side * 0.99, side * 1.20), 1.25), (0.98, max(side * 0.99, side * 1.20), 1.55), "trim")
        b.box((-2.66, side * 0.80 - 0.07, 0.95), (-2.55, side * 0.80 + 0.07, 1.30), "taillamp")
        b.box((-1.2, side * 0.978 - 0.01, 1.0), (-1.18, side * 0.978 + 0.01, 2.1), "trim")  # the sliding door's gap
        pane = [(-2.633, side * 0.08, 1.45), (-2.633, side * 0.70, 1.45), (-2.633, side * 0.66, 1.98)]
        b.quad(pane[0], pane[1], pane[2], (-2.633, side * 0.08, 1.98), "glass")
    b.box((-2.68, -0.80, 0.32), (-2.50, 0.80, 0.50), "trim")
    b.box((2.50, -0.75, 0.30), (2.70, 0.75, 0.50), "trim")
    b.box((2.60, -0.45, 0.62), (2.70, 0.45, 0.80), "trim")
    b.box((2.66, -0.26, 0.50), (2.715, 0.26, 0.60), "plate")
    b.box((-2.66, -0.26, 0.75), (-2.61, 0.26, 0.87), "plate")
    return _labelled(b, crease=math.radians(32.0))


def _van_section(x: float, bottom: float, top: float, half: float) -> list[Point]:
    height = top - bottom
    right = [
        (0.90 * half, bottom),
        (half, bottom + 0.08 * height),
        (half, bottom + 0.48 * height),
        (0.985 * half, bottom + 0.56 * height),
        (0.93 * half, bottom + 0.93 * height),
        (0.80 * half, top),
    ]
    return [(x, y, z) for y, z in right] + [(x, -y, z) for y, z in reversed(right)]


def _tube(b: MeshBuilder, p: Point, q: Point, radius: float, name: str, sides: int = 6) -> None:
    """A prism between two points."""
    a, c = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    along = torch.nn.functional.normalize(c - a, dim=0)
    other = torch.zeros(3, dtype=torch.float64)
    other[int(along.abs().argmin())] = 1.0
    u = torch.nn.functional.normalize(torch.linalg.cross(along, other), dim=0)
    v = torch.linalg.cross(along, u)
    turns = [2 * math.pi * k / sides for k in range(sides)]
    offsets = [radius * (math.cos(t) * u + math.sin(t) * v) for t in turns]

    def ring(middle: torch.Tensor) -> list[Point]:
        points = [(middle + offset).tolist() for offset in offsets]
        return [(x, y, z) for x, y, z in points]

    b.loft([ring(a), ring(c)], name)


def bicycle(colour: Colour) -> RaySurface:
    """A bicycle of 1.7 x 0.6 x 1.05 m, upright without a rider.

    Args:
        colour: Linear albedo of its frame.
    """
    b = _builder(colour)
    rear, front, crank = (-0.50, 0.0, 0.34), (0.53, 0.0, 0.34), (-0.06, 0.0, 0.28)
    seat, head, fork = (-0.21, 0.0, 0.86), (0.35, 0.0, 0.92), (0.385, 0.0, 0.78)
    for x, _, z in (rear, front):
        around = [2 * math.pi * k / 8 for k in range(9)]
        b.revolve(x, z, [(0.022 * math.sin(t), 0.322 + 0.018 * math.cos(t)) for t in around], "tyre", sides=32)
        b.revolve(x, z, [(-0.012, 0.302), (0.012, 0.302), (0.012, 0.288), (-0.012, 0.288)], "rim", sides=32)
        for k in range(14):
            angle = 2 * math.pi * k / 14
            _tube(b, (x, 0.0, z), (x + 0.3 * math.cos(angle), 0.0, z + 0.3 * math.sin(angle)), 0.0025, "rim", sides=3)
        b.disc(x, (-0.05, 0.05), z, 0.03, "steel", sides=10)
    for p, q in ((crank, seat), (crank, fork), (seat, head), (rear, crank), (rear, seat)):
        _tube(b, p, q, 0.018, "body")
    _tube(b, fork, head, 0.022, "body")
    for side in (-1.0, 1.0):
        _tube(b, (fork[0], side * 0.05, fork[2] - 0.02), (front[0], side * 0.055, front[2]), 0.012, "body")
        _tube(b, (head[0] - 0.02, 0.0, 1.02), (head[0] - 0.06, side * 0.29, 1.04), 0.012, "steel")
        b.box((0.23, side * 0.29 - 0.06, 1.02), (0.33, side * 0.29 + 0.06, 1.06), "trim")
        _tube(
            b, (crank[0], side * 0.09, crank[2]), (crank[0] + side * 0.12, side * 0.09, crank[2] - 0.12), 0.012, "steel"
        )
        x = crank[0] + side * 0.12
        b.box((x - 0.05, side * 0.14 - 0.045, 0.145), (x + 0.05, side * 0.14 + 0.045, 0.17), "trim")
    _tube(b, head, (head[0] - 0.02, 0.0, 1.03), 0.015, "steel")
    _tube(b, seat, (-0.235, 0.0, 0.95), 0.014, "steel")
    b.box((-0.37, -0.08, 0.95), (-0.20, 0.08, 0.99), "trim")
    b.box((-0.22, -0.035, 0.955), (-0.08, 0.035, 0.985), "trim")
    b.disc(crank[0], (-0.05, -0.04), crank[2], 0.09, "steel", sides=16)
    b.box((-0.72, -0.03, 0.62), (-0.69, 0.03, 0.68), "taillamp")
    return _labelled(b, crease=0.0)


def stop_sign(colour: Colour) -> RaySurface:
    """A stop sign 0.75 m wide, its middle 2.2 m above the ground; its face looks to +x.

    Args:
        colour: Linear albedo of its back and pole.
    """
    b = _builder(colour)
    _tube(b, (-0.03, 0.0, 0.0), (-0.03, 0.0, 2.55), 0.03, "pole", sides=10)

    def octagon(x: float, half: float) -> list[Point]:
        r = half / math.cos(math.pi / 8)
        turns = [math.pi / 8 + math.pi * k / 4 for k in range(8)]
        return [(x, r * math.cos(t), 2.2 + r * math.sin(t)) for t in turns]

    b.loft([octagon(0.0, 0.375), octagon(0.004, 0.375)], "body")
    for x, half, name in ((0.008, 0.375, "white"), (0.012, 0.355, "red")):
        ring = octagon(x, half)
        for k in range(1, 7):
            b.triangle(ring[0], ring[k], ring[k + 1], name)
    dot, word = 0.0245, "STOP"
    start = dot * (6 * len(word) - 1) / 2
    for place, letter in enumerate(word):
        for row, line in enumerate(FONT[letter]):
            for column, ink in enumerate(line):
                if ink == "1":  # read from +x, where -y is left
                    y, z = dot * (6 * place + column) - start, 2.2 + dot * (3.5 - row)
                    corners = [(0.016, y, z), (0.016, y + dot, z), (0.016, y + dot, z - dot), (0.016, y, z - dot)]
                    b.quad(corners[0], corners[1], corners[2], corners[3], "white")
    return _labelled(b, crease=0.0)
