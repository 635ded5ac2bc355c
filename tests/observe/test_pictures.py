"""Pictures as an instrument, against closed forms and pictures made by numpy, Pillow and VTK, not by this renderer."""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.inference import LeastSquaresFit
from simengine.fit.posterior import posterior
from simengine.fit.problem import Problem
from simengine.observe import Camera, Pictures, Segment
from simengine.observe.detectors import DetectorSpec
from simengine.observe.image_math import coarsened, matted, normalised, slopes
from simengine.observe.instruments.boxes.detections import Detections, PicturesAt
from simengine.observe.instruments.displacements import Displacements
from simengine.render.tone import encode_srgb
from simengine.scene import SceneError
from simengine.scene.asks import Ask, View
from simengine.scene.base import AbstractRun, AbstractWorld, Refused

SIZE, ACROSS = 24, 8.0  # pixels, and how many of them are a metre
CAMERA = Camera(eye=(0.0, 0.0, 8.0), target=(0.0, 0.0, 0.0), focal=ACROSS * 8, width=SIZE, height=SIZE)


def _disc(x: float, radius: float) -> torch.Tensor:
    """Covered shares of pixels of a ball's outline at (x, 0), seen from afar, by 16 x 16 samples a pixel."""
    grid = (torch.arange(SIZE * 16, dtype=torch.float64) + 0.5) / (16 * ACROSS) - SIZE / ACROSS / 2
    inside = (grid[None, :] - x).square() + grid[:, None].square() < radius**2
    return inside.double().reshape(SIZE, 16, SIZE, 16).mean((1, 3))


class Ball(se.OwnWorld):
    """A grey ball that moves to the right: a world of a test, which answers views by a smooth outline of its own."""

    parameters: ClassVar = {
        "speed": se.OwnNumber(0.5, "m/s"),
        "radius": se.OwnNumber(0.5, "m", gt=0),
        "albedo": se.OwnNumber(0.4, gt=0),
    }
    answers = frozenset((View,))

    def simulate(self, values: Any) -> se.OwnMotion:
        raise AssertionError("its run answers views alone")

    def solve(self, asks: Any, **options: Any) -> "BallRun":
        return BallRun(self)

    def sizes(self) -> dict[str, float]:
        return {"m": 1.0, "s": 1.0}


@dataclasses.dataclass(frozen=True)
class BallRun(AbstractRun):
    """Its pictures."""

    ball: Any

    def sample(self, ask: Ask) -> torch.Tensor:
        assert isinstance(ask, View)
        times = ask.times if ask.times is not None else torch.zeros(1, dtype=torch.float64)
        frames = []
        for k, t in enumerate(times):
            fx, _, cx, cy = ask.intrinsics[k]
            x = ((torch.arange(ask.size[1], dtype=torch.float64) + 0.5 - cx) / fx)[None, :] * 8
            y = ((torch.arange(ask.size[0], dtype=torch.float64) + 0.5 - cy) / fx)[:, None] * 8
            y = y - ask.world_to_camera[k][1, 3]
            dx = x - self.ball.speed * t - ask.world_to_camera[k][0, 3] + 0 * y
            away = (dx.square() + y.square()).sqrt()
            alpha = (0.5 + (self.ball.radius - away) * fx / 8).clamp(0, 1)[..., None]
            inside = (1 - (away / self.ball.radius).square()).clamp_min(0).sqrt()
            normal = torch.stack([dx / self.ball.radius, (y + 0 * x) / self.ball.radius, -inside], -1)
            parts = {
                "rgb": self.ball.albedo * alpha.expand(*alpha.shape[:2], 3),
                "alpha": alpha,
                "depth": torch.where(alpha > 0, 8 - self.ball.radius * inside[..., None], 0.0),
                "normal": torch.where(alpha > 0, normal, 0.0),
            }
            frames.append(torch.cat([parts[name] for name in ask.channels], -1))
        return torch.stack(frames)


TIMES = (0.0, 0.5, 1.0)
TRUE = {"speed": 0.7, "radius": 0.62}


