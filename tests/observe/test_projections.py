"""Projections read from files of several kinds, of phantoms whose integrals are known in closed form."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.fit.twin import write_twin
from simengine.observe import FanBeam, ParallelBeam, Projections
from simengine.scene import SceneError, load_scene
from simengine.scene.asks import Rays
from simengine.scene.noise import HoldOut
from simengine.worlds.objects.volume import VolumeSpec, VolumeWorld, around_axis

R = 0.8


def _disc_chord(origins: np.ndarray, directions: np.ndarray, center: tuple[float, float], radius: float) -> np.ndarray:
    """Length of lines inside a disc (or upright cylinder): 2 sqrt(r^2 - b^2)."""
    to = origins[:, :2] - np.array(center)
    b = to[:, 0] * directions[:, 1] - to[:, 1] * directions[:, 0]
    return 2 * np.sqrt(np.maximum(radius**2 - b**2, 0.0))


def _sinogram(angles: np.ndarray, elements: int, pitch: float, far: float, depth: float) -> np.ndarray:
    """Of a disc of attenuation 3 at (0.2, -0.3), by vectors between source and element, written without the engine."""
    u = (np.arange(elements) - (elements - 1) / 2) * pitch
    rows = []
    for t in angles:
        across, along = np.array([math.cos(t), math.sin(t)]), np.array([-math.sin(t), math.cos(t)])
        source = -far * along
        to = across * u[:, None] + (depth - far) * along - source
        to /= np.linalg.norm(to, axis=1, keepdims=True)
        rows.append(3.0 * _disc_chord(np.broadcast_to(source, to.shape), to, (0.2, -0.3), 0.25))
    return np.array(rows)


ANGLES = np.radians(np.arange(0, 360, 24.0))
FAN = {"pitch": 0.02, "source_to_axis": 3.0, "source_to_detector": 5.0}


def _world(n: int = 200) -> VolumeWorld:
    x = (np.arange(n) + 0.5) / n * 2 * R - R
    field = 3.0 * ((x[:, None] - 0.2) ** 2 + (x[None] + 0.3) ** 2 < 0.25**2)
    world = VolumeWorld(volume=VolumeSpec(box=((-R, R), (-R, R)), cells=(n, n)))
    from simengine.scene.address import replaced

    return replaced(world, {"volume.attenuation": torch.from_numpy(field)})


def _predicted(scan: Projections, world: VolumeWorld) -> tuple[torch.Tensor, torch.Tensor]:
    measured = scan.read()
    scan = scan.prepared(measured)
    run = world.solve(scan.asks(measured))
    return scan.predict(run, measured), measured.values


@pytest.mark.parametrize("suffix", ["npz", "png"])
def test_a_fan_sees_a_disc(tmp_path: Path, suffix: str) -> None:
    data = _sinogram(ANGLES, 141, **{"pitch": 0.02, "far": 3.0, "depth": 5.0})
    if suffix == "npz":
        np.savez(tmp_path / "scan.npz", sinogram=data.astype(np.float32), a=np.degrees(ANGLES))
        scan = Projections(
            directory=tmp_path,
            file="scan.npz",
            columns={"values": "sinogram", "angle": "a [deg]"},
            geometry=FanBeam(**FAN),
        )
        bound = 0.02
    else:  # one 8-bit picture of the transmission for each view
        from PIL import Image

        for k, row in enumerate(data):
            Image.fromarray(np.round(255 * np.exp(-row))[None].astype(np.uint8)).save(tmp_path / f"view_{k}.png")
        scan = Projections(
            directory=tmp_path,
            file="view_*.png",
            angles=(0.0, float(np.degrees(ANGLES[-1]))),
            values="transmission",
            geometry=FanBeam(**FAN),
        )
        bound = 0.03
    ours, measured = _predicted(scan, _world())
    assert float(measured.max()) == pytest.approx(1.5, rel=0.02)
    assert float((ours - measured).square().mean().sqrt()) < bound  # cells of 8 mm on a disc of 500
    backwards = Projections(**{**scan.__dict__, "geometry": FanBeam(**FAN, turn="clockwise")})
    turned, _ = _predicted(backwards, _world())
    assert float((turned - measured).square().mean().sqrt()) > 10 * bound


def test_counts_with_flat_and_dark_and_an_axis_beside_the_middle(tmp_path: Path) -> None:
    shift = 0.05  # of the axis, to the right on the detector: a disc on the axis appears there
    u = (np.arange(101) - 50) * 0.02
    chord = 2.0 * np.sqrt(np.maximum(0.3**2 - (u - shift) ** 2, 0.0))
    dark, flat = 100.0 + np.arange(101.0), 5000.0 - 10 * np.arange(101.0)
    counts = dark + (flat - dark) * np.exp(-2.0 * np.tile(chord, (4, 1)))
    np.savez(tmp_path / "raw.npz", c=counts, f=flat, d=dark)
    scan = Projections(
        directory=tmp_path,
        file="raw.npz",
        columns={"values": "c", "flat": "f", "dark": "d"},
        angles=(0.0, 135.0),
        values="counts",
        geometry=ParallelBeam(pitch=0.02, axis_offset=shift),
    )
    n = 200
    x = (np.arange(n) + 0.5) / n * 2 * R - R
    from simengine.scene.address import replaced

    world = VolumeWorld(volume=VolumeSpec(box=((-R, R), (-R, R)), cells=(n, n)))
    disc = 2.0 * (x[:, None] ** 2 + x[None] ** 2 < 0.3**2)
    ours, measured = _predicted(scan, replaced(world, {"volume.attenuation": torch.from_numpy(disc)}))
    assert np.allclose(measured.numpy().reshape(4, 101), 2.0 * chord, atol=1e-12)
    assert float((ours - measured).square().mean().sqrt()) < 0.02


def test_binned_counts_scatter_less(tmp_path: Path) -> None:
    """Statistics: the mean of six Poisson counts of mean 50 has a standard deviation of sqrt(50/6)."""
    counts = np.random.default_rng(0).poisson(50.0, (120, 180)).astype(np.float64)
    np.savez(tmp_path / "counts.npz", counts=counts)
    scan = Projections(
        name="scan",
        directory=tmp_path,
        file="counts.npz",
        values="plain",
        geometry=ParallelBeam(pitch=1.0),
        bin=(2, 3),
        sigma="poisson",
    )
    measured = scan.read()
    sigma = scan.prepared(measured).noise(measured)
    assert float(sigma.mean()) == pytest.approx(math.sqrt(50 / 6), rel=0.02)
    assert float(measured.values.std()) == pytest.approx(float(sigma.mean()), rel=0.05)  # 3600 of them: 1.2 %


def test_a_cone_sees_a_ball_around_an_axis_and_in_a_box(tmp_path: Path) -> None:
    """The picture of a ball by a parallel beam: as rings about the axis, and as a box of cells."""
    u, z = (np.arange(40) - 19.5) * 0.05, -(np.arange(30) - 14.5) * 0.05
    b2 = u[None] ** 2 + z[:, None] ** 2
    np.savez(tmp_path / "ball.npz", light=2 * np.sqrt(np.maximum(0.6**2 - b2, 0)))
    scan = Projections(
        directory=tmp_path, file="ball.npz", values="plain", quantity="emission", geometry=ParallelBeam(pitch=0.05)
    )
    n = 120
    r = (np.arange(n) + 0.5) / n * R
    x = (np.arange(n) + 0.5) / n * 2 * R - R
    rings = (r[:, None] ** 2 + x[None] ** 2 < 0.36).astype(float)
    box = (x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None] ** 2 < 0.36).astype(float)
    from simengine.scene.address import replaced

    about = VolumeWorld(volume=VolumeSpec(box=((0.0, R), (-R, R)), cells=(n, n), symmetry="axis"))
    cells = VolumeWorld(volume=VolumeSpec(box=((-R, R),) * 3, cells=(n,) * 3))
    for world, field in ((about, rings), (cells, box)):
        ours, measured = _predicted(scan, replaced(world, {"volume.emission": torch.from_numpy(field)}))
        assert float((ours - measured).square().mean().sqrt()) < 0.02


def test_mistakes_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", s=np.zeros((3, 4)), a=np.array([0.0, 90.0, 180.0]))
    options = {"directory": tmp_path, "file": "x.npz", "geometry": ParallelBeam(pitch=1.0)}
    with pytest.raises(SceneError, match=r"add \"\[deg\]\""):
        Projections(**options, columns={"values": "s", "angle": "a"}).read()
    with pytest.raises(SceneError, match="no array 'q'"):
        Projections(**options, columns={"values": "q"}).read()
    with pytest.raises(SceneError, match="do not divide"):
        Projections(**options, columns={"values": "s", "angle": "a [deg]"}, bin=(1, 3)).read()


def test_a_scan_is_written_and_read_back(tmp_path: Path) -> None:
    text = """
