"""The table of hard constraints: trained networks beside baselines and classical solvers, written into the docs.

    python benchmarks/constraint_table.py [--only NAME ...] [--write]

makes what is not yet in `out/constraint_table` (all: a quarter of an hour of CPU time; `--only` names some, `fixed`
is Navier-Stokes with a fixed basis) and prints the rows that are there; `--write` rewrites the marked parts of
docs/results/constraint.md with them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simengine.constraint import Decomposition, DiffusionSorption, HardConstraint, NavierStokes
from simengine.constraint.basis import principal_basis
from simengine.fit.trainings.learned import learning_of
from simengine.io import checkpoint
from simengine.io.run_directory import RunDirectory
from simengine.scene import load_scene, resolved
from simengine.solve.least_squares import LevenbergMarquardt

OUT = Path("out/constraint_table")
PAGE = Path("docs/results/constraint.md")  # of the checkout that stands around

SOFT = (  # as published
    "training.constraint=soft model.backbone.branch=true examples.fresh=true training.optimiser=adam "
    "training.iterations=1500"
)
FLOW = (
    "problem.nt=65 problem.size=24 problem.members=4 training.windows=16 model.backbone.modes=[2,8,8] "
    "training.learning_rate=2e-3 training.experts.iterations=8 training.experts.tolerance=1e-3 "
    "training.experts.counts=[1,1,1] "
    "test.experts.ridge=1e-4 test.experts.tolerance=1e-3 test.experts.iterations=8"
)
FOUR = "test.experts.counts=[1,2,2]"
RUNS = {  # name of the run: (what it is, scene, changes)
    "ds_soft": ("soft constraint", "diffusion_sorption", SOFT),
    "ds_one": ("one constraint", "diffusion_sorption", "training.experts.counts=[1,1] training.iterations=8"),
    "ds_independent": (
        "4 independent experts",
        "diffusion_sorption",
        "training.experts.coupled=false training.iterations=4",
    ),
    "ds_coupled": ("4 coupled experts", "diffusion_sorption", ""),
    "ds_untrained": (
        "4 coupled experts, network not trained",
        "diffusion_sorption",
        "training.optimiser=adam training.learning_rate=1e-12 training.iterations=1",
    ),
    "ds_beyond_coupled": (
        "4 coupled experts, trained to t = 400 of 500",
        "diffusion_sorption",
        "training.on.duration=400 training.iterations=6",
    ),
    "ns_untrained": ("4 coupled experts, network not trained", "navier_stokes", f"{FLOW} {FOUR} training.iterations=1"),
    "ns_soft": ("soft constraint", "navier_stokes", f"{FLOW} {FOUR} training.constraint=soft training.iterations=200"),
    "ns_coupled": ("4 coupled experts (trained with one)", "navier_stokes", f"{FLOW} {FOUR} training.iterations=200"),
    "ns_converged": (
        "4 coupled experts (trained with one), solved to 1e-5",
        "navier_stokes",
        f"{FLOW} {FOUR} test.experts.tolerance=1e-5 test.experts.iterations=20 training.iterations=200",
    ),
    "ns_one": ("one constraint", "navier_stokes", f"{FLOW} test.experts.counts=[1,1,1] training.iterations=200"),
    "ns_independent": (
        "4 independent experts (trained with one)",
        "navier_stokes",
        f"{FLOW} {FOUR} test.experts.coupled=false training.iterations=200",
    ),
}
# the commands differ in the test alone
SAME_NETWORK = dict.fromkeys(("ns_converged", "ns_one", "ns_independent"), "ns_coupled")


def command(name: str) -> str:
    """What makes a run of the table."""
    _, scene, changes = RUNS[name]
    sets = " ".join(f"--set {change}" for change in changes.split())
    return f"simengine train {scene} {sets}".strip()


def train(name: str) -> None:
    """Make a run where it is missing."""
    folder, before = OUT / name, time.process_time()
    if (folder / "summary.json").is_file():
        return
    if name in SAME_NETWORK:
        train(SAME_NETWORK[name])
        scene = load_scene(RUNS[name][1], RUNS[name][2].split())
        training = learning_of(scene)
        training.load_state_dict(checkpoint.load(OUT / SAME_NETWORK[name] / "checkpoint")[0])
        out = RunDirectory.create(folder, resolved(scene), overwrite=True, resume=False)
        out.write("summary.json", training.finish(out))
        spent = time.process_time() - before
    else:
        children = os.times().children_user
        program = str(Path(sys.executable).with_name("simengine"))
        subprocess.run([program, *command(name).split()[1:], "--quiet", "--out", str(folder)], check=True)
        spent = os.times().children_user - children
    (folder / "cpu.json").write_text(json.dumps({"cpu_s": spent}), encoding="utf-8")


def summary(name: str) -> dict[str, Any] | None:
    """What a run found; None where it was not made."""
    folder = OUT / name
    if not (folder / "summary.json").is_file():
        return None
    timed = folder / "cpu.json"  # only where this script trained it
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {**found, **(json.loads(timed.read_text(encoding="utf-8")) if timed.is_file() else {})}


def classical_sorption(most: float) -> dict[str, float]:
    """The cheapest method of lines whose error against 1024 cells is at most this."""
    fine = DiffusionSorption().solve(0.11)
    for nx in (8, 16, 32, 64, 128):
        pde = DiffusionSorption(nx=nx)
        start = time.process_time()
        coarse = pde.solve(0.11, rtol=1e-4)
        seconds = time.process_time() - start
        x, xs = (np.arange(1024) + 0.5) / 1024, (np.arange(nx) + 0.5) / nx
        # the boundary value belongs to the solution
        spread = np.stack([np.interp(x, np.r_[0.0, xs], np.r_[1.0 if n else u[0], u]) for n, u in enumerate(coarse)])
        error = float(np.linalg.norm(spread - fine) / np.linalg.norm(fine))
        if error <= most:
            break
    return {"cells": nx, "error": error, "seconds": seconds}


def classical_flow(most: float) -> dict[str, float]:
    """The longest step of the pseudo-spectral solver at 24^2 whose error against the default one is at most this."""
    pde = NavierStokes(nt=65, size=24)
    w0 = pde.draw(1, torch.Generator().manual_seed(0))["w0"]
    fine = pde.solve(w0)
    for step in (0.11, 0.06, 0.03):  # 0.2 and more are not stable
        start = time.process_time()
        found = pde.solve(w0, step=step)
        seconds = time.process_time() - start
        error = float((found - fine).norm() / fine.norm())
        if error <= most:
            break
    return {"step": step, "error": error, "seconds": seconds}


def series_flow(order: int, windows: int = 16) -> dict[str, Any]:
    """Navier-Stokes of the table with the terms of the Taylor series as basis: closed forms, nothing is trained."""
    whole = NavierStokes(nt=65, size=24)
    members = whole.draw(4, torch.Generator().manual_seed(0))
    truth, start = whole.solve(members["w0"]), time.process_time()
    pde = NavierStokes(nt=64 // windows + 1, size=24, duration=5.0 / windows)
    solver = LevenbergMarquardt(tolerance=1e-6, max_iterations=15)
    layer = HardConstraint(pde, Decomposition(periodic=(False, True, True)), solver=solver, throw=True)
    clock = torch.linspace(0, 1, pde.nt, dtype=torch.float64)[:, None, None]
    w, parts = members["w0"], [members["w0"].unsqueeze(1)]
    for _ in range(windows):
        basis = torch.stack([clock ** (q + 1) * f.unsqueeze(1) for q, f in enumerate(pde.series(w, order))], dim=-1)
        basis = basis / basis.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        with torch.no_grad():
            found = layer(basis, {"w0": w}, w.unsqueeze(1).expand(-1, pde.nt, -1, -1))
        parts.append(found.field[:, 1:])
        w = found.field[:, -1]
    spent = time.process_time() - start
    off = (torch.cat(parts, dim=1) - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return {"error": off.tolist(), "cpu_s": spent}


def fixed_flow() -> list[dict[str, Any]]:
    """Navier-Stokes with 64 basis functions that contain the truth, 64 x 64 x 64 points."""
    path = OUT / "ns_fixed.json"
    if path.is_file():
        done: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return done
    pde = NavierStokes(nt=64, size=64)
    w0 = pde.draw(64, torch.Generator().manual_seed(0))["w0"]
    truth = pde.solve(w0)
    basis = principal_basis(truth, 64)
    found_rows = []
    for counts, coupled in (
        ((1, 1, 1), True),
        ((1, 1, 2), True),
        ((1, 2, 2), True),
        ((2, 2, 2), True),
        ((1, 4, 4), True),
        ((1, 2, 2), False),
    ):
        layer = HardConstraint(pde, Decomposition(counts=counts, coupled=coupled, periodic=(False, True, True)))
        start = time.process_time()
        with torch.no_grad():
            found = layer(basis, {"w0": w0[:1]})
        spent = time.process_time() - start
        jumps = layer.interface_jumps(basis, found.weights)
        reach = float(truth[0].max() - truth[0].min())
        found_rows.append(
            {
                "experts": f"{int(np.prod(counts))} ({' x '.join(map(str, counts))})",
                "coupled": coupled,
                "error %": 100 * float((found.field[0] - truth[0]).norm() / truth[0].norm()),
                "jump": float(jumps.abs().max()) / reach if jumps.numel() else 0.0,
                "iterations": int(found.solution.stats["num_iterations"].max()),
                "cpu_s": spent,
            }
        )
        print(found_rows[-1], flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found_rows, indent=1), encoding="utf-8")
    return found_rows


def _percent(values: list[float]) -> str:
    return ", ".join(f"{100 * value:.2f}" for value in values)


def fixed_page(rows: list[dict[str, Any]]) -> str:
    """Navier-Stokes with a fixed basis."""
    lines = ["| experts (t x y x x) | error % | largest jump over the range | iterations |", "|---|---|---|---|"]
    for row in rows:
        kind = "coupled" if row["coupled"] else "independent"
        lines.append(f"| {row['experts']} {kind} | {row['error %']:.4f} | {row['jump']:.0e} | {row['iterations']} |")
    return "\n".join(lines)


def page(rows: list[dict[str, Any]]) -> str:
    """Trained networks beside baselines."""
    lines = ["| equation | what | relative L2 error % | largest jump | CPU s | command |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['equation']} | {row['what']} | {row['error']} | {row['jump']} | {row['cpu']} | {row['command']} |"
        for row in rows
    ]
    return "\n".join(lines)


def trained() -> list[dict[str, Any]]:
    """A row for every run that was made."""
    rows: list[dict[str, Any]] = []
    for name, (what, scene, _) in RUNS.items():
        found = summary(name)
        if found is None:
            continue
        error = _percent(found["relative_error"])
        if "relative_error_beyond_training" in found:
            error += f"; beyond t = 400: {_percent(found['relative_error_beyond_training'])}"
        single = what in ("soft constraint", "one constraint")
        rows.append(
            {
                "equation": scene.replace("_", "-"),
                "what": what,
                "error": error,
                "cpu": f"{found['cpu_s']:.0f}" if "cpu_s" in found else "not timed",
                "jump": "-" if single else f"{found['largest_interface_jump']:.0e}",
                "command": f"`{command(name)}`",
            }
        )
    return rows


def classical() -> list[dict[str, Any]]:
    """No change, and classical solvers at the error of the coupled experts."""
    rows: list[dict[str, Any]] = []
    for name, scene in (("ds_coupled", "diffusion-sorption"), ("ns_coupled", "navier-stokes")):
        found = summary(name)
        if found is None:
            continue
        still = {"equation": scene, "what": "no change", "error": _percent(found["no_change_error"]), "cpu": "0"}
        rows.append({**still, "jump": "-", "command": "-"})
        most = max(found["relative_error"])
        if name == "ds_coupled":
            solver = classical_sorption(most)
            what = f"method of lines at equal error, {solver['cells']} cells"
        else:
            solver = classical_flow(most)
            what = f"pseudo-spectral solver at equal error, steps of {solver['step']:g}"
        timed = {"error": f"{100 * solver['error']:.2f}", "cpu": f"{solver['seconds']:.4f} a solution"}
        rows.append({"equation": scene, "what": what, **timed, "jump": "-", "command": "this script"})
    return [*rows, *series()]


def series() -> list[dict[str, Any]]:
    """The layer on closed forms: so many terms of the Taylor series, in windows as the networks have."""
    rows = []
    for order in (2, 4, 6):
        found = series_flow(order)
        error = ", ".join(f"{100 * value:.3f}" for value in found["error"])
        what = f"one constraint, {order} terms of the Taylor series, no network"
        timed = {"error": error, "cpu": f"{found['cpu_s']:.1f}", "jump": "-"}
        rows.append({"equation": "navier-stokes", "what": what, **timed, "command": "this script"})
    return rows


def main(only: Sequence[str] | None = None, *, write: bool = False) -> list[dict[str, Any]]:
    """Make runs that are missing, all or these; give the rows of those that are there."""
    torch.set_num_threads(1)
    wanted = [*RUNS, "fixed"] if only is None else only
    for name in wanted:
        if name == "fixed":
            fixed_flow()
        else:
            train(name)
    rows = [*trained(), *classical()]
    if write:
        parts = {"table": page(rows)}
        if (OUT / "ns_fixed.json").is_file():
            parts["fixed"] = fixed_page(fixed_flow())
        text = PAGE.read_text(encoding="utf-8")
        for name, content in parts.items():
            begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
            text = text.split(begin)[0] + begin + content + end + text.split(end)[1]
        PAGE.write_text(text, encoding="utf-8")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=[*RUNS, "fixed"], help="runs to make where they are missing")
    parser.add_argument("--write", action="store_true", help="rewrite the marked parts of the results page")
    options = parser.parse_args()
    for entry in main(options.only, write=options.write):
        print(entry)
