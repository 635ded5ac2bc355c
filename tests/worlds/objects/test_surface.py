"""Normals from photographs under lamps: of a sphere that is shaded here by the formula."""

from pathlib import Path

import numpy as np
import pytest
import torch

import simengine as se
from simengine.fit.fields.newton import Linearised
from simengine.fit.fields.objective import FieldObjective
from simengine.fit.fields.points import PointSearch
from simengine.fit.problem import Problem
from simengine.observe.instruments.lamps import Lamps
from simengine.scene import Scene, SceneError, load_scene

SCENE = """
kind = "surface"
[surface]
mask = "mask.png"
[lights.lamps]
file = "lamps.csv"
columns = { direction = ["lx", "ly", "lz"] }
[observations.photos]
type = "lamps"
file = "photo_*.png"
mask = "mask.png"
light = "lamps"
sigma = "estimate"
loss = { huber = 2.0 }
[unknowns."surface.normals"]
initial = 0.5
[unknowns."observations.photos.gamma"]
prior = { lognormal = [1.0, 0.4] }
[inference]
iterations = 80
[reference."surface.normals"]
sphere = { center = [12.0, 11.0], radius = 9.0, inside = 0.8 }
"""


def _photos(folder: Path, gamma: float, ambient: float = 0.0, gloss: float = 0.0) -> None:
    from PIL import Image

    g = np.random.default_rng(0)
    x, y = (np.arange(25) - 12.0) / 9, (11.0 - np.arange(23)) / 9
    r2 = x[None] ** 2 + y[:, None] ** 2
    normal = np.stack(np.broadcast_arrays(x[None], y[:, None], np.sqrt(np.maximum(1 - r2, 0))), -1)
    Image.fromarray(np.where(r2 < 0.9, 255, 0).astype(np.uint8)).save(folder / "mask.png")
    lamps = np.column_stack((g.uniform(-0.5, 0.5, (10, 2)), np.ones(10)))
    lamps /= np.linalg.norm(lamps, axis=1, keepdims=True)
    for k, lamp in enumerate(lamps):
        around = ambient * (1 + k % 3)  # of each lamp its own
        mirrored = 2 * (normal @ lamp)[..., None] * normal - lamp
        shine = gloss * np.where(normal @ lamp > 0, np.maximum(mirrored[..., 2], 0) ** 20, 0)
        light = 0.8 * (np.maximum(normal @ lamp, 0) + around) ** (1 / gamma) + shine
        picture = 255 * np.where(r2 < 1, light, 0) + g.normal(0, 1.0, r2.shape)
        Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(folder / f"photo_{k}.png")
    # a direction needs no length of 1
    rows = [",".join(f"{v:.6f}" for v in (1 + 0.3 * k) * lamp) for k, lamp in enumerate(lamps)]
    (folder / "lamps.csv").write_text("\n".join(["lx,ly,lz", *rows]) + "\n")
    (folder / "ball.toml").write_text(SCENE)


def test_a_ball_and_the_gamma_of_its_pictures(tmp_path: Path) -> None:
    _photos(tmp_path, gamma=1.5)
    result = se.identify(load_scene(tmp_path / "ball.toml"), progress=False)
    assert result.parameters["observations.photos.gamma"] == pytest.approx(1.5, abs=0.1)
    assert result.summary["reference"]["surface.normals"]["mean angle [degrees]"] < 2.0
    held = se.identify(_without_gamma(tmp_path), progress=False)
    assert held.summary["reference"]["surface.normals"]["mean angle [degrees]"] > 3.0


def test_light_from_all_sides(tmp_path: Path) -> None:
    """Each lamp lights the room too: with `lights.lamps.ambient` sought the ball is round again."""
    _photos(tmp_path, gamma=1.0, ambient=0.05)
    text = SCENE.replace("observations.photos.gamma", "lights.lamps.ambient")
    (tmp_path / "ball.toml").write_text(text.replace("lognormal = [1.0, 0.4]", "normal = 0.1"))
    result = se.identify(load_scene(tmp_path / "ball.toml"), progress=False)
    assert result.summary["reference"]["surface.normals"]["mean angle [degrees]"] < 1.5
    told = [result.estimates[f"lights.lamps.ambient {k}"] for k in range(10)]
    for k, own in enumerate(told):
        assert own.std is not None and own.std < 0.02
        assert own.value == pytest.approx(0.05 * (1 + k % 3), abs=max(4 * own.std, 0.01))
    held = se.identify(_without_gamma(tmp_path), progress=False)
    assert held.summary["reference"]["surface.normals"]["mean angle [degrees]"] > 2.5