def _srgb8(light: np.ndarray) -> np.ndarray:
    return np.asarray(
        (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).round(), np.uint8
    )


def _film(
    folder: Path, *, wall: float = 0.2, body: float = 0.4, lamp: float = 0.0, noise: float = 0.0, empty: bool = False
) -> str:
    """8-bit files of the true ball before a grey wall, by area, lit from the right by `lamp`."""
    from PIL import Image

    rng = np.random.default_rng(0)
    grid = (np.arange(SIZE) + 0.5) / ACROSS - SIZE / ACROSS / 2
    frames = [np.full((SIZE, SIZE), wall)] if empty else []
    for t in TIMES:
        share = _disc(TRUE["speed"] * t, TRUE["radius"]).numpy()
        side = (grid[None, :] - TRUE["speed"] * t) / TRUE["radius"]
        frames.append(share * body * (1 + lamp * side) + (1 - share) * wall)
    for k, frame in enumerate(frames):
        light = np.clip(frame + noise * rng.standard_normal(frame.shape), 0, 1)
        Image.fromarray(_srgb8(light)).convert("RGB").save(folder / f"f_{k}.png")
    return "f_*.png"


def _found(folder: Path, unknowns: dict[str, se.Unknown] | None = None, **how: Any) -> dict[str, Any]:
    file = how.pop("file", "f_*.png")
    film = Pictures(directory=folder, file=file, camera=CAMERA, **{"times": TIMES, **how})
    sought = unknowns or {"speed": se.Unknown(prior=se.Prior(normal=1.0)), "radius": se.Unknown()}
    problem = Problem(Ball(), observations={"film": film}, unknowns=sought)
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
        {"background": (0.4845, 0.4845, 0.4845)},  # sRGB of 0.2
        {},  # a wall of one colour that fits best
        {"background": "first", "empty": True, "times": (-1.0, *TIMES)},
        {"lamp": 0.5, "appearance": "fitted"},
        {"compare": "correlation", "background": (0.4845, 0.4845, 0.4845)},
        {"compare": "gradients", "background": (0.4845, 0.4845, 0.4845)},
        {"compare": "silhouette", "background": (0.4845, 0.4845, 0.4845), "segment": Segment(tolerance=0.1)},
        {"compare": "silhouette", "segment": Segment(color=(0.665, 0.665, 0.665), tolerance=0.1)},
        {"pyramid": 2},
    ],
    ids=["colour", "wall", "first", "lit", "correlation", "gradients", "difference", "segment", "pyramid"],
)
def test_a_ball_on_8_bit_pictures(how: dict[str, Any], tmp_path: Path) -> None:
    """Speed and radius to a fiftieth of a pixel, and inside three of the standard deviations told."""
    making = {key: how[key] for key in ("lamp", "empty") if key in how}
    _film(tmp_path, **making)
    found = _found(tmp_path, **{key: value for key, value in how.items() if key not in making})
    for name, true in TRUE.items():
        e = found[name]
        assert abs(e.value - true) < 0.05 / ACROSS, (name, e)


def test_intervals_hold_noise_and_exposure(tmp_path: Path) -> None:
    _film(tmp_path, body=0.3, noise=0.01)
    unknowns = {
        "speed": se.Unknown(prior=se.Prior(normal=1.0)),
        "radius": se.Unknown(),
        "observations.film.exposure": se.Unknown(prior=se.Prior(lognormal=0.5)),
    }
    found = _found(tmp_path, unknowns, background=(0.4845, 0.4845, 0.4845))
    for name, true in {**TRUE, "observations.film.exposure": 0.75}.items():
        assert abs(found[name].value - true) < 3 * found[name].std < 0.05, (name, found[name])


def _pictured(**how: Any) -> torch.Tensor:
    """The ball at 0 s before black, (h, w), as this camera has it."""
    film = Pictures(camera=CAMERA, times=(0.0,), fps=None, background=(0.0, 0.0, 0.0), recording=True, **how)
    measured, filming = film.planned(Ball(), torch.Generator())
    run = Ball(speed=0.7, radius=0.62).solve(filming.asks(measured))
    return filming.predict(run, measured).reshape(SIZE, SIZE, 3)[..., 0]


