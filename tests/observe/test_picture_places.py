"""Colours that a body carries along and optical flow, against closed forms and pictures made by numpy."""

import dataclasses
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.observe import Camera, Pictures
from simengine.observe.instruments.picture_places import FAINT, carried
from simengine.observe.instruments.picture_settings import CARRIED
from simengine.observe.optical_flow import flow_between, read_flows, write_flows
from simengine.scene import SceneError
from simengine.scene.asks import Cloud, View
from simengine.scene.base import AbstractRun, AbstractWorld

SIZE, ACROSS, HALF = 32, 8.0, 1.1  # pixels, how many of them are a metre, half the sheet's side [m]
CAMERA = Camera(eye=(0.0, 0.0, 8.0), target=(0.0, 0.0, 0.0), focal=ACROSS * 8, width=SIZE, height=SIZE)
TIMES = (0.0, 0.5, 1.0)
TRUE = {"speed": 0.53, "strain": 0.11}
WALL = (0.7354, 0.7354, 0.7354)  # sRGB of 0.5


class Sheet(se.OwnWorld):
    """A sheet across the camera's axis that moves to the right and is stretched: x = X (1 + strain t) + speed t."""

    parameters: ClassVar = {"speed": se.OwnNumber(0.3, "m/s"), "strain": se.OwnNumber(0.0, "1/s", gt=-0.5)}
    answers = frozenset((View,))

    def simulate(self, values: Any) -> se.OwnMotion:
        raise AssertionError("its run answers views alone")

    def solve(self, asks: Any, **options: Any) -> "SheetRun":
        return SheetRun(self)

    def sizes(self) -> dict[str, float]:
        return {"m": 1.0, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class SheetRun(AbstractRun):
    """Its pictures."""

    sheet: Any

    def moved(self, material: torch.Tensor, t: Any) -> torch.Tensor:
        shift = torch.tensor([1.0, 0.0], dtype=torch.float64) * self.sheet.speed * t
        return material * (1 + self.sheet.strain * t) + shift

    def sample(self, ask: Any) -> torch.Tensor:
        assert isinstance(ask, View) and ask.times is not None
        frames = []
        for k, t in enumerate(ask.times):
            y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in ask.size)
            pixel = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
            seen = (pixel - ask.intrinsics[k, 2:]) / ask.intrinsics[k, :2]
            turn, shift = ask.world_to_camera[k, :3, :3], ask.world_to_camera[k, :3, 3]
            ray, eye = torch.cat([seen, torch.ones_like(seen[..., :1])], -1) @ turn, -shift @ turn
            at = (eye - ray * eye[2] / ray[..., 2:])[..., :2]
            start = torch.tensor([1.0, 0.0], dtype=torch.float64) * self.sheet.speed * t
            wide = 1 + self.sheet.strain * t
            material = (at - start) / wide
            alpha = (0.5 + (HALF - material.abs()) * wide * ACROSS).clamp(0, 1).prod(-1, keepdim=True)
            parts = {"rgb": 0.4 * alpha.expand(*alpha.shape[:2], 3), "alpha": alpha, "normal": alpha.expand(-1, -1, 3)}
            if ask.place_times is not None:
                place = self.moved(material, ask.place_times[k])
                parts["place"] = alpha * torch.cat([place, torch.zeros_like(place[..., :1])], -1)
            frames.append(torch.cat([parts[name] for name in ask.channels], -1))
        return torch.stack(frames)


def _pattern(material: np.ndarray) -> np.ndarray:
    """Light of the sheet, (..., 3)."""
    x, y = 2 * np.pi * material[..., 0] / 0.9, 2 * np.pi * material[..., 1] / 0.9
    return 0.35 + 0.25 * np.stack([np.sin(x) * np.sin(y), np.sin(x + 0.7), np.sin(y + 0.2)], -1)


def _film(folder: Path, *, noise: float = 0.0) -> str:
    """8-bit pictures of the true sheet, by area (12 x 12 samples a pixel), before a grey wall."""
    from PIL import Image

    rng = np.random.default_rng(1)
    grid = (np.arange(SIZE * 12) + 0.5) / (12 * ACROSS) - SIZE / ACROSS / 2
    for k, t in enumerate(TIMES):
        x, y = np.meshgrid(grid, -grid)
        material = np.stack([x - TRUE["speed"] * t, y], -1) / (1 + TRUE["strain"] * t)
        inside = (np.abs(material) < HALF).all(-1, keepdims=True)
        fine = np.where(inside, _pattern(material), 0.5)
        light = fine.reshape(SIZE, 12, SIZE, 12, 3).mean((1, 3))
        light = np.clip(light + noise * rng.standard_normal(light.shape), 0, 1)
        eight = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        Image.fromarray(eight.round().astype(np.uint8)).save(folder / f"f_{k}.png")
    return "f_*.png"