def _mirror_ball(folder: Path, lamps: np.ndarray) -> None:
    """A mirror shows a far lamp where its normal is the half vector (Blinn 1977): a spot of three pixels there."""
    from PIL import Image

    x, y = (np.arange(90) - 41.0) / 30, (36.0 - np.arange(70)) / 30
    Image.fromarray(np.where(x[None] ** 2 + y[:, None] ** 2 < 1, 255, 0).astype(np.uint8)).save(folder / "ball.png")
    for k, lamp in enumerate(lamps):
        half = lamp + np.array([0.0, 0.0, 1.0])
        half /= np.linalg.norm(half)
        spot = 600 * np.exp(-300 * ((x[None] - half[0]) ** 2 + (y[:, None] - half[1]) ** 2))
        elsewhere = 200 * np.exp(-500 * ((x[None] - 1.3) ** 2 + y[:, None] ** 2))  # beside the ball
        Image.fromarray((spot + elsewhere).clip(0, 255).astype(np.uint8)).save(folder / f"mirror_{k}.png")


def _with_mirror(folder: Path) -> np.ndarray:
    lamps = np.loadtxt(folder / "lamps.csv", delimiter=",", skiprows=1)
    lamps /= np.linalg.norm(lamps, axis=1, keepdims=True)
    _mirror_ball(folder, lamps)
    told = 'file = "lamps.csv"\ncolumns = { direction = ["lx", "ly", "lz"] }'
    text = SCENE.replace(told, 'mirror = { file = "mirror_*.png", mask = "ball.png" }')
    (folder / "ball.toml").write_text(text)
    return lamps


def test_a_mirror_ball_tells_the_lamps(tmp_path: Path) -> None:
    _photos(tmp_path, gamma=1.0)
    lamps = _with_mirror(tmp_path)
    photos = Problem(load_scene(tmp_path / "ball.toml")).instruments["photos"]
    assert isinstance(photos, Lamps)
    cosine = (np.array(photos.light.direction) * lamps).sum(1)
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.5  # a tenth of a pixel is 0.4 degrees


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["lights.lamps.direction=[[0.0, 0.0, 1.0]]"], "mirror and direction each tell the directions"),
        (["lights.lamps.mirror.mask='half.png'"], "has to be a whole disc"),
        (["lights.lamps.mirror.mask='mask.png'"], "and the pictures are"),
        (["lights.lamps.mirror.file='black_*.png'"], "picture 0 of the mirror ball has no highlight"),
        (["lights.lamps.mirror.file='no_*.png'"], r"mirror\.file: no_.*: no file is like it"),
    ],
)
def test_what_a_mirror_ball_cannot_tell(tmp_path: Path, change: list[str], said: str) -> None:
    from PIL import Image

    _photos(tmp_path, gamma=1.0)
    _with_mirror(tmp_path)
    half = np.array(Image.open(tmp_path / "ball.png"))
    half[:, 41:] = 0
    Image.fromarray(half).save(tmp_path / "half.png")
    Image.fromarray(np.zeros_like(half)).save(tmp_path / "black_0.png")
    with pytest.raises(SceneError, match=said):
        Problem(load_scene(tmp_path / "ball.toml", change))


def test_a_gloss_is_no_slope(tmp_path: Path) -> None:
    """Recovery behind photographs with highlights, shaded apart."""
    _photos(tmp_path, gamma=1.0, gloss=0.15)
    sought = "".join(
        f'[unknowns."observations.photos.{name}"]\nprior = {{ lognormal = [{middle}, 1.0] }}\n'
        for name, middle in (("gloss", 0.05), ("shininess", 10.0))
    )
    text = SCENE.replace('[unknowns."observations.photos.gamma"]\nprior = { lognormal = [1.0, 0.4] }\n', sought)
    (tmp_path / "ball.toml").write_text(text.replace('light = "lamps"', 'light = "lamps"\ngloss = 0.05'))
    result = se.identify(load_scene(tmp_path / "ball.toml"), progress=False)
    matt = se.identify(_without_gamma(tmp_path), progress=False)
    angle, without = (r.summary["reference"]["surface.normals"]["mean angle [degrees]"] for r in (result, matt))
    assert angle < 0.6 and without > 1.3, (angle, without)
    assert result.parameters["observations.photos.gloss"] == pytest.approx(0.15, abs=0.02)
    assert result.parameters["observations.photos.shininess"] == pytest.approx(20.0, rel=0.15)