def test_a_shutter_a_read_out_and_a_lens() -> None:
    """Verification: middles and widths of the picture by their formulas."""
    at = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / ACROSS - SIZE / ACROSS / 2
    sharp = _pictured()

    def middle(picture: torch.Tensor) -> torch.Tensor:
        return (picture * at).sum(-1) / picture.sum(-1).clamp_min(1e-12)

    def spread(picture: torch.Tensor) -> float:
        own = picture.sum(0)
        return float((own * (at - (own * at).sum() / own.sum()).square()).sum() / own.sum())

    # a constant shutter moves the middle by half of the way, and adds the variance of an even way
    blurred = _pictured(shutter=0.4, moments=16)
    rows = sharp.sum(1) > 1.0
    assert torch.allclose(middle(blurred)[rows], torch.tensor(0.7 * 0.2).double(), atol=2e-3)
    assert spread(blurred) - spread(sharp) == pytest.approx((0.7 * 0.4) ** 2 / 12, rel=0.05)
    assert float(blurred.sum()) == pytest.approx(
        float(sharp.sum()), rel=5e-3
    )  # the outline of this ball is one of pixels
    # a read-out shears it: each row is seen later
    sheared = _pictured(read_out=0.5, moments=24)
    begins = 0.5 * (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    assert torch.allclose(middle(sheared)[rows], (0.7 * begins)[rows], atol=1e-2)  # .08 pixels
    # nothing changes in focus (8 m), but for perspective; out of it a point becomes a disc of variance (diameter / 4)^2
    assert float((_pictured(aperture=0.3, focus=8.0) - sharp).abs().max()) < 0.02
    disc = 0.8 * (8 / 4 - 1)  # at the ball, of a lens of 0.8 m in focus at 4 m
    assert spread(_pictured(aperture=0.8, focus=4.0)) - spread(sharp) == pytest.approx((disc / 4) ** 2, rel=0.1)
    for idle in ({"moments": 16}, {"focus": 4.0}):
        with pytest.raises(ValueError, match=f"{next(iter(idle))}: has no effect with"):
            _pictured(**idle)
    # vignetting by hand
    square = (at[None].square() + at[:, None].square()) * ACROSS**2 / (2 * (SIZE / 2) ** 2)
    assert torch.allclose(_pictured(vignetting=(-0.4, 0.1)), sharp * (1 - 0.4 * square + 0.1 * square**2), rtol=1e-9)


def test_shutter_read_out_lens_and_vignetting_are_sought(tmp_path: Path) -> None:
    """Files made by moving the ball by hand, each row at its time, and by the fall-off of a lens."""
    from PIL import Image

    inside = (np.arange(SIZE) + 0.5) / ACROSS - SIZE / ACROSS / 2
    dark = 1 - 0.3 * (inside[None] ** 2 + inside[:, None] ** 2) / (2 * 1.5**2)
    for k, t in enumerate(TIMES):
        frame = np.zeros((SIZE, SIZE))
        for row in range(SIZE):
            moments = t + 0.3 * (row + 0.5) / SIZE + 0.2 * (np.arange(40) + 0.5) / 40
            frame[row] = np.mean([_disc(TRUE["speed"] * m, TRUE["radius"])[row].numpy() for m in moments], 0)
        Image.fromarray(_srgb8(0.4 * frame * dark)).convert("RGB").save(tmp_path / f"f_{k}.png")
    names = ("shutter", "read_out", "vignetting")
    unknowns = {
        "speed": se.Unknown(prior=se.Prior(normal=1.0)),
        "observations.film.shutter": se.Unknown(prior=se.Prior(lognormal=(0.1, 1.0))),
        "observations.film.read_out": se.Unknown(prior=se.Prior(lognormal=(0.1, 1.0))),
        "observations.film.vignetting": se.Unknown(prior=se.Prior(normal=0.5)),
    }
    how = {"background": (0.0, 0.0, 0.0), "shutter": 0.1, "read_out": 0.1, "vignetting": (0.0,), "moments": 12}
    world = {"radius": TRUE["radius"]}
    film = Pictures(directory=tmp_path, file="f_*.png", camera=CAMERA, times=TIMES, **how)  # type: ignore[arg-type]
    problem = Problem(Ball(**world), observations={"film": film}, unknowns=unknowns)
    fit = LeastSquaresFit(problem)
    for _ in range(60):
        if fit.converged:
            break
        fit.step()
    found = problem.estimates(fit.z)
    told = [next(v for k, v in found.items() if name in k) for name in ("speed", *names)]
    assert told == pytest.approx([0.7, 0.2, 0.3, -0.3], abs=0.03)


def test_no_mean_is_taken_of_depths_and_normals() -> None:
    for how in ({"compare": "depth", "shutter": 0.1}, {"appearance": "fitted", "read_out": 0.1}):
        with pytest.raises(ValueError, match="pictures are averaged"):
            Pictures(camera=CAMERA, times=TIMES, **how)  # type: ignore[arg-type]


def test_depth_in_millimetres(tmp_path: Path) -> None:
    """The depth of a sphere by its closed form, gaps where no surface is."""
    grid = (np.arange(SIZE) + 0.5) / ACROSS - SIZE / ACROSS / 2
    away = np.hypot(grid[None, :], grid[:, None])
    depth = np.where(away < 0.62, 8 - np.sqrt(np.maximum(0.62**2 - away**2, 0)), 0.0)
    np.save(tmp_path / "d_0.npy", 1e3 * depth)
    found = _found(
        tmp_path, {"radius": se.Unknown()}, file="d_*.npy", compare="depth", unit="mm", times=(0.0,), sigma=1e-3
    )
    assert abs(found["radius"].value - 0.62) < 0.01


def test_camera_and_gamma_are_sought(tmp_path: Path) -> None:
    """One frame was filmed by a camera 0.1 m to the side and written with a gamma of 2.0 instead of 2.2."""
    from PIL import Image

    share = _disc(-0.1, 0.5).numpy()
    light = share * 0.4 + (1 - share) * 0.1
    Image.fromarray((255 * light ** (1 / 2.0)).round().astype(np.uint8)).convert("RGB").save(tmp_path / "f_0.png")
    shown = float(0.1 ** (1 / 2.0))
    unknowns = {
        "observations.film.camera.shift": se.Unknown(prior=se.Prior(normal=(0.2, 0.2, 0.0))),
        "observations.film.gamma": se.Unknown(prior=se.Prior(lognormal=0.2)),
    }
    found = _found(tmp_path, unknowns, response="gamma", background=(shown,) * 3, times=(0.0,))
    assert abs(found["observations.film.camera.shift 0"].value + 0.1) < 0.01
    assert abs(found["observations.film.gamma"].value - 2.0) < 0.05


def test_outlines_are_unbiased_by_the_threshold() -> None:
    """Area of a disc out of its colours, whatever the threshold, within a thousandth of its perimeter's pixels."""
    share = _disc(0.07, 0.8)[None]
    light = (share * 0.5 + (1 - share) * 0.1)[..., None].expand(*share.shape, 3)
    area = float(share.sum())
    for level in (0.14, 0.3, 0.46):
        hard = light[..., 0] > level
        soft = matted(light, hard)
        assert abs(float(soft.sum()) - area) < 0.05
    assert abs(float((light[..., 0] > 0.14).sum()) - area) > 5


def test_the_shadow_at_an_edge_is_no_part_of_the_body() -> None:
    """A blue disc before a grey wall that is dark where it touches the disc, and two dark pixels of its hue."""
    share = _disc(0.07, 0.8)[None, ..., None]
    wall = (0.2 - 0.15 * (share > 0).double()) * torch.ones(3, dtype=torch.float64)
    blue = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
    light = share * blue + (1 - share) * wall
    light[0, 1, 1] = light[0, 2, 2] = 0.1 * blue
    segment = Segment(color=tuple(encode_srgb(blue).tolist()), tolerance=0.15, by="hue")
    found = segment.opacity(encode_srgb(light), light, None, None)
    area = float(share.sum())
    assert abs(float(found.sum()) - area) < 0.1
    assert float(found[0, 1, 1] + found[0, 2, 2]) == 0.0
    of_walls_beside = float(matted(light, found > 0.5).sum())
    assert abs(of_walls_beside - area) > 1


def test_slopes_correlation_and_blocks_are_their_formulas() -> None:
    x = torch.arange(8.0, dtype=torch.float64)
    ramp = (3 * x[None, None, :] + 2 * x[None, :, None])[..., None].expand(1, 8, 8, 3)
    assert torch.allclose(slopes(ramp)[0, 3, 4], torch.tensor([3.0, 2.0], dtype=torch.float64))
    weight = torch.ones(1, 8, 8)
    assert torch.allclose(normalised(0.2 + 0.5 * ramp, weight), normalised(ramp, weight))
    gap, count = torch.rand(1, 5, 6, 2, dtype=torch.float64), torch.ones(1, 5, 6, 1, dtype=torch.float64)
    assert torch.allclose(coarsened(gap, count, 1)[0, :2, 2:4], gap[0, :2, 2:4].mean((0, 1)).expand(2, 2, 2))
    assert torch.allclose(coarsened(gap, count, 1)[0, 4, 4:], gap[0, 4, 4:].mean(0).expand(2, 2))


@pytest.mark.parametrize("level", [1, 3])
def test_a_pixel_without_an_answer_is_refused_on_coarse_levels_too(level: int, tmp_path: Path) -> None:
    """A gap where a pixel counts is no answer; one behind the mask is none of the fit's."""
    from PIL import Image

    _film(tmp_path)
    mask = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    mask[:2, :2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    film = Pictures(
        name="film", directory=tmp_path, file="f_*.png", camera=CAMERA, times=TIMES, mask="mask.png", sigma=0.1
    )
    problem = Problem(Ball(), observations={"film": film}, unknowns={"speed": se.Unknown()})
    told = problem.predict(problem.start())["film"]
    problem.level = level
    plain = problem.residual_of(told)
    for row, counts in ((0, False), (SIZE + 1, False), (12 * SIZE + 12, True)):
        values = told.values.clone()
        values[row] = torch.nan
        holed = dataclasses.replace(told, values=values)
        if counts:
            with pytest.raises(Refused, match="have no answer"):
                problem.residual_of(holed)
        else:
            assert torch.equal(problem.residual_of(holed), plain)


def test_neighbours_count_as_one(tmp_path: Path) -> None:
    """Noise in blocks of 4 x 4 pixels, alike in three channels: 48 values count as one."""
    _film(tmp_path)
    film = Pictures(name="film", directory=tmp_path, file="f_*.png", camera=CAMERA, times=TIMES)
    measured = film.read()
    noise = torch.randn(3, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = noise.repeat_interleave(4, 1).repeat_interleave(4, 2).reshape(-1, 1).expand(-1, 3)
    assert 0.6 * 48 < film.rows_as_one(r, measured) < 1.6 * 48
    white = torch.randn(len(r), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert film.rows_as_one(white, measured) < 1.3


def test_errors_shared_by_tiles_widen_the_bars() -> None:
    """A mean of values whose groups of 25 share an error of the size of the noise: 1 + 25 times the variance."""
    from simengine.fit.certainty.worth import scatter

    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(400).repeat_interleave(25)
    own = torch.randn(400, generator=generator, dtype=torch.float64)[groups]
    r = own + torch.randn(len(groups), generator=generator, dtype=torch.float64)
    j = torch.ones(len(groups), 1, dtype=torch.float64)
    assert scatter(j, r - r.mean(), groups) == pytest.approx(26, rel=0.25)
    assert scatter(j, r - own, groups) == pytest.approx(1, rel=0.25)
    assert scatter(j[:50], r[:50], groups[:50] * 0) == 0.0  # one group tells nothing


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"compare": "gradients"}, "background"),
        ({"times": (0.0, 1.0)}, "2 for 3 pictures"),
        ({"file": "g_*.png"}, "no file is like it"),
        ({"compare": "silhouette", "segment": Segment()}, "name the body's color"),
        ({"mask": "small.png"}, "another size"),
        ({"camera": dataclasses.replace(CAMERA, width=100, height=20)}, "crop"),
    ],
)
def test_mistakes_are_named(how: dict[str, Any], message: str, tmp_path: Path) -> None:
    from PIL import Image

    _film(tmp_path)
    Image.new("L", (5, 5)).save(tmp_path / "small.png")
    with pytest.raises((SceneError, ValueError), match=message):
        film = Pictures(**{"directory": tmp_path, "file": "f_*.png", "camera": CAMERA, "times": TIMES, **how})
        Problem(Ball(), observations={"film": film}, unknowns={"speed": se.Unknown()})