def _flow(t: float, until: float) -> np.ndarray:
    """Flow of what the true sheet's pixels show [px], (h, w, 2), 0 of the wall."""
    grid = (np.arange(SIZE) + 0.5) / ACROSS - SIZE / ACROSS / 2
    x, y = np.meshgrid(grid, -grid)
    material = np.stack([x - TRUE["speed"] * t, y], -1) / (1 + TRUE["strain"] * t)
    moved = material * TRUE["strain"] * (until - t) + np.array([TRUE["speed"] * (until - t), 0.0])
    return np.where((np.abs(material) < HALF).all(-1, keepdims=True), moved * [ACROSS, -ACROSS], 0.0)


def _found(folder: Path, **how: Any) -> dict[str, Any]:
    film = Pictures(directory=folder, camera=CAMERA, **{"file": "f_*.png", "times": TIMES, **how})
    prior = se.Unknown(prior=se.Prior(normal=0.5))
    problem = Problem(Sheet(), observations={"film": film}, unknowns={"speed": prior, "strain": prior})
    fit = LeastSquaresFit(problem)
    for _ in range(200):
        if fit.converged:
            break
        fit.step()
    assert fit.converged
    return dict(posterior(problem, fit.z, problem.predict(fit.z)).estimates)


@pytest.mark.parametrize(
    "how",
    [
        {"appearance": "first", "background": WALL},
        {"appearance": "first"},  # a wall of one colour that fits best
        {"appearance": "first", "background": WALL, "compare": "gradients"},
        {"appearance": "first", "background": WALL, "compare": "correlation"},
        {"appearance": "texture", "background": WALL},
        {"appearance": "texture"},
    ],
    ids=["first", "wall", "gradients", "correlation", "texture", "texture and wall"],
)
def test_a_pattern_that_nobody_tells(how: dict[str, Any], tmp_path: Path) -> None:
    """Speed and strain from 8-bit files with noise, to a tenth of a pixel at the rim; the wall is as bright."""
    _film(tmp_path, noise=0.01)
    found = _found(tmp_path, **how)
    for name, true in TRUE.items():
        assert abs(found[name].value - true) * ACROSS * (HALF if name == "strain" else 1) < 0.1, (name, found[name])


def test_one_colour_does_not_tell_them(tmp_path: Path) -> None:
    """What the pictures above are worth to a fit that knows no pattern."""
    _film(tmp_path, noise=0.01)
    found = _found(tmp_path, appearance="fitted", background=WALL)
    assert max(abs(found[name].value - true) for name, true in TRUE.items()) > 0.02


