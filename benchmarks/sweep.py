"""200 tasks of a sweep over one worker and over two, with workers killed, and with the scheduling process killed.

    simengine bench sweep [ARGUMENTS]

    --tasks N        of the sweep; 200 by default
    --every SECONDS  between kills of a worker; 20 by default
    --only PARTS     of: speed, workers, scheduler; comma-separated

A task runs 512 particles of a jelly over `STEPS` steps and draws no picture: it computes all the time, on one thread.
Ratios of wall times are worth something on a machine that nothing else uses; `cpu_share` is the CPU time of the tasks
over the wall time of all workers, 1 where nothing else ran.
"""

import argparse
import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simengine.fit.sweep import sweep

STEPS = 400
SCENE = f"""
kind = "mpm"
[grid]
num_grids = 20
time_step = 5e-4
num_steps = {STEPS}
[[bodies]]
name = "jelly"
velocity = [1.0, -1.5, -2.0]
shape = {{ type = "box", center = [0.5, 0.5, 0.5], size = [0.4, 0.4, 0.4], counts = [8, 8, 8] }}
material = {{ type = "jelly", E = 1e5, nu = 0.2 }}
[output]
save_every = {STEPS}
video = false
"""


def over(tasks: int) -> str:
    return f"bodies.0.material.E=linspace(5e4, 2e5, {tasks})"


def complete(folder: Path, tasks: int) -> bool:
    """Whether every result stands in the table once, in order, without an error, with the answer of its own number."""
    with (folder / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    moduli = [float(row["bodies.0.material.E"]) for row in rows]
    expected = [5e4 + (2e5 - 5e4) * k / (tasks - 1) for k in range(tasks)]
    alike = len(rows) == tasks and all(abs(a - b) < 1e-6 * b for a, b in zip(moduli, expected, strict=True))
    return alike and not any(row.get("error") for row in rows)


def seconds(scene: Path, folder: Path, tasks: int, workers: int) -> dict[str, Any]:
    """Wall and CPU time of a whole sweep."""
    before, start = os.times(), time.perf_counter()
    sweep(str(scene), [over(tasks)], folder, verb="run", workers=workers)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "tasks": tasks, "workers": workers, "wall_s": round(wall, 1), "cpu_s": round(cpu, 1),
        "cpu_share": round(cpu / wall / workers, 3), "all_once": complete(folder, tasks),
    }  # fmt: skip


def killed(scene: Path, folder: Path, tasks: int, every: float) -> dict[str, Any]:
    """A worker killed every so often, in turn."""
    stop, kills = threading.Event(), 0

    def kill() -> None:
        nonlocal kills
        while not stop.wait(every):
            children = multiprocessing.active_children()
            if children:
                children[kills % len(children)].kill()
                kills += 1

    thread = threading.Thread(target=kill)
    thread.start()
    start = time.perf_counter()
    try:
        said = sweep(str(scene), [over(tasks)], folder, verb="run", workers=2)
    finally:
        stop.set()
        thread.join()
    return {
        "tasks": tasks, "workers": 2, "wall_s": round(time.perf_counter() - start, 1), "kills": kills,
        "given_again": said["retried"], "failed": said["failed"], "all_once": complete(folder, tasks),
    }  # fmt: skip


def resumed(scene: Path, folder: Path, tasks: int) -> dict[str, Any]:
    """The scheduling process killed when a third is done; the same command does the rest."""
    line = [sys.executable, "-m", "simengine", "sweep", str(scene), "--over", over(tasks), "--out", str(folder)]
    process = subprocess.Popen([*line, "--json"], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list((folder / "tasks").glob("*.json"))) < tasks // 3:
        time.sleep(0.1)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (folder / "tasks").glob("*.json")}
    said = json.loads(subprocess.run([*line, "--json"], check=True, capture_output=True, text=True).stdout)
    untouched = all(path.stat().st_mtime_ns == when for path, when in kept.items())
    return {
        "tasks": tasks, "workers": 2, "done_before": len(kept), "done_after": said["done"],
        "all_once": untouched and len(kept) + said["done"] == tasks and complete(folder, tasks),
    }  # fmt: skip


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="simengine bench sweep")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--only", default="speed,workers,scheduler")
    options = parser.parse_args(list(arguments))
    parts, rows = options.only.split(","), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as made:
        scene = Path(made) / "jelly.toml"
        scene.write_text(SCENE, encoding="utf-8")
        if "speed" in parts:
            one, two = (seconds(scene, Path(made) / f"over{w}", options.tasks, w) for w in (1, 2))
            rows += [{"name": "one worker", **one}]
            rows += [{"name": "two workers", **two, "times_as_fast": round(one["wall_s"] / two["wall_s"], 3)}]
        if "workers" in parts:
            name = f"a worker killed every {options.every:g} s"
            rows += [{"name": name, **killed(scene, Path(made) / "killed", options.tasks, options.every)}]
        if "scheduler" in parts:
            rows += [{"name": "scheduler killed", **resumed(scene, Path(made) / "resumed", options.tasks)}]
    return rows


if __name__ == "__main__":
    print(main(sys.argv[1:]))