def test_each_pixel_by_itself_is_solved_exactly(tmp_path: Path) -> None:
    """The step by blocks is the dense Gauss-Newton step."""
    _photos(tmp_path, gamma=1.0)
    objective = FieldObjective(Problem(_without_gamma(tmp_path)))
    assert objective.alone == 3 and not objective.edges
    here = Linearised(objective, objective.start, torch.zeros(0, dtype=torch.float64))
    rows = here.rows()
    exact = torch.linalg.solve(rows.T @ rows, here.slope)
    found = here.preconditioner()(here.slope[None])[0]
    assert float((found - exact).norm() / exact.norm()) < 1e-5


def test_each_pixel_takes_what_lowers_its_own_sum(tmp_path: Path) -> None:
    """And one that turned away from all lamps, which no slope brings back, begins where its neighbours are."""
    _photos(tmp_path, gamma=1.0)
    objective = FieldObjective(Problem(_without_gamma(tmp_path)))
    x, z = objective.start, torch.zeros(0, dtype=torch.float64)
    search, measured = PointSearch(objective, x, z), objective.problem.measured["photos"]
    at = {name: measured.at[name].long() for name in ("row", "column")}
    points = torch.zeros(23, 25, dtype=torch.long)
    points[objective.world.inside()] = torch.arange(len(x) // 3)  # type: ignore[attr-defined]
    halved = (x.reshape(-1, 3) * torch.linspace(0.1, 1.0, len(x) // 3)[:, None]).reshape(-1)
    own = torch.zeros(len(x) // 3, dtype=torch.float64)
    own.index_add_(0, points[at["row"], at["column"]], objective.residuals(halved, z).square() / 2)
    assert torch.allclose(search.sums(halved), own, rtol=1e-12)
    for _ in range(8):
        there = search.step(x)
        assert bool((search.sums(there) <= search.sums(x)).all())
        x = there
    turned = x.clone()
    turned[300:303] *= -1
    assert torch.equal(search.step(turned)[300:303], turned[300:303])
    assert bool((search.sums(search.from_beside(turned)) <= 1.01 * search.sums(x)).all())


def _without_gamma(folder: Path) -> Scene:
    text = SCENE.replace('[unknowns."observations.photos.gamma"]\nprior = { lognormal = [1.0, 0.4] }\n', "")
    (folder / "plain.toml").write_text(text)
    return load_scene(folder / "plain.toml")


def test_saturated_values_are_left_out_and_told(tmp_path: Path) -> None:
    from PIL import Image

    _photos(tmp_path, gamma=1.0)
    for k, grey in ((2, 249), (3, 250)):
        picture = np.array(Image.open(tmp_path / f"photo_{k}.png"))
        picture[10, 11] = grey
        Image.fromarray(picture).save(tmp_path / f"photo_{k}.png")
    measured = Problem(load_scene(tmp_path / "ball.toml")).measured["photos"]
    at = (measured.at["row"] == 10) & (measured.at["column"] == 11)
    shown = {int(k): bool(m) for k, m in zip(measured.at["picture"][at], measured.mask[at, 0], strict=True)}
    assert shown == {k: k != 3 for k in range(10)}
    assert int((~measured.mask).sum()) == 1 and measured.notes == ("1 saturated values are left out",)


def test_lamps_and_pictures_have_to_agree(tmp_path: Path) -> None:
    _photos(tmp_path, gamma=1.0)
    (tmp_path / "photo_9.png").unlink()
    with pytest.raises(SceneError, match="10 lamps for 9 pictures"):
        se.identify(load_scene(tmp_path / "ball.toml"))
