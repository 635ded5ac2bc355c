"""Figures of constrained fields: solution, error, residual and interface jumps, and films of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simengine.constraint.family import AbstractFamily

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory


def relative_error(field: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Relative L2 error of each sample."""
    return (field - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def picture(
    out: "RunDirectory",
    family: AbstractFamily,
    times: np.ndarray,
    field: torch.Tensor,
    truth: torch.Tensor,
    residual: torch.Tensor,
    jumps: torch.Tensor,
) -> None:
    """Write `fields.png`, `profiles.png` and `solution.npz`; pictures are of the member with the largest error.

    Args:
        out: Run directory.
        family: The equation on the grid of the field.
        times: Shape (nt,).
        field: Found, shape (samples, *shape).
        truth: Of the classical solver, the same shape.
        residual: Squares summed per grid point, the same shape.
        jumps: Between experts, shape (samples, interfaces, points).
    """
    worst = int(relative_error(field, truth).argmax())
    logarithm = torch.where(residual[worst] > 0, residual[worst].log10() / 2, torch.nan)  # no rows: blank
    shown = {"found": field[worst], "error": (field - truth)[worst], "log10 |residual|": logarithm}
    plane = len(family.shape) == 3
    if plane:  # the last time of a film
        shown = {"classical solver": truth[worst], **shown}
    panels = {name: (value[-1] if plane else value).numpy() for name, value in shown.items()}
    from simengine.view.figures import curves, fields

    extent = (0.0, 1.0, 0.0, 1.0) if plane else (0.0, 1.0, 0.0, float(times[-1]))
    image = fields(panels, extent=extent, xlabel="x", ylabel="y" if plane else "t", symmetric=("error",))
    out.write("fields.png", image)
    out.write("profiles.png", _curves(curves, family, times, field[worst], truth[worst], jumps[worst]))
    out.write("solution.npz", {"times": times, "u": field, "reference": truth, "squared_residual": residual})


def _curves(
    curves: Any,
    family: AbstractFamily,
    times: np.ndarray,
    field: torch.Tensor,
    truth: torch.Tensor,
    jumps: torch.Tensor,
) -> Any:
    if len(family.shape) == 3:
        error = (field - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
        stale = (truth[:1] - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
        panels: dict[str, Any] = {
            "relative error": {"found": (times, error.numpy()), "no change": (times, stale.numpy())}
        }
        label, points = "t  (interface on the right)", list[str]()
    else:
        x = (np.arange(family.shape[1]) + 0.5) / family.shape[1]
        few = slice(None, None, max(1, family.shape[1] // 32))
        profiles: dict[str, Any] = {}
        for n in (len(times) // 10, len(times) // 2, len(times) - 1):
            profiles[f"t = {times[n]:g}"] = (x, field[n].numpy())
            profiles[f"classical, {times[n]:g}"] = (x[few], truth[n].numpy()[few])
        points = [name for name in profiles if name.startswith("classical")]
        panels, label = {"u": profiles}, "x  (interface on the right)"
    if jumps.numel():
        sizes = jumps.abs().amax(dim=1).numpy()
        panels["largest jump at an interface"] = {"": (np.arange(1, len(sizes) + 1), sizes)}
    return curves(panels, xlabel=label, points=points)


def film(run: Path, file: Path, *, fps: float) -> Path:
    """A film (or a picture of the last time) of what a run found beside the classical solver.

    Args:
        run: Run directory with `solution.npz`.
        file: `.mp4`, `.gif` or `.png`.
        fps: Frames per second.
    """
    from simengine.io.arrays import read_npz
    from simengine.io.registry import write
    from simengine.view.figures import curves, fields, label

    data = read_npz(run / "solution.npz")
    error = np.linalg.norm((data["u"] - data["reference"]).reshape(len(data["u"]), -1), axis=1)
    worst = int(np.argmax(error))
    found, truth, times = data["u"][worst], data["reference"][worst], data["times"]
    which = range(len(times)) if file.suffix != ".png" else [len(times) - 1]
    frames = []
    for n in which:
        if found.ndim == 3:
            panels = {"found": found[n], "classical solver": truth[n], "error": found[n] - truth[n]}
            low, high = float(truth.min()), float(truth.max())
            limits = {"found": (low, high), "classical solver": (low, high)}
            bound = float(np.abs(found - truth).max()) or 1.0
            limits["error"] = (-bound, bound)
            unit = (0.0, 1.0, 0.0, 1.0)
            frame = fields(panels, limits=limits, extent=unit, xlabel="x", ylabel="y", symmetric=("error",))
        else:
            x = (np.arange(found.shape[1]) + 0.5) / found.shape[1]
            both = {"found": (x, found[n]), "classical solver": (x[::8], truth[n][::8])}
            frame = curves({"u": both}, xlabel="x", points=("classical solver",))
        frames.append(label(frame, f"t = {times[n]:.3g}"))
    return write(file, frames[0]) if file.suffix == ".png" else write(file, np.stack(frames), fps=fps)
