"""Navier-Stokes by terms of its Taylor series alone and by a trained network, where that has less and less chance.

    simengine bench bases_alone [SETTING ...]

Settings: 16x4 (windows in time by steps in each, the table of the page), 8x8 and 4x16 (longer windows), 8x4 and 4x4
(longer windows and coarser steps), other (16x4 at ten times the viscosity; the network is the one of 16x4, which never
saw another viscosity). All unless named. 24 x 24 points to t = 5, four random fields that no training saw; relative L2
error [%] of each against the pseudo-spectral solver on the same points. The network is trained for 200 steps as in
`constraint_table.py`, on windows of the same length; its first functions are two terms of the series.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simengine.fit.trainings.learned import learning_of
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved
from simengine.worlds.fields.world import ConstraintWorld

SCENE = "problem.size=24 problem.members=4 experts.counts=[1,1,1] experts.tolerance=1e-6 experts.iterations=15"
NETWORK = (
    "model.backbone.modes=[2,8,8] training.learning_rate=2e-3 training.experts.iterations=8 "
    "training.experts.tolerance=1e-3 training.experts.counts=[1,1,1] training.iterations=200 "
    "test.experts.counts=[1,1,1] test.experts.ridge=1e-4 test.experts.tolerance=1e-3 test.experts.iterations=8"
)
SETTINGS = {"16x4": (16, 4), "8x8": (8, 8), "4x16": (4, 16), "8x4": (8, 4), "4x4": (4, 4), "other": (16, 4)}
ORDERS = (2, 4, 6, 8)


def sets(setting: str) -> list[str]:
    """Overrides of the scene navier_stokes."""
    windows, steps = SETTINGS[setting]
    more = ["problem.viscosity=1e-3"] if setting == "other" else []
    return [*SCENE.split(), f"problem.nt={windows * steps + 1}", *more]


def figures(summary: dict[str, Any], seconds: float) -> dict[str, Any]:
    errors = [100 * value for value in summary["relative_error"]]
    return {
        "error %": ", ".join(f"{value:.3g}" for value in errors), "mean %": sum(errors) / len(errors),
        "worst %": max(errors), "result": summary["result"], "cpu_s": round(seconds, 1),
    }  # fmt: skip


def series(setting: str, order: int, folder: Path) -> dict[str, Any]:
    """The layer on terms of the series; nothing is trained."""
    windows = SETTINGS[setting][0]
    basis = ["basis.type=taylor", f"basis.order={order}", f"basis.windows={windows}"]
    scene, start = load_scene("navier_stokes", [*sets(setting), *basis]), time.process_time()
    out = RunDirectory.create(folder, resolved(scene), overwrite=True, resume=False)
    return figures(scene.world.run(out, device="cpu"), time.process_time() - start)


def network(setting: str, folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """The layer on a network; trained once for a setting, or that of 16x4."""
    on = "16x4" if setting == "other" else setting
    windows, start = SETTINGS[setting][0], time.process_time()
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
            for order in ORDERS:
                name = f"{setting}, {order} terms alone"
                rows.append({"name": name, **series(setting, order, Path(made) / f"{setting}-{order}")})
                print(rows[-1], file=sys.stderr, flush=True)
            rows.append({"name": f"{setting}, network", **network(setting, Path(made) / f"{setting}-n", kept)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    print(main(sys.argv[1:]))