def test_what_the_first_picture_does_not_show_has_the_mean() -> None:
    """Places on what it shows have their colours, those a metre behind it the mean of all."""
    film = Pictures(name="film", camera=CAMERA, file="f_*.png", times=(0.0, 1.0), appearance="first")
    light = torch.zeros(2, SIZE, SIZE, 3).double()
    light[:, :, : SIZE // 2, 0] = 1.0  # red on the left, green on the right
    light[:, :, SIZE // 2 :, 1] = 1.0
    measured, _ = dataclasses.replace(film, appearance="world").planned(Sheet(), torch.Generator())
    film = dataclasses.replace(film, camera=film.camera.opened(Path(), (SIZE, SIZE)))
    grid = (torch.arange(SIZE).double() + 0.5) / ACROSS - SIZE / ACROSS / 2
    x, y = torch.meshgrid(grid, -grid, indexing="xy")
    seen = torch.stack([torch.stack([w * x, w * y, 8 - 8 * w + 0 * x, 1 + 0 * x], -1) for w in (1.0, 9 / 8)])
    told = carried(film, seen, light, measured)
    assert torch.allclose(told[0, :, 2:-2], light[0, :, 2:-2], atol=FAINT)
    assert torch.allclose(told[1], torch.tensor([0.5, 0.5, 0.0]).double().expand(SIZE, SIZE, 3))


@pytest.mark.parametrize("suffix", [".flo", ".npy"])
def test_flow_of_files(suffix: str, tmp_path: Path) -> None:
    """Flow by formula, with noise and a tenth of it wrong altogether."""
    rng = np.random.default_rng(2)
    flows = np.stack([_flow(TIMES[k], TIMES[k + 1]) for k in (0, 1)])
    flows += 0.1 * rng.standard_normal(flows.shape)
    wrong = rng.random(flows.shape[:3]) < 0.1
    flows[wrong] += 4.0
    flows[:, :3] = np.nan
    write_flows(tmp_path / f"flow_*{suffix}", flows)
    found = _found(tmp_path, file=f"flow_*{suffix}", compare="flow", loss="student", sigma=0.1)
    for name, true in TRUE.items():
        assert abs(found[name].value - true) < 0.005, (name, found[name])  # a fiftieth of a pixel


def test_a_file_that_is_made_has_no_flow_at_outlines() -> None:
    """And two pixels off them that of the sheet, and 0 of the wall."""
    film = Pictures(name="film", camera=CAMERA, file="flow_*.flo", times=TIMES, compare="flow")
    world = dataclasses.replace(Sheet(), **TRUE)
    measured, filming = film.planned(world, torch.Generator())
    flow = filming.predict(world.solve(()), measured).reshape(2, SIZE, SIZE, 2)
    truth = torch.from_numpy(np.stack([_flow(TIMES[k], TIMES[k + 1]) for k in (0, 1)]))
    told = flow.isfinite().all(-1)
    assert 0.5 < float(told.double().mean()) < 0.9
    assert torch.allclose(flow[told], truth[told], atol=1e-9)


def test_flow_found_in_pictures(tmp_path: Path) -> None:
    """By OpenCV, where the pattern tells it; the wall without a pattern tells none."""
    pytest.importorskip("cv2")
    _film(tmp_path)
    found = _found(tmp_path, compare="flow", loss="student")
    assert abs(found["speed"].value - TRUE["speed"]) < 0.01, found
    assert abs(found["strain"].value - TRUE["strain"]) < 0.02, found


def test_flow_is_that_of_a_shift() -> None:
    """Of a pattern moved by (3, -2) pixels, and NaN on a plain wall."""
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 1, 12, 12)))
    picture = torch.nn.functional.interpolate(coarse, size=(60, 60), mode="bicubic")[0, 0].clamp(0, 1).numpy()
    picture[:, :20] = 0.5
    flow = flow_between(picture, np.roll(picture, (-2, 3), (0, 1)))
    assert np.isnan(flow[5:-5, 3:14]).all()
    middle = flow[10:-10, 30:-10]
    assert np.isfinite(middle).mean() > 0.9 and np.abs(np.nanmedian(middle, (0, 1)) - [3, -2]).max() < 0.1