kind = "volume"
[volume]
box = [[-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]
cells = [4, 4, 4]
clouds = [{ width = 0.3, peak = 2.0 }]
[observations.scan]
type = "projections"
file = "scan.npz"
columns = { values = "values", angle = "angles_deg [deg]" }
geometry = { type = "fan", source_to_axis = 4.0, source_to_detector = 8.0, pitch = 0.5 }
angles = [0.0, 90.0]
views = 3
detector = [5, 7]
sigma = 0.01
"""
    (tmp_path / "scan.toml").write_text(text)
    scene = load_scene(tmp_path / "scan.toml")
    write_twin(scene, scene, tmp_path, refine=1.0)
    measured = scene.observations["scan"].read()
    values = measured.values.reshape(3, 5, 7)
    assert measured.at["angle"].unique() == pytest.approx([0.0, np.pi / 4, np.pi / 2])
    # through the middle: peak s sqrt(2 pi), the same from all sides
    assert values[:, 2, 3].numpy() == pytest.approx(2.0 * 0.3 * np.sqrt(2 * np.pi), abs=0.05)
    with pytest.raises(SceneError, match="views, angles and detector say what is observed"):
        plain = load_scene(tmp_path / "scan.toml", ["observations.scan.angles=[0.0,10.0]"])
        scan = dataclasses.replace(plain.observations["scan"], views=None)
        scan.planned(plain.world, torch.Generator())


def test_lines_across_an_axis_meet_the_integral_of_a_cylinder() -> None:
    """A cylinder whose value grows evenly with height: (1 + 3 z) times the chord 2 sqrt(r^2 - b^2); nothing beyond."""
    radius, rings, layers = 0.7, 9, 8
    z = -0.4 + 0.8 * (torch.arange(layers, dtype=torch.float64) + 0.5) / layers
    field = (1 + 3 * z).expand(rings, layers)
    b, height = torch.tensor([0.0, 0.31, 0.69, 0.8, 0.2]), torch.tensor([0.12, -0.2, 0.3, 0.0, 0.5])
    turned = torch.tensor([math.cos(0.4), math.sin(0.4), 0.0], dtype=torch.float64)
    across = torch.tensor([-math.sin(0.4), math.cos(0.4), 0.0], dtype=torch.float64)
    origins = b.double()[:, None] * across - 2 * turned
    origins[:, 2] = height.double()
    found = around_axis(field, ((0.0, radius), (-0.4, 0.4)), origins, turned.expand(5, 3))
    chord = 2 * (radius**2 - b.double() ** 2).clamp_min(0).sqrt()
    expected = torch.where(height.abs() <= 0.4, (1 + 3 * height.double()) * chord, 0.0)
    assert torch.allclose(found, expected, atol=1e-12)


def test_binned_elements_see_the_mean_of_their_rays(tmp_path: Path) -> None:
    """4 rows of 6 elements taken 2 by 3: what is predicted is what the whole detector sees, averaged block by block."""
    np.savez(tmp_path / "scan.npz", p=np.ones((2, 4, 6)), a=[0.0, 30.0])

    def seen(**more: tuple[int, int]) -> torch.Tensor:
        scan = Projections(
            directory=tmp_path,
            file="scan.npz",
            columns={"values": "p", "angle": "a [deg]"},
            geometry=ParallelBeam(pitch=0.1, row_pitch=0.25, axis_offset=0.03),
            **more,
        )
        measured = scan.read()
        scan = scan.prepared(measured)
        (ask,) = scan.asks(measured)
        assert isinstance(ask, Rays)
        far = ask.origins.square().sum(1) + 3 * ask.origins[:, 2]  # any function of a ray
        return scan.respond([far], measured)

    blocks = seen().reshape(2, 2, 2, 2, 3).mean((2, 4)).reshape(-1, 1)
    assert torch.allclose(seen(bin=(2, 3)), blocks, atol=1e-12)


def test_a_beam_that_drifts_is_found_view_by_view(tmp_path: Path) -> None:
    """Views times factors of mean 1 come back as those factors, but for a hundredth that speaks for no drift; a view
    that is held out has its neighbour's.
    """
    g = torch.Generator().manual_seed(0)
    p = 1 + torch.rand(5, 7, generator=g, dtype=torch.float64)
    factors = torch.tensor([0.97, 1.02, 0.99, 1.02, 7.0], dtype=torch.float64)
    np.savez(tmp_path / "scan.npz", p=(p * factors[:, None] + 0.01).numpy(), a=np.arange(5.0))
    scan = Projections(
        directory=tmp_path,
        file="scan.npz",
        columns={"values": "p", "angle": "a [deg]"},
        geometry=ParallelBeam(pitch=0.1),
        drifting=True,
        offset=0.01,
        hold_out=HoldOut(after=math.radians(3.5)),
    )
    measured = scan.read()
    shown = scan.prepared(measured).respond([p.reshape(-1)], measured)[:, 0].reshape(5, 7)
    factors[4] = factors[3]
    assert torch.allclose(
        shown, p * factors[:, None] + 0.01, atol=2 * 0.03 * 0.02
    )  # of up to 2, by drifts of up to 3 %
