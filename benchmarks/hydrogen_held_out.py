"""Measured hydrogen speeds, one publication held out: does a calibration predict it worse than the published mechanism?

`python benchmarks/hydrogen_held_out.py`: the rows of the shipped scene `calibrate_hydrogen` that its mechanism can
compute, solved once as published, with exact sensitivities to every rate constant. From there each way of fitting is
one Gauss-Newton step: nothing fitted, all rows, all publications but one, every second row; each without a gain of a
publication and with one of 3 and 5 % (the standard deviation of ln gain). Beside the misfit of the rows that were not
fitted stands that over what is known of it: their bars, what the fitted rows leave of the constants, and their gain.
"""

import csv
import dataclasses
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from simengine.fit.problem import Problem
from simengine.scene.loader import load_scene

SCENE = "calibrate_hydrogen"
GAINS = (0.0, 0.03, 0.05)


def linearised() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Of all rows: gap (n,), slopes (n, p) and speed (n,) over sigma, deviations of the prior (p,), publications."""
    scene = load_scene(SCENE)
    every = {name: dataclasses.replace(own, hold_out=False) for name, own in scene.observations.items()}
    problem = Problem(dataclasses.replace(scene, observations=every))
    z = problem.start()
    problem.settle(z)
    r, j = problem.linearise(z)
    ((name, prediction),) = problem.predict(z).items()
    used = problem.rows(name)[:, 0]
    n = int(used.sum())
    with (Path(str(files("simengine.assets"))) / "flame_speeds.csv").open(encoding="utf-8", newline="") as file:
        published = {row["key"]: row["reference"] for row in csv.DictReader(file)}
    keys = prediction.measured.row_names
    assert keys is not None
    sources = [published[key] for key, mine in zip(keys, used.tolist(), strict=True) if mine]
    sharp = (prediction.values / prediction.sigma)[used, 0]
    return r[:n], j[:n], sharp, 1 / j[n:].square().sum(0).sqrt(), sources


def _step(
    r: torch.Tensor,
    j: torch.Tensor,
    speed: torch.Tensor,
    deviations: torch.Tensor,
    sources: Sequence[str],
    fitted: torch.Tensor,
    gain: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A Gauss-Newton step on the fitted rows.

    Returns:
        Gaps (n,) that the constants leave, the covariance (n, n) of what gains and constants make of the rows, the gaps
        with the gains that were fitted, and the moves of the constants (p,) in deviations of their priors.
    """
    p, names = len(deviations), sorted(set(sources))
    if gain:  # one column for each publication
        member = torch.tensor([[float(source == name) for name in names] for source in sources], dtype=torch.float64)
        j = torch.cat((j, speed[:, None] * member), 1)
        deviations = torch.cat((deviations, torch.full((len(names),), gain, dtype=torch.float64)))
    own = j[fitted]
    covariance = torch.linalg.inv(own.T @ own + torch.diag(deviations**-2))
    moved = -covariance @ (own.T @ r[fitted])
    return r + j[:, :p] @ moved[:p], j @ covariance @ j.T, r + j @ moved, moved[:p] / deviations[:p]


def _told(
    choice: str,
    fitted: torch.Tensor,
    gain: float,
    gap: torch.Tensor,
    spread: torch.Tensor,
    left: torch.Tensor,
    moved: torch.Tensor,
) -> dict[str, Any]:
    """What comes of a choice of rows and a gain."""
    told: dict[str, Any] = {"name": f"{choice}, gain {100 * gain:g} %", "rows fitted": int(fitted.sum())}
    told["largest move [prior sd]"] = float(moved.abs().max())
    if bool(fitted.any()):
        told["chi-square a fitted row"] = float(left[fitted].square().mean())
    if not bool(fitted.all()):
        own = gap[~fitted]
        bars = spread[~fitted][:, ~fitted] + torch.eye(len(own), dtype=torch.float64)
        told["chi-square a row held out"] = float(own.square().mean())
        told["the same, over its own bars"] = float(own @ torch.linalg.solve(bars, own) / len(own))
    return told


def main(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each choice of rows and gain."""
    torch.set_num_threads(1)
    facts = linearised()
    r, _, speed, _, sources = facts
    measured = speed - r  # over sigma
    names = sorted(set(sources))
    second = torch.zeros(len(r), dtype=torch.bool)
    for name in names:
        second[[k for k, source in enumerate(sources) if source == name][::2]] = True
    choices = {
        "nothing": torch.zeros(len(r), dtype=torch.bool),
        "all": torch.ones(len(r), dtype=torch.bool),
        "every second row of each": second,
    }
    choices |= {f"all but {name}": torch.tensor([source != name for source in sources]) for name in names}
    found = [
        _told(choice, fitted, gain, *_step(*facts, fitted, gain))
        for choice, fitted in choices.items()
        for gain in GAINS
    ]
    for gain in GAINS:  # each publication predicted from the others
        gap, bars = torch.zeros_like(r), torch.eye(len(r), dtype=torch.float64)
        for name in names:
            fitted = torch.tensor([source != name for source in sources])
            own, spread = _step(*facts, fitted, gain)[:2]
            gap[~fitted] = own[~fitted]
            bars[(~fitted).nonzero(), (~fitted).nonzero().T] += spread[~fitted][:, ~fitted]
        found.append(
            {
                "name": f"each publication by the others, gain {100 * gain:g} %",
                "rms error, before": float((r / measured).square().mean().sqrt()),
                "rms error": float((gap / measured).square().mean().sqrt()),
                "chi-square a row, before": float(r.square().mean()),
                "chi-square a row held out": float(gap.square().mean()),
                "the same, over its own bars": float(gap @ torch.linalg.solve(bars, gap) / len(r)),
            }
        )
    for told in found:
        print(", ".join(f"{k} {v if isinstance(v, str | int) else format(v, '.3g')}" for k, v in told.items()))
    return found


if __name__ == "__main__":
    main()
