"""Navier-Stokes by terms of its Taylor series, by a trained network and by a classical solver at equal error.

    simengine bench bases_alone [SETTING ...]

Settings: 16x4 (windows in time by steps in each, the table of the page), 8x8 and 4x16 (longer windows), 8x4 and 4x4
(longer windows and coarser steps), other (16x4 at ten times the viscosity), thin (16x4 at a tenth of it on 64 x 64
points) and thin_short (64 windows there); the network of these is that of 16x4, which never saw another viscosity or
grid. All unless named. 24 x 24
points to t = 5, four random fields that no training saw; relative L2 error [%] of each against the pseudo-spectral
solver on the same points. The network is trained for 200 steps as in `constraint_table.py`, on windows of the same
length; its first functions are two terms of the series. The classical solver takes the longest steps that meet the
worst error of the row, as far as the times of the grid let it.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from simengine.fit.trainings.learned import learning_of
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved
from simengine.worlds.fields.world import ConstraintWorld

SCENE = "problem.members=4 experts.counts=[1,1,1] experts.tolerance=1e-6 experts.iterations=15"
NETWORK = (
    "model.backbone.modes=[2,8,8] training.learning_rate=2e-3 training.experts.iterations=8 "
    "training.experts.tolerance=1e-3 training.experts.counts=[1,1,1] training.iterations=200 "
    "test.experts.counts=[1,1,1] test.experts.ridge=1e-4 test.experts.tolerance=1e-3 test.experts.iterations=8"
)
ORDERS = (2, 4, 6, 8)


class Setting(NamedTuple):
    """Windows in time, steps in each, viscosity, points a side, and whose network it takes (its own if empty)."""

    windows: int
    steps: int
    viscosity: float = 1e-4
    size: int = 24
    network: str = ""


SETTINGS = {
    "16x4": Setting(16, 4),
    "8x8": Setting(8, 8),
    "4x16": Setting(4, 16),
    "8x4": Setting(8, 4),
    "4x4": Setting(4, 4),
    "other": Setting(16, 4, viscosity=1e-3, network="16x4"),
    "thin": Setting(16, 4, viscosity=1e-5, size=64, network="16x4"),
    "thin_short": Setting(64, 4, viscosity=1e-5, size=64, network="16x4"),
}


def sets(setting: str) -> list[str]:
    """Overrides of the scene navier_stokes."""
    s = SETTINGS[setting]
    problem = {"nt": s.windows * s.steps + 1, "size": s.size, "viscosity": s.viscosity}
    return [*SCENE.split(), *(f"problem.{name}={value}" for name, value in problem.items())]


def classical(setting: str, worst: float) -> dict[str, Any]:
    """The pseudo-spectral solver with the longest steps, halved from a window's, whose worst error [%] is no larger."""
    scene = load_scene("navier_stokes", sets(setting))
    world: Any = scene.world
    family, members = world.problem.family(), world.problem.solved_for(world.seed)
    truth, step, error = family.reference(members), family.dt, float("inf")
    while error > worst and step > 1e-3:
        start = time.process_time()
        try:
            off = (family.solve(members["w0"], step=step) - truth).flatten(1).norm(dim=1)
            error = 100 * float((off / truth.flatten(1).norm(dim=1)).max())
        except RuntimeError:  # not stable
            error = float("inf")
        seconds = round(time.process_time() - start, 3)
        found, step = {"step": step, "worst %": error, "cpu_s": seconds}, step / 2
    return found


def figures(summary: dict[str, Any], seconds: float) -> dict[str, Any]:
    errors = [100 * value for value in summary["relative_error"]]
    return {
        "error %": ", ".join(f"{value:.3g}" for value in errors), "mean %": sum(errors) / len(errors),
        "worst %": max(errors), "result": summary["result"], "cpu_s": round(seconds, 1),
    }  # fmt: skip


def series(setting: str, order: int, folder: Path) -> dict[str, Any]:
    """The layer on terms of the series; nothing is trained."""
    windows = SETTINGS[setting].windows
    basis = ["basis.type=taylor", f"basis.order={order}", f"basis.windows={windows}"]
    scene, start = load_scene("navier_stokes", [*sets(setting), *basis]), time.process_time()
    out = RunDirectory.create(folder, resolved(scene), overwrite=True, resume=False)
    return figures(scene.world.run(out, device="cpu"), time.process_time() - start)


def network(setting: str, folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """The layer on a network; trained once for a setting, or that of another."""
    on = SETTINGS[setting].network or setting
    windows, start = SETTINGS[setting].windows, time.process_time()
    options = [*NETWORK.split(), f"training.windows={windows}"]
    if on not in kept:
        training = learning_of(load_scene("navier_stokes", [*sets(on), *options]))
        for _ in range(training.num_iterations):
            training.step()
        kept[on] = training.backbone.state_dict()  # type: ignore[attr-defined]
    scene = load_scene("navier_stokes", [*sets(setting), *options])
    world: Any = scene.world
    assert isinstance(world, ConstraintWorld)
    backbone = world.backbone(scene.learner)  # type: ignore[arg-type]
    backbone.load_state_dict(kept[on])
    out = RunDirectory.create(folder, resolved(scene), overwrite=True, resume=False)
    summary = world.tested(out, scene.learner, backbone)  # type: ignore[arg-type]
    return figures(summary, time.process_time() - start)


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    kept = dict[str, Any]()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for setting in arguments or SETTINGS:
            solvers: dict[str, Callable[[], dict[str, Any]]] = {
                f"{order} terms alone": partial(series, setting, order, Path(made) / f"{setting}-{order}")
                for order in ORDERS
            }
            solvers["network"] = partial(network, setting, Path(made) / f"{setting}-n", kept)
            for what, solve in solvers.items():
                found = solve()
                equal = {f"classical {name}": value for name, value in classical(setting, found["worst %"]).items()}
                rows.append({"name": f"{setting}, {what}", **found, **equal})
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    print(main(sys.argv[1:]))
