"""The tests of NCLaw's protocol, and what a learning leaves behind: weights, pictures, one page."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.io.image import to_srgb8
from simengine.materials import Material
from simengine.materials.weights import save_material
from simengine.mpm import MPMSolver
from simengine.scene.mpm import MPMScene
from simengine.scene.mpm_run import pictures
from simengine.scene.nclaw import CENTER, VELOCITY_SEEDS, NCLawScene
from simengine.scene.shapes import Shape, Torus
from simengine.solve import rollout
from simengine.view.figures import curves, label
from simengine.view.report import Block, Movie, Picture, Table, write_report

if TYPE_CHECKING:
    from simengine.fit.momentum_balance import Motion
    from simengine.io.run_directory import RunDirectory

# Position MSE [m^2] of NCLaw as published (Ma et al. 2023, Table 1).
PUBLISHED = {
    "jelly": {"reconstruction": 2.4e-4, "time": 9.8e-4, "velocity": 2.4e-4, "geometry": 4.1e-4},
    "sand": {"reconstruction": 2.6e-5, "time": 4.2e-5, "velocity": 6.5e-5, "geometry": 3.6e-4},
    "plasticine": {"reconstruction": 6.5e-5, "time": 1.4e-4, "velocity": 4.6e-5, "geometry": 2.3e-4},
    "water": {"reconstruction": 2.0e-5, "time": 3.5e-4, "velocity": 1.9e-5, "geometry": 2.4e-4},
}
FRAME = 5  # errors are means over every fifth step
LONG = {"water": 5000}  # steps of the test "time", else 2000


def simulate(scene: MPMScene, material: Material | None = None, *, save_every: int = FRAME) -> torch.Tensor:
    """Positions [m] of a scene's motion every few steps, shape (frames, n, 3), with its own or another material."""
    model, state = scene.build(device="cpu")
    if material is not None:
        from simengine.fit.nclaw_balance import with_material

        model = with_material(model, material)
    with torch.no_grad():
        return rollout(MPMSolver(model), state, scene.grid.num_steps, save_every=save_every).states.x.double()


def position_error(scene: MPMScene, material: Material) -> float:
    """Mean squared position error [m^2] of a material against the scene's own, over every fifth step."""
    return float((simulate(scene, material) - simulate(scene)).square().mean())


def velocity_error(scene: NCLawScene, material: Material) -> float:
    """The mean error over the published random throws."""
    return float(np.mean([position_error(scene.thrown(seed), material) for seed in VELOCITY_SEEDS]))


def geometry(scene: NCLawScene, *, shape: Shape | None = None) -> MPMScene:
    """Another body on the finer grid, 2000 steps; a torus unless told."""
    torus = Torus(center=CENTER, major_radius=0.2, minor_radius=0.09)
    return scene.experiment(
        velocity=(1.0, -1.5, -1.5),
        angular_velocity=(1.0, 1.0, 1.0),
        shape=shape or torus,
        num_grids=32,
        epsilon=0.0,
        num_steps=2000,
    )


def protocol(scene: NCLawScene, material: Material) -> dict[str, float]:
    """Errors [m^2] of the tests reconstruction, time, velocity and geometry."""
    steps = LONG.get(scene.material.type, 2000)
    return {
        "reconstruction": position_error(scene.experiment(), material),
        "time": position_error(scene.experiment(num_steps=steps), material),
        "velocity": velocity_error(scene, material),
        "geometry": position_error(geometry(scene), material),
    }


def write_results(scene: NCLawScene, material: Material, motion: "Motion", out: "RunDirectory") -> dict[str, Any]:
    """Write weights.safetensors, nclaw.json, the video and report.html; return the summary."""
    save_material(out.path / "weights.safetensors", material)
    truth = motion.x[::FRAME].double()
    learned = simulate(scene.experiment(), material)
    throw = scene.thrown(VELOCITY_SEEDS[0], num_steps=scene.num_steps)
    errors = {
        "reconstruction": float((learned - truth).square().mean()),
        f"velocity (seed {VELOCITY_SEEDS[0]})": position_error(throw, material),
    }
    published = PUBLISHED.get(scene.material.type, {})
    summary: dict[str, Any] = {"position_mse": errors}
    if published:
        summary["nclaw_published"] = {name: published[name.split()[0]] for name in errors}
    out.write("nclaw.json", summary)
    # what has no counterpart in training: a throw with another velocity
    rows = []
    for name, body in {"true": None, "learned": material}.items():
        x = simulate(throw, body, save_every=20 if scene.num_steps % 20 == 0 else FRAME)
        rows.append(np.stack([label(frame, name) for frame in to_srgb8(pictures(throw, x))]))
    frames = np.concatenate(rows, axis=2)
    movie = out.write("comparison.mp4", frames, fps=25)
    out.write("comparison.png", frames[len(frames) // 2])
    history = [entry["figures"]["loss"] for entry in out.events("iteration")]
    name = "unexplained part of the velocity changes [1]"
    figure = curves({name: {"loss": (np.arange(1, len(history) + 1), np.array(history))}}, xlabel="round", log=[name])
    header = ["test", "position MSE [m^2]", "NCLaw, as published"]
    table = [[test, f"{value:.3g}", published.get(test.split()[0], "")] for test, value in errors.items()]
    sections: dict[str, list[Block]] = {
        "Errors": [Table(header, table), f"Learned from: {scene.learning.observe} of one motion."],
        "A throw not learned from": [Movie(movie, "left: true material, right: learned law")],
        "Learning": [Picture(figure, "momentum balance")],
    }
    write_report(out.path / "report.html", "simengine fit: a learned law", sections)
    return summary
