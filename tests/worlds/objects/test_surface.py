"""Normals from photographs under lamps: of a sphere that is shaded here by the formula."""

from pathlib import Path

import numpy as np
import pytest

import simengine as se
from simengine.fit.problem import Problem
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


def _photos(folder: Path, gamma: float, ambient: float = 0.0) -> None:
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
        light = 0.8 * (np.maximum(normal @ lamp, 0) + around) ** (1 / gamma)
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
