"""`simengine render`: styles, fields and axes of a run, files of meshes, particles and grids; surfaces of particles."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.cli import main
from simengine.io import write
from simengine.io.image import from_srgb, to_srgb8
from simengine.io.run_directory import RunDirectory
from simengine.render.image import Image
from simengine.render.particle_surface import particle_surface
from simengine.scene import load_world, resolved
from simengine.view import offscreen
from simengine.view.overlay import times_told
from simengine.worlds.motion.showing import states
from simengine.worlds.motion.showing.drawing import BACKGROUND as GREY
from simengine.worlds.motion.showing.drawing import write_pictures
from simengine.worlds.motion.view import _together

BACKGROUND = to_srgb8(np.array(GREY).reshape(1, 1, 3)).ravel()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with two saved states of a small cube, the second with speeds that grow upwards."""
    overrides = ["bodies.0.shape.counts=[6,6,6]", "camera.width=96", "camera.height=80"]
    scene = load_world("jelly_drop", overrides)
    path = tmp_path_factory.mktemp("run") / "jelly"
    out = RunDirectory.create(path, resolved(scene), overwrite=False, resume=False)
    x = scene.particles()[0].astype(np.float32)
    v = np.zeros_like(x)
    v[:, 0] = x[:, 1]
    states = {"time": [0.0, 0.1], "x": np.stack([x, x - [0, 0.1, 0]]), "v": np.stack([v, 2 * v])}
    out.write("states.npz", {**states, "F": np.broadcast_to(np.eye(3, dtype=np.float32), (2, len(x), 3, 3))})
    return path


def picture(file: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_surface_of_a_ball_is_a_closed_ball() -> None:
    grid = torch.cartesian_prod(*[torch.linspace(-1, 1, 17)] * 3)
    ball = grid[grid.norm(dim=1) < 1]
    mesh = particle_surface(ball, colours=torch.ones(len(ball), 1))
    corners, triangles = mesh.edges
    assert len(corners) > 500 and bool((triangles >= 0).all())  # each edge has two triangles
    distance = mesh.vertices.norm(dim=1)
    # the outermost particles lie up to a spacing of 0.125 inside, and the surface a radius of 0.125 beyond them
    assert float(distance.min()) > 0.93 and float(distance.max()) < 1.13
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    volume = float((a * torch.linalg.cross(b, c)).sum() / 6)
    assert volume == pytest.approx(4 / 3 * math.pi * 1.05**3, rel=0.05)  # measured 4.82, turned outwards
    assert not len(particle_surface(ball[:0], colours=torch.ones(0, 3)).faces)
    assert len(particle_surface(ball[:1], colours=torch.ones(1, 3), radius=0.1).faces) > 20
    with pytest.raises(ValueError, match="positions: not finite at particle 3"):
        particle_surface(torch.where(torch.arange(9)[:, None] == 3, torch.nan, ball[:9]), colours=torch.ones(9, 1))
    with pytest.raises(ValueError, match="cuts the body into"):
        particle_surface(ball, colours=torch.ones(len(ball), 1), radius=1e-3)


@pytest.mark.parametrize("style", ["balls", "surface"])
def test_styles_fields_and_axes(style: str, run: Path, tmp_path: Path) -> None:
    assert main(["render", str(run), "--style", style, "--out", str(tmp_path / "plain.png")]) == 0
    plain = picture(tmp_path / "plain.png")
    assert plain.shape == (80, 96, 3)
    covered = np.abs(plain - BACKGROUND).sum(-1) > 60
    assert 0.05 < covered.mean() < 0.6  # the cube, seen by the camera of the scene
    arguments = ["--style", style, "--field", "speed", "--axes", "--out", str(tmp_path / "field.png")]
    assert main(["render", str(run), *arguments]) == 0
    field = picture(tmp_path / "field.png")
    assert field.shape[0] == 80 and field.shape[1] > 150  # with its bar
    rows, columns = np.nonzero(covered)
    upper, lower = (field[rows[pick], columns[pick]].mean(0) for pick in (rows < 30, rows > rows.max() - 6))
    assert upper[0] - lower[0] > 30  # fast on top is yellow, slow below is blue
    edges = np.abs(field[:, :96] - BACKGROUND).sum(-1) > 60
    assert (edges & ~covered).sum() > 40


@pytest.mark.parametrize("style", ["balls", "surface"])
def test_a_size_of_its_own(style: str, run: Path, tmp_path: Path) -> None:
    """Twice the rows and four times the columns: the same body, twice as large, in a wider view."""
    plain, large = tmp_path / "plain.png", tmp_path / "large.png"
    assert main(["render", str(run), "--style", style, "--out", str(plain)]) == 0
    more = ["--samples", "3"] if style == "surface" else []
    assert main(["render", str(run), "--style", style, "--size", "384x160", *more, "--out", str(large)]) == 0
    counts = [(np.abs(picture(file) - BACKGROUND).sum(-1) > 60).sum() for file in (plain, large)]
    assert picture(large).shape == (160, 384, 3) and counts[1] == pytest.approx(4 * counts[0], rel=0.08)


@pytest.mark.parametrize(
    "wrong", [["--size", "1920"], ["--size", "1920x8"], ["--samples", "3"], ["--style", "surface", "--samples", "0"]]
)
def test_a_size_that_is_none(wrong: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(run), *wrong]) == 2
    assert f"{wrong[-2]} {wrong[-1]}: expected" in capsys.readouterr().err