def test_a_shared_camera_is_one_unknown(tmp_path: Path) -> None:
    """Two observations through [cameras.front]: its eye is one vector, and moves both."""
    (tmp_path / "a.toml").write_text(JELLY + CAMERAS, encoding="utf-8")
    problem_scene = se.load_scene(tmp_path / "a.toml")
    assert problem_scene.camera_of == {"left": "front", "right": "front"}
    from simengine.fit.unknowns import coordinates

    instruments = {n: dataclasses.replace(i) for n, i in problem_scene.observations.items()}
    (c, *_) = coordinates(problem_scene, instruments)
    assert c.name == "cameras.front.eye 0" and [t[1] for t in c.targets] == ["left", "right"]


JELLY = """
kind = "mpm"
[grid]
num_grids = 12
time_step = 1e-3
num_steps = 60
[[bodies]]
name = "jelly"
velocity = [0.0, -1.0, 0.0]
shape = { type = "box", center = [0.5, 0.45, 0.5], size = [0.3, 0.3, 0.3] }
material = { type = "jelly", E = 2e4, nu = 0.2 }
"""
CAMERAS = """
[cameras.front]
eye = [0.5, 0.5, 2.2]
target = [0.5, 0.4, 0.5]
field_of_view = 30.0
width = 32
height = 32
[observations.left]
type = "video"
file = "left_*.png"
fps = 50.0
camera = "front"
[observations.right]
type = "pictures"
file = "right_*.png"
fps = 50.0
camera = "front"
[unknowns]
"cameras.front.eye" = { prior = { normal = 0.1 } }
"""


