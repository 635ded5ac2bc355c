"""What a fit of a motion leaves behind: estimates with uncertainty, a gradient check, moving pictures, one page."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.fit.training import AbstractTraining
from simengine.fit.trainings.least_squares import LeastSquaresTraining
from simengine.fit.trainings.parameters import ParameterSet
from simengine.io.image import to_srgb8
from simengine.view.figures import curves, label
from simengine.view.report import Block, Movie, Picture, Table, write_report
from simengine.worlds.motion.run import pictures
from simengine.worlds.motion.world import MPMScene

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory
    from simengine.worlds.motion.training import MotionMisfit

MAX_FRAMES = 50  # of the moving pictures


def gradient_check(misfit: "MotionMisfit", parameters: ParameterSet, *, step: float = 1e-4) -> dict[str, float]:
    """Largest relative error of the adjoint of the misfit against central differences, over the parameters.

    Taken a little off the minimum (5 % in each coordinate), where the gradient is not zero.
    """
    z = parameters.z.detach() + 0.05

    def value(point: torch.Tensor) -> torch.Tensor:
        return misfit.residual(parameters(point)).square().mean()

    leaf = z.clone().requires_grad_()
    (adjoint,) = torch.autograd.grad(value(leaf), leaf)
    with torch.no_grad():
        units = torch.eye(len(z), dtype=z.dtype)
        difference = torch.stack([(value(z + step * u) - value(z - step * u)) / (2 * step) for u in units])
    error = (adjoint - difference).norm() / difference.norm()
    cosine = torch.dot(adjoint, difference) / (adjoint.norm() * difference.norm())
    return {"relative_error": float(error), "cosine": float(cosine)}


def _trust(sure: dict[str, Any]) -> str:
    """What the standard deviations rest on, in words."""
    if sure["conditioning"] is None:
        first = "Conditioning of the problem: infinite, since a parameter has no effect."
    else:
        first = (
            f"Conditioning of the problem: {sure['conditioning']:.3g} (1 is best; above 1e8 the data leave a "
            "combination of the parameters open)."
        )
    kind = "independent noise" if sure["residual_is_noise"] else "an error of the model, not noise"
    return (
        f"{first} What the fit leaves is {kind}: from one observed moment to the next it is correlated by "
        f"{sure['residual_correlation']:.2f}. The standard deviations are the larger ones of those for independent "
        "errors and of those from how the misfit pulls in blocks of time; a part of the model's error that a parameter "
        f"can imitate shifts the estimate beyond them. {'. '.join(sure['remarks'])}"
    )


def write_results(
    scene: MPMScene, misfit: "MotionMisfit", parameters: ParameterSet, last: AbstractTraining, out: "RunDirectory"
) -> dict[str, Any]:
    """Write fit.json, fitted.npz, the video and report.html; return the summary."""
    assert scene.fit is not None
    found = parameters.values()
    initial = {name: entry.initial for name, entry in parameters.entries.items()}
    with torch.no_grad():
        fitted = misfit.simulate(parameters())
        start = misfit.simulate({name: torch.tensor(value, dtype=torch.float64) for name, value in initial.items()})
    observed = misfit.observed.x[: misfit.num_frames]
    sure = last.uncertainty() if isinstance(last, LeastSquaresTraining) else {}
    summary: dict[str, Any] = {"initial": initial, **sure, "gradient_check": gradient_check(misfit, parameters)}
    same = observed.shape == fitted.shape
    if same:
        summary["position_mse"] = float((fitted - observed).square().mean())
    if scene.fit.objective == "distribution":
        summary["assumes"] = "the observed points are a random sample of the whole body, inside and out"
    if scene.fit.truth:
        summary["relative_error"] = {
            name: abs(found[name] / true - 1) for name, true in scene.fit.truth.items() if name in found and true
        }
    out.write("fit.json", {"parameters": found, **summary})
    times = misfit.observed.steps[: misfit.num_frames] * scene.grid.time_step
    out.write("fitted.npz", {"time": times, "x": fitted, "x_initial": start})

    chosen = torch.as_tensor(np.unique(np.linspace(0, len(times) - 1, MAX_FRAMES).astype(int)))
    columns = {"initial guess": start, "fitted": fitted}
    if same:
        columns = {"observed": observed, **columns}
    rows = []
    for name, x in columns.items():
        rows.append(np.stack([label(frame, name) for frame in to_srgb8(pictures(scene, x[chosen]))]))
    frames = np.concatenate(rows, axis=2)
    movie = out.write("comparison.mp4", frames, fps=scene.output.fps)
    out.write("comparison.gif", frames, fps=scene.output.fps)
    out.write("comparison.png", frames[len(frames) // 2])

    history = out.events("iteration")
    loss = np.array([entry["figures"]["loss"] for entry in history])
    centers = {name: (times, x.mean(1)[:, 1]) for name, x in {"observed": observed, **columns}.items()}
    figure = curves(
        {"misfit [m^2]": {"loss": (np.arange(1, len(loss) + 1), loss)}}, xlabel="iteration", log=["misfit [m^2]"]
    )
    heights = curves({"height of the centre [m]": centers}, xlabel="time [s]", points=["observed"])
    std = sure.get("std", {})
    header = ["parameter", "start", "found", "standard deviation", "identified by the data", "truth", "relative error"]
    table = [
        [
            name,
            initial[name],
            found[name],
            "the data do not tell" if std.get(name, 0.0) is None else std.get(name, "not estimated by this method"),
            sure.get("identified", {}).get(name, "not estimated by this method"),
            scene.fit.truth.get(name, "unknown"),
            summary.get("relative_error", {}).get(name, ""),
        ]
        for name in parameters.names
    ]
    check = summary["gradient_check"]
    sections: dict[str, list[Block]] = {
        "Parameters": [
            Table(header, table),
            _trust(sure) if sure else "Uncertainty is estimated by method = least_squares.",
        ],
        "Observed, initial and fitted": [Movie(movie, "from left to right: " + ", ".join(columns))],
        "Convergence": [
            Picture(figure, "misfit over iterations; it rises where a longer part of the motion comes in"),
            Picture(heights, "motion of the centre"),
        ],
        "Gradient": [
            f"The adjoint gradient of the misfit through {int(misfit.observed.steps[misfit.num_frames - 1])} steps "
            f"agrees with central differences to {check['relative_error']:.1e} (cosine {check['cosine']:.8f})."
        ],
    }
    write_report(out.path / "report.html", "simengine fit", sections)
    return summary
