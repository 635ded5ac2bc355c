"""What the learning of a law leaves behind: weights, pictures, one page."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.io.image import to_srgb8
from simengine.io.model_folder import write_model
from simengine.materials import Material
from simengine.materials.weights import save_material
from simengine.view.figures import curves, label
from simengine.view.report import Block, Movie, Picture, ReportTable, write_report
from simengine.worlds.laws.formula.report import tell
from simengine.worlds.laws.published import FRAME, PUBLISHED, position_error, simulate
from simengine.worlds.laws.world import VELOCITY_SEEDS, LawLearner, NCLawWorld
from simengine.worlds.motion.run import pictures

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.laws.formula.read_out import Formula
    from simengine.worlds.motion.momentum_balance import Motion


def write_results(
    scene: NCLawWorld,
    spec: LawLearner,
    material: Material,
    motion: "Motion",
    out: "RunDirectory",
    formula: "Formula | None" = None,
) -> dict[str, Any]:
    """Write the folder model, nclaw.json, the video and report.html; return the summary."""
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
    read: dict[str, list[Block]] = {}
    if formula is not None:
        told, blocks = tell(formula, out)
        own = formula.material()
        moved = {
            "reconstruction": float((simulate(scene.experiment(), own) - truth).square().mean()),
            f"velocity (seed {VELOCITY_SEEDS[0]})": position_error(throw, own),
        }
        summary["formula"] = {**told, "position_mse": moved}
        rollouts = ReportTable(
            ["test", "formula, position MSE [m^2]", "learned law"],
            [[test, f"{value:.3g}", f"{errors[test]:.3g}"] for test, value in moved.items()],
        )
        read = {"As a formula": [*blocks, rollouts]}
    out.write("nclaw.json", summary)
    write_model(
        out,
        spec.type,
        lambda file: save_material(file, material),
        reads="the deformation of a material point",
        gives="its stress, and where it yields",
        trained_on={
            "observed": spec.observe,
            "throws": 1 + len(spec.further_throws),
            "steps": scene.num_steps,
            "stretches": _stretches(motion),
        },
        tested=summary,
    )
    # what has no counterpart in training: a throw with another velocity
    rows = []
    for name, laws in {"true": (), "learned": (material,)}.items():
        x = simulate(throw, *laws, save_every=20 if scene.num_steps % 20 == 0 else FRAME)
        rows.append(np.stack([label(frame, name) for frame in to_srgb8(pictures(throw, x))]))
    frames = np.concatenate(rows, axis=2)
    movie = out.write("comparison.mp4", frames, fps=25)
    out.write("comparison.png", frames[len(frames) // 2])
    history = [entry["figures"]["loss"] for entry in out.events("iteration")]
    missed = spec.observe == "positions" and spec.plastic
    name = "mean square velocity missed [m^2/s^2]" if missed else "unexplained part of the velocity changes [1]"
    figure = curves({name: {"loss": (np.arange(1, len(history) + 1), np.array(history))}}, xlabel="round", log=[name])
    header = ["test", "position MSE [m^2]", "NCLaw, as published"]
    table = [[test, f"{value:.3g}", published.get(test.split()[0], "")] for test, value in errors.items()]
    sections: dict[str, list[Block]] = {
        "Errors": [ReportTable(header, table), f"Learned from: {spec.observe} of one motion."],
        **read,
        "A throw not learned from": [Movie(movie, "left: true material, right: learned law")],
        "Learning": [Picture(figure, "momentum balance")],
    }
    write_report(out.path / "report.html", "simengine train: a learned law", sections)
    return summary


def _stretches(motion: "Motion") -> list[float]:
    """Least and greatest principal stretch of the elastic deformation in a motion that shows it, else nothing."""
    if motion.F is None:
        return []
    values = torch.linalg.svdvals(motion.F[:: max(len(motion) // 20, 1)].double())
    return [float(values.min()), float(values.max())]