@pytest.mark.slow
def test_a_motion_cast_by_rays_in_a_lit_room(tmp_path: Path) -> None:
    """8-bit files of `simengine observe --renderer raycast`, exposure 0.8: the way is right to 0.05 px."""
    scene = JELLY + CAMERAS.replace('camera = "front"', 'camera = "front"\ncompare = "silhouette"\nsegment = SEG', 1)
    scene = scene.partition("[observations.right]")[0].replace(
        "SEG", '{ color = [0.42, 0.63, 0.88], tolerance = 0.15, by = "hue" }'
    )
    scene += '[unknowns]\n"bodies.jelly.velocity" = { prior = { normal = [0.0, 0.5, 0.0] } }\n'
    (tmp_path / "a.toml").write_text(scene, encoding="utf-8")
    from simengine.fit.twin import write_twin

    plain = se.load_scene(tmp_path / "a.toml")
    hidden = se.load_scene(
        tmp_path / "a.toml", ["bodies.jelly.velocity=[0.0,-1.3,0.0]", "observations.left.exposure=0.8"]
    )
    write_twin(plain, hidden, tmp_path, refine=1.0, renderer="raycast")
    problem = Problem(se.load_scene(tmp_path / "a.toml"))
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    pixels = 16 / math.tan(math.radians(15)) / 1.7  # a metre of the body
    assert abs(float(problem.values(fit.z)[0]) + 1.3) * 0.06 * pixels < 0.05  # measured 0.03