def test_files_of_flow(tmp_path: Path) -> None:
    """Bytes of the format as it is described, by struct; unknown flow; there and back."""
    body = struct.pack("<fii", 202021.25, 2, 1) + struct.pack("<4f", 1.5, -2.0, 1e10, 1e10)
    (tmp_path / "a_0.flo").write_bytes(body)
    values = read_flows([tmp_path / "a_0.flo"]).values
    assert values.shape == (1, 1, 2, 2) and values[0, 0, 0].tolist() == [1.5, -2.0] and np.isnan(values[0, 0, 1]).all()
    write_flows(tmp_path / "b.flo", values)
    assert np.array_equal(read_flows([tmp_path / "b.flo"]).values, values, equal_nan=True)
    for name, data, words in (
        ("c.flo", body[:-4], "is it whole"),
        ("d.flo", b"PNG" + body, "begin with PIEH"),
        ("e.flo", struct.pack("<fii", 202021.25, -2, 1 << 30), "no flow of"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=words):
            read_flows([tmp_path / name])
    np.save(tmp_path / "f.npy", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"f.npy: expected flow \(h, w, 2\)"):
        read_flows([tmp_path / "f.npy"])


@pytest.mark.parametrize(
    "how",
    [
        *({"appearance": name} for name in CARRIED),
        *({"appearance": name, "background": WALL} for name in CARRIED),
        {"compare": "flow"},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_derivatives(how: dict[str, Any], tmp_path: Path) -> None:
    """Of the numbers of the motion, of camera and clock, beside central differences."""
    _film(tmp_path, noise=0.02)
    if "compare" in how:
        np.save(tmp_path / "flow.npy", np.stack([_flow(TIMES[k], TIMES[k + 1]) for k in (0, 1)]))
        how = {**how, "file": "flow.npy"}
    film = Pictures(name="film", directory=tmp_path, camera=CAMERA, **{"file": "f_*.png", "times": TIMES, **how})
    measured = film.read()
    film = film.prepared(measured)  # type: ignore[assignment]
    weight = torch.randn(measured.values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def told(z: torch.Tensor) -> torch.Tensor:
        camera = dataclasses.replace(film.camera, shift=tuple(z[2:5]), turn=tuple(z[5:8]), zoom=1 + z[8])
        moved = dataclasses.replace(film, camera=camera, start=0.0 * z[9] - z[9])
        world = dataclasses.replace(Sheet(), speed=0.5 + z[0], strain=0.1 + z[1])
        return (moved.predict(world.solve(()), measured) * weight).sum()

    z = torch.tensor([0.01, 0.02, 0.03, -0.01, 0.02, 0.01, 0.02, 0.03, 0.04, 0.05], dtype=torch.float64)
    (slope,) = torch.autograd.grad(told(z.requires_grad_()), z)
    step = 1e-6 * torch.eye(len(z), dtype=torch.float64)
    expected = torch.stack([(told(z + s) - told(z - s)) / 2e-6 for s in step]).detach()
    assert float(expected.abs().min()) > 1e-3  # each does something
    assert torch.allclose(slope, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max())), (slope, expected)


JELLY = """
kind = "mpm"
gravity = [0.0, 0.0, 0.0]
[grid]
num_grids = 12
time_step = 1e-3
num_steps = 40
[[bodies]]
name = "jelly"
velocity = [1.0, -0.5, 0.0]
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.3, 0.3, 0.3] }
material = { MATERIAL, E = 2e4, nu = 0.2 }
"""


@pytest.mark.parametrize("material", ['type = "jelly"', 'type = "sand", friction_angle = 30.0'])
def test_places_of_a_flying_box(material: str, tmp_path: Path) -> None:
    """What is seen at 0.04 s was where it is less v t, on the surface and on discs."""
    (tmp_path / "a.toml").write_text(JELLY.replace("MATERIAL", material), encoding="utf-8")
    world: AbstractWorld = se.load_scene(tmp_path / "a.toml").world
    camera = Camera(eye=(0.5, 0.5, 2.5), target=(0.5, 0.5, 0.5), focal=80.0).opened(Path(), (32, 32))
    views = [
        View(
            intrinsics=camera.intrinsics(),
            world_to_camera=camera.world_to_camera(),
            size=(32, 32),
            times=torch.tensor([0.04]).double(),
            channels=("place", "alpha"),
            place_times=torch.tensor([when]).double(),
        )
        for when in (0.0, 0.04)
    ]
    cloud = Cloud(times=torch.tensor([0.0, 0.04]).double())
    run = world.prepare(views).solve(views)
    then, now = (run.sample(view)[0] for view in views)
    shift = run.sample(cloud).diff(dim=0)[0].mean(0)
    assert torch.allclose(shift, torch.tensor([0.04, -0.02, 0.0]).double(), atol=1e-6)
    alpha = now[..., 3:]
    assert float(alpha.sum()) > 100
    assert torch.allclose(now[..., :3] - then[..., :3], alpha * shift, atol=2e-3 * float(shift.norm()))
    if "jelly" in material:  # the pixel in the middle, by hand: its ray meets the front face
        x = 0.5 + 0.5 * (2.5 - 0.65) / 80
        assert torch.allclose(now[16, 16, :3], torch.tensor([x, 1 - x, 0.65]).double(), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"appearance": "first", "exposure": 0.8}, "exposure: has no effect with appearance = 'first'"),
        ({"appearance": "texture", "compare": "silhouette"}, "appearance: has no effect with compare = 'silhouette'"),
        (
            {"appearance": "first", "shutter": 0.1},
            "shutter: pictures are averaged, and colours are of one place a pixel",
        ),
        ({"compare": "flow", "background": WALL}, "background: has no effect with compare = 'flow'"),
        ({"compare": "flow", "read_out": 0.1}, "read_out: pictures are averaged, and a flow is of one place a pixel"),
    ],
)
def test_what_does_not_go_together(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pictures(file="f_*.png", camera=CAMERA, times=TIMES, **how)


def test_mistakes_are_told(tmp_path: Path) -> None:
    """Too few times of flow, a first picture before the start, a single picture."""
    _film(tmp_path)
    np.save(tmp_path / "flow.npy", np.zeros((2, 4, 4, 2)))

    def read(**how: Any) -> None:
        Pictures(name="film", directory=tmp_path, camera=CAMERA, **{"file": "f_*.png", "times": TIMES, **how}).read()

    with pytest.raises(SceneError, match="times: 2 for 3 pictures"):
        read(file="flow.npy", compare="flow", times=(0.0, 0.5))
    with pytest.raises(SceneError, match="film: flow is of pictures at times; say `fps` or `times`"):
        read(file="flow.npy", compare="flow", times=())
    with pytest.raises(SceneError, match="every: files of flow are of consecutive pictures"):
        read(file="flow.npy", compare="flow", every=2)
    with pytest.raises(SceneError, match="compare: flow is found between two pictures"):
        read(file="f_0.png", compare="flow", times=(0.0,))
    with pytest.raises(SceneError, match="'first' begins with the first picture, which does not count"):
        read(appearance="first", start=0.2)
