"""Make the pictures of the pages, `make pictures`: each from a command that the pages name. Takes some ten minutes.

`python docs/site/pictures.py NAME ...` makes some of them; what is made lies in docs/pictures and is committed.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
INK, FITTED = "#333333", "#0b5fa5"
COLORS = ("#0b5fa5", "#c2410c", "#15803d", "#7e22ce")


def _run(folder: Path, *arguments: str) -> Path:
    """A command of simengine; its run directory."""
    out = folder / "run"
    command = [sys.executable, "-m", "simengine", *arguments, "--out", str(out)]
    subprocess.run(command, check=True, cwd=folder)
    return out


def _figure(name: str, draw: Callable[[Any], None], size: tuple[float, float] = (6.4, 3.4)) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"{name}.png", facecolor="white")
    _small(PICTURES / f"{name}.png")


def _small(file: Path) -> None:
    """A palette of 64 colours is enough for a figure, and a third of the size."""
    from PIL import Image

    with Image.open(file) as picture:
        picture.convert("RGB").quantize(64).save(file, optimize=True)


def _columns(file: Path) -> dict[str, np.ndarray]:
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0] if name != "name"}


def _files_of(page: str, folder: Path) -> None:
    """The files that a how-to gives: blocks whose first line is `# NAME.SUFFIX`."""
    import re

    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if name := re.match(r"# (\w+\.\w+)\n", block):
            (folder / name[1]).write_text(block, encoding="utf-8")


def _film(folder: Path, scene: str, name: str, *, every: int = 2, width: int = 320, fps: int = 24) -> None:
    """A film of a run as a moving webp."""
    from PIL import Image

    out = _run(folder, "run", scene)
    subprocess.run([sys.executable, "-m", "simengine", "render", str(out), "--out", str(folder / "x.gif")], check=True)
    with Image.open(folder / "x.gif") as film:
        frames = []
        for k in range(0, film.n_frames, every):
            film.seek(k)
            frames.append(film.convert("RGB").resize((width, width * film.height // film.width)))
    PICTURES.mkdir(exist_ok=True)
    options: dict[str, Any] = {"duration": 1000 // fps, "loop": 0, "quality": 60, "method": 6}
    frames[0].save(PICTURES / f"{name}.webp", save_all=True, append_images=frames[1:], **options)


def jelly_drop(folder: Path) -> None:
    """`simengine run jelly_drop`."""
    _film(folder, "jelly_drop", "jelly_drop")


def exported(folder: Path) -> None:
    """`simengine export RUN --out states.pvd`, its files read and drawn by VTK, which ParaView is built on."""
    import pyvista

    run = _run(folder, "run", "jelly_drop")
    command = [sys.executable, "-m", "simengine", "export", str(run), "--out", str(folder / "states.pvd")]
    subprocess.run(command, check=True)
    files = sorted((folder / "states").glob("*.vtp"))
    plotter = pyvista.Plotter(shape=(1, 3), off_screen=True, window_size=(1080, 420), border=False)
    for k, at in enumerate((0.15, 0.4, 1.0)):
        points = pyvista.read(files[round(at * (len(files) - 1))])
        points["speed [m/s]"] = np.linalg.norm(points["v"], axis=1)
        plotter.subplot(0, k)
        plotter.add_points(
            points, scalars="speed [m/s]", clim=(0, 4), point_size=9, render_points_as_spheres=True, cmap="viridis",
            show_scalar_bar=k == 2,
        )  # fmt: skip
        plotter.add_mesh(pyvista.Box((0, 1, 0, 1, 0, 1)), style="wireframe", color=INK)
        plotter.camera_position = [(2.6, 1.5, 2.6), (0.5, 0.4, 0.5), (0, 1, 0)]
    plotter.screenshot(PICTURES / "exported.png")
    _small(PICTURES / "exported.png")


def world_mpm(folder: Path) -> None:
    """`simengine run sand_column`."""
    _film(folder, "sand_column", "world_mpm")


def world_melting(folder: Path) -> None:
    """`simengine run learned_melting`."""
    _film(folder, "learned_melting", "world_melting")


def rubber(folder: Path) -> None:
    """`simengine fit rubber_treloar`."""
    out = _run(folder, "fit", "rubber_treloar")

    def draw(axes: Any) -> None:
        for color, (name, said) in zip(
            COLORS,
            {"tension": "simple tension", "biaxial": "equal biaxial", "shear": "pure shear"}.items(),
            strict=False,
        ):
            seen = _columns(out / "predictions" / f"{name}.csv")
            x = seen["stretch"]
            axes.plot(x, seen["nominal_stress measured"] / 1e6, "o", ms=4, color=color, mfc="white")
            axes.plot(x, seen["nominal_stress predicted"] / 1e6, color=color, label=said)
        axes.set(xlabel="stretch", ylabel="nominal stress [MPa]", title="Rubber, 1944: one law for three tests")
        axes.legend(frameon=False, title="dots measured, lines fitted")

    _figure("rubber", draw)
    _figure("world_specimen", draw, (5.2, 3.0))


def world_rigid(folder: Path) -> None:
    """`simengine fit ball.toml` of docs/howto/points.md."""
    _files_of("points", folder)
    seen = _columns(_run(folder, "fit", "ball.toml") / "predictions" / "track.csv")

    def draw(axes: Any) -> None:
        axes.plot(seen["time"], seen["y measured"], "o", ms=4, color=INK, mfc="white", label="tracked")
        axes.plot(seen["time"], seen["y predicted"], color=FITTED, label="fitted")
        axes.set(xlabel="time [s]", ylabel="height [m]", title="A ball that falls through air")
        axes.legend(frameon=False)

    _figure("world_rigid", draw, (5.2, 3.0))


def world_pde(folder: Path) -> None:
    """`simengine fit rod.toml` of docs/howto/profiles.md."""
    _files_of("profiles", folder)
    seen = _columns(_run(folder, "fit", "rod.toml") / "predictions" / "rod.csv")

    def draw(axes: Any) -> None:
        for k, (color, place) in enumerate(zip(COLORS, (0.03, 0.06, 0.10), strict=False)):
            axes.plot(seen["t"], seen[f"T#{k} measured"] - 273.15, "o", ms=4, color=color, mfc="white")
            axes.plot(seen["t"], seen[f"T#{k} predicted"] - 273.15, color=color, label=f"{place:g} m")
        axes.set(xlabel="time [s]", ylabel="temperature [°C]", title="A rod that is heated at one end")
        axes.legend(frameon=False)

    _figure("world_pde", draw, (5.2, 3.0))


def world_flame(folder: Path) -> None:
    """`simengine run free_flame_methane`."""
    with np.load(_run(folder, "run", "free_flame_methane") / "profiles.npz") as held:
        profiles = {name: held[name] for name in held.files}

    def draw(axes: Any) -> None:
        place = profiles["x"] * 1e3
        axes.plot(place, profiles["T"], color=COLORS[1])
        axes.set(xlabel="place [mm]", ylabel="temperature [K]", title="A free flame of methane and air")
        right = axes.twinx()
        for color, name in zip((COLORS[0], COLORS[2], COLORS[3]), ("CH4", "O2", "H2O"), strict=False):
            key = next(k for k in profiles if k.endswith(name))
            right.plot(place, profiles[key], "--", color=color, label=name)
        right.set_ylabel("mass fraction")
        right.legend(frameon=False, loc="center right")

    _figure("world_flame", draw, (5.2, 3.0))


def world_constraint(folder: Path) -> None:
    """`simengine run burgers`."""
    _kept(_run(folder, "run", "burgers") / "fields.png", "world_constraint")


def world_dtn(folder: Path) -> None:
    """`simengine run camouflage`; five minutes."""
    _kept(_run(folder, "run", "camouflage") / "views.png", "world_dtn")


def _kept(file: Path, name: str, width: int = 640) -> None:
    """A picture that a run wrote, no wider than it has to be."""
    from PIL import Image

    with Image.open(file) as picture:
        small = picture.convert("RGB")
        small.thumbnail((width, 2 * width))
        small.save(PICTURES / f"{name}.webp", quality=80, method=6)


def example(name: str, folder: Path) -> None:
    """`python examples/NAME.py`, which writes its picture beside."""
    subprocess.run([sys.executable, str(ROOT / "examples" / f"{name}.py")], check=True, cwd=folder)
    shutil.copyfile(folder / f"{name}.png", PICTURES / f"example_{name}.png")
    _small(PICTURES / f"example_{name}.png")


MADE = {
    f.__name__: f
    for f in (
        *(jelly_drop, exported, rubber, world_mpm, world_melting, world_rigid, world_pde, world_flame),
        *(world_constraint, world_dtn),
    )
} | {f"example_{file.stem}": partial(example, file.stem) for file in sorted((ROOT / "examples").glob("*.py"))}


def main(names: list[str]) -> None:
    """Make the pictures of these names; all without one."""
    for name in names or MADE:
        with tempfile.TemporaryDirectory() as folder:
            MADE[name](Path(folder))
        print(name, *(f"{p.name} {p.stat().st_size // 1000} kB" for p in PICTURES.glob(f"{name}.*")))


if __name__ == "__main__":
    main(sys.argv[1:])