@pytest.mark.parametrize("renderer", ["own", "raycast"])
def test_depths_are_made_where_a_body_is(tmp_path: Path, renderer: str) -> None:
    """Where there is none the file says 0, whatever the noise, and a reader passes over it."""
    from simengine.fit.twin import write_twin

    scene = JELLY + CAMERAS.partition("[observations.right]")[0].replace(
        'type = "video"\nfile = "left_*.png"', 'type = "video"\nfile = "left_*.npy"\ncompare = "depth"\nsigma = 5e-3'
    )
    (tmp_path / "a.toml").write_text(scene, encoding="utf-8")
    plain = se.load_scene(tmp_path / "a.toml")
    write_twin(plain, plain, tmp_path, refine=1.0, renderer=renderer)
    first = np.load(tmp_path / "left_0000.npy")[..., 0]
    there = first > 0
    side = 16 / math.tan(math.radians(15)) * 0.3 / 1.55  # pixels of the front face, 1.55 m away
    assert there.sum() == pytest.approx(side**2, rel=0.15)
    assert first[there].min() > 1.5 and 2e-3 < first[there].std() < 3e-2
    measured = Problem(se.load_scene(tmp_path / "a.toml")).measured["left"]
    assert int(measured.mask.reshape(measured.shape)[0].sum()) == there.sum()