def test_videos_and_radiance(run: Path, tmp_path: Path) -> None:
    from simengine.io.exr import read_exr, rgb_of

    assert main(["render", str(run), "--field", "volume", "--out", str(tmp_path / "a.gif")]) == 0
    assert main(["render", str(run), "--style", "surface", "--out", str(tmp_path / "a.exr")]) == 0
    assert rgb_of(read_exr(tmp_path / "a.exr")).shape == (80, 96, 3)


def test_pyvista_draws_or_says_why_not(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["render", str(run), "--style", "pyvista", "--out", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    told = "pyvista cannot draw here" in capsys.readouterr().err
    assert told == (offscreen.missing_gl() is not None)
    assert (np.abs(picture(tmp_path / "a.png") - BACKGROUND).sum(-1) > 60).mean() > 0.05


def test_without_gl_balls_are_drawn_with_a_notice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(states, "missing_gl", lambda: "no EGL")
    assert main(["render", str(run), "--style", "pyvista", "--out", str(tmp_path / "a.png")]) == 0
    assert "pyvista cannot draw here (no EGL); drawing balls" in capsys.readouterr().err
    monkeypatch.setattr(offscreen, "missing_gl", lambda: "no EGL")
    with pytest.raises(RuntimeError, match="no EGL"):
        offscreen.pyvista_frames(
            *[None] * 2,
            radius=1,
            eye=(0, 0, 1),
            target=(0, 0, 0),
            up=(0, 1, 0),
            fov_y=40,
            size=(8, 8),
            background=(1, 1, 1),
        )


def test_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((300, 3))
    cloud = np.exp(-4 * np.square(np.stack(np.meshgrid(*[np.linspace(-1, 1, 12)] * 3))).sum(0))
    (tmp_path / "cube.obj").write_text(
        "".join(f"v {i} {j} {k}\n" for i in (0, 1) for j in (0, 1) for k in (0, 1))
        + "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"
    )
    for name, data in (("points.npz", {"x": x}), ("cloud.npz", {"density": cloud}), ("cube.obj", None)):
        if data:
            write(tmp_path / name, data)
        file = tmp_path / (name + ".png")
        assert main(["render", str(tmp_path / name), "--out", str(file)]) == 0
        assert (np.abs(picture(file)[:, :470] - BACKGROUND).sum(-1) > 60).mean() > 0.03, name


def test_bad_input_is_told_and_leaves_no_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    write(tmp_path / "shape.npz", {"x": np.zeros((4, 2))})
    write(tmp_path / "endless.npz", {"x": np.full((4, 3), np.inf)})
    write(tmp_path / "dense.npz", {"density": np.full((4, 4, 4), np.inf)})
    write(tmp_path / "empty.npz", {"x": np.zeros((0, 3))})
    write(tmp_path / "other.npz", {"y": np.zeros(3)})
    (tmp_path / "broken.obj").write_text("f 1 2 3\n")
    (tmp_path / "not.npz").write_bytes(b"PK\3\4 but no more")
    cases = [
        ([str(run), "--field", "temperature"], "field: 'temperature' is none of this run"),
        ([str(run), "--out", str(out / "a.xyz")], "no writer for suffix"),
        ([str(run), "--fps", "0"], "--fps 0"),
        ([str(tmp_path / "shape.npz")], "x: expected shape (n, 3) or (frames, n, 3), got (4, 2)"),
        ([str(tmp_path / "endless.npz")], "x: 4 positions are not finite"),
        ([str(tmp_path / "empty.npz")], "no particles, so there is nothing to picture"),
        ([str(tmp_path / "dense.npz")], "density: the field has no values, or some that are not finite"),
        ([str(tmp_path / "other.npz")], "or a grid density (nx, ny, nz); it holds y"),
        ([str(tmp_path / "not.npz")], "not a readable .npz file"),
        ([str(tmp_path / "broken.obj")], "broken.obj"),
        ([str(tmp_path / "none.obj")], "nothing of that name"),
        ([str(tmp_path / "shape.npz"), "--axes"], "of run directories"),
    ]
    for arguments, message in cases:
        out_option = [] if "--out" in arguments else ["--out", str(out / "a.png")]
        assert main(["render", *arguments, *out_option]) == 2, arguments
        assert message in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())


def test_a_picture_in_exr_is_linear_light(tmp_path: Path) -> None:
    """IEC 61966-2-1: 188 of 255 is .5029 of the light, and 10 lies on the straight part."""
    from simengine.io.exr import read_exr, rgb_of

    grey = np.full((1, 2, 2, 3), 188, np.uint8)
    grey[0, 0] = 10
    rgb = rgb_of(read_exr(write_pictures(tmp_path / "a.exr", grey, fps=1.0)))
    assert rgb[1] == pytest.approx(((188 / 255 + 0.055) / 1.055) ** 2.4, abs=1e-3)
    assert rgb[0] == pytest.approx(10 / 255 / 12.92, abs=1e-5)


def test_the_nearer_of_two_pictures_lies_over_the_other() -> None:
    """Over black: c_1 + (1 - a_1) c_2 with the nearer one first in each pixel (Porter and Duff 1984)."""

    def picture(rgb: list[float], alpha: list[float], depth: list[float]) -> Image:
        a, d, c = (torch.tensor(v)[None, :, None] for v in (alpha, depth, rgb))
        return Image(rgb=c.expand(1, 3, 3), alpha=a, depth=d, normal=torch.zeros(1, 3, 3))

    one = picture([0.3, 0.3, 0.0], [0.6, 0.6, 0.0], [1.0, 3.0, 0.0])
    other = picture([0.5, 0.5, 0.5], [0.8, 0.8, 0.8], [2.0, 2.0, 2.0])
    both = _together(one, other)
    expected = torch.tensor([0.3 + 0.4 * 0.5, 0.5 + 0.2 * 0.3, 0.5])
    torch.testing.assert_close(both.rgb[0, :, 0], expected)
    torch.testing.assert_close(both.alpha[0, :, 0], torch.tensor([0.92, 0.92, 0.8]))


@pytest.mark.parametrize("style", ["balls", "surface"])
def test_a_body_cut_out_covers_what_it_covered(style: str, run: Path, tmp_path: Path) -> None:
    """Laid over the usual background in linear light it is the usual picture, within the steps of 8 bits."""
    from PIL import Image as Files

    how = ["render", str(run), "--style", style]
    assert main([*how, "--out", str(tmp_path / "plain.png")]) == 0
    assert main([*how, "--transparent", "--out", str(tmp_path / "cut.png")]) == 0
    cut = np.asarray(Files.open(tmp_path / "cut.png")).astype(float)
    assert cut.shape == (80, 96, 4) and cut[..., 3].min() == 0 and cut[..., 3].max() > 250
    alpha = cut[..., 3:] / 255
    over = alpha * from_srgb(cut[..., :3] / 255) + (1 - alpha) * np.array(GREY)
    assert np.abs(to_srgb8(over).astype(int) - picture(tmp_path / "plain.png")).max() <= 3


def test_a_turn_around_the_last_state(run: Path, tmp_path: Path) -> None:
    """The first picture is the camera's own, the others are from other sides."""
    from PIL import Image as Files

    assert main(["render", str(run), "--turntable", "5", "--out", str(tmp_path / "turn.gif")]) == 0
    assert main(["render", str(run), "--out", str(tmp_path / "plain.png")]) == 0
    with Files.open(tmp_path / "turn.gif") as film:
        assert film.n_frames == 5
        sides = []
        for k in range(5):
            film.seek(k)
            sides.append(np.asarray(film.convert("RGB")).astype(int))
    assert np.abs(sides[0] - picture(tmp_path / "plain.png")).mean() < 4  # a gif's palette
    assert all(np.abs(sides[0] - side).mean() > 3 for side in sides[1:])


def test_pictures_tell_their_time(run: Path, tmp_path: Path) -> None:
    plain, told = tmp_path / "plain.png", tmp_path / "told.png"
    assert main(["render", str(run), "--out", str(plain)]) == 0
    assert main(["render", str(run), "--caption", "--out", str(told)]) == 0
    changed = np.abs(picture(plain) - picture(told)).sum(-1) > 30
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 40 and rows.min() > 60 and columns.max() < 60  # in the lower left corner
    assert times_told([0.0, 0.1]) == ["t = 0.0 s", "t = 0.1 s"]
    assert times_told([0.0, 2.5e-5, 5e-5]) == ["t = 0.000 ms", "t = 0.025 ms", "t = 0.050 ms"]
    assert times_told([0.0, 0.0125]) == ["t = 0.0000 s", "t = 0.0125 s"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--transparent", "--out", "a.mp4"], "written as .png, got a.mp4"),
        (["--transparent", "--axes", "--out", "a.png"], "--transparent: not with --axes"),
        (["--turntable", "4", "--out", "a.png"], "written as .mp4 or .gif"),
        (["--turntable", "1", "--out", "a.gif"], "expected 2 to 720"),
    ],
)
def test_what_does_not_go_together(line: list[str], said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", str(run), *line]) == 2
    assert said in capsys.readouterr().err


def test_a_panorama_lights_what_looks_at_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Green light from above and red from below: upper faces of a cube in it are green, none is blue."""
    import trimesh

    sky = np.zeros((16, 32, 3), np.float32)
    sky[:8, :, 1], sky[8:, :, 0] = 2.0, 0.5
    write(tmp_path / "sky.exr", sky)
    mesh = trimesh.creation.box((1.0, 1.0, 1.0))
    mesh.export(tmp_path / "cube.ply")
    how = ["--light", str(tmp_path / "sky.exr")]
    assert main(["render", str(tmp_path / "cube.ply"), *how, "--transparent", "--out", str(tmp_path / "a.png")]) == 0
    from PIL import Image as Files

    seen = np.asarray(Files.open(tmp_path / "a.png")).astype(int)
    body = seen[seen[..., 3] > 250]
    upper = seen[seen[..., 3] > 250][: len(body) // 6]  # the camera looks down on it
    assert body[:, 2].max() < 90 and upper[:, 1].mean() > 2 * upper[:, 0].mean()
    assert main(["render", str(run), *how, "--out", str(tmp_path / "b.png")]) == 2
    assert "say --style surface" in capsys.readouterr().err
    write(tmp_path / "square.exr", sky[:, :16])
    line = ["render", str(tmp_path / "cube.ply"), "--light", str(tmp_path / "square.exr")]
    assert main([*line, "--out", str(tmp_path / "c.png")]) == 2
    assert "of all directions" in capsys.readouterr().err