@pytest.mark.slow
def test_the_shipped_film_tells_the_modulus() -> None:
    """The least misfit of a parabola through three solves lies within 2 % of what another renderer filmed."""
    from simengine.scene.address import replaced

    problem = Problem(se.load_scene("jelly_from_video"))
    film, measured = problem.instruments["film"], problem.measured["film"]
    asks = film.asks(measured)
    losses = []
    for share in (0.95, 1.0, 1.05):
        run = replaced(problem.runs.prepared(""), {"bodies.0.material.E": 1e5 * share}).solve(asks)
        losses.append(float((film.predict(run, measured) - measured.values).square().sum()))
    low, middle, high = losses
    assert middle < min(low, high)
    assert abs(0.05 * (low - high) / (2 * (low - 2 * middle + high))) < 0.02


def test_views_of_a_motion_are_its_surface(tmp_path: Path) -> None:
    """The box at the start: the silhouette's area, the depth of its face and its normal, by hand."""
    (tmp_path / "a.toml").write_text(JELLY, encoding="utf-8")
    world: AbstractWorld = se.load_scene(tmp_path / "a.toml").world
    camera = Camera(eye=(0.5, 0.45, 2.5), target=(0.5, 0.45, 0.5), focal=80.0).opened(Path(), (32, 32))
    ask = View(
        intrinsics=camera.intrinsics(),
        world_to_camera=camera.world_to_camera(),
        size=(32, 32),
        channels=("rgb", "alpha", "depth", "normal"),
    )
    seen = world.prepare([ask]).solve([ask]).sample(ask)[0]
    face = 2.5 - 0.65
    for middle in (seen[16, :, 3], seen[:, 16, 3]):  # the front face hides the rest
        assert abs(float(middle.sum()) - 0.3 * 80 / face) < 1e-3
    assert torch.allclose(
        seen[16, 16], torch.tensor([0.15, 0.35, 0.75, 1.0, face, 0.0, 0.0, -1.0], dtype=torch.float64)
    )


@pytest.mark.parametrize("key", ["gain", "offset"])
def test_what_no_picture_is_scaled_by_is_refused(key: str) -> None:
    seen, boxes = PicturesAt(files="*.png"), DetectorSpec(model="m")
    for make, words in (
        (lambda **k: Pictures(file="a.png", camera=CAMERA, **k), "pictures, whose light is scaled by `exposure`"),
        (lambda **k: Displacements(files=("a.png", "b.png"), **k), "displacements"),
        (lambda **k: Detections(pictures=seen, detector=boxes, **k), "detections"),
    ):
        with pytest.raises(ValueError, match=f"^{key}: has no effect with {words}"):
            make(**{key: 2.0})
